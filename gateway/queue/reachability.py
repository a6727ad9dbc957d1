"""Which destinations answer: what attempts say about them, in the schedule at once and in the database for later.

Never raises for the database's sake: a failure that could not be noted is noted with the next.
Standards: RFC 5321 §4.5.4.1 (a host that cannot be reached is left alone for a while).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from gateway.queue.attempt import destination_failed
from gateway.queue.backoff import ELSEWHERE
from gateway.queue.schedule import Schedule, Turn
from gateway.relay.outcome import RecipientOutcome
from gateway.work import Work
from storage.clock import Clock
from storage.errors import CleanmailError
from storage.queue.entries import DestinationState, Reply
from storage.queue.queue import Queue

log = logging.getLogger(__name__)


class Reachability:
    def __init__(self, queue: Queue, schedule: Schedule, work: Work, clock: Clock, chance: Callable[[], float]) -> None:
        self._queue = queue
        self._schedule = schedule
        self._work = work
        self._clock = clock
        self._chance = chance
        self._doubted: set[str] = set()

    async def load(self) -> None:
        """Tells the schedule what former processes learnt. Raises Unavailable and others of the queue."""
        for state in await self._work.run(self._all):
            self._schedule.failed(state.name, state.retry_at)

    def doubt(self, name: str) -> None:
        """There are news of its lanes: perhaps somebody wished that it is tried at once."""
        if self._schedule.is_failing(name):
            self._doubted.add(name)

    async def check(self) -> None:
        """Looks at what is in doubt; once a second, since new mail raises doubts too.

        Raises Unavailable and others of the queue.
        """
        while self._doubted:
            name = self._doubted.pop()
            state = await self._work.run(partial(self._queue.destination_state, name))
            if state is None:
                self._schedule.answered(name)

    async def judge(self, turn: Turn, outcomes: Sequence[RecipientOutcome]) -> Reply | None:
        """The reply for which the turn's destination is left alone for a while, if it is."""
        name = turn.destination
        try:
            if destination_failed(outcomes):
                reply = outcomes[0].reply
                if turn.was_failing or not self._schedule.is_failing(name):  # of several at once the first counts
                    self._schedule.failed(name, self._clock.now() + ELSEWHERE.first)
                    retry_at = await self._work.run(partial(self._failed, name, reply))
                    self._schedule.failed(name, retry_at)
                return reply
            if self._schedule.is_failing(name):
                self._schedule.answered(name)
                await self._work.run(partial(self._queue.destination_answered, name))
        except CleanmailError as error:
            log.warning("whether a destination answers could not be noted: %s", type(error).__name__)
        return outcomes[0].reply if destination_failed(outcomes) else None

    def _all(self) -> list[DestinationState]:
        states: list[DestinationState] = []
        while page := self._queue.destinations(after=states[-1].name if states else ""):
            states += page
        return states

    def _failed(self, name: str, reply: Reply) -> int:
        known = self._queue.destination_state(name)
        failures = 1 if known is None else known.failures + 1
        retry_at = self._clock.now() + ELSEWHERE.pause(failures, self._chance())
        return self._queue.destination_failed(name, retry_at, reply).retry_at
