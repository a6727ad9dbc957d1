"""Twisted's epoll reactor without what takes longer around an event than the event itself.

Twisted looks for calls that are due before each wait, in five functions and a frame of logging, and asks each event
what it is in three more. Here events are served one wait after the other until a timed call is due, or something else
was put up: by another thread, by an event, by what ends the loop; and what can be read is read. Twisted's own log is
not used here. What an event raises is caught and logged one step further in; what the end of a connection raises, by
the main loop, which goes on: events it did not come to are told again by the kernel.
"""

# ruff: noqa: N802, N815 - the methods that Twisted calls have Twisted's names

from __future__ import annotations

from select import EPOLLIN
from typing import Any, Final

from twisted.internet.base import _topHandler
from twisted.internet.epollreactor import EPollReactor
from twisted.python import log

_LONGEST: Final = 3600.0  # seconds of one wait
_AT_ONCE: Final = 512  # events that one wait brings at most
_TO_READ: Final = int(EPOLLIN)


class EpollReactor(EPollReactor):
    def doPoll(self, timeout: float | None) -> None:
        selectables: Any = self._selectables
        dispatch: Any = self._doReadOrWrite
        end: Any = self._disconnectSelectable
        for descriptor, event in self._poller.poll(timeout, _AT_ONCE):
            selectable = selectables.get(descriptor)
            if selectable is None:  # one that was closed by an event before it
                continue
            if event != _TO_READ:
                dispatch(selectable, descriptor, event)
                continue
            try:
                why, reading = selectable.doRead(), True
            except BaseException as raised:  # noqa: BLE001 - as Twisted does: logged, and the connection ends
                why, reading = raised, False
                log.err()
            if why:
                end(selectable, why, reading)

    doIteration = doPoll

    def mainLoop(self) -> None:
        while self._started:
            with _topHandler:
                self.runUntilCurrent()
                self._serve()

    def _serve(self) -> None:
        """Serves events until a timed call is due, or there is something to do that is none."""
        if not self.running:  # what is still to be done before or after it runs
            self.doPoll(0)
            return
        twisted: Any = self
        calls, now = twisted._pendingTimedCalls, self.seconds
        while True:
            if twisted._newTimedCalls:
                twisted._insertNewDelayedCalls()
            wait = calls[0].time - now() if calls else _LONGEST
            if wait <= 0:
                self.doPoll(0)
                return
            self.doPoll(wait if wait < _LONGEST else _LONGEST)
            if twisted.threadCallQueue or twisted._justStopped or not self._started:
                return


def new() -> Any:
    """A reactor, to be installed."""
    make: Any = EpollReactor  # Twisted's constructors have no types
    return make()
