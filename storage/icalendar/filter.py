"""What a calendar-query asks for, as values, and whether an object is it (RFC 4791 §9.7).

hosting.dav reads the XML into `Filter`; `prefilter` says what the index of times can answer of it, `certain` whether
the index alone decides about an object, `may_match` whether its octets are worth reading, and `matches` looks at an
object that was read. A time-range stands for [start, end) in Unix seconds.

All conditions of a comp-filter are asked of one component: a master and an override that match half each are no match.
A time-range of a component asks for the instances that this component stands for; one of an alarm for when it goes off
at any instance of the component around it; one of a property for its value (RFC 4791 §9.9). An object for which this
takes more steps than there are for one is said to match: it is rather shown than hidden.

Raises: Violated (valid-filter) from `validated` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from storage.collections.conditions import Violated
from storage.collections.values import ENDLESS, Times
from storage.icalendar.checked import CalendarObject, Timed, available_times, read_trigger
from storage.icalendar.contentlines import Component, Malformed, Property, text
from storage.icalendar.instances import BEGINNING, alarm_times, overlapping
from storage.icalendar.recurrence import Instance, any_overlap, instances_in, length, overlaps
from storage.icalendar.rules import TooMuch
from storage.icalendar.textmatch import Octets, TextMatch
from storage.icalendar.values import DAY, UTC, Moment, Zone, moment

_TIMED_COMPONENTS = ("VEVENT", "VTODO", "VJOURNAL", "VFREEBUSY", "VALARM", "VAVAILABILITY", "AVAILABLE")
_TIMED_PROPERTIES = ("COMPLETED", "CREATED", "DTEND", "DTSTAMP", "DTSTART", "DUE", "LAST-MODIFIED", "RECURRENCE-ID")
_LEVELS = 16  # as deep as components are read
_ALARM_REPEATS = 100  # repetitions of an alarm that are looked at
_ALARM_TIMES = 100_000  # of all alarms of an object, that are looked at
_ALARMS = 50  # of an object, whose instances are looked for


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Either end may be open, not both (RFC 4791 §9.9)."""

    start: int | None = None
    end: int | None = None

    def holds(self, first: int, last: int) -> bool:
        """Whether [first, last) reaches into it; of a moment (first == last) whether it lies in it."""
        if self.end is not None and first >= self.end:
            return False
        return self.start is None or last > self.start or first == last == self.start


@dataclass(frozen=True, slots=True)
class ParamFilter:
    """Without `text`: it has the parameter (RFC 4791 §9.7.3)."""

    name: str  # upper case, as all names here
    text: TextMatch | None = None
    is_not_defined: bool = False


@dataclass(frozen=True, slots=True)
class PropFilter:
    """Without conditions: there is such a property (RFC 4791 §9.7.2)."""

    name: str
    is_not_defined: bool = False
    time_range: TimeRange | None = None
    text: TextMatch | None = None
    params: tuple[ParamFilter, ...] = ()
    any_of: bool = False  # one of `text` and `params` is enough (Apple's test="anyof", from RFC 6352)


@dataclass(frozen=True, slots=True)
class Filter:
    """A comp-filter; the outermost is that of VCALENDAR (RFC 4791 §9.7.1)."""

    name: str
    is_not_defined: bool = False
    time_range: TimeRange | None = None
    props: tuple[PropFilter, ...] = ()
    components: tuple[Filter, ...] = field(default=())
    any_of: bool = False  # one of `props` and `components` is enough (likewise)


class Candidates(NamedTuple):
    """What the index of times is asked for: no object that is not among these can match."""

    component: str
    start: int | None  # None: from the beginning
    end: int | None  # None: without end
    alone: bool = False  # the filter asks for nothing else


def prefilter(filter_: Filter) -> Candidates | None:
    """What an index can say of `filter_`; None: every object has to be read.

    Of several components that are asked for, an object has to have all, so that any one narrows the search; one with a
    time-range narrows it more.
    """
    if filter_.name != "VCALENDAR" or filter_.is_not_defined:
        return None
    if filter_.any_of and len(filter_.components) + len(filter_.props) > 1:
        return None
    best: Candidates | None = None
    for asked in filter_.components:
        if asked.is_not_defined or asked.name == "VTIMEZONE":
            continue
        within = asked.time_range or TimeRange()
        alone = len(filter_.components) == 1 and not (filter_.props or asked.props or asked.components)
        found = Candidates(asked.name, within.start, within.end, alone)
        if best is None or (asked.time_range and best.start is None and best.end is None):
            best = found
    return best


def certain(times: Times | None, wanted: Candidates, zone: Zone = UTC) -> bool | None:
    """Whether an object of the component that is wanted matches, as far as its times say; None: it has to be read."""
    if not wanted.alone:
        return None
    if wanted.start is None and wanted.end is None:
        return True
    return None if times is None else overlapping(times, wanted.start, wanted.end, zone, wanted.component)


def validated(filter_: Filter) -> Filter:
    """`filter_`, if it means something (RFC 4791 §7.8, CALDAV:valid-filter)."""
    if filter_.name != "VCALENDAR":
        raise Violated("valid-filter", "The outermost comp-filter is that of VCALENDAR.")
    todo = [filter_]
    while todo:
        one = todo.pop()
        if one.is_not_defined and (one.time_range or one.props or one.components):
            raise Violated("valid-filter", "What is not defined has no further conditions.")
        if one.time_range is not None:
            if one.name not in _TIMED_COMPONENTS:
                raise Violated("valid-filter", f"A time-range of {one.name[:40]} means nothing.")
            _validated_range(one.time_range)
        for prop in one.props:
            if prop.is_not_defined and (prop.time_range or prop.text or prop.params):
                raise Violated("valid-filter", "What is not defined has no further conditions.")
            if prop.time_range is not None:
                if prop.name not in _TIMED_PROPERTIES and not prop.name.startswith("X-"):
                    raise Violated("valid-filter", f"A time-range of {prop.name[:40]} means nothing.")
                _validated_range(prop.time_range)
        todo.extend(one.components)
    return filter_


def _validated_range(asked: TimeRange) -> None:
    if asked.start is None and asked.end is None:
        raise Violated("valid-filter", "A time-range has a start or an end.")
    if asked.start is not None and asked.end is not None and asked.start >= asked.end:
        raise Violated("valid-filter", "A time-range ends after it starts.")


def may_match(data: bytes, filter_: Filter) -> bool:
    """Whether an object with these octets can match at all: names and texts that are wanted have to be in them."""
    return _may_have(Octets(data), filter_, _LEVELS)


def _may_have(octets: Octets, wanted: Filter, levels: int) -> bool:
    if wanted.is_not_defined or not levels:
        return True
    if not octets.may_have(wanted.name):
        return False
    answers = [_may_have_property(octets, prop) for prop in wanted.props]
    answers += [_may_have(octets, one, levels - 1) for one in wanted.components]
    return _hold(answers, any_of=wanted.any_of)


def _may_have_property(octets: Octets, wanted: PropFilter) -> bool:
    if wanted.is_not_defined:
        return True
    if not octets.may_have(wanted.name):
        return False
    answers = [] if wanted.text is None else [octets.may_match(wanted.text)]
    answers += [
        one.is_not_defined or (octets.may_have(one.name) and octets.may_match(one.text)) for one in wanted.params
    ]
    return _hold(answers, any_of=wanted.any_of)


def _hold(answers: Sequence[bool], *, any_of: bool) -> bool:
    """The answer to several questions; to none it is yes."""
    return any(answers) or not answers if any_of else all(answers)


def matches(found: CalendarObject, filter_: Filter, zone: Zone = UTC) -> bool:
    """Whether an object is what is asked for; times without a zone are read in `zone`."""
    if filter_.name != "VCALENDAR" or filter_.is_not_defined:
        return filter_.name != "VCALENDAR" and filter_.is_not_defined
    try:
        return _Question(found, zone).component(found.root, filter_, None)
    except TooMuch:
        return True


class _Question:
    """One filter asked of one object. Goes as deep as the object's components do, which its reader has limited."""

    def __init__(self, found: CalendarObject, zone: Zone) -> None:
        self._found, self._zone = found, zone
        self._timed = {id(one.component): one for one in found.timed}
        self._expansions: dict[TimeRange, tuple[Iterator[Instance], set[int]]] = {}
        self._alarm_times, self._alarms = _ALARM_TIMES, _ALARMS

    def component(self, one: Component, wanted: Filter, around: Timed | None) -> bool:
        """Whether a component of the name that is wanted has all that is wanted of it."""
        timed = self._timed.get(id(one))
        if wanted.props or wanted.components:
            conditions = chain(
                (self._property(one, prop) for prop in wanted.props),
                (self._below(one, inner, timed) for inner in wanted.components),
            )
            if not (any(conditions) if wanted.any_of else all(conditions)):
                return False
        return wanted.time_range is None or self._takes_place(one, wanted.time_range, timed, around)

    def _below(self, one: Component, wanted: Filter, timed: Timed | None) -> bool:
        below = one.below(wanted.name)
        if wanted.is_not_defined:
            return not below
        if not below:
            return False
        if wanted.name == "AVAILABLE" and wanted.time_range is not None:
            self._timed.update((id(each.component), each) for each in available_times(one, self._found))
        return any(self.component(each, wanted, timed) for each in below)

    def _takes_place(self, one: Component, asked: TimeRange, timed: Timed | None, around: Timed | None) -> bool:
        if one.name == "VALARM":
            return around is not None and self._goes_off(one, asked, around)
        if timed is None:
            return False
        if one.name == "AVAILABLE":
            series = CalendarObject(
                self._found.root, b"", one.name, "", [timed], self._found.zones, limits=self._found.limits
            )
            return any_overlap(series, asked.start, asked.end, self._zone)
        if timed.recurrence_id is not None and not timed.from_here_on:
            return self._overlaps(only_instance(timed, self._zone), asked)
        return self._is_seen(timed, asked)

    def _overlaps(self, one: Instance, asked: TimeRange) -> bool:
        low = BEGINNING if asked.start is None else asked.start
        return overlaps(one, low, ENDLESS if asked.end is None else asked.end, self._zone)

    def _is_seen(self, timed: Timed, asked: TimeRange) -> bool:
        """Whether a component has an instance in that time. One expansion serves all components, as far as needed."""
        if asked not in self._expansions:
            self._expansions[asked] = (instances_in(self._found, asked.start, asked.end, self._zone), set())
        expansion, seen = self._expansions[asked]
        while id(timed) not in seen:
            one = next(expansion, None)
            if one is None:
                return False
            seen.add(id(one.timed))
        return True

    def _goes_off(self, alarm: Component, asked: TimeRange, around: Timed) -> bool:
        """Whether an alarm goes off in that time at one of the instances of `around` (RFC 4791 §9.9)."""
        for each in self._near(alarm, asked, around):
            if each.timed is not around:
                continue
            times = alarm_times(self._found, each, alarm, self._zone, _ALARM_REPEATS)
            if any(asked.holds(at, at) for at in times):
                return True
            self._alarm_times -= 1 + len(times)
            if self._alarm_times < 0:
                raise TooMuch
        return False

    def _near(self, alarm: Component, asked: TimeRange, around: Timed) -> Iterator[Instance]:
        """The instances at which an alarm could go off in that time, and some others."""
        trigger = alarm.first("TRIGGER")
        if trigger is None:
            return iter(())
        when = read_trigger(trigger)
        if isinstance(when, Moment):
            return iter([Instance(0, 0, around, around.anchor, None)])  # it goes off once, whatever happens
        if around.recurrence_id is not None and not around.from_here_on:
            return iter([only_instance(around, self._zone)])
        self._alarms -= 1
        if self._alarms < 0:
            raise TooMuch
        # From how long before to how long after the start or end of an instance it goes off.
        probe = Instance(0, 0, around, Moment(moment("19700101T000000").local, zone=UTC), None)
        offsets = alarm_times(self._found, probe, alarm, UTC, _ALARM_REPEATS) or [0]
        start = None if asked.start is None else asked.start - max(offsets) - DAY
        end = None if asked.end is None else asked.end - min(offsets) + DAY
        return instances_in(self._found, start, end, self._zone)

    def _property(self, one: Component, wanted: PropFilter) -> bool:
        found = one.all(wanted.name)
        if wanted.is_not_defined:
            return not found
        return any(self._holds(each, wanted) for each in found)

    def _holds(self, one: Property, wanted: PropFilter) -> bool:
        if wanted.time_range is not None and not self._lies_in(one, wanted.time_range):
            return False
        answers = [] if wanted.text is None else [wanted.text.matches(text(one.value))]
        answers += [_parameter(one, each) for each in wanted.params]
        return _hold(answers, any_of=wanted.any_of)

    def _lies_in(self, one: Property, asked: TimeRange) -> bool:
        try:
            zone = self._found.zones.of(one)
            for value in one.value.split(","):
                found = moment(value.partition("/")[0].strip(), zone)
                start = found.seconds(self._zone)
                if asked.holds(start, start + DAY if found.is_date else start):
                    return True
        except Malformed:  # a value of another type
            return False
        return False


def only_instance(timed: Timed, zone: Zone) -> Instance:
    """The one instance of a component that overrides another's."""
    anchor, recurrence_id = timed.anchor, timed.recurrence_id
    if anchor is None:
        at = 0 if recurrence_id is None else recurrence_id.seconds(zone)
        return Instance(at, at, timed, None, recurrence_id)
    return Instance(anchor.seconds(zone), length(timed, zone).after(anchor, zone), timed, anchor, recurrence_id)


def _parameter(one: Property, wanted: ParamFilter) -> bool:
    is_there = any(name == wanted.name for name, _ in one.parameters)
    if wanted.is_not_defined or not is_there:
        return wanted.is_not_defined and not is_there
    return wanted.text is None or any(wanted.text.matches(value) for value in one.values_of(wanted.name))
