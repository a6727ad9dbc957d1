"""Notifications of sharing: what a sharee is asked, and what he answered, as documents in a collection of their own.

They are made of the rows of shares; removing one says that it was read.

Standards: caldav-sharing §4 (notifications), §5.3; draft-pot-webdav-notifications.
"""

from __future__ import annotations

import hashlib
import re
import time
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping

from hosting.dav.context import Context
from hosting.dav.errors import XML_HEAD, Refused
from hosting.dav.locating import notices
from hosting.dav.multistatus import XML_TYPE, Multistatus, answer, status_response, wanted_in
from hosting.dav.names import DECLARATIONS, caldav, calendarserver, dav, element, tags, text, text_element
from hosting.dav.reach import Reach
from hosting.dav.registry import LiveProperty, Registry, Report
from hosting.dav.request import DavResponse
from hosting.dav.resources import Resource, ResourceType, href
from hosting.dav.sharing.properties import access, answer_element, organizer
from hosting.dav.sharing.shares import DirectoryShares
from hosting.dav.xml import Element
from storage.collections.tokens import TokenTooOld
from storage.collections.values import Collection, CollectionId, Kind
from storage.directory.shares import ShareRow
from storage.errors import NotFound

_NOTICE = frozenset({ResourceType.NOTIFICATION})
_NOTICES = frozenset({ResourceType.NOTIFICATIONS})
_PREFIX = "urn:cleanmail:notifications:"
_TOKEN_MAX = 64 << 10  # characters
_NAME = re.compile(r"[0-9-]{1,100}\.xml\Z")
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
            LiveProperty(calendarserver("notification-type"), _NOTICE, _type),  # as earlier clients call it
            LiveProperty(dav("notificationtype"), _NOTICE, _type),
            LiveProperty(calendarserver("getctag"), _NOTICES, _ctag),
            LiveProperty(dav("sync-token"), _NOTICES, _sync_token),
        )
        multistatus = Multistatus(registry)

        def synchronise(context: Context, resource: Resource, body: Element, depth: str) -> DavResponse:
            context.require(resource, Reach.READ)
            return answer(context, _changes(context, multistatus, resource, body))

        registry.report(Report(dav("sync-collection"), _NOTICES, synchronise))

    @staticmethod
    def _get(context: Context, resource: Resource) -> DavResponse:
        data = document(context, resource)
        etag = _etag(context, resource).decode("ascii")
        headers = [XML_TYPE, ("ETag", etag), ("Cache-Control", "private, no-cache"), ("Content-Length", str(len(data)))]
        return DavResponse(200, headers, data)

    def _remove(self, context: Context, resource: Resource) -> None:
        row = _row(resource)
        self._shares.rows(context.me.tenant_id).told(row, owner=row.owner_id == context.me.account_id)


def _known(context: Context, place: Resource) -> dict[str, str]:
    """What is there: names, and a mark of what each says."""
    return {each.segments[-1]: _etag(context, each)[1:17].decode("ascii") for each in notices(context, place)}


def _token(known: Mapping[str, str]) -> bytes:
    """It says what its client knows, so it stays true whatever comes and goes."""
    lines = "\n".join(f"{name} {mark}" for name, mark in known.items())
    return _PREFIX.encode() + urlsafe_b64encode(zlib.compress(lines.encode("ascii")))


def _read_token(token: str) -> dict[str, str]:
    """Raises TokenTooOld."""
    if not token.startswith(_PREFIX) or len(token) > _TOKEN_MAX:
        raise TokenTooOld
    try:
        unpacking = zlib.decompressobj()
        lines = unpacking.decompress(urlsafe_b64decode(token[len(_PREFIX) :]), 4 * _TOKEN_MAX).decode("ascii")
        found = dict(line.split(" ") for line in lines.split("\n") if line)
    except (ValueError, zlib.error):
        raise TokenTooOld from None
    if not all(_NAME.match(name) for name in found):
        raise TokenTooOld
    return found


def _ctag(context: Context, place: Resource) -> bytes | None:
    return b'"' + _digest(repr(_known(context, place)).encode("ascii")) + b'"'


def _sync_token(context: Context, place: Resource) -> bytes | None:
    return _token(_known(context, place))


def _changes(context: Context, multistatus: Multistatus, place: Resource, body: Element) -> Iterator[bytes]:
    """sync-collection (RFC 6578 §3.2). There are few, so a limit is not needed."""
    if body.find(dav("sync-token")) is None:
        raise Refused(400, why="A sync-collection has a sync-token.")
    asked = body if body.find(dav("prop")) is not None else Element(body.name, children=[Element(dav("prop"))])
    wanted = wanted_in(context, asked)
    token = body.content(dav("sync-token"))
    known = _read_token(token) if token else {}
    now = _known(context, place)
    for each in notices(context, place):
        if now.get(each.segments[-1]) != known.get(each.segments[-1]):
            yield multistatus.respond(context, each, wanted)
    for name in known.keys() - now.keys():
        yield status_response(place.href + name.encode("ascii"), 404)
    yield element(dav("sync-token"), _token(now))


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
