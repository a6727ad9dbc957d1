"""CALDAV:calendar-data as it stands in a request (RFC 4791 §9.6), and what of an object's octets it asks for.

An element without children, and every component without any, asks for all of it (as the example of §7.8.1 reads it).

Raises: Refused (400), Violated (supported-calendar-data).
"""

from __future__ import annotations

from hosting.dav.calendars.filters import read_time_range
from hosting.dav.calendars.zones import as_asked
from hosting.dav.contents import Part
from hosting.dav.context import Context
from hosting.dav.errors import Refused
from hosting.dav.names import caldav
from hosting.dav.xml import Element
from storage.collections.conditions import Violated
from storage.errors import LimitReached
from storage.icalendar.checked import parsed
from storage.icalendar.filter import TimeRange
from storage.icalendar.partial import CalendarData, CompData, PropData, partial
from storage.icalendar.rules import TooMuch
from storage.icalendar.values import Zone

_COMP, _PROP = caldav("comp"), caldav("prop")
_ALL_COMP, _ALL_PROP = caldav("allcomp"), caldav("allprop")

_LEVELS = 8
_NAMES_MAX = 1000


def read_calendar_data(element: Element) -> CalendarData:
    media_type = element.attributes.get("content-type", "text/calendar").strip().lower()
    if media_type != "text/calendar" or element.attributes.get("version", "2.0") != "2.0":
        raise Violated("supported-calendar-data", "Calendar objects are given as text/calendar, version 2.0.")
    component = element.find(_COMP)
    expand, limit = element.find(caldav("expand")), element.find(caldav("limit-recurrence-set"))
    if expand is not None and limit is not None:
        raise Refused(400, why="A recurrence set is expanded or limited, not both.")
    return CalendarData(
        None if component is None else _Components().read(component, 1),
        _both_ends(expand),
        _both_ends(limit),
        _both_ends(element.find(caldav("limit-freebusy-set"))),
    )


def _both_ends(element: Element | None) -> TimeRange | None:
    """Unlike that of a filter it has a start and an end (RFC 4791 §9.6.5)."""
    if element is None:
        return None
    try:
        found = read_time_range(element)
    except Violated as violated:
        raise Refused(400, why=violated.public) from None
    if found.start is None or found.end is None:
        raise Refused(400, why="A recurrence set is expanded and limited from a start to an end.")
    return found


class _Components:
    """Recursion ends at `_LEVELS`."""

    def __init__(self) -> None:
        self._names = 0

    def read(self, element: Element, level: int) -> CompData:
        name = self._name(element)
        if level > _LEVELS:
            raise Refused(400, why="Components are nested too deep.")
        properties, components = element.all(_PROP), element.all(_COMP)
        all_properties = element.find(_ALL_PROP) is not None
        all_components = element.find(_ALL_COMP) is not None
        if not (properties or components or all_properties or all_components):
            return CompData(name)
        return CompData(
            name,
            None
            if all_properties
            else tuple(PropData(self._name(each), each.attributes.get("novalue") == "yes") for each in properties),
            None if all_components else tuple(self.read(each, level + 1) for each in components),
        )

    def _name(self, element: Element) -> str:
        self._names += 1
        name = element.attributes.get("name", "")
        if not name or self._names > _NAMES_MAX:
            raise Refused(400, why="A part of calendar-data has no name, or there are too many of them.")
        return name.upper()


def part_asked(context: Context, element: Element | None, zone: Zone) -> Part | None:
    """What of each object's octets is asked for; None: none. Times without a zone are read in `zone`."""
    if element is None:
        return None
    return _Parts(context, read_calendar_data(element), zone)


class _Parts:
    """Counts what it expands: series without end in a large calendar make more than anybody reads."""

    def __init__(self, context: Context, asked: CalendarData, zone: Zone) -> None:
        self._context, self._asked, self._zone = context, asked, zone
        self._expanded = 0

    def __call__(self, data: bytes) -> bytes:
        asked = self._asked
        if not asked.is_whole:
            if self._expanded > self._context.services.limits.expanded:
                raise LimitReached("The instances are more than one answer holds; ask for a shorter time.")
            try:
                data = partial(parsed(data, allow_method=True), asked, self._zone)
            except TooMuch as error:
                raise Violated("max-instances", error.public) from error
            if asked.expand is not None:
                self._expanded += len(data)
        return as_asked(self._context, data)
