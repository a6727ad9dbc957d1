"""Notifications of sharing: what a sharee is asked, and what he answered, as documents in a collection of their own.

They are made of the rows of shares; removing one says that it was read.

Standards: caldav-sharing §4 (notifications), §5.3; draft-pot-webdav-notifications.
"""

from __future__ import annotations

import hashlib
import time

from hosting.dav.context import Context
from hosting.dav.errors import XML_HEAD
from hosting.dav.multistatus import XML_TYPE
from hosting.dav.names import DECLARATIONS, caldav, calendarserver, dav, element, tags, text, text_element
from hosting.dav.registry import LiveProperty, Registry
from hosting.dav.request import DavResponse
from hosting.dav.resources import Resource, ResourceType, href
from hosting.dav.sharing.properties import access, answer_element, organizer
from hosting.dav.sharing.shares import DirectoryShares
from storage.collections.values import Collection, CollectionId, Kind
from storage.directory.shares import ShareRow
from storage.errors import NotFound

_NOTICE = frozenset({ResourceType.NOTIFICATION})
_NOTICES = frozenset({ResourceType.NOTIFICATIONS})
_BRANCHES = {Kind.CALENDAR: "calendars", Kind.ADDRESS_BOOK: "addressbooks"}


class Notices:
    def __init__(self, shares: DirectoryShares) -> None:
        self._shares = shares

    def register(self, registry: Registry) -> None:
        registry.resource_types[ResourceType.NOTIFICATIONS] = (calendarserver("notification"),)
        registry.downloads[ResourceType.NOTIFICATION] = self._get
        registry.removals[ResourceType.NOTIFICATION] = self._remove
        for method in ("GET", "HEAD", "DELETE"):
            registry.method_types[method] |= _NOTICE
        registry.properties(
            LiveProperty(dav("getetag"), _NOTICE, _etag, in_allprop=True),
            LiveProperty(dav("getcontenttype"), _NOTICE, lambda *_: text(XML_TYPE[1]), in_allprop=True),
            LiveProperty(calendarserver("notificationtype"), _NOTICE, _type),
            LiveProperty(dav("notificationtype"), _NOTICE, _type),
            LiveProperty(calendarserver("getctag"), _NOTICES, self._ctag),
        )

    def _ctag(self, context: Context, _: Resource) -> bytes | None:
        found = repr(self._shares.notices(context.me.tenant_id, context.me.account_id))
        return b'"' + _digest(found.encode("utf-8", "backslashreplace")) + b'"'

    @staticmethod
    def _get(context: Context, resource: Resource) -> DavResponse:
        data = document(context, resource)
        etag = _etag(context, resource).decode("ascii")
        headers = [XML_TYPE, ("ETag", etag), ("Cache-Control", "private, no-cache"), ("Content-Length", str(len(data)))]
        return DavResponse(200, headers, data)

    def _remove(self, context: Context, resource: Resource) -> None:
        row = _row(resource)
        self._shares.rows(context.me.tenant_id).told(row, owner=row.owner_id == context.me.account_id)


def _row(resource: Resource) -> ShareRow:
    assert resource.notice is not None
    return resource.notice


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).hexdigest().encode("ascii")


def _etag(context: Context, resource: Resource) -> bytes:
    return b'"' + _digest(document(context, resource)) + b'"'


def _opened(name: str, row: ShareRow) -> tuple[bytes, bytes]:
    kind = b"calendar" if row.kind is Kind.CALENDAR else b"addressbook"
    opened, closed, _ = tags(name)
    return opened[:-1] + b' shared-type="' + kind + b'">', closed


def _type(context: Context, resource: Resource) -> bytes | None:
    row = _row(resource)
    reply = row.owner_id == context.me.account_id
    opened, closed = _opened(calendarserver("invite-reply" if reply else "invite-notification"), row)
    return opened + closed


def document(context: Context, resource: Resource) -> bytes:
    """CS:notification."""
    row = _row(resource)
    reply = row.owner_id == context.me.account_id
    told = _reply(context, row) if reply else _invitation(context, row)
    at = row.answered if reply and row.answered else row.invited
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    opened, closed, _ = tags(calendarserver("notification"))
    content = text_element(calendarserver("dtstamp"), stamp) + told
    return XML_HEAD + opened[:-1] + b" " + DECLARATIONS + b">" + content + closed


def _uid(row: ShareRow) -> str:
    return f"{row.owner_id}-{row.collection_id}-{row.sharee_id}"


def _shared_href(context: Context, row: ShareRow) -> tuple[bytes, Collection | None]:
    """Where it is at its owner's, and what it is."""
    owner = context.person(row.owner_id)
    try:
        found = context.account(row.owner_id).collections.by_id(CollectionId(row.collection_id))
    except NotFound:
        return href((_BRANCHES[row.kind], owner.login), is_collection=True), None
    return href((_BRANCHES[row.kind], owner.login, found.name), is_collection=True), found


def _invitation(context: Context, row: ShareRow) -> bytes:
    where, found = _shared_href(context, row)
    opened, closed = _opened(calendarserver("invite-notification"), row)
    told = text_element(calendarserver("uid"), _uid(row))
    told += text_element(dav("href"), f"mailto:{row.sharee_login}")
    told += answer_element(row, calendarserver("")) + access(row)
    told += element(calendarserver("hosturl"), element(dav("href"), where))
    told += organizer(context, context.person(row.owner_id))
    told += text_element(calendarserver("summary"), row.summary or (found.display_name if found else ""))
    if found is not None and found.components:
        components = b"".join(b'<C:comp name="%b"/>' % each.encode("ascii") for each in found.components)
        told += element(caldav("supported-calendar-component-set"), components)
    return opened + told + closed


def _reply(context: Context, row: ShareRow) -> bytes:
    where, _ = _shared_href(context, row)
    opened, closed = _opened(calendarserver("invite-reply"), row)
    told = text_element(dav("href"), f"mailto:{row.sharee_login}")
    told += text_element(calendarserver("common-name"), context.name_of(context.person(row.sharee_id)))
    told += answer_element(row, calendarserver(""))
    told += element(calendarserver("hosturl"), element(dav("href"), where))
    told += text_element(calendarserver("in-reply-to"), _uid(row))
    return opened + told + closed
