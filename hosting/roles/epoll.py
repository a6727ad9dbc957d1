"""Twisted's epoll reactor without the frame of logging around each event, which takes longer than the event itself.

Twisted's own log is not used here. What an event raises is caught and logged one step further in; what the end of a
connection raises, by the main loop, which goes on: events it did not come to are told again by the kernel.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.epollreactor import EPollReactor


class EpollReactor(EPollReactor):
    def doPoll(self, timeout: float | None) -> None:  # noqa: N802 - Twisted's name
        selectables = self._selectables
        dispatch: Any = self._doReadOrWrite
        for descriptor, event in self._poller.poll(timeout, len(selectables)):
            selectable = selectables.get(descriptor)
            if selectable is not None:  # else one that was closed by an event before it
                dispatch(selectable, descriptor, event)

    doIteration = doPoll  # noqa: N815 - Twisted's name


def new() -> Any:
    """A reactor, to be installed."""
    make: Any = EpollReactor  # Twisted's constructors have no types
    return make()
