"""Properties of calendars that clients read and write.

Standards: RFC 4791 §5.2, RFC 6638 §9.1, RFC 7809 §5.2 (calendar-timezone-id); getctag of Apple's calendarserver, color
and order as Apple's clients have them.
"""

from __future__ import annotations

import re

from hosting.dav.calendars.zones import ZONE_MAX, zone_id_of, zone_of_id, zone_text
from hosting.dav.context import Context
from hosting.dav.errors import Refused, precondition
from hosting.dav.names import APPLE_ICAL, attribute, caldav, dav, element, text, text_element
from hosting.dav.registry import Edit, LiveProperty, Read, Registry
from hosting.dav.resources import Resource, ResourceType
from hosting.dav.xml import Element
from storage.collections.values import Kind
from storage.icalendar.limits import CALENDAR_LIMITS
from storage.icalendar.textmatch import Collation
from storage.icalendar.values import written

CALENDARS = frozenset({ResourceType.CALENDAR})
SCHEDULED = frozenset({ResourceType.CALENDAR, ResourceType.INBOX, ResourceType.OUTBOX})

COMPONENTS = ("VEVENT", "VTODO", "VJOURNAL", "VFREEBUSY", "VAVAILABILITY")
_BY_DEFAULT = ("VEVENT", "VTODO", "VJOURNAL")  # of a calendar for whose components nobody asked
_SCHEDULING = ("VEVENT", "VTODO", "VFREEBUSY")

_DESCRIPTION_MAX = 16_384  # characters
_COLOR = re.compile(r"#?[A-Za-z0-9]{1,30}\Z")

CALENDAR_DATA = b'<C:calendar-data content-type="text/calendar" version="2.0"/>'  # RFC 4791 §5.2.4


def register(registry: Registry) -> None:
    registry.properties(
        LiveProperty(caldav("calendar-description"), CALENDARS, _description, _set_description, _set_description),
        LiveProperty(caldav("calendar-timezone"), CALENDARS, _timezone, _set_timezone, _set_timezone),
        LiveProperty(caldav("calendar-timezone-id"), CALENDARS, _timezone_id, _set_timezone_id, _set_timezone_id),
        LiveProperty(caldav("supported-calendar-component-set"), SCHEDULED, _components, None, _set_components),
        LiveProperty(caldav("supported-calendar-data"), SCHEDULED, _always(CALENDAR_DATA)),
        LiveProperty(caldav("max-resource-size"), SCHEDULED, _always(b"%d" % CALENDAR_LIMITS.max_size)),
        LiveProperty(caldav("min-date-time"), SCHEDULED, _always(written(CALENDAR_LIMITS.min_date, utc=True).encode())),
        LiveProperty(caldav("max-date-time"), SCHEDULED, _always(written(CALENDAR_LIMITS.max_date, utc=True).encode())),
        LiveProperty(caldav("max-instances"), SCHEDULED, _always(b"%d" % CALENDAR_LIMITS.max_instances)),
        LiveProperty(caldav("max-attendees-per-instance"), SCHEDULED, _always(b"%d" % CALENDAR_LIMITS.max_attendees)),
        LiveProperty(caldav("supported-collation-set"), SCHEDULED, _always(collations(caldav("supported-collation")))),
        LiveProperty(
            caldav("schedule-calendar-transp"), CALENDARS, _transparency, _set_transparency, _set_transparency
        ),
        LiveProperty(f"{{{APPLE_ICAL}}}calendar-color", CALENDARS, _color, _set_color, _set_color),
        LiveProperty(f"{{{APPLE_ICAL}}}calendar-order", CALENDARS, _order, _set_order, _set_order),
        LiveProperty(caldav("schedule-tag"), frozenset({ResourceType.EVENT}), _schedule_tag),
    )


def collations(name: str) -> bytes:
    """The collations of text-match, each in an element of this name."""
    return b"".join(text_element(name, each) for each in Collation)


def component_elements(names: tuple[str, ...]) -> bytes:
    return b"".join(b'<C:comp name="' + attribute(name) + b'"/>' for name in names)


def components_of(resource: Resource) -> tuple[str, ...]:
    """What may be put into a collection."""
    if resource.collection is None or resource.row.kind is not Kind.CALENDAR:
        return _SCHEDULING
    return resource.row.components or _BY_DEFAULT


def unchangeable(why: str, status: int = 409) -> Refused:
    """A value that a property cannot take."""
    return Refused(status, why=why)


def _always(content: bytes) -> Read:
    return lambda context, resource: content


def owned(resource: Resource) -> None:
    """What a property says to everybody is its owner's to say, whoever else may write. Raises Refused."""
    if resource.share is not None:
        raise precondition(403, dav("cannot-modify-protected-property"), why="This is its owner's to say.")


def words(value: Element | None, most: int, why: str) -> str:
    """The text of a property's new value; "" when it is removed."""
    if value is None:
        return ""
    if value.children or len(value.text) > most:
        raise unchangeable(why)
    return value.text


def _description(context: Context, resource: Resource) -> bytes | None:
    found = resource.row.description
    return text(found) if found else None


def _set_description(context: Context, resource: Resource, value: Element | None) -> Edit:
    owned(resource)
    return Edit({"description": words(value, _DESCRIPTION_MAX, "The description is too long, or holds elements.")})


def _timezone(context: Context, resource: Resource) -> bytes | None:
    found = resource.row.timezone
    return text(found) if found else None


def _set_timezone(context: Context, resource: Resource, value: Element | None) -> Edit:
    owned(resource)
    given = words(value, ZONE_MAX, "The time zone is too long.")
    if value is None:
        return Edit({"timezone": ""})
    return Edit({"timezone": zone_text(given)})


def _timezone_id(context: Context, resource: Resource) -> bytes | None:
    found = zone_id_of(resource.row.timezone)
    return text(found) if found else None


def _set_timezone_id(context: Context, resource: Resource, value: Element | None) -> Edit:
    owned(resource)
    if value is None:
        return Edit({"timezone": ""})
    return Edit({"timezone": zone_of_id(words(value, 255, "This is no name of a time zone.").strip())})


def _components(context: Context, resource: Resource) -> bytes | None:
    return component_elements(components_of(resource))


def _set_components(context: Context, resource: Resource, value: Element | None) -> Edit:
    """Only while a calendar is made: what is in it would not fit any more (RFC 4791 §5.2.3)."""
    if value is None:
        return Edit({"components": ()})
    asked = [each.attributes.get("name", "").upper() for each in value.all(caldav("comp"))]
    if not asked or not set(asked) <= set(COMPONENTS):
        raise precondition(
            403,
            caldav("supported-calendar-component"),
            why="A calendar keeps events, tasks, journals and availability.",
        )
    return Edit({"components": tuple(dict.fromkeys(asked))})


def _transparency(context: Context, resource: Resource) -> bytes | None:
    share = resource.share
    is_transparent = resource.row.transparent if share is None else share.transparent
    return element(caldav("transparent" if is_transparent else "opaque"))


def _set_transparency(context: Context, resource: Resource, value: Element | None) -> Edit:
    if value is None:
        return Edit({"transparent": False})
    given = [child.name for child in value.children]
    if given not in ([caldav("opaque")], [caldav("transparent")]):
        raise unchangeable("A calendar is opaque or transparent.", 403)
    return Edit({"transparent": given == [caldav("transparent")]})


def _color(context: Context, resource: Resource) -> bytes | None:
    found = (resource.share.color if resource.share else "") or resource.row.color
    return text(found) if found else None


def _set_color(context: Context, resource: Resource, value: Element | None) -> Edit:
    given = words(value, 40, "This is no color.").strip()
    if given and not _COLOR.match(given):
        raise unchangeable("A color is written like #FF2968 or #FF2968FF.")
    return Edit({"color": given})


def _order(context: Context, resource: Resource) -> bytes | None:
    found = resource.row.position
    return None if found is None else b"%d" % found


def _set_order(context: Context, resource: Resource, value: Element | None) -> Edit:
    owned(resource)
    given = words(value, 20, "This is no number.").strip()
    if not given:
        return Edit({"position": None})
    try:
        position = int(given)
    except ValueError:
        raise unchangeable("The order of a calendar is a number.") from None
    if abs(position) >= 1 << 31:
        raise unchangeable("The order of a calendar is a number below 2,147,483,648.")
    return Edit({"position": position})


def _schedule_tag(context: Context, resource: Resource) -> bytes | None:
    found = resource.object.schedule_tag
    return text(found) if found else None
