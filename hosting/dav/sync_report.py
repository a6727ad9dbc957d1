"""DAV:sync-collection: what changed in a collection since a token (RFC 6578).

An answer that is cut says so with a 507 response for the collection, and its token goes on where it was cut: whoever
follows the tokens misses nothing. A token of another collection, or one that is too old, is refused.

Standards: RFC 6578 §3; RFC 5323 §5.17 (DAV:limit).
"""

from __future__ import annotations

from collections.abc import Iterator

from hosting.dav.context import Context
from hosting.dav.errors import Refused, precondition
from hosting.dav.multistatus import Multistatus, Wanted, answer, status_response, wanted_in
from hosting.dav.names import dav, element, text_element
from hosting.dav.properties import SYNCHRONISED
from hosting.dav.registry import Registry, Report
from hosting.dav.request import DavResponse
from hosting.dav.resources import Resource, encoded
from hosting.dav.xml import Element
from storage.collections.tokens import read_token, sync_token
from storage.collections.values import Changes

_CUT = element(dav("number-of-matches-within-limits"))


class SyncCollection:
    def __init__(self, registry: Registry) -> None:
        self._multistatus = Multistatus(registry)

    def answer(self, context: Context, resource: Resource, body: Element, depth: str) -> DavResponse:
        level = (body.content(dav("sync-level")) or "").lower()
        if level not in ("", "1", "infinite") or depth == "infinity":
            # §3.2 wants Depth: 0; clients of earlier drafts send 1 for what is sync-level now.
            raise Refused(400, why="The sync-level is 1 or infinite.")
        if body.find(dav("sync-token")) is None or body.find(dav("prop")) is None:
            raise Refused(400, why="A sync-collection has a sync-token and a prop.")
        since, begun = _since(body.content(dav("sync-token")) or "", resource)
        wanted = wanted_in(context, body)
        changes = resource.data.objects.changes(resource.row.id, since, limit_of(context, body), begun=begun)
        return answer(context, self._responses(context, resource, wanted, changes))

    def _responses(self, context: Context, resource: Resource, wanted: Wanted, changes: Changes) -> Iterator[bytes]:
        members = map(resource.member, changes.changed)
        yield from self._multistatus.respond_members(context, resource, members, wanted)
        base = resource.href
        for name in changes.gone:
            yield status_response(base + encoded(name).encode("ascii"), 404)
        if changes.more:
            yield status_response(base, 507, _CUT)
        token = sync_token(resource.row.id, changes.token_modseq, changes.begun)
        yield text_element(dav("sync-token"), token)


def _since(token: str, resource: Resource) -> tuple[int, int]:
    """Raises TokenTooOld, Refused."""
    if not token:
        return 0, 0
    read = read_token(token)
    if read.collection_id != resource.row.id:
        raise precondition(403, dav("valid-sync-token"), why="The token is of another collection.")
    return read.modseq, read.begun


def limit_of(context: Context, body: Element) -> int | None:
    """DAV:limit with DAV:nresults; None: as many as there are. Raises Refused."""
    limit = body.find(dav("limit"))
    if limit is None:
        return None
    wanted = limit.content(dav("nresults")) or ""
    if not (wanted.isascii() and wanted.isdigit() and len(wanted) < 10 and int(wanted)):
        raise Refused(400, why="The limit is not a number above 0.")
    return min(int(wanted), context.services.limits.report_results)


def register(registry: Registry) -> None:
    registry.report(Report(dav("sync-collection"), SYNCHRONISED, SyncCollection(registry).answer))
