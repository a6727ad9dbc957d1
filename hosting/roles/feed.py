"""Lets the reactor wait for the change feed's socket."""

# ruff: noqa: N802 - Twisted calls these methods by these names

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from storage.changes import Gap, Published, Subscriber


@implementer(IReadDescriptor)
class FeedReader:
    def __init__(
        self,
        reactor: Any,
        subscriber: Subscriber,
        changed: Callable[[list[Published | Gap]], None],
        *,
        pause: float = 0.0,
    ) -> None:
        """`pause`: seconds between two drains, for who need not know at once; changes pile up in the socket."""
        self._reactor = reactor
        self._pause = pause
        self._resume: Any = None
        self._subscriber = subscriber
        self._changed = changed

    def start(self) -> None:
        self._reactor.addReader(self)

    def stop(self) -> None:
        self._reactor.removeReader(self)
        if self._resume is not None and self._resume.active():
            self._resume.cancel()

    def fileno(self) -> int:
        return self._subscriber.fileno()

    def doRead(self) -> None:
        if self._pause:
            self._reactor.removeReader(self)
            self._resume = self._reactor.callLater(self._pause, self.start)
        self._changed(self._subscriber.drain())

    def connectionLost(self, reason: Failure) -> None:
        """The reactor is stopping; the feed belongs to the installation."""

    def logPrefix(self) -> str:
        return "change feed"
