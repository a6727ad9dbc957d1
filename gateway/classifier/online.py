"""The shared model's learner as an object of two methods, for tools that measure filters: score, then train."""

from __future__ import annotations

from gateway.classifier.features import Features, features_of
from gateway.classifier.trainer import Trainer


class Online:
    """Learns from scratch, in the order in which messages are shown."""

    def __init__(self) -> None:
        self._trainer = Trainer()
        self._last: tuple[bytes, Features] = (b"", features_of(b""))

    def score(self, message: bytes) -> float:
        return self._trainer.score(self._features(message))

    def train(self, message: bytes, is_spam: bool) -> None:
        self._trainer.learn(self._features(message), is_spam)

    def _features(self, message: bytes) -> Features:
        if self._last[0] is not message:
            self._last = (message, features_of(message))
        return self._last[1]


def make() -> Online:
    """A learner that has seen nothing."""
    return Online()
