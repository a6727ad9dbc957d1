"""When something is, as a content line says it: so that two ways to write the same moment are equal. Pure.

A moment with a zone that is known is one of UTC; one without a zone stays as it is written, and so does a date.
Standards: RFC 5545 §3.3.4, §3.3.5 (dates and times), §3.2.19 (TZID).
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import NamedTuple

from storage.errors import LimitReached
from storage.icalendar import contentlines
from storage.icalendar.contentlines import Component, Malformed
from storage.icalendar.values import Zone, naive, unix
from storage.icalendar.zones import Zones
from storage.itip.draft import Line, Part

_DATE = re.compile(r"(\d{4})(\d{2})(\d{2})\Z")
_TIME = re.compile(r"(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})(Z?)\Z")


class Moment(NamedTuple):
    """`zone` is "UTC", "date", "" (floating), or the name of a zone that nobody knows; `at` its clock there."""

    zone: str
    at: datetime  # without a zone of its own


class Moments:
    """Of one calendar object, whose VTIMEZONEs give names a meaning."""

    def __init__(self, calendar: Part) -> None:
        self._calendar = calendar
        self._zones: Zones | None = None  # until one is asked for

    def of(self, line: Line) -> Moment | None:
        """Of its first value; None if it says none."""
        found = self.all_of(line)
        return found[0] if found else None

    def all_of(self, line: Line) -> list[Moment]:
        """Of its list of values; of a period its beginning. What is no time is passed over."""
        name = line.parameter("TZID")
        read = (self._read(value.partition("/")[0].strip(), name) for value in line.value.split(","))
        return [moment for moment in read if moment is not None]

    def clock(self, line: Line) -> datetime | None:
        """Of its first value, as it is written."""
        return _clock(line.value.split(",")[0].strip())

    def written(self, name: str, moment: Moment, like: Line) -> Line:
        """A line of that name that says the moment in the way that `like` does."""
        zone_name = like.parameter("TZID")
        if len(like.value.strip()) == 8:
            return Line.of(name, moment.at.strftime("%Y%m%d"), ("VALUE", "DATE"))
        if moment.zone == "date":
            return Line.of(name, moment.at.strftime("%Y%m%d"), ("VALUE", "DATE"))
        if moment.zone != "UTC":
            extra = (("TZID", moment.zone),) if moment.zone else ()
            return Line.of(name, moment.at.strftime("%Y%m%dT%H%M%S"), *extra)
        zone = self._zone(zone_name) if zone_name else None
        if zone is None:
            return Line.of(name, moment.at.strftime("%Y%m%dT%H%M%SZ"))
        local = zone.local(unix(moment.at))
        return Line.of(name, local.strftime("%Y%m%dT%H%M%S"), ("TZID", zone_name))

    def _read(self, value: str, zone_name: str) -> Moment | None:
        clock = _clock(value)
        if clock is None:
            return None
        if len(value) == 8:
            return Moment("date", clock)
        if value.endswith("Z"):
            return Moment("UTC", clock)
        if not zone_name:
            return Moment("", clock)
        zone = self._zone(zone_name)
        if zone is None:
            return Moment(zone_name, clock)
        return Moment("UTC", naive(zone.seconds(clock)))

    def _zone(self, name: str) -> Zone | None:
        if self._zones is None:
            try:
                definitions = Part.of("VCALENDAR", *self._calendar.parts("VTIMEZONE"))
                self._zones = Zones(contentlines.read(bytes(definitions)))
            except Malformed:
                self._zones = Zones(Component("VCALENDAR"))
        try:
            return self._zones.find(name)
        except (Malformed, LimitReached):  # its definition does not hold
            return None


def _clock(value: str) -> datetime | None:
    match = _TIME.match(value) or _DATE.match(value)
    if match is None:
        return None
    numbers = [int(each) for each in match.groups() if each and each != "Z"]
    if len(numbers) == 6:
        numbers[5] = min(numbers[5], 59)  # a leap second
    try:
        return datetime(*numbers)  # type: ignore[arg-type]
    except ValueError:
        return None
