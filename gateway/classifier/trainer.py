"""Teaches the shared model: online logistic regression, one message after the other.

Each view of a message (`gateway.classifier.features`) is a vector of length 1 and has a learner of its own; both errors
teach, and the mean of both logits is the score. A step goes along the vector, as large as the error of the prediction
(Goodman & Yih 2006), and per place the smaller, the more errors that place has seen: what occurs everywhere settles
early, what is rare is learned at once (AdaGrad: Duchi, Hazan & Singer 2011). No randomness: the same messages in the
same order give the same model.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from gateway.classifier.features import Features
from gateway.classifier.model import BITS, Learned, SharedModel, Table, logit, mean_logit, places, sigmoid, write_model

RATE = 16.0
INITIAL_ENERGY = 0.1  # bounds the first steps of a place: the smaller, the bolder


class Trainer:
    """A model that learns. `of` goes on from one that is there."""

    def __init__(self, *, bits: int = BITS, rate: float = RATE, initial_energy: float = INITIAL_ENERGY) -> None:
        self._weights: Table = np.zeros(1 << bits, np.float32)
        self._energy: Table = np.zeros(1 << bits, np.float32)  # the sum of squared errors, for each place
        self._rate = rate
        self._initial_energy = np.float32(initial_energy)
        self._ham = self._spam = 0

    @classmethod
    def of(cls, model: SharedModel) -> Trainer:
        """Goes on from `model`, which stays as it is."""
        trainer = cls(
            bits=len(model.weights).bit_length() - 1,
            rate=model.parameters.get("rate", RATE),
            initial_energy=model.parameters.get("initial_energy", INITIAL_ENERGY),
        )
        trainer._weights[:] = model.weights
        trainer._energy[:] = model.energy
        trainer._ham, trainer._spam = model.learned.ham, model.learned.spam
        return trainer

    @property
    def learned(self) -> Learned:
        return Learned(self._ham, self._spam)

    def score(self, features: Features) -> float:
        """As `SharedModel.score`."""
        return mean_logit(self._weights, places(features, self._weights))

    def learn(self, features: Features, is_spam: bool, *, again: bool = False) -> None:
        """One message with its true label; `again` if it was learned before and only is repeated."""
        for at in places(features, self._weights):
            if not len(at):
                continue
            error = float(is_spam) - sigmoid(logit(self._weights, at))
            energy = self._energy[at] + np.float32(error * error)
            self._energy[at] = energy
            step = np.float32(self._rate * error / math.sqrt(len(at)))
            self._weights[at] += step / np.sqrt(energy + self._initial_energy)
        if again:
            return
        if is_spam:
            self._spam += 1
        else:
            self._ham += 1

    def model(self, now: int) -> SharedModel:
        """What was learned so far, as a model of its own."""
        parameters = {"rate": self._rate, "initial_energy": float(self._initial_energy)}
        return SharedModel(self._weights.copy(), self._energy.copy(), self.learned, now, parameters)

    def save(self, path: Path, now: int) -> None:
        """Put what was learned so far in the place of the model at `path`; durable on return."""
        write_model(path, self.model(now))
