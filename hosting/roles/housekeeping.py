"""What every process does each second: heartbeat on the change feed, records to their logs, counters shown.

What touches a disk runs in a thread, one run at a time; a failure is logged and tried again a second later.
"""

# ruff: noqa: N802 - Twisted calls these methods by these names

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from hosting.composition import Parts
from hosting.operational_log import log_failure

log = logging.getLogger("housekeeping")

_REST = 10.0  # seconds after which, and twice that at most, an account that nobody looks at keeps no connections


class Ticking(Service):
    """Calls `quick` on the event loop and `blocking` in a thread, every `interval` seconds."""

    def __init__(
        self,
        reactor: Any,
        interval: float,
        *,
        quick: Sequence[Callable[[], object]] = (),
        blocking: Sequence[Callable[[], object]] = (),
        at_once: bool = False,
        at_stop: bool = True,
        stop: Callable[[], object] | None = None,
    ) -> None:
        """`at_stop`: `blocking` is called a last time, so that nothing is left unwritten.

        `stop` tells `blocking` to end at its next whole step.
        """
        self._reactor = reactor
        self._interval = interval
        self._quick = quick
        self._blocking = blocking
        self._at_once = at_once
        self._at_stop = at_stop
        self._stop = stop
        self._loop = LoopingCall(self._tick)
        self._loop.clock = reactor
        self._running: Deferred[Any] | None = None

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._loop.start(self._interval, now=self._at_once)

    def stopService(self) -> Deferred[Any] | None:
        """Fires when a run in a thread is over."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._loop.running:
            self._loop.stop()
        if self._stop is not None:
            self._stop()
        return self._run_blocking() if self._at_stop or self._running is not None else None

    def _tick(self) -> Deferred[Any] | None:
        for call in self._quick:
            try:
                call()
            except Exception:  # the next second tries again
                log.error("failed", exc_info=True)
        return self._run_blocking() if self._blocking else None

    def _run_blocking(self) -> Deferred[Any]:
        if self._running is None:
            self._running = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._all)
            self._running.addBoth(self._over)
        waiting: Deferred[Any] = Deferred()

        def tell(result: Any) -> Any:
            waiting.callback(None)
            return result

        self._running.addBoth(tell)
        return waiting

    def _all(self) -> None:
        for call in self._blocking:
            call()

    def _over(self, result: object) -> None:
        self._running = None
        if isinstance(result, Failure):
            log_failure(log, "failed", result)


def every_second(parts: Parts, *more: Callable[[], object]) -> Service:
    """The housekeeping of one process; `more` are quick calls of its own.

    Accounts are let rest beside it: that takes as long as the disk needs for all of them, and a heartbeat that stays
    out makes every process look at everything again.
    """
    installation = parts.installation
    flushing = [installation.flush_logs, installation.flush_counts, installation.flush_tenants]
    both = MultiService()
    for each in (
        Ticking(parts.reactor, 1.0, quick=[installation.feed.beat, *more], blocking=flushing),
        Ticking(parts.reactor, _REST, blocking=[installation.rest_accounts], at_stop=False),
    ):
        both.addService(each)
    return both
