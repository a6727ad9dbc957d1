"""Time zones of calendars: what clients write as a definition or by name, and which one a query means.

Definitions that come with objects are taken out for clients that know the standard names themselves, and put in for
those that ask for them (CalDAV-Timezones); what is stored stays as it is.

Raises: Refused, Violated (valid-calendar-data, valid-timezone).
Standards: RFC 4791 §5.2.2, §7.3, §9.8; RFC 7809 §3.1.
"""

from __future__ import annotations

from functools import lru_cache

from hosting.dav.calendars.definitions import definition
from hosting.dav.context import Context
from hosting.dav.errors import precondition
from hosting.dav.names import caldav
from hosting.dav.resources import Resource
from hosting.dav.xml import Element
from storage.collections.conditions import Violated
from storage.errors import InvalidInput
from storage.icalendar.contentlines import read
from storage.icalendar.values import UTC, Zone
from storage.icalendar.zones import Zones, named, zone_of

ZONE_MAX = 64 << 10  # characters of a definition

_BEGIN, _TZID = b"BEGIN:VTIMEZONE", b"TZID="


def zone_text(given: str) -> str:
    """A definition that a client gives for a calendar, checked."""
    try:
        zone_of(given.strip().encode("utf-8"))
    except InvalidInput as error:
        raise precondition(403, caldav("valid-calendar-data"), why=error.public) from None
    return given


def zone_of_id(name: str) -> str:
    """The definition of a zone that a client names."""
    zone = named(name)
    if zone is None:
        raise precondition(403, caldav("valid-timezone"), why="The time zone is not known.")
    return b"".join(
        (b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Cleanmail//DAV//EN\r\n", definition(name), b"END:VCALENDAR\r\n")
    ).decode("utf-8")


def zone_id_of(text: str) -> str | None:
    """The standard name of a calendar's zone; None: it has none, or another."""
    zone = _zone(text)
    return zone.name if zone is not None and named(zone.name) is not None else None


@lru_cache(maxsize=256)
def _zone(text: str) -> Zone | None:
    if not text:
        return None
    try:
        return zone_of(text.strip().encode("utf-8"))
    except InvalidInput:  # kept by an older version of this server
        return None


def zone_asked(query: Element, resource: Resource) -> Zone:
    """In which zone a query means what has none of its own: the query's, else the calendar's, else UTC."""
    given = query.find(caldav("timezone"))
    if given is not None:
        if len(given.text) > ZONE_MAX:
            raise Violated("valid-calendar-data", "The time zone is too long.")
        try:
            return zone_of(given.text.strip().encode("utf-8"))
        except InvalidInput as error:
            raise Violated("valid-calendar-data", error.public) from None
    name = query.content(caldav("timezone-id"))
    if name is not None:
        zone = named(name)
        if zone is None:
            raise Violated("valid-timezone", "The time zone is not known.")
        return zone
    return zone_of_calendar(resource)


def zone_of_calendar(resource: Resource) -> Zone:
    """The zone of a calendar; UTC where it has none."""
    return (_zone(resource.row.timezone) if resource.collection is not None else None) or UTC


def as_asked(context: Context, data: bytes) -> bytes:
    """An object's octets with the definitions that this client wants (RFC 7809 §3.1.2, §3.1.3)."""
    wish = context.request.header("caldav-timezones").strip().upper()
    if wish == "F" and _BEGIN in data:
        return _without(data)
    if wish == "T" and _TZID in data:
        return _with_all(data)
    return data


def _without(data: bytes) -> bytes:
    """Definitions of zones that have a standard name go."""
    kept, at = [], 0
    for zone in read(data).below("VTIMEZONE"):
        if named((zone.value("TZID") or "").strip()) is not None:
            kept.append(data[at : zone.start])
            at = zone.end
    return b"".join((*kept, data[at:]))


def _with_all(data: bytes) -> bytes:
    """Definitions of zones that are named only come in, before the first component."""
    root = read(data)
    known = set(Zones(root).tzids)
    missing: dict[str, None] = {}
    for component in root.walk():
        for each in component.properties:
            tzid = each.parameter("TZID")
            if tzid and tzid not in known:
                missing[tzid] = None
    made = []
    for tzid in missing:
        zone = named(tzid)
        if zone is not None:
            made.append(definition(zone.name).replace(b"TZID:" + zone.name.encode(), b"TZID:" + tzid.encode(), 1))
    if not made or not root.components:
        return data
    at = min(each.start for each in root.components)
    return b"".join((data[:at], *made, data[at:]))
