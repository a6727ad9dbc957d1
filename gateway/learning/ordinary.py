"""What an account's ordinary mail has in common does not count in what it teaches.

People say only what was filed wrongly, mostly: that this is spam. A lesson goes along the whole message, also along
what every message to this account has, its servers' names, its language, its forms of header. Twenty lessons of one
kind added up to a score that all mail got: measured on the public corpus, 20 newsletters called spam put 3.6 % of
ordinary mail into Junk. So the lessons are projected onto what ordinary messages do not span: none of them gets
anything of the correction, others little, and what is peculiar to the lessons stays (the same 20: no message lost).

A projection makes no vector longer, and it is made anew from the lessons each time something is learned: lessons are
added and taken back exactly, whatever mail is ordinary meanwhile. Which messages were looked at is not kept. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.classifier.correction import LESSON_UNIT, PLACES, Vector, apply, empty
from gateway.classifier.features import Features

MOST = 64  # messages; more make it slower and hardly better

_FINE = 1024.0  # a message's vector is read in so small parts of a lesson's unit
_RIDGE = 0.1  # so that messages which are nearly the same do not count as two


class Ordinary:
    """The space that some messages span; none: everything counts."""

    def __init__(self, messages: Sequence[Features]) -> None:
        vectors = [apply(empty(), each, _FINE) for each in messages[:MOST]]
        places = [np.flatnonzero(vector) for vector in vectors]
        self._count = len(vectors)
        self._at = np.concatenate(places) if places else np.empty(0, np.int64)
        self._row = np.repeat(np.arange(self._count), [len(each) for each in places])
        values = [vector[at] for vector, at in zip(vectors, places, strict=True)]
        self._value = np.concatenate(values) / (_FINE * LESSON_UNIT) if values else np.empty(0)
        gram = np.stack([self._products(vector) for vector in vectors]) / (_FINE * LESSON_UNIT) if vectors else None
        self._gram: NDArray[np.float64] | None = None if gram is None else gram + _RIDGE * np.eye(self._count)

    def without(self, vector: Vector) -> Vector:
        """What is left of a vector."""
        if self._gram is None or not vector.any():
            return vector
        shares = np.linalg.solve(self._gram, self._products(vector))
        common = np.bincount(self._at, shares[self._row] * self._value, PLACES)
        left: Vector = np.rint(vector - common).astype(np.int32)
        return left

    def _products(self, vector: Vector) -> NDArray[np.float64]:
        """With each of the messages."""
        return np.bincount(self._row, vector[self._at] * self._value, self._count).astype(np.float64)
