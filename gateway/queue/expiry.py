"""Gives up what is over: entries whose retry time has ended, or that an operator returns, whether destinations answer.

One entry after the other, beside the turns, so that many that end together delay nobody.
Standards: RFC 5321 §4.5.4.1 (the give-up time), RFC 3463 §3.5 (5.4.7).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from gateway.queue.claims import Claims
from gateway.queue.orders import Orders
from gateway.work import Work
from storage.errors import CleanmailError, NotFound
from storage.queue.entries import NewEntry
from storage.queue.queue import Queue

log = logging.getLogger(__name__)

_EACH = 15  # seconds between two looks
_MOST = 50  # entries in one look


class Expiry:
    def __init__(
        self,
        queue: Queue,
        orders: Orders,
        claims: Claims,
        work: Work,
        queued: Callable[[Sequence[NewEntry]], Awaitable[None]],
    ) -> None:
        """`queued` is told what was queued because of it."""
        self._queue = queue
        self._orders = orders
        self._claims = claims
        self._work = work
        self._queued = queued
        self._next = 0
        self._stuck = 0  # of the entries of the last look; they come first the next time, too
        self._running = False
        self._stopping = False

    def is_due(self, now: int) -> bool:
        return now >= self._next and not self._running

    def soon(self, now: int) -> None:
        """An operator may have given something up."""
        self._next = min(self._next, now + 1)

    def stop(self) -> None:
        """After the entry that is just given up."""
        self._stopping = True

    def look(self, now: int) -> Coroutine[Any, Any, None]:
        """One look, to be awaited. Never raises but for cancellation."""
        self._running, self._next = True, now + _EACH
        return self._look(now)

    async def _look(self, now: int) -> None:
        try:
            most = _MOST + len(self._claims) + self._stuck
            found = await self._work.run(partial(self._queue.expired, now, most))
            self._stuck = 0
            for queue_id in found:
                if self._stopping:
                    return
                await self._give_up(queue_id)
            if len(found) >= most and self._stuck < len(found):
                self._next = now
        except CleanmailError as error:
            log.warning("what is over cannot be given up yet: %s", type(error).__name__)
        finally:
            self._running = False

    async def _give_up(self, queue_id: str) -> None:
        try:
            busy = self._claims.destinations(queue_id)
            settled = await self._work.run(partial(self._orders.expire, queue_id, busy))
            await self._queued(settled.queued)
        except NotFound:
            pass  # settled or withdrawn meanwhile
        except Exception as error:  # noqa: BLE001 - its tenant cannot be opened, or it is broken: others come after it
            log.warning("entry %s: not given up yet: %s", queue_id, type(error).__name__)
            self._stuck += 1
