"""What the owner of an inbox decides there: where invitations go, when others find him free, which calendars count.

Defaults and availability are kept among the inbox' properties, so that scheduling (`default_calendar`, `availability`)
reads what clients wrote.

Standards: RFC 6638 §4.3, §9.2 (default calendar), RFC 7953 §7.2 (availability), caldav-sched drafts
(calendar-free-busy-set, which Apple's clients still read and write).
"""

from __future__ import annotations

from contextlib import suppress

from hosting.dav.calendars.principals import calendar_href, person_of
from hosting.dav.calendars.properties import unchangeable, words
from hosting.dav.context import Context
from hosting.dav.errors import Refused, precondition
from hosting.dav.names import caldav, calendarserver, dav, element, text
from hosting.dav.paths import read_reference
from hosting.dav.registry import Edit, LiveProperty, Read, Registry, Write
from hosting.dav.resources import Resource, ResourceType
from hosting.dav.xml import Element
from storage.collections.values import Collection, Kind
from storage.errors import InvalidInput, NotFound
from storage.icalendar.contentlines import Malformed, read
from storage.mail.account import Account

_INBOX = frozenset({ResourceType.INBOX})

DEFAULT_CALENDAR = caldav("schedule-default-calendar-URL")
DEFAULT_TASKS = calendarserver("schedule-default-tasks-URL")
AVAILABILITY = caldav("calendar-availability")

# The property, the component that has to go in, and the name of the calendar where nothing was decided.
_DEFAULTS = {DEFAULT_CALENDAR: ("VEVENT", "calendar"), DEFAULT_TASKS: ("VTODO", "tasks")}

_AVAILABILITY_MAX = 64 << 10


def register(registry: Registry) -> None:
    registry.properties(
        LiveProperty(DEFAULT_CALENDAR, _INBOX, _read_default(DEFAULT_CALENDAR), _write_default(DEFAULT_CALENDAR)),
        LiveProperty(DEFAULT_TASKS, _INBOX, _read_default(DEFAULT_TASKS), _write_default(DEFAULT_TASKS)),
        LiveProperty(AVAILABILITY, _INBOX, _availability, _set_availability),
        LiveProperty(calendarserver("calendar-availability"), _INBOX, _availability, _set_availability),
        LiveProperty(caldav("calendar-free-busy-set"), _INBOX, _free_busy_set, _set_free_busy),
    )
    registry.guards.append(keep_default)


def default_calendar(account: Account, name: str = DEFAULT_CALENDAR) -> Collection | None:
    """The calendar into which invitations go: what its owner chose, else the one made with the account, else any."""
    component, usual = _DEFAULTS[name]
    calendars = [each for each in account.collections.list(Kind.CALENDAR) if _takes(each, component)]
    inbox = account.collections.list(Kind.INBOX)
    chosen = account.properties.get(inbox[0].id).get(name, b"") if inbox else b""
    for each in calendars:
        if chosen == b"%d" % each.id:
            return each
    by_name = next((each for each in calendars if each.name == usual), None)
    return by_name or (calendars[0] if calendars else None)


def availability(account: Account) -> bytes | None:
    """The VCALENDAR with VAVAILABILITY by which its owner says when he can be found free at all."""
    inbox = account.collections.list(Kind.INBOX)
    return account.properties.get(inbox[0].id).get(AVAILABILITY) if inbox else None


def keep_default(context: Context, collection: Collection) -> None:
    """The calendar into which invitations go stays (RFC 6638 §4.3). Raises Refused."""
    if collection.kind is not Kind.CALENDAR:
        return
    account = context.account(context.me.account_id)
    default = default_calendar(account)
    if default is not None and default.id == collection.id and _is_own(account, collection):
        raise precondition(
            403, caldav("default-calendar-needed"), why="Choose another default calendar before this one is removed."
        )


def _is_own(account: Account, collection: Collection) -> bool:
    with suppress(NotFound):
        return account.collections.by_id(collection.id) == collection
    return False


def _takes(collection: Collection, component: str) -> bool:
    return not collection.is_read_only and (not collection.components or component in collection.components)


def _read_default(name: str) -> Read:
    def read_it(context: Context, resource: Resource) -> bytes | None:
        found = default_calendar(resource.data, name)
        return element(dav("href"), calendar_href(person_of(resource), found.name)) if found else b""

    return read_it


def _write_default(name: str) -> Write:
    component, _ = _DEFAULTS[name]

    def write_it(context: Context, resource: Resource, value: Element | None) -> Edit:
        properties, inbox = resource.data.properties, resource.row
        if value is None:
            return Edit(apply=lambda: properties.remove(inbox.id, 0, name))
        chosen = _calendar_at(context, resource, value.content(dav("href")) or "")
        if chosen is None or not _takes(chosen, component):
            raise precondition(
                403,
                caldav("valid-schedule-default-calendar-URL"),
                why="The default calendar is a calendar of one's own that takes what arrives.",
            )
        return Edit(apply=lambda: properties.set(inbox.id, 0, name, b"%d" % chosen.id))

    return write_it


def _calendar_at(context: Context, inbox: Resource, reference: str) -> Collection | None:
    """A calendar of the inbox' owner that an href names."""
    try:
        segments = read_reference(context.request, reference, context.services.limits).segments
        if len(segments) != 3 or segments[0] != "calendars" or context.person_named(segments[1]) != inbox.person:
            return None
        return inbox.data.collections.find(Kind.CALENDAR, segments[2])
    except (Refused, NotFound, InvalidInput):
        return None


def _availability(context: Context, resource: Resource) -> bytes | None:
    found = resource.data.properties.get(resource.row.id).get(AVAILABILITY)
    return None if found is None else text(found.decode("utf-8"))


def _set_availability(context: Context, resource: Resource, value: Element | None) -> Edit:
    properties, inbox = resource.data.properties, resource.row
    if value is None:
        return Edit(apply=lambda: properties.remove(inbox.id, 0, AVAILABILITY))
    given = words(value, _AVAILABILITY_MAX, "This is no availability.").strip().encode("utf-8") + b"\r\n"
    try:
        found = read(given)
    except Malformed as malformed:
        raise precondition(403, caldav("valid-calendar-data"), why=malformed.public) from None
    kinds = {each.name for each in found.components} - {"VTIMEZONE"}
    if found.name != "VCALENDAR" or kinds != {"VAVAILABILITY"}:
        raise precondition(403, caldav("valid-calendar-data"), why="An availability holds VAVAILABILITY components.")
    return Edit(apply=lambda: properties.set(inbox.id, 0, AVAILABILITY, given))


def _free_busy_set(context: Context, resource: Resource) -> bytes:
    """The calendars that count when others ask whether he is free: those that are opaque (RFC 6638 §9.1)."""
    person = person_of(resource)
    calendars = resource.data.collections.list(Kind.CALENDAR)
    return b"".join(
        element(dav("href"), calendar_href(person, each.name)) for each in calendars if not each.transparent
    )


def _set_free_busy(context: Context, resource: Resource, value: Element | None) -> Edit:
    """Those that are named become opaque, all others transparent."""
    if value is None:
        raise unchangeable("Every account has this set.", 403)
    counted = set()
    for child in value.all(dav("href")):
        found = _calendar_at(context, resource, child.text)
        if found is None:
            raise unchangeable("Only calendars of one's own count.", 403)
        counted.add(found.id)
    collections = resource.data.collections

    def apply() -> None:
        for each in collections.list(Kind.CALENDAR):
            if each.transparent is (each.id in counted):
                collections.update(each.id, transparent=each.id not in counted)

    return Edit(apply=apply)
