"""What a principal, a calendar home and the scheduling boxes say about calendars.

Standards: RFC 4791 §6.2.1, RFC 6638 §2.1.1, §2.2.1, §2.4.1, §2.4.2; Apple's calendarserver properties where its clients
ask for them.
"""

from __future__ import annotations

from hosting.dav.calendars.properties import COMPONENTS, component_elements
from hosting.dav.context import Context
from hosting.dav.names import caldav, calendarserver, dav, element, text, text_element
from hosting.dav.registry import LiveProperty, Registry
from hosting.dav.resources import Person, Resource, ResourceType, href
from storage.collections.values import Kind

_PRINCIPAL = frozenset({ResourceType.PRINCIPAL})
_HOME = frozenset({ResourceType.CALENDAR_HOME})
_HOMES = frozenset({ResourceType.CALENDAR_HOME, ResourceType.ADDRESS_BOOK_HOME})
_FILLED = frozenset({ResourceType.CALENDAR, ResourceType.ADDRESS_BOOK})


def register(registry: Registry) -> None:
    registry.properties(
        LiveProperty(caldav("calendar-home-set"), _PRINCIPAL, _home_set),
        LiveProperty(caldav("calendar-user-address-set"), _PRINCIPAL, _addresses),
        LiveProperty(caldav("calendar-user-type"), _PRINCIPAL, lambda context, resource: b"INDIVIDUAL"),
        LiveProperty(caldav("schedule-inbox-URL"), _PRINCIPAL, _inbox),
        LiveProperty(caldav("schedule-outbox-URL"), _PRINCIPAL, _outbox),
        LiveProperty(calendarserver("email-address-set"), _PRINCIPAL, _email_addresses),
        LiveProperty(caldav("supported-calendar-component-sets"), _HOME, _component_sets),  # as Apple's clients ask
        LiveProperty(calendarserver("supported-calendar-component-sets"), _HOME, _component_sets),
        LiveProperty(calendarserver("max-collections"), _HOMES, _collections_max),
        LiveProperty(calendarserver("max-resources"), _FILLED, _objects_max),
    )


def home_href(person: Person) -> bytes:
    return href(("calendars", person.login), is_collection=True)


def calendar_href(person: Person, name: str) -> bytes:
    """A calendar of somebody's own."""
    return href(("calendars", person.login, name), is_collection=True)


def person_of(resource: Resource) -> Person:
    assert resource.person is not None
    return resource.person


def addresses_of(context: Context, person: Person) -> list[str]:
    """All addresses of an account that are its alone, the primary one first."""
    return [person.login, *context.tenant.addresses.own_aliases(person.account_id)]


def _home_set(context: Context, resource: Resource) -> bytes:
    return element(dav("href"), home_href(person_of(resource)))


def _addresses(context: Context, resource: Resource) -> bytes:
    """As URLs of mail, and the principal's own (RFC 6638 §2.4.1); the first is preferred, as Apple marks it."""
    person = person_of(resource)
    mails = [b"mailto:" + text(address) for address in addresses_of(context, person)]
    first = b'<D:href preferred="1">' + mails[0] + b"</D:href>"
    rest = b"".join(element(dav("href"), mail) for mail in mails[1:])
    return first + rest + element(dav("href"), href(person.segments, is_collection=True))


def _email_addresses(context: Context, resource: Resource) -> bytes:
    name = calendarserver("email-address")
    return b"".join(text_element(name, address) for address in addresses_of(context, person_of(resource)))


def _inbox(context: Context, resource: Resource) -> bytes:
    return element(dav("href"), calendar_href(person_of(resource), Kind.INBOX))


def _outbox(context: Context, resource: Resource) -> bytes:
    return element(dav("href"), calendar_href(person_of(resource), Kind.OUTBOX))


def _component_sets(context: Context, resource: Resource) -> bytes:
    """Calendars may be made for one kind of component, or for several (Apple's Reminders asks)."""
    sets: list[tuple[str, ...]] = [(name,) for name in COMPONENTS if name != "VFREEBUSY"]
    sets.append(("VEVENT", "VTODO", "VJOURNAL"))
    name = caldav("supported-calendar-component-set")
    return b"".join(element(name, component_elements(each)) for each in sets)


def _collections_max(context: Context, resource: Resource) -> bytes:
    return b"%d" % resource.data.collections.limits.collections


def _objects_max(context: Context, resource: Resource) -> bytes:
    return b"%d" % resource.data.collections.limits.objects
