"""DAV:sync-collection: what changed in a collection since a token (RFC 6578).

An answer that is cut says so with a 507 response for the collection, and its token goes on where it was cut: whoever
follows the tokens misses nothing. A token of another collection, or one that is too old, is refused.

Standards: RFC 6578 §3; RFC 5323 §5.17 (DAV:limit).
"""

from __future__ import annotations

from collections.abc import Iterator

from hosting.dav.context import Context
from hosting.dav.errors import Refused, precondition
from hosting.dav.home_sync import responses
from hosting.dav.multistatus import Multistatus, Wanted, answer, status_response, wanted_in
from hosting.dav.names import dav, element, text_element
from hosting.dav.properties import SYNCHRONISED, SYNCHRONISED_HOMES
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
        _, wanted, limit = self._asked(context, body, depth)  # no collections are in these: all levels are one
        since, begun = _since(body.content(dav("sync-token")) or "", resource)
        changes = resource.data.objects.changes(resource.row.id, since, limit, begun=begun)
        return answer(context, self._responses(context, resource, wanted, changes))

    def answer_home(self, context: Context, resource: Resource, body: Element, depth: str) -> DavResponse:
        """Of a home, in which the collections are."""
        deep, wanted, limit = self._asked(context, body, depth)
        token = body.content(dav("sync-token")) or ""
        return answer(context, responses(context, self._multistatus, resource, wanted, token, deep=deep, limit=limit))

    @staticmethod
    def _asked(context: Context, body: Element, depth: str) -> tuple[bool, Wanted, int | None]:
        """Whether it is about all below, what is wanted of each, and how many at most.

        §3.2 wants Depth: 0 and a sync-level; clients of earlier drafts say with Depth what is sync-level now.
        """
        level = (body.content(dav("sync-level")) or "").lower() or ("infinite" if depth == "infinity" else "1")
        if level not in ("1", "infinite"):
            raise Refused(400, why="The sync-level is 1 or infinite.")
        if body.find(dav("sync-token")) is None:
            raise Refused(400, why="A sync-collection has a sync-token.")
        asked = body if body.find(dav("prop")) is not None else Element(body.name, children=[Element(dav("prop"))])
        return level == "infinite", wanted_in(context, asked), limit_of(context, body)

    def _responses(self, context: Context, resource: Resource, wanted: Wanted, changes: Changes) -> Iterator[bytes]:
        members = resource.members(changes.changed)
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
    reports = SyncCollection(registry)
    registry.report(
        Report(dav("sync-collection"), SYNCHRONISED, reports.answer),
        Report(dav("sync-collection"), SYNCHRONISED_HOMES, reports.answer_home),
    )
