"""What the runner has in hand: entries of each lane that were read in advance, and those that are under way.

Nothing of it is written anywhere: after a crash everything is simply due. What is under way is due in the database too,
until its outcome is written, so whoever reads asks for as many more and leaves these out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import partial

from gateway.queue.schedule import Schedule, Turn
from gateway.work import Work
from storage.clock import Clock
from storage.queue.queue import Queue

_BATCH = 50  # entries of a lane that are read together
_LOOK_AGAIN = 60  # seconds until a lane is read again of which something is still under way


@dataclass(slots=True, eq=False)
class _Lane:
    ids: deque[str] = field(default_factory=deque)
    all_as_of: int | None = None  # the epoch of news as of which `ids` were all that was due
    working: set[str] = field(default_factory=set)
    avoided: dict[str, int] = field(default_factory=dict)  # entries that nothing can be done with, and until when
    look_again: bool = False  # when something that is under way is done
    turns: int = 0


class Claims:
    def __init__(self, queue: Queue, schedule: Schedule, work: Work, clock: Clock) -> None:
        self._queue = queue
        self._schedule = schedule
        self._work = work
        self._clock = clock
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._under_way: dict[str, set[str]] = {}  # queue id → destinations

    def __len__(self) -> int:
        """Entries that are under way."""
        return len(self._under_way)

    def destinations(self, queue_id: str) -> frozenset[str]:
        """Where an entry is just being brought."""
        return frozenset(self._under_way.get(queue_id, ()))

    async def begin(self, turn: Turn) -> str | None:
        """An entry of the turn's lane that nobody else works on at its destination; None: there is none now.

        Each turn ends with `end`, an entry with `let_go` before.
        """
        lane = self._lanes.setdefault((turn.destination, turn.lane), _Lane())
        lane.turns += 1
        earliest = None if lane.ids else await self._read(turn, lane)
        if lane.ids:
            queue_id = lane.ids.popleft()
            lane.working.add(queue_id)
            self._under_way.setdefault(queue_id, set()).add(turn.destination)
            if lane.ids or lane.all_as_of != turn.epoch:
                self._schedule.goes_on(turn)
                return queue_id
        else:
            queue_id = None
        if lane.working:  # they hide what comes after them
            lane.look_again = True
            earliest = self._clock.now() + _LOOK_AGAIN
        elif lane.avoided:
            earliest = min(lane.avoided.values())
        self._schedule.looked(turn, earliest)
        return queue_id

    def let_go(self, turn: Turn, queue_id: str) -> None:
        lane = self._lanes[turn.destination, turn.lane]
        lane.working.discard(queue_id)
        destinations = self._under_way[queue_id]
        destinations.discard(turn.destination)
        if not destinations:
            del self._under_way[queue_id]
        if lane.look_again:
            lane.look_again = False
            self._schedule.news(turn.destination, turn.lane, self._clock.now())

    def avoid(self, turn: Turn, queue_id: str, until: int) -> None:
        """Others of the lane go on without this entry."""
        self._lanes[turn.destination, turn.lane].avoided[queue_id] = until

    def end(self, turn: Turn) -> None:
        key = (turn.destination, turn.lane)
        lane = self._lanes[key]
        lane.turns -= 1
        if self._schedule.is_failing(turn.destination):
            lane.ids.clear()  # it will be long until they are tried
        if not lane.turns and not lane.ids and not lane.avoided:
            del self._lanes[key]

    async def _read(self, turn: Turn, lane: _Lane) -> int | None:
        """Fills `ids`. If there is nothing that could be worked on: when the first of the lane is due."""
        now = self._clock.now()
        lane.avoided = {queue_id: until for queue_id, until in lane.avoided.items() if until > now}
        most = _BATCH + len(lane.working) + len(lane.avoided)
        due, earliest = await self._work.run(partial(self._look, turn, now, most))
        lane.ids.extend(id_ for id_ in due if id_ not in lane.working and id_ not in lane.avoided)
        lane.all_as_of = turn.epoch if len(due) < most else None
        return earliest

    def _look(self, turn: Turn, now: int, most: int) -> tuple[list[str], int | None]:
        due = self._queue.due(turn.destination, turn.lane, now, most)
        return due, None if due else self._queue.lane(turn.destination, turn.lane)
