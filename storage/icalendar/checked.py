"""Calendar object resources: read from their octets and checked before anything is stored (RFC 4791 §4.1, §5.3.2.1).

`checked` takes what a PUT may store, `parsed` also iTIP messages with a METHOD. What comes back has all times that
matter read: who asks when it takes place does no text work again. The octets stay the client's; nothing is put right.

Strict where two clients would understand two things (UID, RECURRENCE-ID, times, rules); patient with the rest:
a missing DTSTAMP, unknown properties and parameters, DTEND that equals DTSTART, dates without VALUE=DATE.
Raises: Violated with the name of the precondition.
Standards: RFC 5545, RFC 4791, RFC 5546 (METHOD), RFC 6638 §3.2.4.2 (one ORGANIZER), RFC 7529, RFC 7953.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from storage.collections.conditions import Violated
from storage.icalendar.contentlines import Component, Malformed, Property, read, text
from storage.icalendar.limits import CALENDAR_LIMITS, CalendarLimits
from storage.icalendar.rules import Rule, TooMuch, Unsupported, read_rule
from storage.icalendar.values import UTC, Duration, Moment, Period, Zone, duration, moment, period
from storage.icalendar.zones import UnknownZone, Zones

COMPONENTS = ("VEVENT", "VTODO", "VJOURNAL", "VFREEBUSY", "VAVAILABILITY")
RECURRING = ("VEVENT", "VTODO", "VJOURNAL")

# Properties that stand in a component at most once, of those on which something here depends (RFC 5545 §3.6).
_ONCE = frozenset(
    ("UID", "DTSTART", "DTEND", "DUE", "DURATION", "RECURRENCE-ID", "ORGANIZER", "SEQUENCE", "COMPLETED", "CREATED")
)


@dataclass(slots=True)
class Timed:
    """One component (master, override, AVAILABLE) with its times read."""

    component: Component
    start: Moment | None = None
    end: Moment | None = None  # DTEND, or DUE of a VTODO
    duration: Duration | None = None
    recurrence_id: Moment | None = None
    from_here_on: bool = False  # RANGE=THISANDFUTURE
    rules: list[Rule] = field(default_factory=list)
    dates: list[Moment | Period] = field(default_factory=list)  # RDATE
    exceptions: list[Moment] = field(default_factory=list)  # EXDATE
    completed: Moment | None = None
    created: Moment | None = None
    periods: list[Period] = field(default_factory=list)  # FREEBUSY
    organizer: Property | None = None
    attendees: list[Property] = field(default_factory=list)
    uid: str | None = None

    @property
    def recurs(self) -> bool:
        return bool(self.rules or self.dates)

    @property
    def anchor(self) -> Moment | None:
        """What its rules count from: DTSTART, or DUE of a task without one."""
        return self.start or self.end


@dataclass(slots=True)
class CalendarObject:
    """A calendar object, checked."""

    root: Component
    data: bytes = field(repr=False)
    component: str  # VEVENT, VTODO …
    uid: str
    timed: list[Timed]  # of all its components, in their order
    zones: Zones
    method: str | None = None  # of iTIP; a stored object has none
    limits: CalendarLimits = CALENDAR_LIMITS

    @property
    def master_times(self) -> Timed | None:
        """The component without RECURRENCE-ID; None: an object that has only single instances."""
        for one in self.timed:
            if one.recurrence_id is None:
                return one
        return None

    @property
    def override_times(self) -> list[Timed]:
        return [one for one in self.timed if one.recurrence_id is not None]

    @property
    def master(self) -> Component | None:
        found = self.master_times
        return None if found is None else found.component

    @property
    def overrides(self) -> list[Component]:
        return [one.component for one in self.override_times]

    @property
    def components(self) -> list[Component]:
        """All but the time zones."""
        return [one.component for one in self.timed]

    @property
    def organizer(self) -> Property | None:
        """The ORGANIZER, the same in all components."""
        for one in self.timed:
            if one.organizer is not None:
                return one.organizer
        return None

    @property
    def attendees(self) -> list[Property]:
        """The ATTENDEEs of all components, each address once."""
        found: dict[str, Property] = {}
        for one in self.timed:
            for attendee in one.attendees:
                found.setdefault(attendee.value.strip().lower(), attendee)
        return list(found.values())

    @property
    def sequence(self) -> int:
        """The highest SEQUENCE of its components."""
        return max((_number(one.component.value("SEQUENCE")) for one in self.timed), default=0)

    @property
    def is_scheduling(self) -> bool:
        """Whether it has an ORGANIZER: then changes of it concern others (RFC 6638 §3.1)."""
        return any(one.organizer is not None for one in self.timed)


def _number(value: str | None) -> int:
    return int(value) if value and value.isascii() and value.isdigit() and len(value) < 10 else 0


def checked(data: bytes, limits: CalendarLimits = CALENDAR_LIMITS) -> CalendarObject:
    """The object that a client wants to store."""
    return parsed(data, limits)


def parsed(data: bytes, limits: CalendarLimits = CALENDAR_LIMITS, *, allow_method: bool = False) -> CalendarObject:
    """Likewise; with `allow_method` an iTIP message too, which may leave out what its METHOD does not need."""
    if len(data) > limits.max_size:
        raise Violated("max-resource-size", f"A calendar object has at most {limits.max_size:,} octets.")
    try:
        root = read(data, limits.lines)
        return _object(root, data, limits, allow_method)
    except Unsupported as error:
        raise Violated("supported-rscale", error.public) from error
    except UnknownZone as error:
        raise Violated("valid-timezone", error.public) from error
    except Malformed as error:
        raise Violated("valid-calendar-data", error.public) from error
    except TooMuch as error:
        raise Violated("max-instances", error.public) from error


def _object(root: Component, data: bytes, limits: CalendarLimits, allow_method: bool) -> CalendarObject:
    if root.name != "VCALENDAR":
        raise Malformed("A calendar object is a VCALENDAR.")
    method = _frame(root)
    if method is not None and not allow_method:
        raise _resource("A stored calendar object has no METHOD.")
    zones = Zones(root, limits)
    parts = [one for one in root.components if one.name != "VTIMEZONE"]
    if not parts:
        raise _resource("There is no event, task, journal entry or availability in it.")
    name = parts[0].name
    if any(one.name != name for one in parts):
        raise _resource("All components of a calendar object are of one type.")
    if name not in COMPONENTS:
        raise Violated("supported-calendar-component", f"Components of type {name[:40]} are not kept here.")
    timed = [_timed(one, zones, limits) for one in parts]
    for one in timed:
        _hold(one, limits, loosely=method is not None)
    uid = _one_uid(timed)
    _instances_once(timed)
    _one_organizer(timed)
    if name == "VAVAILABILITY":
        _hold_availability(parts, zones, limits)
    return CalendarObject(root, data, name, uid, timed, zones, method, limits)


def _resource(why: str) -> Violated:
    return Violated("valid-calendar-object-resource", why)


def _frame(root: Component) -> str | None:
    """VERSION, PRODID and CALSCALE as they have to be (RFC 5545 §3.7); the METHOD."""
    found: dict[str, str] = {}
    for one in root.properties:
        if one.name in ("VERSION", "PRODID", "CALSCALE", "METHOD"):
            if one.name in found:
                raise Malformed(f"{one.name} stands there twice.")
            found[one.name] = one.value.strip()
    if found.get("VERSION") != "2.0":
        raise Malformed("A calendar object says VERSION:2.0.")
    if "PRODID" not in found:
        raise Malformed("A calendar object has a PRODID.")
    if found.get("CALSCALE", "GREGORIAN").upper() != "GREGORIAN":
        raise Violated("supported-calendar-data", "Of calendar scales only GREGORIAN is supported.")
    method = found.get("METHOD")
    return None if method is None else method.upper()


def _timed(component: Component, zones: Zones, limits: CalendarLimits) -> Timed:
    """The times of a component, read."""
    timed = Timed(component)
    seen: set[str] = set()
    numbered = 0
    for one in component.properties:
        name = one.name
        if name in _ONCE:
            if name in seen:
                raise Malformed(f"{name} stands twice in one component.")
            seen.add(name)
        if name == "UID":
            timed.uid = text(one.value).strip()
        elif name == "DTSTART":
            timed.start = _moment(one, zones, limits)
        elif name in ("DTEND", "DUE"):
            timed.end = _moment(one, zones, limits)
        elif name == "DURATION":
            timed.duration = duration(one.value)
        elif name == "RECURRENCE-ID":
            timed.recurrence_id = _moment(one, zones, limits)
            timed.from_here_on = (one.parameter("RANGE") or "").upper() == "THISANDFUTURE"
        elif name == "RRULE":
            timed.rules.append(read_rule(one.value))
        elif name in ("RDATE", "EXDATE"):
            numbered += one.value.count(",") + 1
            if numbered > limits.max_instances:
                raise Violated("max-instances", f"There are more than {limits.max_instances:,} dates in it.")
            if name == "RDATE":
                timed.dates.extend(_dates(one, zones, limits))
            else:
                zone = zones.of(one)
                timed.exceptions.extend(_bounded(moment(value, zone), limits) for value in _listed(one))
        elif name == "ATTENDEE":
            timed.attendees.append(one)
        elif name == "ORGANIZER":
            timed.organizer = one
        elif name in ("COMPLETED", "CREATED"):
            _instant(timed, one)
        elif name == "FREEBUSY":
            zone = zones.of(one)
            timed.periods.extend(_period(value, zone, limits) for value in _listed(one))
        if one.group:
            raise Malformed(f'"{one.group[:20]}.{name[:20]}" is no name of a property.')
    if len(timed.attendees) > limits.max_attendees:
        raise Violated("max-attendees-per-instance", f"An event has at most {limits.max_attendees:,} attendees.")
    for below in component.components:
        if below.name == "VALARM":
            trigger = below.first("TRIGGER")
            if trigger is not None:
                read_trigger(trigger)
    return timed


def _listed(one: Property) -> list[str]:
    return [value.strip() for value in one.value.split(",") if value.strip()]


def _moment(one: Property, zones: Zones, limits: CalendarLimits) -> Moment:
    found = moment(one.value.strip(), zones.of(one) if one.parameters else None)
    if not found.is_date and (one.parameter("VALUE") or "").upper() == "DATE":
        raise Malformed(f"{one.name} says VALUE=DATE and has a time.")
    return _bounded(found, limits)


def _dates(one: Property, zones: Zones, limits: CalendarLimits) -> list[Moment | Period]:
    zone = zones.of(one)
    found: list[Moment | Period] = []
    for value in _listed(one):
        if "/" in value:
            found.append(_period(value, zone, limits))
        else:
            found.append(_bounded(moment(value, zone), limits))
    return found


def _period(value: str, zone: Zone | None, limits: CalendarLimits) -> Period:
    found = period(value, zone)
    _bounded(found.start, limits)
    if found.until(UTC) < found.start.seconds(UTC):
        raise Malformed("A period ends before it begins.")
    return found


def _bounded(one: Moment, limits: CalendarLimits) -> Moment:
    if one.local < limits.min_date:
        raise Violated("min-date-time", f"Nothing takes place before the year {limits.min_date.year}.")
    if one.local > limits.max_date:
        raise Violated("max-date-time", f"Nothing takes place after the year {limits.max_date.year}.")
    return one


def _instant(timed: Timed, one: Property) -> None:
    """COMPLETED or CREATED. Google writes CREATED:00001231T000000Z; what is no time is none."""
    try:
        found = moment(one.value.strip(), UTC)
    except Malformed:
        if one.name == "COMPLETED":
            raise
        return
    if one.name == "COMPLETED":
        timed.completed = found
    else:
        timed.created = found


def read_trigger(trigger: Property) -> Duration | Moment:
    """When an alarm goes off, relative or absolute (RFC 5545 §3.8.6.3)."""
    if (trigger.parameter("VALUE") or "").upper() == "DATE-TIME" or trigger.value[:1].isdigit():
        return moment(trigger.value.strip(), UTC)
    return duration(trigger.value)


def _hold(one: Timed, limits: CalendarLimits, *, loosely: bool) -> None:
    """What times of one component must not contradict (RFC 5545 §3.6.1 to §3.6.4)."""
    name, start, end = one.component.name, one.start, one.end
    if name == "VEVENT" and start is None and not loosely:
        raise Malformed("An event has a DTSTART.")
    if end is not None and one.duration is not None and name != "VFREEBUSY":
        # jtx Board and others keep what they were given before they chose DUE; DUE is what they show
        if name != "VTODO":
            raise Malformed("There is DTEND or DURATION, not both.")
        one.duration = None
    if one.duration is not None and start is None and name == "VTODO":
        one.duration = None  # without DTSTART it means nothing
    if one.duration is not None and one.duration.total < 0:
        raise Malformed("A duration is not negative.")
    if start is not None and end is not None:
        if start.is_date != end.is_date:
            one.end = _of_one_kind(start, end)
        elif end.seconds(UTC) < start.seconds(UTC) and (start.zone is None) == (end.zone is None) and name != "VTODO":
            raise Malformed("It ends before it begins.")
    # A task without a date may say that it recurs, as Apple's clients let it; nobody can say when.
    if one.recurs and one.anchor is None and not loosely and name != "VTODO":
        raise Malformed("What recurs has a DTSTART.")
    if (one.rules or one.dates or one.exceptions) and name not in (*RECURRING, "AVAILABLE"):
        raise Malformed(f"{name} does not recur.")
    if len(one.rules) > 10:
        raise Violated("max-instances", "There are more than ten recurrence rules in it.")


def _of_one_kind(start: Moment, end: Moment) -> Moment:
    """An end as what the start is, a date or a time: some clients mix them, and Apple's server takes it."""
    if end.is_date:
        return Moment(max(end.local, start.local), False, start.zone)
    midnight = end.local.replace(hour=0, minute=0, second=0)
    return Moment(midnight if midnight == end.local else midnight + timedelta(days=1), True)


def _one_uid(timed: list[Timed]) -> str:
    uids = {one.uid for one in timed}
    uid = uids.pop()
    if not uid:
        raise _resource("A calendar object has a UID.")
    if uids:
        raise _resource("All components of a calendar object have the same UID.")
    if len(uid) > 4096:
        raise Malformed("A UID has at most 4,096 characters.")
    return uid


def _instances_once(timed: list[Timed]) -> None:
    """One master at most, and one override of each instance."""
    if len(timed) == 1:
        return
    seen: set[tuple[int, bool]] = set()
    masters = 0
    for one in timed:
        if one.recurrence_id is None:
            masters += 1
            if masters > 1:
                raise _resource("There are two components with the same UID and no RECURRENCE-ID.")
            continue
        key = (one.recurrence_id.seconds(UTC), one.recurrence_id.is_date)
        if key in seen:
            raise _resource("There are two components with the same RECURRENCE-ID.")
        seen.add(key)


def _one_organizer(timed: list[Timed]) -> None:
    organizers = {one.organizer.value.strip().lower() for one in timed if one.organizer is not None}
    if len(organizers) > 1:
        raise Violated("same-organizer-in-all-components", "All components have the same ORGANIZER.")


def _hold_availability(parts: list[Component], zones: Zones, limits: CalendarLimits) -> None:
    for part in parts:
        for available in part.below("AVAILABLE"):
            one = _timed(available, zones, limits)
            if one.start is None:
                raise Malformed("AVAILABLE has a DTSTART.")
            _hold(one, limits, loosely=False)


def available_times(part: Component, found: CalendarObject) -> list[Timed]:
    """The AVAILABLE components of a VAVAILABILITY, with their times read (RFC 7953 §3.1)."""
    return [_timed(one, found.zones, found.limits) for one in part.below("AVAILABLE")]
