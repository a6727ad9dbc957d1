"""Works the queue: takes what is due in turns, hands it on, and has the outcome written down.

All state is in the database; what is in memory here can be lost at any moment. A message that was handed over when the
process died, before its outcome was committed, is handed over once more: to a mailbox that makes no second copy, to
another server it is what SMTP's own rules make unavoidable. `stop` lets what is under way finish for a while; what is
cut off then is as if it had not been tried.

The runner learns of new work from the change feed, and of the queue only what changed since it last asked.
Standards: RFC 5321 §4.5.4.1 (sending strategy), §6.1.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any

from gateway.queue.attempt import Attempted, deferred, relayed
from gateway.queue.claims import Claims
from gateway.queue.expiry import Expiry
from gateway.queue.orders import Large, Order, Orders, Settled
from gateway.queue.reachability import Reachability
from gateway.queue.room import Room
from gateway.queue.schedule import Limits, Schedule, Turn
from gateway.queue.settlement import Settlement, is_plain
from gateway.queue.transactions import Transaction
from gateway.relay.outcome import RecipientOutcome, Relay
from gateway.work import LARGE, Together, Work
from storage.changes import Gap, QueueChanged, Subscriber
from storage.clock import Clock
from storage.errors import CleanmailError, Corrupt, Gone, NotFound
from storage.queue.destinations import STALE
from storage.queue.entries import LOCAL, Entry, NewEntry, Reply
from storage.queue.queue import Queue

log = logging.getLogger(__name__)

_MOMENT = 0.01  # seconds between two looks at what changed
_TICK = 1.0  # seconds; times in the queue are whole seconds
_FORGET_EACH = 3600  # seconds between two times that destinations are forgotten that nothing is for
_PAUSE, _LONG_PAUSE = 30, 600  # seconds that a lane waits whose tenant's data cannot be read for now, or at all
_RECORD_AGAIN = (1.0, 30.0)  # seconds until an outcome that could not be written is tried again: first, and at most
_LARGE_TOGETHER = 64 * LARGE  # octets of large messages that are in memory at the same time


class Runner:
    def __init__(
        self,
        queue: Queue,
        orders: Orders,
        settlement: Settlement,
        relay: Relay,
        work: Work,
        clock: Clock,
        limits: Limits,
        *,
        feed: Subscriber | None = None,
        stop_within: float = 30.0,
    ) -> None:
        """`feed` must hear of the queue; without one, `look` has to be called."""
        self._queue = queue
        self._orders = orders
        self._settlement = settlement
        self._relay = relay
        self._work = work
        self._clock = clock
        self._schedule = Schedule(limits)
        self._feed = feed
        self._stop_within = stop_within
        self._claims = Claims(queue, self._schedule, work, clock)
        self._reachability = Reachability(queue, self._schedule, work, clock, settlement.chance)
        self._taking: Together[tuple[str, str], Order | Settled | Large] = Together(
            work, partial(orders.take_together, at_most=LARGE)
        )
        self._recording: Together[tuple[Entry, Sequence[Attempted]], list[NewEntry]] = Together(
            work, settlement.record_together
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._large = Room(_LARGE_TOGETHER)
        self._woken = asyncio.Event()
        self._changed = True
        self._upto = 0
        self._expiry = Expiry(queue, orders, self._claims, work, self._deliver_here)
        self._forgotten_at = 0
        self._stopping = False
        self._ticked = True
        self._looked_at = self._look_at = 0.0  # by the loop's clock
        self._waiting = False  # for something to do

    # Life

    async def run(self) -> None:
        """Until `stop`. Trouble with the database is waited out."""
        loop = asyncio.get_running_loop()
        if self._feed is not None:
            loop.add_reader(self._feed.fileno(), self._hear)
        ticking = asyncio.create_task(self._tick())
        try:
            while not self._stopping:
                try:
                    await self._learn()
                except CleanmailError as error:
                    log.warning("the queue cannot be read for now: %s", type(error).__name__)
                except Exception:
                    log.error("the queue cannot be read", exc_info=True)
                self._begin_turns()
                self._waiting = True
                await self._woken.wait()
                self._waiting = False
                self._woken.clear()
        finally:
            ticking.cancel()
            if self._feed is not None:
                loop.remove_reader(self._feed.fileno())
            await self._finish()

    def stop(self) -> None:
        """Ends `run` when what is under way is done, or has had its time."""
        self._stopping = True
        self._expiry.stop()
        self._woken.set()

    def look(self) -> None:
        """The queue may have changed, or time has passed."""
        self._changed = True
        self._woken.set()

    @property
    def is_idle(self) -> bool:
        """Nothing is under way, and nothing that is known of is due."""
        next_time = self._schedule.next_time()
        due = next_time is not None and next_time <= self._clock.now()
        return self._waiting and not self._tasks and not self._changed and not self._woken.is_set() and not due

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            self._ticked = True
            self._woken.set()
            try:
                self._hear()  # a publisher that has fallen silent is noticed only here
            except OSError as error:
                log.warning("the change feed cannot be read: %s", type(error).__name__)

    async def _finish(self) -> None:
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._stop_within)
            for task in late:
                task.cancel()
            if late:
                log.warning("stopped with %d deliveries under way; they are tried again", len(late))
                await asyncio.wait(late)
        await self._relay.close()

    def _hear(self) -> None:
        if self._feed is not None and any(isinstance(news, (QueueChanged, Gap)) for news in self._feed.drain()):
            self.look()

    # What there is to do

    async def _learn(self) -> None:
        if not self._upto:
            await self._reachability.load()
        now = self._clock.now()
        if self._changed and not self._too_soon():
            self._changed = False
            try:
                news = await self._work.run(partial(self._queue.news, self._upto))
            except BaseException:
                self._changed = True
                raise
            self._upto = news.upto
            for lane in news.lanes:
                self._reachability.doubt(lane.destination)
                self._schedule.news(lane.destination, lane.lane, lane.earliest)
            self._expiry.soon(now)
        if self._ticked:
            self._ticked = False
            await self._reachability.check()
        if now >= self._forgotten_at:
            self._forgotten_at = now + _FORGET_EACH
            self._schedule.forget_failures(now - STALE)
        if self._expiry.is_due(now):
            self._begin(self._expiry.look(now))

    def _too_soon(self) -> bool:
        """What changes within a moment is looked at together; the first change at once."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._looked_at + _MOMENT:
            if self._look_at < self._looked_at + _MOMENT:
                self._look_at = self._looked_at + _MOMENT
                loop.call_at(self._look_at, self._woken.set)
            return True
        self._looked_at = loop.time()
        return False

    # Turns

    def _begin_turns(self) -> None:
        now = self._clock.now()
        while not self._stopping and (turn := self._schedule.take(now)) is not None:
            self._begin(self._turn(turn))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._woken.set()

    async def _turn(self, turn: Turn) -> None:
        try:
            queue_id = await self._claims.begin(turn)
            self._woken.set()  # the lane may have its next turn
            if queue_id is not None:
                try:
                    if not self._stopping:
                        await self._attempt(turn, queue_id)
                finally:
                    self._claims.let_go(turn, queue_id)
        except CleanmailError as error:
            log.warning("lane %d: has to wait: %s", turn.lane, type(error).__name__)
            self._schedule.pause(turn, self._clock.now() + (_LONG_PAUSE if isinstance(error, Gone) else _PAUSE))
        except Exception:
            log.error("lane %d: failed", turn.lane, exc_info=True)
            self._schedule.pause(turn, self._clock.now() + _PAUSE)
        finally:
            self._claims.end(turn)
            self._schedule.done(turn)

    async def _attempt(self, turn: Turn, queue_id: str) -> None:
        """Raises Gone, Unavailable and others if the entry's tenant cannot be worked for."""
        room = 0
        try:
            taken = await self._take(turn, queue_id, LARGE)
            if isinstance(taken, Large):
                room = await self._large.take(taken.size)
                taken = await self._take(turn, queue_id, taken.size)
            if isinstance(taken, Order):
                await self._relay_order(turn, taken)
            elif isinstance(taken, Settled):
                await self._deliver_here(taken.queued)
        except NotFound:
            pass  # settled or withdrawn meanwhile
        except Exception as error:
            if isinstance(error, CleanmailError) and not isinstance(error, Corrupt):
                raise
            log.error("entry %s: nothing can be done with it now", queue_id, exc_info=True)
            self._claims.avoid(turn, queue_id, self._clock.now() + _LONG_PAUSE)
        finally:
            self._large.give_back(room)

    async def _take(self, turn: Turn, queue_id: str, at_most: int) -> Order | Settled | Large:
        if turn.destination != LOCAL and at_most <= LARGE:
            return await self._taking.run((queue_id, turn.destination))
        return await self._work.run_on(at_most, partial(self._orders.take, queue_id, turn.destination, at_most))

    async def _relay_order(self, turn: Turn, order: Order) -> None:
        last = len(order.transactions) - 1
        dead: Reply | None = None
        for number, transaction in enumerate(order.transactions):
            if dead is not None:
                reply = dead
                attempts = [deferred(recipient, reply) for recipient in transaction.recipients]
            else:
                more = number < last or self._schedule.more(turn.destination)
                outcomes = await self._relay.send(order.hop, transaction.message, more=more)
                attempts = _attempted(transaction, outcomes)
                dead = await self._reachability.judge(turn, outcomes)
            await self._record(order.entry, order.header, attempts)

    # Outcomes

    async def _record(self, entry: Entry, header: bytes, attempts: Sequence[Attempted]) -> None:
        """Does not give up while the process lives: what was handed over would be handed over again."""
        pause = _RECORD_AGAIN[0]
        while True:
            try:
                if is_plain(attempts):
                    queued = await self._recording.run((entry, attempts))
                else:
                    queued = await self._work.run(partial(self._settlement.record, entry, header, attempts))
                break
            except (NotFound, Gone):
                return  # withdrawn with its tenant
            except CleanmailError as error:
                log.warning("entry %s: its outcome cannot be written yet: %s", entry.queue_id, type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _RECORD_AGAIN[1])
        await self._deliver_here(queued)

    async def _deliver_here(self, queued: Sequence[NewEntry]) -> None:
        """What was just queued for mailboxes here; whatever keeps it from them, it is in the queue."""
        if queued:
            self.look()
        for entry in queued:
            if any(recipient.account_id is not None for recipient in entry.recipients):
                try:
                    await self._work.run(partial(self._orders.deliver, entry))
                except NotFound:
                    pass  # it was told before
                except CleanmailError as error:
                    log.warning("entry %s stays in the queue for now: %s", entry.queue_id, type(error).__name__)


def _attempted(transaction: Transaction, outcomes: Sequence[RecipientOutcome]) -> list[Attempted]:
    return [relayed(recipient, outcome) for recipient, outcome in zip(transaction.recipients, outcomes, strict=True)]
