"""Puts CalDAV into the registry: what `hosting.dav.assembly` calls."""

from __future__ import annotations

from hosting.dav.calendars import inbox, principals, properties, whole
from hosting.dav.calendars.bodies import CalendarBodies
from hosting.dav.calendars.making import MkCalendar
from hosting.dav.calendars.reports import CalendarReports
from hosting.dav.names import caldav
from hosting.dav.registry import Registry
from hosting.dav.resources import ResourceType
from storage.collections.values import Kind


def register(registry: Registry) -> None:
    registry.dav_class("calendar-access", "calendar-availability", "inbox-availability", "calendar-query-extended")
    registry.dav_class("calendarserver-home-sync", "calendarserver-principal-property-search")
    registry.dav_class("calendarserver-principal-search")
    registry.resource_types[ResourceType.CALENDAR] = (caldav("calendar"),)
    registry.resource_types[ResourceType.INBOX] = (caldav("schedule-inbox"),)
    registry.resource_types[ResourceType.OUTBOX] = (caldav("schedule-outbox"),)
    registry.creatable[caldav("calendar")] = Kind.CALENDAR
    registry.bodies[Kind.CALENDAR] = CalendarBodies()
    registry.downloads[ResourceType.CALENDAR] = whole.download
    for method in ("GET", "HEAD"):
        registry.method_types[method] |= {ResourceType.CALENDAR}
    properties.register(registry)
    principals.register(registry)
    inbox.register(registry)
    MkCalendar(registry).register(registry)
    CalendarReports(registry).register(registry)
