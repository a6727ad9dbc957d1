"""What the index of times keeps of a calendar object, and what it can answer without reading the object again.

`times_of` numbers the instances from the beginning: at most `INDEXED`, and none later than 2060 or 30 years after the
first, whichever is later; beyond, an object is a candidate whose instances are worked out when somebody asks. That
depends on the object alone and on no clock, so that nothing has to be made anew as time goes by.

Packed instances: a version, the first start, and arrays of 32-bit numbers (64-bit where a series spans centuries) of
little end first: starts after the first; then one length for all, or one each. They are searched where they lie.

`first` and `last` of what has no zone are wide enough for every zone; its packed instances are as if it were UTC.
Standards: RFC 4791 §9.9.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left

from storage.collections.values import ENDLESS, Times
from storage.errors import Corrupt
from storage.icalendar.checked import CalendarObject, Timed, read_trigger
from storage.icalendar.contentlines import Component, Malformed
from storage.icalendar.recurrence import Instance, any_overlap, first_instances, length
from storage.icalendar.values import DAY, UTC, Moment, Period, Zone, duration, naive

INDEXED = 1_000  # instances
_UNTIL = 2_840_140_800  # 2060
_SPAN = 30 * 366 * DAY
_EAST, _WEST = 14 * 3600, 12 * 3600  # how far zones lie from Greenwich
BEGINNING = -(1 << 63)

_HEAD = struct.Struct("<BqI")  # version, first start, count
_NARROW, _WIDE = 1, 2  # versions: "I" and "Q"
_LEAST_REPEAT = 60  # seconds between repetitions of an alarm that are told apart


def times_of(found: CalendarObject) -> Times:
    """When it takes place, for the index."""
    zones = {each.zone for one in found.timed for each in _moments(one)}
    floating = None in zones
    if len(found.timed) == 1 and not found.timed[0].recurs:
        return _times_of_one(found, found.timed[0], floating, mixed=floating and len(zones) > 1)
    base = min((one.anchor.seconds(UTC) for one in found.timed if one.anchor is not None), default=0)
    listed, horizon = first_instances(found, INDEXED, max(_UNTIL, base + _SPAN))
    if not listed or any(one.begins is None for one in listed):
        return Times(BEGINNING, ENDLESS, floating, BEGINNING)  # an override without a time: only the object knows
    slack = int(found.component == "VTODO")  # of tasks the ends count too
    first = listed[0].start - slack  # they are in order
    ends = [one.end for one in listed]
    last = max(*ends, listed[-1].start + 1) + slack
    if horizon is not None:
        first, last = min(first, horizon), ENDLESS
    first, last = _widened(first, last, floating)
    if floating and len(zones) > 1:
        return Times(first, last, True, BEGINNING)
    return Times(first, last, floating, ENDLESS if horizon is None else horizon, _packed(listed))


def _times_of_one(found: CalendarObject, one: Timed, floating: bool, *, mixed: bool) -> Times:
    """Of a single component that does not recur."""
    name, begins = found.component, one.anchor
    if name == "VTODO" and begins is None:
        return _times_of_undated_task(one, floating)
    if name == "VAVAILABILITY":
        first = BEGINNING if one.start is None else one.start.seconds(UTC)
        last = ENDLESS
        if one.end is not None:
            last = one.end.seconds(UTC)
        elif one.start is not None and one.duration is not None:
            last = one.duration.after(one.start, UTC)
        return Times(*_widened(first, last, floating), floating, BEGINNING)
    if name == "VFREEBUSY" and (one.start is None or one.end is None):
        spans = [(each.start.seconds(UTC), each.until(UTC)) for each in one.periods] or [(0, 0)]
        first, last = min(start for start, _ in spans), max(end for _, end in spans)
        return Times(*_widened(first, last, floating), floating, BEGINNING)
    if begins is None:
        return Times(0, 0, False, ENDLESS)  # never; found by who asks for all times
    start = begins.seconds(UTC)
    long = length(one, UTC)
    end = long.after(begins, UTC) if long.days else start + long.seconds
    slack = int(name in ("VTODO", "VFREEBUSY"))  # of these the ends count too
    first, last = start - slack, max(end, start + 1) + slack
    if not floating and not slack:
        if begins.is_date or end > start:
            return Times(first, last, False, ENDLESS)
        return Times(first, last, False, ENDLESS, _packed([Instance(start, end, one, begins, None)]))
    if mixed:
        return Times(*_widened(first, last, floating), floating, BEGINNING)
    packed = _packed([Instance(start, end, one, begins, None)])
    return Times(*_widened(first, last, floating), floating, ENDLESS, packed)


def _times_of_undated_task(one: Timed, floating: bool) -> Times:
    """Of a task without DTSTART and DUE: what COMPLETED and CREATED say (RFC 4791 §9.9)."""
    completed = None if one.completed is None else one.completed.seconds(UTC)
    created = None if one.created is None else one.created.seconds(UTC)
    if completed is not None:
        both = [completed] if created is None else [created, completed]
        return Times(*_widened(min(both) - 1, max(both) + 1, floating), floating, BEGINNING)
    return Times(BEGINNING if created is None else created, ENDLESS, floating, BEGINNING)


def _widened(first: int, last: int, floating: bool) -> tuple[int, int]:
    if not floating:
        return first, last
    return (
        first if first == BEGINNING else max(BEGINNING, first - _EAST),
        last if last == ENDLESS else min(ENDLESS, last + _WEST),
    )


def _moments(one: Timed) -> list[Moment]:
    """What says when a component takes place."""
    found = [each for each in (one.start, one.end, one.recurrence_id) if each is not None]
    found += [each.start if isinstance(each, Period) else each for each in one.dates]
    found += [each.start for each in one.periods]
    return found


# Packing


def _packed(listed: list[Instance]) -> bytes:
    """Instances in order of their starts."""
    first = listed[0].start
    starts = [one.start - first for one in listed]
    lengths = [one.end - one.start for one in listed]
    if lengths.count(lengths[0]) == len(lengths):
        lengths = lengths[:1]
    wide = starts[-1] >= 1 << 32 or max(lengths) >= 1 << 32
    numbers = array("Q" if wide else "I", starts + lengths)
    if sys.byteorder == "big":
        numbers.byteswap()
    return _HEAD.pack(_WIDE if wide else _NARROW, first, len(starts)) + numbers.tobytes()


class Packed:
    """Packed instances, looked into where they lie."""

    __slots__ = ("_longest", "first", "lengths", "starts")

    def __init__(self, data: bytes) -> None:
        """Raises Corrupt."""
        if len(data) < _HEAD.size:
            raise Corrupt(detail="instances of an object are too short")
        version, self.first, count = _HEAD.unpack_from(data)
        numbers = array("Q" if version == _WIDE else "I")
        body = data[_HEAD.size :]
        if version not in (_NARROW, _WIDE) or len(body) not in (
            (count + 1) * numbers.itemsize,
            2 * count * numbers.itemsize,
        ):
            raise Corrupt(detail="instances of an object are not as they were packed")
        numbers.frombytes(body)
        if sys.byteorder == "big":
            numbers.byteswap()
        self.starts, self.lengths = numbers[:count], numbers[count:]
        self._longest = self.lengths[0] if len(self.lengths) == 1 else max(self.lengths)

    def between(self, low: int, high: int) -> list[tuple[int, int]]:
        """(start, end) of those that reach into [low, high], ends included."""
        first, starts = self.first, self.starts
        index = bisect_left(starts, low - first - self._longest)
        found: list[tuple[int, int]] = []
        uniform = len(self.lengths) == 1
        while index < len(starts) and starts[index] + first <= high:
            start = starts[index] + first
            end = start + (self.lengths[0] if uniform else self.lengths[index])
            if end >= low:
                found.append((start, end))
            index += 1
        return found

    def all(self) -> list[tuple[int, int]]:
        return self.between(BEGINNING, ENDLESS)


def packed_instances(times: Times) -> list[tuple[int, int]]:
    """(start, end) of all instances that the index holds; without a zone as if UTC."""
    if times.instances is None:
        return [(times.first, times.last)]
    return Packed(times.instances).all()


# Answers


def overlapping(
    asked: CalendarObject | Times, start: int | None, end: int | None, zone: Zone = UTC, component: str = "VEVENT"
) -> bool | None:
    """Whether something of it takes place in [start, end) (RFC 4791 §9.9). Of `Times` None: only the object knows.

    `component` is that of the object whose times they are; an object knows its own.
    """
    if isinstance(asked, CalendarObject):
        return any_overlap(asked, start, end, zone)
    low = BEGINNING if start is None else start
    high = ENDLESS if end is None else end
    if asked.last <= low or asked.first >= high:
        return False
    if asked.known_until == BEGINNING:
        return None
    if asked.instances is None:
        if asked.first >= asked.last:
            return None
        return True if component in ("VEVENT", "VJOURNAL") else None
    return _of_packed(asked, low, high, zone, component)


def _of_packed(times: Times, low: int, high: int, zone: Zone, component: str) -> bool | None:
    assert times.instances is not None
    packed = Packed(times.instances)
    margin = DAY if times.floating else 0
    instant_counts = component in ("VEVENT", "VJOURNAL")
    unsure = False
    for start, end in packed.between(max(low - margin, BEGINNING), min(high + margin, ENDLESS)):
        if times.floating:
            start, end = zone.seconds(naive(start)), zone.seconds(naive(end))  # noqa: PLW2901 - the same, in the zone
        if start < high and low < end:
            return True
        if start < high and low <= start and end == start and instant_counts:
            return True
        if not instant_counts and start <= high and low <= end:
            unsure = True
    if unsure:
        return None
    if times.known_until >= ENDLESS:
        return False
    return False if high <= times.known_until - margin else None


# Alarms


def alarm_times(found: CalendarObject, one: Instance, alarm: Component, zone: Zone = UTC, most: int = 100) -> list[int]:
    """When an alarm of an instance goes off, with its repetitions (RFC 5545 §3.8.6); empty: never."""
    trigger = alarm.first("TRIGGER")
    if trigger is None:
        return []
    when = read_trigger(trigger)
    if isinstance(when, Moment):
        first = when.seconds(zone)
    else:
        at_end = (trigger.parameter("RELATED") or "").upper() == "END"
        if one.begins is None:
            return []
        if when.days:
            base = Moment((one.begins.zone or zone).local(one.end if at_end else one.start), False, one.begins.zone)
            first = when.after(base, zone)
        else:
            first = (one.end if at_end else one.start) + when.seconds
    times = [first]
    repeat, pause = alarm.value("REPEAT"), alarm.value("DURATION")
    if repeat and pause and repeat.isascii() and repeat.isdigit() and len(repeat) < 6:
        from_one_to_next = _pause(pause)
        times += [first + from_one_to_next * (number + 1) for number in range(min(int(repeat), most))]
    return times


def _pause(value: str) -> int:
    try:
        return max(_LEAST_REPEAT, duration(value).total)
    except Malformed:
        return _LEAST_REPEAT
