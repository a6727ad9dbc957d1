"""MKCALENDAR (RFC 4791 §5.3.1): a calendar with its properties, or nothing."""

from __future__ import annotations

from hosting.dav.bodies import xml_body
from hosting.dav.context import Context
from hosting.dav.errors import Refused, precondition
from hosting.dav.locating import place, requested
from hosting.dav.methods.making import Making
from hosting.dav.names import caldav, dav
from hosting.dav.registry import Registry
from hosting.dav.request import DavResponse
from hosting.dav.resources import ResourceType
from storage.collections.values import Kind

_TYPES = frozenset({ResourceType.CALENDAR_HOME})


class MkCalendar:
    def __init__(self, registry: Registry) -> None:
        self._making = Making(registry)

    def register(self, registry: Registry) -> None:
        registry.method("MKCALENDAR", self, _TYPES)

    def __call__(self, context: Context) -> DavResponse:
        content_type = context.request.header("content-type").lower()
        if context.request.body.strip() and content_type and "xml" not in content_type:
            raise Refused(415, why="The body of MKCALENDAR is XML.")
        if place(context, requested(context)).found is not None:
            raise precondition(403, dav("resource-must-be-null"), why="Something is there already.")
        where = self._making.free_place(context)
        body = xml_body(context, caldav("mkcalendar"), optional=True)
        return self._making.make(context, where, Kind.CALENDAR, body, caldav("mkcalendar-response"))
