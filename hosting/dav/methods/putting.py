"""PUT: a body is checked for where it goes, stored as it was sent, and durable when the status is told.

Of writers that race with one If-Match exactly one wins: storage looks at it in the transaction that writes. An ETag is
told only where the octets are those of the client (RFC 4791 §5.3.4).

Standards: RFC 9110 §9.3.4, §13; RFC 4918 §9.7; RFC 8144 §2.4 (return=representation); RFC 6638 §3.2.10 (Schedule-Tag).
"""

from __future__ import annotations

import mimetypes

from hosting.dav.context import Context
from hosting.dav.errors import Refused
from hosting.dav.if_header import read_etags
from hosting.dav.locating import Place, place, requested, with_folder
from hosting.dav.locks import check_if, check_members_unlocked, check_unlocked, first_unlocked
from hosting.dav.methods.getting import read_date
from hosting.dav.multistatus import preferences
from hosting.dav.properties import http_date
from hosting.dav.reach import Reach
from hosting.dav.registry import Registry
from hosting.dav.request import DavResponse, Headers, empty
from hosting.dav.resources import Resource, ResourceType
from hosting.dav.scheduling import Change, Consequence
from storage.collections.conditions import Conditions, PreconditionFailed
from storage.collections.locks import Locked
from storage.collections.values import Content, Put, Stored, file_content
from storage.database.database import Transaction
from storage.errors import Conflict, OverQuota, TooLarge

_ATTEMPTS = 4  # of what scheduling has to work out anew because the object was changed meanwhile
_FOLDERS = (ResourceType.FOLDER, ResourceType.FILE_HOME)
_TYPE_MAX = 255


def conditions_from(context: Context) -> Conditions:
    """What a write demands of what is there."""
    request = context.request
    return Conditions(
        read_etags(request.header("if-match")),
        read_etags(request.header("if-none-match")),
        request.header("if-schedule-tag-match").strip() or None,
    )


def check_conditions(conditions: Conditions, stored: Stored | None) -> None:
    """Before anything is worked out; storage looks again when it writes."""
    if stored is None:
        conditions.check(None, None)
    else:
        conditions.check(stored.etag, stored.schedule_tag)


class Storing:
    """Stores one object; PUT, COPY and MOVE between collections of different accounts use it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def content(self, context: Context, parent: Resource, name: str, data: bytes, media_type: str) -> Content:
        """The body as it may be stored there. Raises Violated, TooLarge, Refused."""
        if parent.type in _FOLDERS:
            if len(data) > context.services.limits.file_size:
                raise TooLarge
            guessed = media_type.strip()[:_TYPE_MAX] or mimetypes.guess_type(name)[0] or ""
            return file_content(data, guessed if guessed.isprintable() and guessed.isascii() else "")
        bodies = self._registry.bodies.get(parent.row.kind) if parent.collection is not None else None
        if bodies is None:
            raise Refused(403, why="Nothing can be stored here.")
        return bodies.checked(context, parent, name, data, media_type)

    def store(
        self,
        context: Context,
        parent: Resource,
        name: str,
        content: Content,
        conditions: Conditions,
        *,
        new_uid: bool = False,
    ) -> tuple[Put, Content]:
        """What is stored now, and with which octets. Raises what storage raises."""
        if context.principal.full:
            raise OverQuota("All accounts of the contract together are above its storage.")
        parent = with_folder(context, parent)
        for attempt in range(_ATTEMPTS):
            consequence = self._consequence(context, parent, name, content, conditions, new_uid=new_uid)
            wanted = consequence.content if consequence is not None else None
            stored = wanted or content
            try:
                put = parent.data.objects.put(
                    parent.row.id,
                    name,
                    stored,
                    if_match=conditions.if_match,
                    if_none_match=conditions.if_none_match or False,
                    if_schedule_tag=conditions.if_schedule_tag,
                    first=first_unlocked(context, parent),
                    within=_within(consequence),
                )
            except (PreconditionFailed, Locked):
                raise
            except Conflict:
                if consequence is None or attempt == _ATTEMPTS - 1:
                    raise
                continue
            if consequence is not None:
                consequence.committed()
            return put, stored
        raise Conflict

    def _consequence(
        self,
        context: Context,
        parent: Resource,
        name: str,
        content: Content,
        conditions: Conditions,
        *,
        new_uid: bool,
    ) -> Consequence | None:
        scheduler = context.services.scheduler
        if scheduler is None or parent.type is not ResourceType.CALENDAR or parent.owner is None:
            return None
        found = parent.data.objects.find_many(parent.row.id, (name,))
        before: Stored | None = found[0] if found else None
        if not content.is_scheduling and (before is None or before.schedule_tag is None):
            return None
        check_conditions(conditions, before)
        return scheduler.consequence(
            Change(
                context.principal,
                parent.owner,
                parent.data,
                parent.row,
                name,
                content,
                before,
                parent.data.objects.read(before) if before is not None else None,
                if_schedule_tag_match=conditions.if_schedule_tag or "",
                new_uid=new_uid,
            )
        )


class _Within:
    def __init__(self, consequence: Consequence) -> None:
        self._consequence = consequence

    def __call__(self, transaction: Transaction, before: Stored | None, after: Stored) -> None:
        self._consequence.within(transaction, before, after)


def _within(consequence: Consequence | None) -> _Within | None:
    return None if consequence is None else _Within(consequence)


class PutMethod:
    def __init__(self, registry: Registry) -> None:
        self._storing = Storing(registry)
        self._before_changing = registry.before_changing

    def __call__(self, context: Context) -> DavResponse:
        request = context.request
        path = requested(context)
        where = place(context, path)
        if (where.found is not None and where.found.is_collection) or path.slash:
            raise Refused(405, why="A collection has no content.")
        self._check(context, where)
        if where.found is not None:
            for check in self._before_changing:
                check(context, where.found)
        if request.header("content-range"):
            raise Refused(400, why="A part of a resource cannot be put.")  # RFC 9110 §14.5
        content = self._storing.content(context, where.parent, where.name, request.body, request.header("content-type"))
        put, stored = self._storing.store(context, where.parent, where.name, content, conditions_from(context))
        return _answer(context, where, put, stored)

    @staticmethod
    def _check(context: Context, where: Place) -> None:
        found = where.found
        context.require(found or where.parent, Reach.BIND if found is None else Reach.WRITE_CONTENT)
        check_if(context, where)
        since = read_date(context.request.header("if-unmodified-since"))
        if since is not None and found is not None and found.object.modified > since:
            raise Refused(412, why="It was modified since.")
        if found is not None:
            check_unlocked(context, found)
        else:
            check_members_unlocked(context, where.parent)


def _answer(context: Context, where: Place, put: Put, stored: Content) -> DavResponse:
    as_sent = stored.data == context.request.body
    after = put.stored
    headers: Headers = [("ETag", after.etag)] if as_sent else []
    if after.schedule_tag:
        headers.append(("Schedule-Tag", after.schedule_tag))
    if put.created and where.parent.collection is not None:
        headers.append(("Location", where.parent.member(after).href.decode("ascii")))
    status = 201 if put.created else 204
    if "representation" in preferences(context):
        headers = [
            ("ETag", after.etag),
            *(each for each in headers if each[0] != "ETag"),
            ("Preference-Applied", "return=representation"),
            ("Content-Location", context.request.path),
            ("Last-Modified", http_date(after.modified)),
            ("Content-Type", stored.content_type),
            ("Content-Length", str(len(stored.data))),
        ]
        return DavResponse(201 if put.created else 200, headers, stored.data)
    return empty(status, headers)
