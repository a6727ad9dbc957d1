"""LOCK and UNLOCK: exclusive and shared write locks of depth 0 or infinity, and their refreshing.

A lock on a name that nothing has makes an empty file there (RFC 4918 §7.3). Locks are for whoever asks for them; what
is at work without one is kept apart by ETags.

Standards: RFC 4918 §6, §7, §9.10, §9.11, §10.5 (Lock-Token), §10.7 (Timeout).
"""

from __future__ import annotations

import re
from contextlib import suppress

from hosting.dav.bodies import xml_body
from hosting.dav.context import Context
from hosting.dav.errors import Refused, precondition
from hosting.dav.locating import Place, locate, place, requested, with_folder
from hosting.dav.locks import (
    active_lock,
    active_locks,
    check_if,
    check_members_unlocked,
    covering,
    root_of,
    submitted,
)
from hosting.dav.methods.propfind import depth_of
from hosting.dav.multistatus import answer, status_response, xml_response
from hosting.dav.names import DECLARATIONS, dav, element
from hosting.dav.reach import Reach
from hosting.dav.request import DavResponse, empty
from hosting.dav.resources import KEPT, OBJECTS, Resource, ResourceType
from hosting.dav.xml import Element, serialised
from storage.collections.locks import Lock, Locked
from storage.collections.values import file_content
from storage.errors import NotFound

_SECONDS = re.compile(r"second-(\d{1,10})\Z", re.IGNORECASE | re.ASCII)
_LOCKABLE = KEPT | OBJECTS | {ResourceType.FILE_HOME}
_OWNER_MAX = 4096  # octets


def _timeout(context: Context) -> int:
    """Seconds; the first of those offered that is understood."""
    longest = context.services.limits.lock_seconds
    for offered in context.request.header("timeout").split(",")[:10]:
        found = _SECONDS.match(offered.strip())
        if found is not None:
            return max(1, min(int(found[1]), longest))
    return longest


def lock(context: Context) -> DavResponse:
    path = requested(context)
    body = xml_body(context, dav("lockinfo"), optional=True)
    if body is None:
        return _refresh(context, locate(context, path.segments))
    shared, owner = _asked(body)
    depth = depth_of(context, "infinity")
    if depth == "1":
        raise Refused(400, why="A lock has Depth 0 or infinity.")  # §9.10.3
    try:
        resource, made = locate(context, path.segments), False
    except Refused as refused:
        if refused.status != 404:
            raise
        where = place(context, path)
        resource, made = _empty_file(context, where, slash=path.slash), True
    if not made:
        if resource.type not in _LOCKABLE:
            raise Refused(403, why="This cannot be locked.")
        context.require(resource, Reach.WRITE_CONTENT if resource.type is not ResourceType.INBOX else Reach.UNLOCK)
        check_if(context, resource)
    resource = with_folder(context, resource)
    object_id = resource.stored.object_id if resource.stored is not None else 0
    try:
        given = resource.data.locks.create(
            resource.row.id,
            object_id,
            context.me.account_id,
            shared=shared,
            deep=depth == "infinity",
            owner=owner,
            seconds=_timeout(context),
        )
    except Locked as locked:
        return _conflict(context, resource, locked)
    return _told(active_locks_of(context, resource, given), 201 if made else 200, given)


def active_locks_of(context: Context, resource: Resource, new: Lock) -> bytes:
    """The new one last, so that whoever reads the first or the last finds what is true."""
    others = (
        each for each in resource.data.locks.covering(new.collection_id, new.object_id) if each.token != new.token
    )
    return b"".join(active_lock(context, resource, each) for each in (*others, new))


def _asked(body: Element) -> tuple[bool, bytes]:
    """Whether it is to be shared, and DAV:owner as XML."""
    scope, type_ = body.find(dav("lockscope")), body.find(dav("locktype"))
    if scope is None or type_ is None or type_.find(dav("write")) is None:
        raise Refused(422, why="A lock has a scope and the type write.")
    owner = body.find(dav("owner"))
    told = b"" if owner is None else serialised(owner)
    if len(told) > _OWNER_MAX:
        raise Refused(400, why="The owner of the lock is described at too great length.")
    if scope.find(dav("shared")) is not None:
        return True, told
    if scope.find(dav("exclusive")) is None:
        raise Refused(422, why="A lock is exclusive or shared.")
    return False, told


def _empty_file(context: Context, where: Place, *, slash: bool) -> Resource:
    """§7.3: what is locked before it is there."""
    if where.parent.type not in (ResourceType.FOLDER, ResourceType.FILE_HOME):
        raise Refused(403, why="Only what is there can be locked here.")
    if slash:
        raise Refused(409, why="There is no such collection.")
    context.require(where.parent, Reach.BIND)
    check_if(context, where)
    check_members_unlocked(context, where.parent)
    parent = with_folder(context, where.parent)
    put = parent.data.objects.put(parent.row.id, where.name, file_content(b"", ""), if_none_match=True)
    return parent.member(put.stored)


def _conflict(context: Context, resource: Resource, locked: Locked) -> DavResponse:
    """423; where the lock in the way is on a member, 207 that names it (§9.10.3)."""
    roots = [root_of(resource, each) for each in locked.locks]
    below = [root for root in roots if root.startswith(resource.href) and root != resource.href]
    if below and resource.is_collection:
        told = [status_response(root, 423) for root in dict.fromkeys(below)]
        return answer(context, [*told, status_response(resource.href, 424)])
    hrefs = b"".join(element(dav("href"), root) for root in dict.fromkeys(roots))
    raise precondition(423, dav("no-conflicting-lock"), hrefs, "It is locked.")


def _refresh(context: Context, resource: Resource) -> DavResponse:
    """§9.10.2: the token stands in If, and the lock lasts from now again."""
    tokens = submitted(context)
    if not tokens:
        raise Refused(400, why="The request says neither which lock it wants nor which it refreshes.")
    check_if(context, resource)
    found = [each for each in covering(context, resource) if each.token in tokens]
    own = [each for each in found if each.holder == context.me.account_id]
    if not own:
        raise precondition(412, dav("lock-token-matches-request-uri"), why="There is no such lock here.")
    for each in own:
        with suppress(NotFound):  # its time was over a moment ago
            resource.data.locks.refresh(each.token, _timeout(context))
    return _told(active_locks(context, resource), 200, None)


def _told(active: bytes, status: int, new: Lock | None) -> DavResponse:
    headers = [("Lock-Token", f"<{new.token}>")] if new is not None else []
    document = b"<D:prop " + DECLARATIONS + b">" + element(dav("lockdiscovery"), active) + b"</D:prop>"
    return xml_response(status, document, headers)


def unlock(context: Context) -> DavResponse:
    token = context.request.header("lock-token").strip()
    if not (token.startswith("<") and token.endswith(">")):
        raise Refused(400, why="The Lock-Token header is missing or not valid.")
    resource = locate(context, requested(context).segments)
    check_if(context, resource)
    found = next((each for each in covering(context, resource) if each.token == token[1:-1]), None)
    if found is None:
        raise precondition(409, dav("lock-token-matches-request-uri"), why="There is no such lock here.")
    if found.holder != context.me.account_id:
        context.require(resource, Reach.UNLOCK)  # others' locks fall to who owns what is locked
        if resource.share is not None:
            raise Refused(403, why="The lock is somebody else's.")
    resource.data.locks.remove(found.token)
    return empty(204)
