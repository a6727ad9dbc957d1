"""Sharing as POSTs: an owner says with whom, a sharee answers. What `hosting.dav.assembly` calls to put it in.

By CS:share, as Apple's clients do it, somebody is invited: a notification asks him, and his answer puts the collection
into his home. By DAV:share-resource it is there at once, since the clients that use it show no notifications
(draft-pot-webdav-resource-sharing §4.3.3 leaves that to the server).

Whom the tenant does not have is told as such, the same for everybody else's people and for nobody.

Raises: Refused (400, 403, 404, 409).
Standards: caldav-sharing §5.3, §5.4; draft-pot-webdav-resource-sharing-04 §4.3.
"""

from __future__ import annotations

from hosting.dav.bodies import xml_body
from hosting.dav.context import Context
from hosting.dav.errors import Refused, missing
from hosting.dav.multistatus import answer, status_response, xml_response
from hosting.dav.names import DECLARATIONS, calendarserver, dav, element, tags, text
from hosting.dav.paths import read_reference
from hosting.dav.private import check_changeable
from hosting.dav.reach import Reach
from hosting.dav.registry import Post, Registry
from hosting.dav.request import DavResponse, empty
from hosting.dav.resources import BRANCHES, PRINCIPALS, Person, Resource, ResourceType, href
from hosting.dav.sharing.notices import Notices
from hosting.dav.sharing.properties import SHARED, SharingProperties
from hosting.dav.sharing.reading import Reply, Wish, read_reply, read_share, read_share_resource
from hosting.dav.sharing.shares import DirectoryShares
from storage.directory.shares import Answer, ShareRow
from storage.errors import CleanmailError

_XML = frozenset({"text/xml", "application/xml", "application/davsharing+xml", ""})
_HOMES = frozenset({ResourceType.CALENDAR_HOME, ResourceType.ADDRESS_BOOK_HOME})
_SHARE, _SHARE_RESOURCE = calendarserver("share"), dav("share-resource")


class Sharing:
    def __init__(self, shares: DirectoryShares) -> None:
        self._shares = shares

    def register(self, registry: Registry) -> None:
        registry.dav_class("calendarserver-sharing", "resource-sharing")
        registry.post(Post(SHARED, _XML, self._share), Post(_HOMES, _XML, self._answer))
        registry.method_types["POST"] |= SHARED | _HOMES
        registry.before_changing.append(check_changeable)
        SharingProperties(self._shares).register(registry)
        Notices(self._shares).register(registry)

    # The owner

    def _share(self, context: Context, resource: Resource) -> DavResponse:
        context.require(resource, Reach.SHARE)
        body = xml_body(context, _SHARE, _SHARE_RESOURCE)
        assert body is not None
        at_once = body.name == _SHARE_RESOURCE
        wishes = read_share_resource(body) if at_once else read_share(body)
        failed = [each.href for each in wishes if not self._do(context, resource, each, at_once=at_once)]
        if failed:
            return answer(context, [status_response(text(each), 403) for each in failed])
        return empty(200)

    def _do(self, context: Context, resource: Resource, wish: Wish, *, at_once: bool) -> bool:
        """False: there is no such person, or it cannot be shared with him."""
        sharee = self._person(context, wish.href)
        if sharee is None or sharee == context.me:
            return False
        rows, collection_id = self._shares.rows(context.me.tenant_id), resource.row.id
        if wish.may_write is None:
            rows.remove(context.me.account_id, collection_id, sharee.account_id)
            return True
        rows.invite(
            context.me.account_id,
            collection_id,
            sharee.account_id,
            resource.row.kind,
            may_write=wish.may_write,
            summary=wish.summary,
            at_once=at_once,
        )
        return True

    @staticmethod
    def _person(context: Context, reference: str) -> Person | None:
        """By an address, or by a principal of this server."""
        scheme, _, address = reference.partition(":")
        if scheme.lower() == "mailto":
            return context.person_named(address)
        try:
            segments = read_reference(context.request, reference, context.services.limits).segments
        except Refused:
            return None
        if len(segments) == 2 and segments[0] == PRINCIPALS:
            return context.person_named(segments[1])
        return None

    # The sharee

    def _answer(self, context: Context, home: Resource) -> DavResponse:
        if home.person != context.me:
            raise missing()
        context.require(home, Reach.BIND)
        body = xml_body(context, calendarserver("invite-reply"))
        assert body is not None
        reply = read_reply(body)
        row = self._invited(context, reply)
        rows = self._shares.rows(context.me.tenant_id)
        answered = rows.answer(
            row.owner_id,
            row.collection_id,
            row.sharee_id,
            accepted=reply.accepted,
            display_name=reply.summary if row.state is not Answer.ACCEPTED else "",
        )
        if not reply.accepted:
            return empty(204)
        branch = next(name for name, (_, _, kinds) in BRANCHES.items() if answered.kind in kinds)
        where = href((branch, context.me.login, answered.name), is_collection=True)
        opened, closed, _ = tags(calendarserver("shared-as"))
        return xml_response(200, opened[:-1] + b" " + DECLARATIONS + b">" + element(dav("href"), where) + closed)

    def _invited(self, context: Context, reply: Reply) -> ShareRow:
        """The share of what lies there at its owner's, or of what an accepted one is called here. Raises Refused."""
        segments = read_reference(context.request, reply.shared, context.services.limits).segments
        if len(segments) == 3 and segments[0] in BRANCHES:
            kinds = BRANCHES[segments[0]][2]
            owner = context.person_named(segments[1])
            for row in self._shares.rows(context.me.tenant_id).of_sharee(context.me.account_id):
                if owner is None or row.kind not in kinds or row.owner_id != owner.account_id:
                    continue
                if self._name_of(context, row) == segments[2]:
                    return row
        raise missing()

    @staticmethod
    def _name_of(context: Context, row: ShareRow) -> str | None:
        try:
            account = context.account(row.owner_id)
            return next(
                (each.name for each in account.collections.list(row.kind) if each.id == row.collection_id), None
            )
        except CleanmailError:
            return None
