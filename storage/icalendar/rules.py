"""Recurrence rules: RRULE read and checked (RFC 5545 §3.3.10); `storage.icalendar.occurrences` says when they match.

RSCALE (RFC 7529) is known for GREGORIAN, with SKIP.
Raises: Malformed; Unsupported for a calendar scale that is not known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

from storage.errors import LimitReached
from storage.icalendar.contentlines import Malformed
from storage.icalendar.values import Moment, moment

_WEEKDAYS = {"MO": 0, "TU": 1, "WE": 2, "TH": 3, "FR": 4, "SA": 5, "SU": 6}
_PARTS_MAX = 1_000  # values of one BY part; more than any set of them has


class Unsupported(Malformed):
    """A calendar scale other than the Gregorian one (RFC 7529)."""


class TooMuch(LimitReached):
    default = "This recurs in a way that takes too long to work out."


class Steps:
    """What may still be spent on one expansion."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, count: int = 1) -> None:
        self.left -= count
        if self.left < 0:
            raise TooMuch


class Frequency(IntEnum):
    SECONDLY = 0
    MINUTELY = 1
    HOURLY = 2
    DAILY = 3
    WEEKLY = 4
    MONTHLY = 5
    YEARLY = 6


class Skip(IntEnum):
    """What becomes of a day that a month does not have (RFC 7529 §4.1)."""

    OMIT = 0
    BACKWARD = 1
    FORWARD = 2


@dataclass(frozen=True, slots=True)
class Rule:
    """An RRULE. Weekdays count from Monday, 0; of `days` each is (which one, weekday), 0 for every one."""

    frequency: Frequency
    interval: int = 1
    count: int | None = None
    until: Moment | None = None
    seconds: tuple[int, ...] = ()
    minutes: tuple[int, ...] = ()
    hours: tuple[int, ...] = ()
    days: tuple[tuple[int, int], ...] = ()
    month_days: tuple[int, ...] = ()
    year_days: tuple[int, ...] = ()
    weeks: tuple[int, ...] = ()
    months: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()
    week_start: int = 0
    skip: Skip = Skip.OMIT

    @property
    def is_endless(self) -> bool:
        return self.count is None and self.until is None


# Reading

_NUMBER = re.compile(r"[+-]?\d{1,9}", re.ASCII)
_DAY = re.compile(r"([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)", re.ASCII)

_RANGES = {  # name: lowest and highest absolute value, whether it may be negative (RFC 5545 §3.3.10)
    "BYSECOND": (0, 60, False),
    "BYMINUTE": (0, 59, False),
    "BYHOUR": (0, 23, False),
    "BYMONTHDAY": (1, 31, True),
    "BYYEARDAY": (1, 366, True),
    "BYWEEKNO": (1, 53, True),
    "BYMONTH": (1, 12, False),
    "BYSETPOS": (1, 366, True),
}


def read_rule(value: str) -> Rule:
    """The rule that the value of an RRULE is."""
    parts: dict[str, str] = {}
    for piece in value.strip().upper().split(";", 40):
        name, equals, what = piece.partition("=")
        if not piece:
            continue  # some end a rule with ";"
        if not equals or not what:
            raise Malformed(f'A recurrence rule has "{piece[:40]}" in it.')
        if name in parts:
            raise Malformed(f"A recurrence rule has {name[:20]} twice.")
        parts[name] = what
    try:
        frequency = Frequency[parts.pop("FREQ", "")]
    except KeyError:
        raise Malformed("A recurrence rule has no FREQ that is known.") from None
    scale, skip = parts.pop("RSCALE", ""), parts.pop("SKIP", "")
    if scale not in ("", "GREGORIAN"):
        raise Unsupported("Of calendar scales only GREGORIAN is supported.")
    if skip and (not scale or skip not in Skip.__members__):
        raise Malformed("SKIP is OMIT, BACKWARD or FORWARD, and stands beside RSCALE.")
    count, until = parts.pop("COUNT", None), parts.pop("UNTIL", None)
    if count and until:
        raise Malformed("A recurrence rule has COUNT or UNTIL, not both.")
    week_start = parts.pop("WKST", "MO")
    if week_start not in _WEEKDAYS:
        raise Malformed("WKST is no weekday.")
    interval = _positive("INTERVAL", parts.pop("INTERVAL", "1"))
    days = _days(parts.pop("BYDAY", ""))
    by = {name: _numbers(name, parts.pop(name, "")) for name in _RANGES}
    if any(not name.startswith("X-") for name in parts):
        raise Malformed(f'A recurrence rule has "{min(parts)[:20]}" in it.')
    rule = Rule(
        frequency,
        interval,
        _positive("COUNT", count) if count else None,
        moment(until) if until else None,
        tuple(sorted({min(second, 59) for second in by["BYSECOND"]})),  # there are no leap seconds here
        by["BYMINUTE"],
        by["BYHOUR"],
        days,
        by["BYMONTHDAY"],
        by["BYYEARDAY"],
        by["BYWEEKNO"],
        by["BYMONTH"],
        by["BYSETPOS"],
        _WEEKDAYS[week_start],
        Skip[skip] if skip else Skip.OMIT,
    )
    _hold(rule)
    return rule


def _hold(rule: Rule) -> None:
    """What parts must not stand together (RFC 5545 §3.3.10)."""
    frequency = rule.frequency
    numbered = any(which for which, _ in rule.days)
    if numbered and (frequency not in (Frequency.MONTHLY, Frequency.YEARLY) or rule.weeks):
        raise Malformed("A number before a weekday stands in monthly and yearly rules only, and not with BYWEEKNO.")
    if rule.weeks and frequency is not Frequency.YEARLY:
        raise Malformed("BYWEEKNO stands in yearly rules only.")
    if rule.year_days and frequency in (Frequency.DAILY, Frequency.WEEKLY, Frequency.MONTHLY):
        raise Malformed("BYYEARDAY does not stand in daily, weekly and monthly rules.")
    if rule.month_days and frequency is Frequency.WEEKLY:
        raise Malformed("BYMONTHDAY does not stand in weekly rules.")


def _positive(name: str, value: str) -> int:
    if not _NUMBER.fullmatch(value) or int(value) < 1:
        raise Malformed(f"{name} is no number from 1 on.")
    return int(value)


def _numbers(name: str, value: str) -> tuple[int, ...]:
    if not value:
        return ()
    low, high, signed = _RANGES[name]
    found: set[int] = set()
    for piece in value.split(",", _PARTS_MAX):
        if not _NUMBER.fullmatch(piece.strip()):
            raise Malformed(f"{name} has something else than numbers.")
        number = int(piece)
        if not low <= abs(number) <= high or (number < 0 and not signed):
            raise Malformed(f"{name} goes from {low} to {high}.")
        found.add(number)
    return tuple(sorted(found))


def _days(value: str) -> tuple[tuple[int, int], ...]:
    found: set[tuple[int, int]] = set()
    for piece in value.split(",", _PARTS_MAX) if value else ():
        match = _DAY.fullmatch(piece.strip())
        if match is None:
            raise Malformed("BYDAY has something else than weekdays.")
        which = int(match[1] or 0)
        if abs(which) > 53 or (match[1] and not which):
            raise Malformed("BYDAY has a number that no weekday has.")
        found.add((which, _WEEKDAYS[match[2]]))
    return tuple(sorted(found))
