"""Values of iCalendar's types: dates, times, durations, periods and offsets (RFC 5545 §3.3).

A `Moment` keeps what was written, local time and zone; `seconds` is where it stands on the one line of time that
queries ask about. What has no zone of its own is read in the zone of who asks.
Raises: Malformed, with a sentence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple, Protocol

from storage.icalendar.contentlines import Malformed

EPOCH = datetime(1970, 1, 1)
DAY = 86_400
UTC_NAME = "UTC"


class Zone(Protocol):
    """A time zone."""

    @property
    def name(self) -> str:
        """As the data calls it, or its standard name."""

    def seconds(self, local: datetime) -> int:
        """Unix seconds of a local time: the first of two; of one in a gap, by the offset before (RFC 5545 §3.3.5)."""

    def local(self, seconds: int) -> datetime:
        """What clocks show, without tzinfo."""


def unix(naive: datetime) -> int:
    """Seconds since 1970 as if the time were UTC."""
    passed = naive - EPOCH
    return passed.days * DAY + passed.seconds


def naive(seconds: int) -> datetime:
    """The opposite of `unix`; at the ends of time the last that can be said."""
    try:
        return EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max if seconds > 0 else datetime.min


class _Utc:
    name = UTC_NAME

    def seconds(self, local: datetime) -> int:
        return unix(local)

    def local(self, seconds: int) -> datetime:
        return naive(seconds)


UTC: Zone = _Utc()


class Moment(NamedTuple):
    """A DATE or DATE-TIME as it was written."""

    local: datetime  # without tzinfo; midnight of a date
    is_date: bool = False
    zone: Zone | None = None  # None: floating, as dates always are

    def seconds(self, floating: Zone) -> int:
        return (self.zone or floating).seconds(self.local)

    def at(self, local: datetime) -> Moment:
        """Another time of the same form."""
        return Moment(local, self.is_date, self.zone)


@dataclass(frozen=True, slots=True)
class Duration:
    """Days count by the calendar, seconds by the clock (RFC 5545 §3.3.6). Both have one sign."""

    days: int = 0
    seconds: int = 0

    def after(self, moment: Moment, floating: Zone) -> int:
        """Unix seconds of the time that lies this much later."""
        start = moment.local
        if self.days:
            try:
                start = start + timedelta(days=self.days)
            except OverflowError:
                raise Malformed("A duration leads beyond the end of time.") from None
        return (moment.zone or floating).seconds(start) + self.seconds

    @property
    def total(self) -> int:
        return self.days * DAY + self.seconds


@dataclass(frozen=True, slots=True)
class Period:
    """A PERIOD: `end` or `duration` (RFC 5545 §3.3.9)."""

    start: Moment
    end: Moment | None = None
    duration: Duration | None = None

    def until(self, floating: Zone) -> int:
        """Unix seconds of its end."""
        if self.end is not None:
            return self.end.seconds(floating)
        return (self.duration or Duration()).after(self.start, floating)


_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d)(Z?))?", re.ASCII | re.IGNORECASE)
_DURATION = re.compile(
    r"([+-]?)P(?:(\d{1,9})W)?(?:(\d{1,9})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9})S)?)?",
    re.ASCII | re.IGNORECASE,
)
_OFFSET = re.compile(r"([+-])(\d\d)(\d\d)(\d\d)?", re.ASCII)

_SECONDS_MAX = 400 * 366 * DAY  # of a duration


def moment(value: str, zone: Zone | None = None) -> Moment:
    """A DATE or DATE-TIME, whichever it looks like; `zone` is its TZID's, which a "Z" overrides."""
    match = _TIME.fullmatch(value)
    if match is None:
        raise Malformed(f'"{value[:40]}" is no date and no time.')
    year, month, day, hour, minute, second, utc = match.groups()
    try:
        if hour is None:
            return Moment(datetime(int(year), int(month), int(day)), True)
        # RFC 5545 §3.3.12: who knows no leap seconds takes the second before
        local = datetime(int(year), int(month), int(day), int(hour), int(minute), min(int(second), 59))
        if int(second) > 60:
            raise ValueError
    except ValueError:
        raise Malformed(f'"{value}" is no date of the calendar.') from None
    return Moment(local, False, UTC if utc else zone)


def duration(value: str) -> Duration:
    match = _DURATION.fullmatch(value.strip())
    if match is None or not any(match.groups()[1:]):  # Apple's "P1DT" is one
        raise Malformed(f'"{value[:40]}" is no duration.')
    sign = -1 if match[1] == "-" else 1
    weeks, days, hours, minutes, seconds = (int(one or 0) for one in match.groups()[1:])
    found = Duration(sign * (weeks * 7 + days), sign * (hours * 3600 + minutes * 60 + seconds))
    if abs(found.total) > _SECONDS_MAX:
        raise Malformed(f'"{value[:40]}" is too long.')
    return found


def period(value: str, zone: Zone | None = None) -> Period:
    first, slash, second = value.partition("/")
    if not slash:
        raise Malformed(f'"{value[:40]}" is no period.')
    start = moment(first, zone)
    if second[:1] in "Pp+-":
        return Period(start, duration=duration(second))
    return Period(start, end=moment(second, zone))


def offset(value: str) -> int:
    """Seconds east of Greenwich (RFC 5545 §3.3.14)."""
    match = _OFFSET.fullmatch(value.strip())
    if match is None or int(match[2]) > 23 or int(match[3]) > 59 or int(match[4] or 0) > 59:
        raise Malformed(f'"{value[:40]}" is no offset from UTC.')
    seconds = int(match[2]) * 3600 + int(match[3]) * 60 + int(match[4] or 0)
    return -seconds if match[1] == "-" else seconds


def written(local: datetime | date, *, utc: bool = False) -> str:
    """A date or time as iCalendar writes it."""
    day = f"{local.year:04}{local.month:02}{local.day:02}"
    if not isinstance(local, datetime):
        return day
    return f"{day}T{local.hour:02}{local.minute:02}{local.second:02}{'Z' if utc else ''}"


def written_moment(one: Moment) -> str:
    """Its value; TZID and VALUE=DATE are parameters, which the caller writes."""
    return written(one.local.date() if one.is_date else one.local, utc=one.zone is UTC)
