"""Lets the reactor wait for the change feed's socket; where changes come thickly they are taken in together.

Each commit of any process is a datagram for every process, and to wake up for one costs as much as a NOOP. One that
comes alone is told at once; when another follows soon, those behind it wait in the socket for some milliseconds.
"""

# ruff: noqa: N802 - the methods that Twisted calls have Twisted's names

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

from storage.changes import Subscriber

TOGETHER = 0.005  # seconds


@implementer(IReadDescriptor)
class Feed:
    def __init__(self, reactor: Any, subscriber: Subscriber, changed: Callable[[Sequence[Any]], None]) -> None:
        self._reactor = reactor
        self._subscriber = subscriber
        self._changed = changed
        self._last = 0.0  # when it was drained, by the reactor's clock
        self._pause: Any = None  # until the reactor waits for the socket again

    def start(self) -> None:
        self._pause = None
        self._reactor.addReader(self)

    def stop(self) -> None:
        if self._pause is None:
            self._reactor.removeReader(self)
        else:
            self._pause.cancel()
            self._pause = None

    def fileno(self) -> int:
        return self._subscriber.fileno()

    def doRead(self) -> None:
        now = self._reactor.seconds()
        if now - self._last < TOGETHER:
            self._reactor.removeReader(self)
            self._pause = self._reactor.callLater(TOGETHER, self.start)
        self._last = now
        self._changed(self._subscriber.drain())

    def connectionLost(self, reason: Any) -> None:
        """The reactor is stopping; the feed belongs to the installation."""

    def logPrefix(self) -> str:
        return "change feed"
