"""What may be put into a calendar, and what a GET is given of it (RFC 4791 §4.1, §5.3.2).

Octets are stored and served as they came; only the definitions of time zones follow what a client asks for.
"""

from __future__ import annotations

from hosting.dav.calendars.properties import components_of
from hosting.dav.calendars.zones import as_asked
from hosting.dav.context import Context
from hosting.dav.private import shown
from hosting.dav.resources import Resource
from storage.collections.conditions import Violated
from storage.collections.values import Content
from storage.icalendar.content import calendar_content

_MEDIA_TYPE = "text/calendar"


class CalendarBodies:
    """See `hosting.dav.registry.Bodies`."""

    def checked(self, context: Context, collection: Resource, name: str, data: bytes, content_type: str) -> Content:
        media_type, _, parameters = content_type.partition(";")
        if media_type.strip().lower() not in ("", _MEDIA_TYPE):
            raise Violated("supported-calendar-data", "A calendar keeps text/calendar, version 2.0.")
        if not _is_utf8(parameters):
            raise Violated("valid-calendar-data", "A calendar keeps text/calendar in UTF-8.")
        content = calendar_content(data)
        if content.component not in components_of(collection):
            raise Violated("supported-calendar-component", f"This calendar keeps no {content.component}.")
        return content

    def served(self, context: Context, resource: Resource, data: bytes) -> tuple[bytes, str]:
        return as_asked(context, shown(resource, data)), resource.object.content_type


def _is_utf8(parameters: str) -> bool:
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"').lower() in ("utf-8", "utf8", "us-ascii")
    return True
