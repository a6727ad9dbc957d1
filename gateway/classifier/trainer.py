"""Teaches the shared model: online logistic regression, one message after the other.

Each message is a vector of length 1 (its features, each with the same value); a step goes along it, as large as the
error of the prediction (Goodman & Yih 2006). No randomness: the same messages in the same order give the same model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gateway.classifier.features import Features
from gateway.classifier.model import BITS, Learned, SharedModel, Weights, logit, places, write_model

RATE = 4.0


class Trainer:
    """A model that learns. `of` goes on from one that is there."""

    def __init__(self, *, bits: int = BITS, rate: float = RATE) -> None:
        self._weights: Weights = np.zeros(1 << bits, np.float32)
        self._rate = rate
        self._ham = self._spam = 0

    @classmethod
    def of(cls, model: SharedModel) -> Trainer:
        """Goes on from `model`, which stays as it is."""
        trainer = cls(bits=len(model.weights).bit_length() - 1, rate=model.parameters.get("rate", RATE))
        trainer._weights[:] = model.weights
        trainer._ham, trainer._spam = model.learned.ham, model.learned.spam
        return trainer

    @property
    def learned(self) -> Learned:
        return Learned(self._ham, self._spam)

    def score(self, features: Features) -> float:
        """As `SharedModel.score`."""
        return logit(self._weights, places(features, self._weights))

    def learn(self, features: Features, is_spam: bool) -> None:
        """One message with its true label."""
        at = places(features, self._weights)
        error = float(is_spam) - sigmoid(logit(self._weights, at))
        self._weights[at] += np.float32(self._rate * error / math.sqrt(max(1, len(at))))
        if is_spam:
            self._spam += 1
        else:
            self._ham += 1

    def model(self, now: int) -> SharedModel:
        """What was learned so far, as a model of its own."""
        parameters: Mapping[str, float] = {"rate": self._rate}
        return SharedModel(self._weights.copy(), self.learned, now, dict(parameters))

    def save(self, path: Path, now: int) -> None:
        """Put what was learned so far in the place of the model at `path`; durable on return."""
        write_model(path, self.model(now))


def sigmoid(value: float) -> float:
    """The probability of a logit."""
    return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, value))))
