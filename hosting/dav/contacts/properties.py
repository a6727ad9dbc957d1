"""Properties of address books, of their home, and of principals, that clients of CardDAV read and write.

Standards: RFC 6352 §6.2, §7.1; me-card and default-addressbook-URL of Apple's calendarserver.
"""

from __future__ import annotations

from hosting.dav.calendars.principals import person_of
from hosting.dav.calendars.properties import collations, owned, words
from hosting.dav.context import Context
from hosting.dav.errors import Refused
from hosting.dav.names import attribute, calendarserver, carddav, dav, element, text
from hosting.dav.paths import read_reference
from hosting.dav.registry import Edit, LiveProperty, Registry
from hosting.dav.resources import Resource, ResourceType, href
from hosting.dav.xml import Element
from storage.collections.properties import home
from storage.collections.values import Collection, Kind
from storage.errors import InvalidInput, NotFound
from storage.vcard.card import VERSIONS, CardLimits

_BOOKS = frozenset({ResourceType.ADDRESS_BOOK})
_WITH_ME = frozenset({ResourceType.ADDRESS_BOOK, ResourceType.ADDRESS_BOOK_HOME})
_HOME = frozenset({ResourceType.ADDRESS_BOOK_HOME})
_PRINCIPAL = frozenset({ResourceType.PRINCIPAL})

ME_CARD = calendarserver("me-card")
DEFAULT = carddav("default-addressbook-URL")
_USUAL = "contacts"

_DESCRIPTION_MAX = 16_384  # characters

ADDRESS_DATA = b"".join(
    b'<CR:address-data-type content-type="text/vcard" version="' + attribute(version) + b'"/>' for version in VERSIONS
)


def register(registry: Registry) -> None:
    registry.properties(
        LiveProperty(carddav("addressbook-description"), _BOOKS, _description, _set_description, _set_description),
        LiveProperty(carddav("supported-address-data"), _BOOKS, lambda context, resource: ADDRESS_DATA),
        LiveProperty(carddav("max-resource-size"), _BOOKS, lambda context, resource: b"%d" % CardLimits().max_size),
        LiveProperty(carddav("supported-collation-set"), _BOOKS, lambda context, resource: _COLLATIONS),
        LiveProperty(ME_CARD, _WITH_ME, _me_card, _set_me_card),
        LiveProperty(DEFAULT, _HOME, _default, _set_default),
        LiveProperty(carddav("addressbook-home-set"), _PRINCIPAL, _home_set),
        LiveProperty(carddav("principal-address"), _PRINCIPAL, _me_card),
    )


_COLLATIONS = collations(carddav("supported-collation"))


def _description(context: Context, resource: Resource) -> bytes | None:
    found = resource.row.description
    return text(found) if found else None


def _set_description(context: Context, resource: Resource, value: Element | None) -> Edit:
    owned(resource)
    return Edit({"description": words(value, _DESCRIPTION_MAX, "The description is too long, or holds elements.")})


def _home_set(context: Context, resource: Resource) -> bytes:
    return element(dav("href"), href(("addressbooks", person_of(resource).login), is_collection=True))


def _me_card(context: Context, resource: Resource) -> bytes | None:
    """The card that its owner says is himself; it is kept with the home, whichever book it lies in."""
    if resource.account is None or resource.share is not None:
        return None
    found = resource.data.properties.get(*home(Kind.ADDRESS_BOOK)).get(ME_CARD)
    return None if found is None else element(dav("href"), found)


def _set_me_card(context: Context, resource: Resource, value: Element | None) -> Edit:
    owned(resource)
    properties, place = resource.data.properties, home(Kind.ADDRESS_BOOK)
    if value is None:
        return Edit(apply=lambda: properties.remove(*place, ME_CARD))
    path = read_reference(context.request, value.content(dav("href")) or "", context.services.limits)
    if path.segments[:1] != ("addressbooks",) or len(path.segments) != 4:
        raise Refused(409, why="A me-card is a card of an address book.")
    written = href(path.segments, is_collection=False)
    return Edit(apply=lambda: properties.set(*place, ME_CARD, written))


def _default(context: Context, resource: Resource) -> bytes:
    """Where clients put a new card that nobody chose a book for."""
    chosen = resource.data.properties.get(*home(Kind.ADDRESS_BOOK)).get(DEFAULT)
    books = [each for each in resource.data.collections.list(Kind.ADDRESS_BOOK) if not each.is_read_only]
    found = next((each for each in books if chosen == b"%d" % each.id), None)
    found = found or next((each for each in books if each.name == _USUAL), None) or next(iter(books), None)
    if found is None:
        return b""
    return element(dav("href"), href(("addressbooks", person_of(resource).login, found.name), is_collection=True))


def _set_default(context: Context, resource: Resource, value: Element | None) -> Edit:
    owned(resource)
    properties, place = resource.data.properties, home(Kind.ADDRESS_BOOK)
    if value is None:
        return Edit(apply=lambda: properties.remove(*place, DEFAULT))
    book = _book_at(context, resource, value.content(dav("href")) or "")
    if book is None or book.is_read_only:
        raise Refused(409, why="The default address book is one of one's own that takes cards.")
    return Edit(apply=lambda: properties.set(*place, DEFAULT, b"%d" % book.id))


def _book_at(context: Context, resource: Resource, reference: str) -> Collection | None:
    """An address book of the home's owner that an href names."""
    try:
        segments = read_reference(context.request, reference, context.services.limits).segments
        mine = len(segments) == 3 and segments[0] == "addressbooks"
        if not mine or context.person_named(segments[1]) != resource.person:
            return None
        return resource.data.collections.find(Kind.ADDRESS_BOOK, segments[2])
    except (Refused, NotFound, InvalidInput):
        return None
