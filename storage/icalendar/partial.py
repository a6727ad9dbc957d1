"""The part of a calendar object that a calendar-data element asks for (RFC 4791 §9.6).

Some components and properties, the recurrence set expanded or limited to a time, periods of free-busy limited, time
zones left out (RFC 7809 §3.1). What is asked whole is the client's octets; of the rest each line that does not change
is as it stands there. Expanded, an instance has its times in UTC and its RECURRENCE-ID; dates stay dates, and what has
no zone stays without one, since only who shows it knows its own.

Raises: TooMuch where an expansion would have more instances or octets than an answer may have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from storage.collections.values import ENDLESS
from storage.icalendar.checked import RECURRING, CalendarObject, Timed
from storage.icalendar.contentlines import Component, Malformed, Property, write_property
from storage.icalendar.filter import TimeRange, only_instance
from storage.icalendar.instances import BEGINNING
from storage.icalendar.recurrence import Instance, instances, length, overlaps
from storage.icalendar.rules import TooMuch
from storage.icalendar.values import DAY, UTC, Moment, Zone, moment, period, written_moment
from storage.icalendar.zones import named

EXPANDED_MAX = 16 << 20  # octets of one object

_TIMES = ("DTSTART", "DTEND", "DUE", "DURATION")
_RECURRENCE = ("RRULE", "RDATE", "EXDATE", "EXRULE", "RECURRENCE-ID")


@dataclass(frozen=True, slots=True)
class PropData:
    """A property that is asked for; `no_value`: only that it is there (RFC 4791 §9.6.4)."""

    name: str  # upper case
    no_value: bool = False


@dataclass(frozen=True, slots=True)
class CompData:
    """A component that is asked for (RFC 4791 §9.6.1). None: all properties, all components in it."""

    name: str  # upper case
    props: tuple[PropData, ...] | None = None
    components: tuple[CompData, ...] | None = None


@dataclass(frozen=True, slots=True)
class CalendarData:
    """What a calendar-data element asks for. `component` is that of VCALENDAR; None: all of it."""

    component: CompData | None = None
    expand: TimeRange | None = None
    limit_recurrence: TimeRange | None = None
    limit_freebusy: TimeRange | None = None
    with_zones: bool = True  # False: definitions of zones with a standard name are left out (RFC 7809)

    @property
    def is_whole(self) -> bool:
        """Whether an object is given as it is, so that nobody has to read it."""
        return self == _WHOLE


_WHOLE = CalendarData()


def partial(found: CalendarObject, asked: CalendarData, zone: Zone = UTC) -> bytes:
    """The part of an object that is asked for; times without a zone are read in `zone`."""
    if asked.is_whole or (asked.component is not None and asked.component.name != "VCALENDAR"):
        return found.data
    data = b"".join(_Part(found, asked, zone).lines())
    return data if b"\n" not in data.replace(b"\r\n", b"") else _with_crlf(data)


def _with_crlf(data: bytes) -> bytes:
    """Lines that end alike, of a client that ends its own with LF."""
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


class _Part:
    """One object and what is asked of it."""

    def __init__(self, found: CalendarObject, asked: CalendarData, zone: Zone) -> None:
        self._found, self._asked, self._zone = found, asked, zone
        self._timed = {id(one.component): one for one in found.timed}

    def lines(self) -> Iterator[bytes]:
        root, wanted = self._found.root, self._asked.component or CompData("VCALENDAR")
        yield b"BEGIN:VCALENDAR\r\n"
        yield from self._properties(root, wanted)
        if self._asked.expand is not None and self._found.component in RECURRING:
            yield from self._expanded(wanted)
        else:
            for below in root.components:
                inner = _asked_for(below.name, wanted)
                if inner is not None and self._is_left(below):
                    yield from self._component(below, inner)
        yield b"END:VCALENDAR\r\n"

    def _is_left(self, one: Component) -> bool:
        """Whether limits leave a component of the VCALENDAR there."""
        if one.name == "VTIMEZONE":
            tzid = one.value("TZID")
            return self._asked.with_zones or tzid is None or named(tzid) is None
        limit, timed = self._asked.limit_recurrence, self._timed.get(id(one))
        if limit is None or timed is None or timed.recurrence_id is None:
            return True
        return self._affects(timed, timed.recurrence_id, limit)

    def _affects(self, override: Timed, recurrence_id: Moment, limit: TimeRange) -> bool:
        """Whether an override takes place in that time, or takes the place of what would have (RFC 4791 §9.6.6)."""
        low = BEGINNING if limit.start is None else limit.start
        high = ENDLESS if limit.end is None else limit.end
        original = recurrence_id.seconds(self._zone)
        if override.from_here_on and original < high:
            return True
        if override.anchor is None or overlaps(only_instance(override, self._zone), low, high, self._zone):
            return True
        of = self._found.master_times or override
        until = length(of, self._zone).after(recurrence_id, self._zone)
        return overlaps(Instance(original, until, of, recurrence_id, recurrence_id), low, high, self._zone)

    def _component(self, one: Component, wanted: CompData) -> Iterator[bytes]:
        if wanted.props is None and wanted.components is None and not self._is_limited(one):
            yield self._found.data[one.start : one.end]
            return
        todo: list[tuple[Component, CompData] | bytes] = [(one, wanted)]
        while todo:
            item = todo.pop()
            if isinstance(item, bytes):
                yield item
                continue
            component, asked = item
            yield f"BEGIN:{component.name}\r\n".encode()
            yield from self._properties(component, asked)
            todo.append(f"END:{component.name}\r\n".encode())
            for below in reversed(component.components):
                inner = _asked_for(below.name, asked)
                if inner is not None:
                    todo.append((below, inner))

    def _is_limited(self, one: Component) -> bool:
        return one.name == "VFREEBUSY" and self._asked.limit_freebusy is not None

    def _properties(self, one: Component, wanted: CompData) -> Iterator[bytes]:
        limit = self._asked.limit_freebusy
        for each in one.properties:
            line = self._line(each, wanted)
            if line is not None and limit is not None and one.name == "VFREEBUSY" and each.name == "FREEBUSY":
                line = self._limited(each, limit)
            if line is not None:
                yield line

    def _line(self, one: Property, wanted: CompData) -> bytes | None:
        """A property as it is asked for; None: it is not."""
        if wanted.props is None:
            return self._found.data[one.start : one.end]
        for asked in wanted.props:
            if asked.name == one.name:
                if asked.no_value:
                    return write_property(Property(one.name, "", one.parameters))
                return self._found.data[one.start : one.end]
        return None

    def _limited(self, one: Property, limit: TimeRange) -> bytes | None:
        """Those periods of a FREEBUSY that lie in that time (RFC 4791 §9.6.7); None: there are none."""
        zone = self._found.zones.of(one)
        said = [value.strip() for value in one.value.split(",") if value.strip()]
        kept: list[str] = []
        for value in said:
            span = period(value, zone)
            if limit.holds(span.start.seconds(self._zone), span.until(self._zone)):
                kept.append(value)
        if len(kept) == len(said):
            return self._found.data[one.start : one.end]
        return write_property(Property(one.name, ",".join(kept), one.parameters)) if kept else None

    # Expansion (RFC 4791 §9.6.5)

    def _expanded(self, wanted: CompData) -> Iterator[bytes]:
        found, span = self._found, self._asked.expand
        assert span is not None
        inner = _asked_for(found.component, wanted)
        if inner is None:
            return
        frames: dict[int, tuple[bytes, bytes]] = {}
        size = 0
        for one in instances(found, span.start, span.end, found.limits.max_instances, self._zone):
            frame = frames.get(id(one.timed))
            if frame is None:
                frame = frames[id(one.timed)] = self._frame(one.timed, inner)
            lines = b"".join([frame[0], *self._times(one, inner), frame[1]])
            size += len(lines)
            if size > EXPANDED_MAX:
                raise TooMuch("The instances of this are more than one answer holds.")
            yield lines

    def _frame(self, timed: Timed, wanted: CompData) -> tuple[bytes, bytes]:
        """What all instances of a component share: before their times, and after."""
        component = timed.component
        head = [f"BEGIN:{component.name}\r\n".encode()]
        for one in component.properties:
            if one.name in _RECURRENCE or one.name in _TIMES:
                continue
            line = self._line(one, wanted)
            if line is not None:
                head.append(line if one.parameter("TZID") is None else self._in_utc(one, line))
        tail: list[bytes] = []
        for below in component.components:
            inner = _asked_for(below.name, wanted)
            if inner is not None:
                tail.extend(self._component(below, inner))
        tail.append(f"END:{component.name}\r\n".encode())
        return b"".join(head), b"".join(tail)

    def _in_utc(self, one: Property, line: bytes) -> bytes:
        try:
            found = moment(one.value.strip(), self._found.zones.of(one))
        except Malformed:
            return line
        return _time(one.name, found) if found.zone is not None else line

    def _times(self, one: Instance, wanted: CompData) -> Iterator[bytes]:
        timed, names = one.timed, None if wanted.props is None else {each.name for each in wanted.props}
        if one.recurrence_id is not None:
            yield _time("RECURRENCE-ID", one.recurrence_id)
        if one.begins is not None and timed.start is not None and (names is None or "DTSTART" in names):
            yield _time("DTSTART", one.begins)
        ends = "DUE" if timed.component.name == "VTODO" else "DTEND"
        if timed.end is not None:
            if names is None or ends in names:
                yield _time(ends, self._at(timed.end, one.end if timed.start is not None else one.start))
        elif one.begins is not None and timed.start is not None and (names is None or {ends, "DURATION"} & names):
            yield from self._length(one, one.begins, ends)

    def _length(self, one: Instance, begins: Moment, ends: str) -> Iterator[bytes]:
        """How long an instance lasts whose component has no end: a day in UTC is not always one of its zone."""
        duration = one.timed.component.first("DURATION")
        said = one.timed.duration
        if duration is not None and said is not None and one.start + said.total == one.end:
            yield self._found.data[duration.start : duration.end]
        elif said is not None or one.end - one.start != (DAY if begins.is_date else 0):
            yield _time(ends, self._at(begins, one.end))

    def _at(self, form: Moment, seconds: int) -> Moment:
        """A time in the form of another."""
        local = (form.zone or self._zone).local(seconds)
        return form.at(local.replace(hour=0, minute=0, second=0) if form.is_date else local)


def _time(name: str, found: Moment) -> bytes:
    """A property with this time, in UTC if it has a zone."""
    if found.zone is not None:
        found = Moment(UTC.local(found.zone.seconds(found.local)), zone=UTC)
    return write_property(Property(name, written_moment(found), [("VALUE", ("DATE",))] if found.is_date else []))


def _asked_for(name: str, wanted: CompData) -> CompData | None:
    """What is asked of a component within `wanted`; None: it is not asked for."""
    if wanted.components is None:
        return CompData(name)
    return next((one for one in wanted.components if one.name == name), None)
