#!/usr/bin/env python3
"""Fuzzes what calendar reports ask of objects: filters, expansion and other parts, free-busy.

scripts/fuzz/calendar_query.py [--seed N] [--seconds 10]

The objects are those of scripts/fuzz/icalendar.py. What must hold: index, octets and object answer a filter alike; an
expanded object takes place when the object does; parts can be read; busy times lie in what is asked and in instances.
Prints the seed of an object for which something does not hold; exit status 1 then.
"""

# ruff: noqa: E402 - the way to the packages is made first

from __future__ import annotations

import argparse
import random
import sys
import time
from itertools import pairwise
from pathlib import Path

# A file beside this one is called as a package is that storage uses: this folder must not be looked into.
sys.path = [one for one in sys.path if Path(one or ".").resolve() != Path(__file__).resolve().parent]
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.fuzz.icalendar import LIMITS, random_object
from storage.collections.conditions import Violated
from storage.icalendar.checked import RECURRING, CalendarObject, checked, parsed
from storage.icalendar.content import content_of
from storage.icalendar.contentlines import read, text
from storage.icalendar.filter import (
    Filter,
    ParamFilter,
    PropFilter,
    TimeRange,
    certain,
    matches,
    may_match,
    prefilter,
    validated,
)
from storage.icalendar.freebusy import BusyType, freebusy, written_freebusy
from storage.icalendar.partial import CalendarData, CompData, PropData, partial
from storage.icalendar.recurrence import Instance, instances
from storage.icalendar.rules import TooMuch
from storage.icalendar.textmatch import Collation, TextMatch
from storage.icalendar.values import UTC, Zone
from storage.icalendar.zones import named

AROUND = 1_767_225_600  # 2026
NAMES = [
    "SUMMARY",
    "DTSTART",
    "DTEND",
    "DUE",
    "UID",
    "ATTENDEE",
    "X-LIST",
    "RRULE",
    "COMPLETED",
    "FREEBUSY",
    "DURATION",
]


def check(data: bytes, chance: random.Random) -> bool:
    """Asserts all that must hold of an object; whether it was one."""
    try:
        found = checked(data, LIMITS)
        times = content_of(found).times
    except Violated:
        return False
    zone = chance.choice([UTC, named("Asia/Tokyo"), named("America/Los_Angeles"), named("Europe/Berlin")])
    assert zone is not None
    start = AROUND + chance.randint(-40, 700) * 43_200
    span = TimeRange(start, start + chance.choice([3600, 86_400, 40 * 86_400]))
    alone = validated(Filter("VCALENDAR", components=(Filter(found.component, time_range=span),)))
    asked = prefilter(alone)
    assert asked is not None and may_match(data, alone)
    answer = matches(found, alone, zone)
    assert certain(times, asked, zone) in (answer, None)
    _check_filters(found, chance, zone)
    _check_parts(found, chance, zone, span)
    try:
        listed = instances(found, span.start, span.end, 3_000, zone)
    except TooMuch:
        return True
    assert answer == bool(listed)
    _check_expansion(found, listed, zone, span)
    _check_busy(found, listed, zone, span)
    return True


def _check_filters(found: CalendarObject, chance: random.Random, zone: Zone) -> None:
    component = chance.choice(found.timed).component
    if not component.properties:
        return
    one = chance.choice(component.properties)
    at = chance.randrange(len(one.value) + 1)
    sought = TextMatch(text(one.value)[at : at + chance.randrange(1, 8)], chance.choice(list(Collation)))
    name, values = chance.choice(one.parameters or [("NONE", ("x",))])
    wanted = PropFilter(
        one.name,
        text=sought,
        params=(ParamFilter(name, TextMatch(values[0] if values else "")),) if one.parameters and values else (),
    )
    filter_ = Filter("VCALENDAR", components=(Filter(found.component, props=(wanted,)),))
    assert matches(found, filter_, zone)
    assert may_match(found.data, filter_)
    absent = PropFilter("X-NOT-THERE", is_not_defined=chance.random() < 0.5)
    other = Filter("VCALENDAR", components=(Filter(found.component, props=(absent,)),))
    assert matches(found, other, zone) is absent.is_not_defined
    either = Filter(found.component, props=(wanted, absent), any_of=True)
    assert matches(found, Filter("VCALENDAR", components=(either,)), zone)
    assert may_match(found.data, Filter("VCALENDAR", components=(either,)))
    alarm = Filter("VALARM", time_range=TimeRange(AROUND, AROUND + 90 * 86_400))
    matches(found, Filter("VCALENDAR", components=(Filter(found.component, components=(alarm,)),)), zone)


def _check_parts(found: CalendarObject, chance: random.Random, zone: Zone, span: TimeRange) -> None:
    names = chance.sample(NAMES, 3)
    inner = CompData(found.component, tuple(PropData(name, chance.random() < 0.2) for name in names), ())
    root = read(partial(found, CalendarData(CompData("VCALENDAR", (PropData("VERSION"),), (inner,))), zone))
    assert [one.name for one in root.components] == [one.component.name for one in found.timed]
    for part, timed in zip(root.components, found.timed, strict=True):
        assert [one.name for one in part.properties] == [
            one.name for one in timed.component.properties if one.name in names
        ]
    limited = read(partial(found, CalendarData(limit_recurrence=span, limit_freebusy=span, with_zones=False), zone))
    kept = [one for one in limited.components if one.name != "VTIMEZONE"]
    assert len(kept) <= len(found.timed)
    assert len(kept) >= sum(one.recurrence_id is None for one in found.timed)


def _check_expansion(found: CalendarObject, listed: list[Instance], zone: Zone, span: TimeRange) -> None:
    data = partial(found, CalendarData(expand=span), zone)
    root = read(data)
    if found.component not in RECURRING:
        return
    assert len(root.components) == len(listed)
    for one in root.components:
        assert not {"RRULE", "RDATE", "EXDATE"} & {each.name for each in one.properties}
    if not listed or any(one.begins is None for one in listed):
        return
    known = [one.recurrence_id for one in listed if one.recurrence_id is not None]
    if len({one.local.date() for one in known if one.is_date}) < sum(one.is_date for one in known):
        return  # dates that recur every hour, which RFC 5545 does not know
    again = parsed(data, LIMITS)
    assert [(one.start, one.end) for one in instances(again, span.start, span.end, None, zone)] == [
        (one.start, one.end) for one in listed
    ]


def _check_busy(found: CalendarObject, listed: list[Instance], zone: Zone, span: TimeRange) -> None:
    assert span.start is not None and span.end is not None
    busy = freebusy([found], span.start, span.end, zone, ["mailto:jane@example.com"])
    assert busy == sorted(busy)
    for type_ in BusyType:
        of_type = [one for one in busy if one.type is type_]
        assert all(span.start <= one.start < one.end <= span.end for one in of_type)
        assert all(one.end < other.start for one, other in pairwise(of_type))
    if found.component == "VEVENT":
        for one in busy:
            assert any(each.start < one.end and one.start < each.end for each in listed)
    elif found.component in ("VTODO", "VJOURNAL"):
        assert busy == []
    assert read(written_freebusy(busy, span.start, span.end, stamp=0)).components[0].name == "VFREEBUSY"


def run(seed: int, count: int | None = None, seconds: float | None = None) -> tuple[int, int]:
    """Checks `count` objects, or as many as fit into `seconds`; how many they were, and how many were taken."""
    end = None if seconds is None else time.monotonic() + seconds
    number = taken = 0
    while (count is None or number < count) and (end is None or time.monotonic() < end):
        chance = random.Random(f"{seed}.{number}")
        data = random_object(chance)
        try:
            taken += check(data, chance)
        except Exception:
            print(f"seed {seed}.{number}: {data!r}")
            raise
        number += 1
    return number, taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    try:
        number, taken = run(options.seed, seconds=options.seconds)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        print(f"does not hold: {error!r}")
        return 1
    print(f"{number} objects, {taken} taken, seed {options.seed}: everything held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
