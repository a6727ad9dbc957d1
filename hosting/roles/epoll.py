"""Twisted's epoll reactor without what takes longer around an event than the event itself.

Twisted looks for calls that are due before each wait, in five functions and a frame of logging. Here events are served
one wait after the other until a timed call is due, or something else was put up: by another thread, by an event, by
what ends the loop. Twisted's own log is not used here. What an event raises is caught and logged one step further in;
what the end of a connection raises, by the main loop, which goes on: events it did not come to are told again by the
kernel.
"""

# ruff: noqa: N802, N815 - the methods that Twisted calls have Twisted's names

from __future__ import annotations

from typing import Any

from twisted.internet.base import _topHandler
from twisted.internet.epollreactor import EPollReactor

_LONGEST = 3600.0  # seconds of one wait


class EpollReactor(EPollReactor):
    def doPoll(self, timeout: float | None) -> None:
        selectables = self._selectables
        dispatch: Any = self._doReadOrWrite
        for descriptor, event in self._poller.poll(timeout, len(selectables)):
            selectable = selectables.get(descriptor)
            if selectable is not None:  # else one that was closed by an event before it
                dispatch(selectable, descriptor, event)

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
            wait = _LONGEST
            if calls:
                wait = calls[0].time - now()
                if wait <= 0:
                    self.doPoll(0)
                    return
            self.doPoll(min(wait, _LONGEST))
            if twisted.threadCallQueue or twisted._justStopped or not self._started:
                return


def new() -> Any:
    """A reactor, to be installed."""
    make: Any = EpollReactor  # Twisted's constructors have no types
    return make()
