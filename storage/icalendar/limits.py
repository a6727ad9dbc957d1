"""How much a calendar object may hold: what the CALDAV: properties of a calendar say (RFC 4791 §5.2.5 to §5.2.9).

`max_instances` is held against what an object brings forth: in all, where COUNT, RDATE and exceptions number it; in
any single year after it began, where only a rule without COUNT does. So a meeting every day for ever is taken, and
one every second is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from storage.icalendar.contentlines import LINE_LIMITS, LineLimits


@dataclass(frozen=True, slots=True)
class CalendarLimits:
    max_size: int = 10 << 20  # octets
    max_instances: int = 10_000
    max_attendees: int = 1_000  # of one component
    min_date: datetime = datetime(1000, 1, 1)  # UTC; Outlook's zones begin in 1601, Apple's birthdays in 1604
    max_date: datetime = datetime(2999, 12, 31, 23, 59, 59)
    max_steps: int = 200_000  # of one expansion: periods looked at, times found
    max_zones: int = 200  # definitions of time zones
    lines: LineLimits = LINE_LIMITS


CALENDAR_LIMITS = CalendarLimits()
