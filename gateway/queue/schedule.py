"""Whose turn it is: destinations take turns, and at each destination the lanes of its senders do. Pure, in memory.

Nothing here is the truth: what is due stands in the database, and a schedule that is lost is read again from there.
Limits keep what is dead or massive from delaying the rest: so many at once for each destination; one at a time, and a
quarter of all together, for destinations that failed last time; half of all for any one sender.

Every operation costs the same however many lanes there are (a step of a heap at most): what cannot go on now leaves the
rotation, and comes back by the event that lets it go on.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from heapq import heappop, heappush

from storage.queue.entries import LOCAL

NEVER = 1 << 62  # later than any time


@dataclass(frozen=True, slots=True)
class Limits:
    """How many turns are taken at the same time."""

    connections: int = 100  # to all other servers
    per_destination: int = 10
    here: int = 4  # deliveries to mailboxes here; not counted with the others

    @property
    def per_sender(self) -> int:
        return max(1, self.connections // 2)

    @property
    def failing(self) -> int:
        """To destinations that did not answer last time: however many are dead, the others have room."""
        return max(1, self.connections // 4)


@dataclass(slots=True, eq=False)
class Turn:
    """A lane at work: one entry of it is to be attempted. To be given back with `Schedule.done`.

    The lane has no other turn until it is told what is in it: `goes_on`, `looked` or `pause`.
    """

    destination: str
    lane: int
    epoch: int  # of the news about the lane that the turn may rely on; see `Schedule.looked`
    was_failing: bool
    looking: bool = True


@dataclass(slots=True, eq=False)
class _Lane:
    destination: _Destination
    number: int
    earliest: int  # when something in it is due, as far as is known
    paused: int = 0  # until then it is not worked on
    epoch: int = 0
    ready: bool = False  # it stands in its destination's rotation, or is parked
    looking: bool = False  # a turn finds out what is in it
    busy: int = 0

    @property
    def next(self) -> int:
        return max(self.earliest, self.paused)


@dataclass(slots=True, eq=False)
class _Sender:
    busy: int = 0
    parked: deque[_Lane] = field(default_factory=deque)  # due, but the sender is at its limit


@dataclass(slots=True, eq=False)
class _Destination:
    name: str
    lanes: dict[int, _Lane] = field(default_factory=dict)
    ready: deque[_Lane] = field(default_factory=deque)
    busy: int = 0
    failing: bool = False
    retry_at: int = 0
    rotating: bool = False


class Schedule:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._destinations: dict[str, _Destination] = {}
        self._senders: dict[int, _Sender] = {}
        self._healthy: deque[_Destination] = deque()  # in rotation: with lanes that are due, and below the limit
        self._failing: deque[_Destination] = deque()
        self._times: list[tuple[int, int, _Lane | _Destination]] = []  # when something has to be looked at again
        self._sequence = 0
        self._busy = 0  # elsewhere
        self._failing_busy = 0

    # What is known

    def news(self, destination: str, lane: int, earliest: int) -> None:
        """Something in the lane is due then, or was due before."""
        known = self._lane(destination, lane)
        known.epoch += 1
        if earliest < known.earliest:
            known.earliest = earliest
            self._at(known.next, known)

    def goes_on(self, turn: Turn) -> None:
        """More of the turn's lane can be worked on."""
        self._known(turn)

    def looked(self, turn: Turn, earliest: int | None) -> None:
        """Nothing more of the turn's lane can be worked on before `earliest`; None: it is empty.

        News that came since the turn was taken count more.
        """
        lane = self._destinations[turn.destination].lanes[turn.lane]
        if lane.epoch == turn.epoch:
            lane.earliest = NEVER if earliest is None else earliest
        self._known(turn)

    def pause(self, turn: Turn, until: int) -> None:
        """The turn's lane cannot be worked on until then, whatever the news."""
        self._destinations[turn.destination].lanes[turn.lane].paused = until
        self._known(turn)

    def _known(self, turn: Turn) -> None:
        """The lane may have its next turn, when it is time."""
        lane = self._destinations[turn.destination].lanes[turn.lane]
        if turn.looking:
            turn.looking = lane.looking = False
        if lane.earliest != NEVER:
            self._at(lane.next, lane)

    def failed(self, destination: str, retry_at: int) -> None:
        """The destination as a whole did not answer."""
        known = self._destination(destination)
        known.failing, known.retry_at = True, retry_at
        self._at(retry_at, known)

    def answered(self, destination: str) -> None:
        """It answers (again), or is to be tried at once."""
        known = self._destinations.get(destination)
        if known is not None and known.failing:
            known.failing, known.retry_at = False, 0
            self._rotate(known)
            self._forget_destination(known)

    def forget_failures(self, before: int) -> None:
        """Of destinations that nothing waits for, and that could have been tried again before that time."""
        for known in [each for each in self._destinations.values() if each.failing and not each.lanes]:
            if known.retry_at < before:
                self.answered(known.name)

    def is_failing(self, destination: str) -> bool:
        known = self._destinations.get(destination)
        return known is not None and known.failing

    # Turns

    def take(self, now: int) -> Turn | None:
        """The next lane that may be worked on; None: nothing is due, or the limits are reached."""
        self._wake(now)
        here = self._destinations.get(LOCAL)
        if here is not None and here.rotating and (turn := self._take_of(here, now)) is not None:
            return turn
        if self._busy >= self._limits.connections:
            return None
        # Those that failed first: they are few at a time, and would otherwise wait for a moment when nothing is due.
        while self._failing and self._failing_busy < self._limits.failing:
            if (turn := self._take_of(self._failing.popleft(), now)) is not None:
                return turn
        while self._healthy:
            if (turn := self._take_of(self._healthy.popleft(), now)) is not None:
                return turn
        return None

    def more(self, destination: str) -> bool:
        """Whether further turns of the destination are due."""
        known = self._destinations.get(destination)
        return known is not None and bool(known.ready)

    def done(self, turn: Turn) -> None:
        destination = self._destinations[turn.destination]
        lane = destination.lanes[turn.lane]
        if turn.looking:
            self._known(turn)
        destination.busy -= 1
        lane.busy -= 1
        if turn.destination != LOCAL:
            self._busy -= 1
            self._failing_busy -= turn.was_failing
            self._release(turn.lane)
        self._forget(lane)
        self._rotate(destination)

    def next_time(self) -> int | None:
        """When `take` should be asked again though nothing else happened."""
        return self._times[0][0] if self._times else None

    @property
    def busy(self) -> int:
        """Turns that are taken."""
        here = self._destinations.get(LOCAL)
        return self._busy + (here.busy if here is not None else 0)

    def _take_of(self, destination: _Destination, now: int) -> Turn | None:
        """A turn of a destination that has just left the rotation."""
        destination.rotating = False
        if destination.retry_at > now or destination.busy >= self._most(destination):
            return None  # it comes back with the time, or when a turn is done
        while destination.ready:
            lane = destination.ready.popleft()
            if lane.next > now:
                lane.ready = False
                self._forget(lane)
                continue
            sender = self._senders.setdefault(lane.number, _Sender())
            if destination.name != LOCAL and sender.busy >= self._limits.per_sender:
                sender.parked.append(lane)
                continue
            lane.ready, lane.looking = False, True
            return self._begin(destination, lane, sender)
        return None

    def _begin(self, destination: _Destination, lane: _Lane, sender: _Sender) -> Turn:
        destination.busy += 1
        lane.busy += 1
        was_failing = destination.failing and destination.name != LOCAL
        if destination.name != LOCAL:
            sender.busy += 1
            self._busy += 1
            self._failing_busy += was_failing
        self._rotate(destination)
        return Turn(destination.name, lane.number, lane.epoch, was_failing)

    def _most(self, destination: _Destination) -> int:
        if destination.name == LOCAL:
            return self._limits.here
        return 1 if destination.failing else self._limits.per_destination

    def _rotate(self, destination: _Destination) -> None:
        """Back into the rotation, at its end, if it may go on."""
        if destination.ready and not destination.rotating and destination.busy < self._most(destination):
            destination.rotating = True
            if destination.name != LOCAL:
                (self._failing if destination.failing else self._healthy).append(destination)

    def _release(self, number: int) -> None:
        sender = self._senders[number]
        sender.busy -= 1
        for _ in range(self._limits.per_sender - sender.busy):
            if not sender.parked:
                break
            lane = sender.parked.popleft()
            lane.destination.ready.append(lane)
            self._rotate(lane.destination)
        if not sender.busy and not sender.parked:
            del self._senders[number]

    # Times

    def _wake(self, now: int) -> None:
        while self._times and self._times[0][0] <= now:
            _, _, what = heappop(self._times)
            if isinstance(what, _Destination):
                self._rotate(what)
            elif (
                what.next <= now
                and not (what.ready or what.looking)
                and what.destination.lanes.get(what.number) is what
            ):
                what.ready = True
                what.destination.ready.append(what)
                self._rotate(what.destination)

    def _at(self, time: int, what: _Lane | _Destination) -> None:
        self._sequence += 1
        heappush(self._times, (time, self._sequence, what))

    def _destination(self, name: str) -> _Destination:
        known = self._destinations.get(name)
        if known is None:
            known = self._destinations[name] = _Destination(name)
        return known

    def _lane(self, destination: str, number: int) -> _Lane:
        known = self._destination(destination)
        lane = known.lanes.get(number)
        if lane is None:
            lane = known.lanes[number] = _Lane(known, number, NEVER)
        return lane

    def _forget(self, lane: _Lane) -> None:
        """Lanes that are empty, and destinations without lanes, leave no trace."""
        destination = lane.destination
        if lane.earliest == NEVER and not lane.busy and not lane.ready:
            del destination.lanes[lane.number]
        self._forget_destination(destination)

    def _forget_destination(self, destination: _Destination) -> None:
        if not destination.lanes and not destination.failing:
            self._destinations.pop(destination.name, None)
