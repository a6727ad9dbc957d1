"""Properties that every kind of resource has: RFC 4918 §15, quota, principals, sync and what old clients ask for.

Standards: RFC 4918 §15; RFC 4331 (quota); RFC 5397 (current-user-principal); RFC 6578 §4 (sync-token); RFC 3253
§3.1.3 to §3.1.5 (supported-*-set); caldav-ctag (CalendarServer).
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from hosting.dav.access_properties import ACCESS
from hosting.dav.context import Context
from hosting.dav.errors import precondition
from hosting.dav.home_sync import home_token
from hosting.dav.locks import active_locks
from hosting.dav.names import calendarserver, dav, element, text
from hosting.dav.registry import Edit, LiveProperty, Registry
from hosting.dav.resources import (
    A_HOME,
    EVERYTHING,
    KEPT,
    OBJECTS,
    SINGLE,
    Resource,
    ResourceType,
)
from hosting.dav.xml import Element
from storage.collections.tokens import sync_token

_DISPLAY_NAME_MAX = 1000  # characters
_ROWS = KEPT | OBJECTS | {ResourceType.FILE_HOME}
_NAMED: Mapping[ResourceType, str] = {
    ResourceType.ROOT: "Cleanmail",
    ResourceType.PRINCIPALS: "Principals",
    ResourceType.CALENDAR_HOMES: "Calendars",
    ResourceType.ADDRESS_BOOK_HOMES: "Address books",
    ResourceType.FILE_HOMES: "Files",
    ResourceType.CALENDAR_HOME: "Calendars",
    ResourceType.ADDRESS_BOOK_HOME: "Address books",
    ResourceType.FILE_HOME: "Files",
    ResourceType.NOTIFICATIONS: "Notifications",
    ResourceType.NOTIFICATION: "Notification",
}
# As Apple's, Apache's and Google's servers say: clients take what has the type of a calendar for an event of it.
_COLLECTION_TYPE = b"httpd/unix-directory"
_LOCK_ENTRIES = b"".join(
    element(
        dav("lockentry"),
        element(dav("lockscope"), element(dav(scope))) + element(dav("locktype"), element(dav("write"))),
    )
    for scope in ("exclusive", "shared")
)
SYNCHRONISED = KEPT - {ResourceType.FOLDER}  # of folders, sync-collection would have to tell of folders in them
SYNCHRONISED_HOMES = frozenset({ResourceType.CALENDAR_HOME, ResourceType.ADDRESS_BOOK_HOME})


def _resource_type(registry: Registry) -> LiveProperty:
    contents = {
        type_: (b"<D:collection/>" if type_ not in SINGLE else b"")
        + b"".join(element(name) for name in registry.resource_types.get(type_, ()))
        for type_ in ResourceType
    }
    contents[ResourceType.PRINCIPAL] = b"<D:collection/><D:principal/>"
    more = dict(registry.more_types)

    def read(context: Context, resource: Resource) -> bytes:
        special = more.get(resource.type)
        return contents[resource.type] + (special(context, resource) if special is not None else b"")

    return LiveProperty(dav("resourcetype"), EVERYTHING, read, in_allprop=True)


def _http_date(seconds: int) -> bytes:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(seconds)).encode("ascii")


def http_date(seconds: int) -> str:
    """RFC 9110 §5.6.7."""
    return _http_date(seconds).decode("ascii")


def _modified(_: Context, resource: Resource) -> bytes | None:
    if resource.stored is not None:
        return _http_date(resource.stored.modified)
    return _http_date(resource.collection.modified) if resource.collection is not None else None


def _created(_: Context, resource: Resource) -> bytes | None:
    row = resource.stored or resource.collection
    return None if row is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row.created)).encode("ascii")


def _etag(_: Context, resource: Resource) -> bytes | None:
    return resource.object.etag.encode("ascii")


def _size(_: Context, resource: Resource) -> bytes | None:
    return b"%d" % resource.object.size


def _media_type(_: Context, resource: Resource) -> bytes | None:
    """Without a space, as Apple's server says it and its test suite compares it."""
    return text(resource.object.content_type.replace("; ", ";"))


def _display_name(context: Context, resource: Resource) -> bytes | None:
    if resource.type is ResourceType.PRINCIPAL:
        assert resource.person is not None
        return text(context.name_of(resource.person))
    if resource.type in _NAMED:
        return text(_NAMED[resource.type])
    share = resource.share
    return text((share.display_name if share else "") or resource.row.display_name or resource.row.name)


def one_line(value: Element | None, most: int = _DISPLAY_NAME_MAX) -> str:
    """Text that a client sets. Raises Refused where it is too long."""
    found = "" if value is None else value.text.strip()
    if len(found) > most:
        raise precondition(409, dav("valid-property-value"), why="The value is too long.")
    return found


def _set_display_name(_: Context, __: Resource, value: Element | None) -> Edit:
    return Edit({"display_name": one_line(value)})


def _sync_token(_: Context, resource: Resource) -> bytes | None:
    row = resource.collection
    return None if row is None else sync_token(row.id, row.highest_modseq).encode("ascii")


def _home_token(context: Context, resource: Resource) -> bytes | None:
    return home_token(context, resource).encode("ascii")


def _ctag(_: Context, resource: Resource) -> bytes | None:
    row = resource.collection
    return None if row is None else b'"%d-%d"' % (row.id, row.highest_modseq)


def _used(_: Context, resource: Resource) -> bytes | None:
    if resource.share is not None:
        return b"%d" % resource.row.bytes
    return b"%d" % resource.data.usage().bytes


def _available(_: Context, resource: Resource) -> bytes | None:
    """Not defined where there is no limit (RFC 4331 §3); how full somebody else's account is he alone sees."""
    if resource.share is not None:
        return None
    account = resource.data
    limit = account.limits.bytes
    return b"%d" % max(0, limit - account.usage().bytes) if limit else None


def _lock_discovery(context: Context, resource: Resource) -> bytes | None:
    return active_locks(context, resource)


def _principal_of(context: Context, _: Resource) -> bytes | None:
    return element(dav("href"), context.principal_href)


def _reports(registry: Registry) -> LiveProperty:
    def read(_: Context, resource: Resource) -> bytes:
        return b"".join(
            element(dav("supported-report"), element(dav("report"), element(name)))
            for name in registry.reports_of(resource.type)
        )

    return LiveProperty(dav("supported-report-set"), EVERYTHING, read)


def _methods(registry: Registry) -> LiveProperty:
    def read(_: Context, resource: Resource) -> bytes:
        return b"".join(
            b'<D:supported-method name="%b"/>' % name.encode() for name in registry.methods_of(resource.type)
        )

    return LiveProperty(dav("supported-method-set"), EVERYTHING, read)


def _live_properties(registry: Registry) -> LiveProperty:
    def read(_: Context, resource: Resource) -> bytes:
        return b"".join(
            element(dav("supported-live-property"), element(dav("prop"), element(name)))
            for name in registry.live(resource.type)
        )

    return LiveProperty(dav("supported-live-property-set"), EVERYTHING, read)


_QUOTED = KEPT | A_HOME

CORE = (
    LiveProperty(dav("getetag"), OBJECTS, _etag, in_allprop=True),
    LiveProperty(dav("getcontentlength"), OBJECTS, _size, in_allprop=True),
    LiveProperty(dav("getcontenttype"), OBJECTS, _media_type, in_allprop=True),
    LiveProperty(dav("getcontentlength"), EVERYTHING - SINGLE, lambda *_: b"0"),  # only for who asks for it
    LiveProperty(dav("getetag"), SYNCHRONISED, _ctag),  # what a GET of all of it says
    LiveProperty(dav("getcontenttype"), SYNCHRONISED, lambda *_: _COLLECTION_TYPE),
    LiveProperty(dav("getlastmodified"), _ROWS, _modified, in_allprop=True),
    LiveProperty(dav("creationdate"), _ROWS, _created, in_allprop=True),
    LiveProperty(dav("displayname"), KEPT, _display_name, _set_display_name, in_allprop=True),
    LiveProperty(dav("displayname"), EVERYTHING - OBJECTS - KEPT, _display_name, in_allprop=True),
    LiveProperty(dav("lockdiscovery"), _ROWS, _lock_discovery, in_allprop=True),
    LiveProperty(dav("supportedlock"), _ROWS, lambda *_: _LOCK_ENTRIES, in_allprop=True),
    LiveProperty(dav("sync-token"), SYNCHRONISED, _sync_token),
    LiveProperty(dav("sync-token"), SYNCHRONISED_HOMES, _home_token),
    LiveProperty(calendarserver("getctag"), SYNCHRONISED, _ctag),
    LiveProperty(dav("quota-used-bytes"), _QUOTED, _used),
    LiveProperty(dav("quota-available-bytes"), _QUOTED, _available),
    LiveProperty(dav("current-user-principal"), EVERYTHING, _principal_of),
)


def register(registry: Registry) -> None:
    """All of them; last, as some tell what else there is."""
    registry.properties(*CORE, *ACCESS, _reports(registry), _methods(registry), _live_properties(registry))
    registry.properties(_resource_type(registry))
