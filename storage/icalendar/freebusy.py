"""When somebody is busy, from all that stands in his calendars (RFC 4791 §7.10, RFC 6638 §5, RFC 7953 §5).

Busy is who has an event that is opaque, not cancelled, and not declined; tentatively busy who has not answered an
invitation yet, or said so himself. Times without a zone, all days above all, are those of the zone that is given.
Outside of what a VAVAILABILITY calls available one is BUSY-UNAVAILABLE, or what its BUSYTYPE says; of several, each
covers those of lower priority for as long as it lasts. Periods of one type are merged; those of different types may
overlap, as RFC 4791 has it.

An object whose instances take more steps to find than there are for one, or are too many, counts as busy all the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from storage.icalendar.checked import CalendarObject, Timed, available_times
from storage.icalendar.contentlines import Component, Property, escaped, write
from storage.icalendar.recurrence import instances_in
from storage.icalendar.rules import TooMuch
from storage.icalendar.values import UTC, Zone, naive, period
from storage.icalendar.values import written as written_time

_COMPACTED_AT = 10_000  # periods that are kept before they are merged
_PERIODS_MAX = 100_000  # of one type, after they are merged
_PRODID = "-//Cleanmail//Free-busy//EN"


class BusyType(StrEnum):
    """FBTYPE and BUSYTYPE (RFC 5545 §3.2.9, RFC 7953 §3.2)."""

    BUSY = "BUSY"
    TENTATIVE = "BUSY-TENTATIVE"
    UNAVAILABLE = "BUSY-UNAVAILABLE"


class Busy(NamedTuple):
    """A busy time, [start, end) in Unix seconds."""

    start: int
    end: int
    type: BusyType


class FreeBusy:
    """Takes one object after the other; `periods` is what they make together within [start, end).

    `addresses` are those of whose calendars these are, as ORGANIZER and ATTENDEE name him; without them nobody's
    answers are looked at.
    """

    def __init__(self, start: int, end: int, zone: Zone = UTC, addresses: Iterable[str] = ()) -> None:
        self.start, self.end = start, end
        self._zone = zone
        self._addresses = frozenset(normal_address(one) for one in addresses)
        self._busy: dict[BusyType, list[tuple[int, int]]] = {one: [] for one in BusyType}
        self._availabilities: list[tuple[int, CalendarObject, Component, Timed]] = []

    def add(self, found: CalendarObject) -> None:
        """Takes in an event, a VFREEBUSY or an availability; tasks and journals keep nobody busy."""
        try:
            if found.component == "VEVENT":
                self._add_event(found)
            elif found.component == "VFREEBUSY":
                self._add_freebusy(found)
            elif found.component == "VAVAILABILITY":
                for one in found.timed:
                    self._availabilities.append((_priority(one.component), found, one.component, one))
        except TooMuch:
            self._add(self.start, self.end, BusyType.BUSY)

    def periods(self) -> list[Busy]:
        """When he is busy, in order."""
        found = [Busy(start, end, type_) for type_, spans in self._busy.items() for start, end in spans]
        return together(found + self._unavailable())

    def _add(self, start: int, end: int, type_: BusyType) -> None:
        start, end = max(start, self.start), min(end, self.end)
        if start >= end:
            return
        spans = self._busy[type_]
        spans.append((start, end))
        if len(spans) >= _COMPACTED_AT and len(spans) % _COMPACTED_AT == 0:
            self._busy[type_] = merged(spans)
            if len(self._busy[type_]) > _PERIODS_MAX:
                raise TooMuch

    def _add_event(self, found: CalendarObject) -> None:
        types: dict[int, BusyType | None] = {}
        for one in instances_in(found, self.start, self.end, self._zone):
            key = id(one.timed)
            if key not in types:
                types[key] = self._type_of(one.timed)
            type_ = types[key]
            if type_ is not None:
                self._add(one.start, one.end, type_)

    def _type_of(self, timed: Timed) -> BusyType | None:
        """What an event makes of its time; None: it leaves it free."""
        if _said(timed.component, "TRANSP") == "TRANSPARENT":
            return None
        status = _said(timed.component, "STATUS")
        if status == "CANCELLED":
            return None
        type_ = BusyType.TENTATIVE if status == "TENTATIVE" else BusyType.BUSY
        if timed.organizer is None or not self._addresses:
            return type_
        answer = next((_answer(one) for one in timed.attendees if self._is_own(one)), None)
        if answer in ("DECLINED", "DELEGATED"):
            return None
        if answer is not None and answer != "ACCEPTED" and not self._is_own(timed.organizer):
            return BusyType.TENTATIVE
        return type_

    def _is_own(self, one: Property) -> bool:
        return normal_address(one.value) in self._addresses

    def _add_freebusy(self, found: CalendarObject) -> None:
        for timed in found.timed:
            for one in timed.component.all("FREEBUSY"):
                said = (one.parameter("FBTYPE") or "BUSY").upper()
                if said == "FREE":
                    continue
                type_ = _type(said, BusyType.BUSY)
                zone = found.zones.of(one)
                for value in one.value.split(","):
                    if value.strip():
                        span = period(value.strip(), zone)
                        self._add(span.start.seconds(self._zone), span.until(self._zone), type_)

    # Availability (RFC 7953 §5)

    def _unavailable(self) -> list[Busy]:
        """What availabilities leave over, those of the least priority first: each covers what is below it."""
        result: list[Busy] = []
        # PRIORITY 1 is the highest, 9 the lowest, none or 0 below it
        for _, found, component, timed in sorted(self._availabilities, key=lambda each: -(each[0] or 10)):
            low, high = self._span(timed)
            if low >= high:
                continue
            type_ = _type(_said(component, "BUSYTYPE"), BusyType.UNAVAILABLE)
            try:
                available = merged([(max(low, a), min(high, b)) for a, b in self._available(found, component)])
            except TooMuch:
                available = []
            above = [Busy(start, end, type_) for start, end in gaps(available, low, high)]
            below = [
                Busy(start, end, one.type) for one in result for start, end in gaps([(low, high)], one.start, one.end)
            ]
            result = below + above
        return result

    def _span(self, timed: Timed) -> tuple[int, int]:
        """For how long an availability says anything, within what is asked."""
        low, high = self.start, self.end
        if timed.start is not None:
            start = timed.start.seconds(self._zone)
            low = max(low, start)
            if timed.duration is not None:
                high = min(high, timed.duration.after(timed.start, self._zone))
        if timed.end is not None:
            high = min(high, timed.end.seconds(self._zone))
        return low, high

    def _available(self, found: CalendarObject, component: Component) -> Iterator[tuple[int, int]]:
        by_uid: dict[str, list[Timed]] = {}
        for one in available_times(component, found):
            by_uid.setdefault(one.uid or "", []).append(one)
        for uid, timed in by_uid.items():
            series = CalendarObject(found.root, b"", "AVAILABLE", uid, timed, found.zones, limits=found.limits)
            for each in instances_in(series, self.start, self.end, self._zone):
                yield each.start, each.end


def normal_address(address: str) -> str:
    """A calendar user's address as it is compared (RFC 6638 §2.4.1)."""
    return address.strip().lower()


def _answer(attendee: Property) -> str:
    return (attendee.parameter("PARTSTAT") or "NEEDS-ACTION").upper()


def _said(component: Component, name: str) -> str:
    return (component.value(name) or "").strip().upper()


def _priority(component: Component) -> int:
    said = _said(component, "PRIORITY")
    return int(said) if said in {*"0123456789"} else 0


def _type(said: str, otherwise: BusyType) -> BusyType:
    try:
        return BusyType(said)
    except ValueError:
        return otherwise


def merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same time in as few spans as it takes, in order; empty ones are left out."""
    result: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if start >= end:
            continue
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def gaps(spans: Iterable[tuple[int, int]], start: int, end: int) -> Iterator[tuple[int, int]]:
    """What merged spans leave over of [start, end)."""
    at = start
    for low, high in spans:
        if high <= at or low >= end:
            continue
        if low > at:
            yield at, low
        at = max(at, high)
    if at < end:
        yield at, end


def freebusy(
    objects: Iterable[CalendarObject], start: int, end: int, zone: Zone = UTC, addresses: Iterable[str] = ()
) -> list[Busy]:
    """When somebody with these objects is busy within [start, end)."""
    collected = FreeBusy(start, end, zone, addresses)
    for one in objects:
        collected.add(one)
    return collected.periods()


def together(periods: Iterable[Busy]) -> list[Busy]:
    """Periods of several calendars as those of one person: of one type merged, in order."""
    by_type: dict[BusyType, list[tuple[int, int]]] = {}
    for one in periods:
        by_type.setdefault(one.type, []).append((one.start, one.end))
    return sorted(Busy(start, end, type_) for type_, spans in by_type.items() for start, end in merged(spans))


def written_freebusy(
    periods: Iterable[Busy],
    start: int,
    end: int,
    *,
    stamp: int,
    uid: str = "",
    method: str = "",
    organizer: Property | None = None,
    attendee: Property | None = None,
) -> bytes:
    """A VCALENDAR with one VFREEBUSY. `stamp` is its DTSTAMP; the rest is for answers by iTIP (RFC 6638 §5)."""
    properties = [
        Property("DTSTAMP", _utc(stamp)),
        Property("DTSTART", _utc(start)),
        Property("DTEND", _utc(end)),
        *([Property("UID", escaped(uid))] if uid else []),
        *(one for one in (organizer, attendee) if one is not None),
    ]
    by_type: dict[BusyType, list[str]] = {}
    for one in periods:
        by_type.setdefault(one.type, []).append(f"{_utc(one.start)}/{_utc(one.end)}")
    for type_ in BusyType:
        if type_ in by_type:
            properties.append(Property("FREEBUSY", ",".join(by_type[type_]), [("FBTYPE", (type_.value,))]))
    head = [Property("VERSION", "2.0"), Property("PRODID", _PRODID)]
    if method:
        head.append(Property("METHOD", method))
    return write(Component("VCALENDAR", head, [Component("VFREEBUSY", properties)]))


def _utc(seconds: int) -> str:
    return written_time(naive(seconds), utc=True)
