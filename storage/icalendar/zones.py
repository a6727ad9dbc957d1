"""Time zones: of the TZIDs that clients write, by standard name where there is one, else by the VTIMEZONE beside it.

A standard name counts for more than the definition that came with it: definitions age, and what was written by last
year's rules still takes place by this year's (RFC 7809 does without them altogether). Taken for a standard name are
also the end of a path (`/freeassociation.sourceforge.net/Europe/Zurich`), Windows names, and X-LIC-LOCATION of the
definition. Abbreviations such as EST, of which the standard list has some, are names only where no definition stands.

Transitions of a definition are worked out where they are asked for, some years at a time, within a number of steps.
Raises: Malformed where a definition does not hold, UnknownZone where there is none, TooMuch where one recurs without
sense.
Standards: RFC 5545 §3.6.5, RFC 7809; Windows names by the Unicode CLDR, from icalendar.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC as DATETIME_UTC
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from storage.icalendar.contentlines import Component, Malformed, Property, read, text
from storage.icalendar.limits import CALENDAR_LIMITS, CalendarLimits
from storage.icalendar.occurrences import occurrences
from storage.icalendar.rules import Rule, Steps, TooMuch, read_rule
from storage.icalendar.values import DAY, EPOCH, UTC, Moment, Zone, moment, naive, offset, unix

_TZID_MAX = 255
_OBSERVANCES_MAX = 1_000  # of one definition
_BLOCK = 8  # years that are worked out at a time


class UnknownZone(Malformed):
    """A TZID that is neither known nor defined (CALDAV:valid-timezone of RFC 7809)."""


class _Standard:
    """A zone of the standard list."""

    __slots__ = ("_info", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._info = ZoneInfo(name)

    def seconds(self, local: datetime) -> int:
        passed = local - EPOCH
        offset = self._info.utcoffset(local)
        if offset is not None:
            passed -= offset
        return passed.days * DAY + passed.seconds

    def local(self, seconds: int) -> datetime:
        try:
            return naive(seconds).replace(tzinfo=DATETIME_UTC).astimezone(self._info).replace(tzinfo=None, fold=0)
        except OverflowError:
            return naive(seconds)


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    """All names that the standard list has, by their lower case."""
    return {name.lower(): name for name in available_timezones() if name not in ("localtime", "posixrules", "Factory")}


@lru_cache(maxsize=1)
def _windows_names() -> dict[str, str]:
    # Not before somebody sends one: the package takes a while to load.
    from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON  # noqa: PLC0415

    return {name.lower(): zone for name, zone in WINDOWS_TO_OLSON.items()}


@lru_cache(maxsize=1024)
def _standard_name(tzid: str) -> str | None:
    if len(tzid) > _TZID_MAX:
        return None
    asked = tzid.strip().strip('"').lower()
    names = _names()
    if asked in names:
        return names[asked]
    if "/" in asked:  # a path before the name
        pieces = asked.split("/")
        for count in (3, 2, 1) if asked.startswith("/") else (3, 2):
            if len(pieces) > count and "/".join(pieces[-count:]) in names:
                return names["/".join(pieces[-count:])]
        return None
    if " time" in asked or asked.startswith("utc"):  # "Central Standard Time (Mexico)" too
        return names.get(_windows_names().get(asked, "").lower())
    return None


@lru_cache(maxsize=1024)
def _standard(name: str) -> Zone:
    return UTC if name in ("UTC", "Etc/UTC", "Etc/UCT", "UCT", "Zulu", "Etc/Zulu") else _Standard(name)


def named(tzid: str) -> Zone | None:
    """The zone that a TZID names without a definition (RFC 7809); None: nobody knows it."""
    name = _standard_name(tzid)
    return None if name is None else _standard(name)


def zone_of(data: bytes, limits: CalendarLimits = CALENDAR_LIMITS) -> Zone:
    """The zone that a calendar with one VTIMEZONE defines (RFC 4791 §5.2.2)."""
    root = read(data, limits.lines)
    definitions = root.below("VTIMEZONE")
    if root.name != "VCALENDAR" or len(definitions) != 1 or len(root.components) != 1:
        raise Malformed("A time zone is a VCALENDAR with exactly one VTIMEZONE.")
    zones = Zones(root, limits)
    tzid = zones.tzids[0]
    defined(definitions[0], limits)  # it has to hold, also where its name is known
    zone = zones.find(tzid)
    if zone is None:
        raise Malformed("The time zone is not known.")
    return zone


class Zones:
    """The zones of one calendar object by TZID. Definitions are read when they are needed."""

    __slots__ = ("_definitions", "_found", "_limits", "_steps")

    def __init__(self, root: Component, limits: CalendarLimits = CALENDAR_LIMITS) -> None:
        self._limits = limits
        self._steps = Steps(limits.max_steps)  # of all definitions together
        self._found: dict[str, Zone | None] = {}
        self._definitions: dict[str, Component] = {}
        for component in root.components:
            if component.name != "VTIMEZONE":
                continue
            tzid = component.value("TZID")
            if not tzid:
                raise Malformed("A time zone has no TZID.")
            if not any(below.name in ("STANDARD", "DAYLIGHT") for below in component.components):
                raise Malformed("A time zone has no STANDARD and no DAYLIGHT.")
            self._definitions[text(tzid)] = component
            if len(self._definitions) > limits.max_zones:
                raise Malformed(f"There are more than {limits.max_zones} time zones in it.")

    @property
    def tzids(self) -> list[str]:
        """The TZIDs that are defined here."""
        return list(self._definitions)

    def find(self, tzid: str) -> Zone | None:
        """The zone of a TZID; None: it is neither known nor defined."""
        if tzid not in self._found:
            self._found[tzid] = self._look(tzid)
        return self._found[tzid]

    def of(self, one: Property) -> Zone | None:
        """The zone that the TZID of a property names; None: it has none."""
        tzid = one.parameter("TZID")
        if tzid is None:
            return None
        zone = self.find(tzid)
        if zone is None:
            raise UnknownZone(f'The time zone "{tzid[:60]}" is neither known nor defined.')
        return zone

    def _look(self, tzid: str) -> Zone | None:
        definition = self._definitions.get(tzid)
        name = _standard_name(tzid)
        if name is None and definition is not None:
            location = definition.value("X-LIC-LOCATION")
            name = _standard_name(location) if location else None
        if name is not None and ("/" in name or name in ("UTC", "GMT") or definition is None):
            return _standard(name)
        return None if definition is None else _Defined(definition, self._limits, self._steps)


# Definitions


@dataclass(frozen=True, slots=True)
class _Observance:
    start: datetime
    before: int  # seconds east of Greenwich until it begins
    after: int
    rule: Rule | None
    until: datetime | None  # of the rule, in the local time of `before`


def defined(definition: Component, limits: CalendarLimits = CALENDAR_LIMITS) -> Zone:
    """The zone that a VTIMEZONE defines."""
    return _Defined(definition, limits, Steps(limits.max_steps))


class _Defined:
    """A zone by its definition."""

    __slots__ = ("_blocks", "_fixed", "_ruled", "_steps", "name")

    def __init__(self, definition: Component, limits: CalendarLimits, steps: Steps) -> None:
        self.name = text(definition.value("TZID") or "")
        self._steps = steps
        self._blocks: dict[int, _Transitions] = {}
        fixed: set[tuple[int, int, int]] = set()  # (Unix seconds, offset before, offset after) whatever is asked
        self._ruled: list[_Observance] = []
        observances = [one for one in definition.components if one.name in ("STANDARD", "DAYLIGHT")]
        if not observances or len(observances) > _OBSERVANCES_MAX:
            raise Malformed("A time zone has no STANDARD and no DAYLIGHT, or far too many.")
        for component in observances:
            for one in _observances(component):
                before, after = one.before, one.after
                fixed.add((unix(one.start) - before, before, after))
                if one.rule is None:
                    continue
                if one.rule.is_endless:
                    self._ruled.append(one)
                elif one.rule.count is not None:
                    times = occurrences(one.rule, one.start, limits.max_date, steps)
                    fixed.update((unix(at) - before, before, after) for at in times)
                elif one.until is not None:
                    self._ruled.append(one)
                    # the last ones before it ended hold on
                    since = one.until - timedelta(days=800) if one.until.year > 3 else one.start
                    times = occurrences(one.rule, one.start, one.until, steps, since)
                    fixed.update((unix(at) - before, before, after) for at in times)
            steps.spend()
        self._fixed = sorted(fixed)

    def _around(self, year: int) -> _Transitions:
        block = year // _BLOCK
        found = self._blocks.get(block)
        if found is None:
            begin = datetime(max(1, block * _BLOCK - 2), 1, 1)
            end = datetime(min(9999, block * _BLOCK + _BLOCK + 1), 1, 1)
            all_ = set(self._fixed)
            for one in self._ruled:
                last = end if one.until is None else min(end, one.until)
                if one.rule is not None and last >= begin:
                    times = occurrences(one.rule, one.start, last, self._steps, begin)
                    all_.update((unix(at) - one.before, one.before, one.after) for at in times)
            self._steps.spend(len(all_))
            found = self._blocks[block] = _Transitions(sorted(all_))
        return found

    def seconds(self, local: datetime) -> int:
        around = self._around(local.year)
        at = unix(local)
        return at - around.offsets[bisect_right(around.thresholds, at)]

    def local(self, seconds: int) -> datetime:
        around = self._around(naive(seconds).year)
        return naive(seconds + around.offsets[bisect_right(around.times, seconds)])


class _Transitions:
    """When offsets change; `offsets` has one more, that before the first."""

    __slots__ = ("offsets", "thresholds", "times")

    def __init__(self, found: list[tuple[int, int, int]]) -> None:
        self.times = [at for at, _, _ in found]
        self.offsets = [found[0][1], *(after for _, _, after in found)]
        # in local time; of a gap its end, since what lies in it goes by the offset before (RFC 5545 §3.3.5)
        self.thresholds = [at + max(before, after) for at, before, after in found]
        for index in range(1, len(self.thresholds)):
            self.thresholds[index] = max(self.thresholds[index], self.thresholds[index - 1])


def _observances(component: Component) -> list[_Observance]:
    """What one STANDARD or DAYLIGHT says; more than one of several RRULEs and RDATEs."""
    values = {name: component.value(name) for name in ("DTSTART", "TZOFFSETFROM", "TZOFFSETTO")}
    start_value, from_value, to_value = values.values()
    if not start_value or not from_value or not to_value:
        raise Malformed("A part of a time zone has no DTSTART, TZOFFSETFROM or TZOFFSETTO.")
    start, before, after = _onset(start_value), offset(from_value), offset(to_value)
    rules = [read_rule(one.value) for one in component.all("RRULE")]
    found = [_Observance(start, before, after, rule, _until(rule, before)) for rule in rules]
    if not found:
        found.append(_Observance(start, before, after, None, None))
    for one in component.all("RDATE"):
        for value in one.value.split(","):
            found.append(_Observance(_onset(value.partition("/")[0]), before, after, None, None))
            if len(found) > _OBSERVANCES_MAX:
                raise TooMuch("A time zone has far too many dates.")
    return found


def _onset(value: str) -> datetime:
    if value.startswith("0000"):  # as some write "since ever"
        value = "0001" + value[4:]
    return moment(value).local


def _until(rule: Rule, before: int) -> datetime | None:
    until = rule.until
    if until is None:
        return None
    if until.is_date:
        return until.local.replace(hour=23, minute=59, second=59)
    return _shifted(until, before)


def _shifted(until: Moment, before: int) -> datetime:
    if until.zone is None:
        return until.local
    try:
        return until.local + timedelta(seconds=before)
    except OverflowError:
        return until.local
