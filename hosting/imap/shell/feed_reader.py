"""The reactor's way to the change feed: it waits for the feed's socket beside those of clients."""

# ruff: noqa: N802 - the methods that Twisted calls have Twisted's names

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

from storage.changes import Subscriber


@implementer(IReadDescriptor)
class FeedReader:
    """Lets the reactor wait for the change feed's socket."""

    def __init__(self, subscriber: Subscriber, changed: Callable[[Sequence[Any]], None]) -> None:
        self._subscriber = subscriber
        self._changed = changed

    def fileno(self) -> int:
        return self._subscriber.fileno()

    def doRead(self) -> None:
        self._changed(self._subscriber.drain())

    def connectionLost(self, reason: Any) -> None:
        """The reactor is stopping; the feed belongs to the installation."""

    def logPrefix(self) -> str:
        return "change feed"
