"""Dates as vCards write them, also those of which a part is not known (RFC 6350 §4.3, RFC 2426 §3.1.5).

vCard 3 writes 1996-04-15, vCard 4 19960415 and also --0415, 1996-04, 1996 and ---15; address books mix them. Apple
writes a day without a year as one of the year that X-APPLE-OMIT-YEAR names (1604).
"""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass

LEAP_YEAR = 1604  # Apple's year of days whose year nobody knows

_DATE = re.compile(
    r"(?:(?P<year>\d{4})(?:-?(?P<month>\d{2})-?(?P<day>\d{2})|-(?P<only_month>\d{2}))?"
    r"|--(?P<no_year_month>\d{2})(?:-?(?P<no_year_day>\d{2}))?|---(?P<no_month_day>\d{2}))\Z",
    re.ASCII,
)
_TIME = re.compile(
    r"(?P<hour>\d{2})(?::?(?P<minute>\d{2})(?::?(?P<second>\d{2})(?:[.,]\d{1,9})?)?)?"
    r"(?P<zone>[Zz]|[+-]\d{2}(?::?\d{2})?)?\Z",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class CardDate:
    """None: not known. `time` is as vCard 4 writes it, hhmmss and a zone; empty: none."""

    year: int | None
    month: int | None
    day: int | None
    time: str = ""

    @property
    def is_day(self) -> bool:
        """Whether it comes back every year."""
        return self.month is not None and self.day is not None

    def basic(self) -> str:
        """As vCard 4 has it."""
        year = "--" if self.year is None else f"{self.year:04}"
        if self.month is None:
            text = f"{year}-{self.day:02}" if self.day is not None else year
        elif self.day is None:
            text = f"{year}-{self.month:02}" if self.year is not None else f"{year}{self.month:02}"
        else:
            text = f"{year}{self.month:02}{self.day:02}"
        return f"{text}T{self.time}" if self.time else text

    def extended(self) -> str | None:
        """As vCard 3 has it; None: it has no form for it."""
        if self.year is None or self.month is None or self.day is None:
            return None
        text = f"{self.year:04}-{self.month:02}-{self.day:02}"
        return f"{text}T{extended_time(self.time)}" if self.time else text


def read_date(value: str, omitted_year: str = "") -> CardDate | None:
    """What a BDAY or an anniversary says; None: it is text."""
    text = value.strip()
    if len(text) > 40:
        return None
    date, separator, time = text.partition("T") if "T" in text else text.partition("t")
    if not separator:
        date, _, time = text.partition(" ")
    match = _DATE.match(date)
    if match is None:
        return None
    groups = match.groupdict()
    year = _number(groups["year"])
    month = _number(groups["month"] or groups["only_month"] or groups["no_year_month"])
    day = _number(groups["day"] or groups["no_year_day"] or groups["no_month_day"])
    if (month is not None and not 1 <= month <= 12) or (day is not None and not 1 <= day <= 31):
        return None
    if year is not None and (str(year) == omitted_year.strip() or year == LEAP_YEAR):
        year = None
    if year == 0:
        return None
    if month is not None and day is not None and day > monthrange(year or LEAP_YEAR, month)[1]:
        return None
    found = _TIME.match(time.strip())
    return CardDate(year, month, day, basic_time(found) if found else "")


def basic_time(match: re.Match[str]) -> str:
    """A time as vCard 4 has it."""
    zone = (match["zone"] or "").upper().replace(":", "")
    return f"{match['hour']}{match['minute'] or ''}{match['second'] or ''}{zone}"


def extended_time(time: str) -> str:
    """The same as vCard 3 has it."""
    match = _TIME.match(time)
    if match is None:
        return time
    zone = match["zone"] or ""
    if len(zone) == 5:
        zone = f"{zone[:3]}:{zone[3:]}"
    return f"{match['hour']}:{match['minute'] or '00'}:{match['second'] or '00'}{zone}"


def _number(text: str | None) -> int | None:
    return int(text) if text else None
