"""COPY and MOVE: within an account in one commit, between accounts (to and from what is shared) as read and put.

Entries stay among collections of their kind. What is overwritten goes; where something in the way is locked nothing is
done.

Standards: RFC 4918 §9.8, §9.9, §10.2 to §10.6; RFC 6638 §3.2.2 (copies of scheduling objects).
"""

from __future__ import annotations

from hosting.dav.context import Context
from hosting.dav.errors import Refused, precondition
from hosting.dav.locating import Place, locate, place, requested, with_folder
from hosting.dav.locks import blocked_below, check_if, check_members_unlocked, check_unlocked, first_unlocked
from hosting.dav.methods.deleting import Deleting
from hosting.dav.methods.propfind import depth_of
from hosting.dav.methods.putting import Storing, check_conditions, conditions_from
from hosting.dav.multistatus import answer, dead_of, status_response
from hosting.dav.names import caldav, carddav
from hosting.dav.paths import read_reference
from hosting.dav.private import shown
from hosting.dav.reach import Reach
from hosting.dav.registry import Registry
from hosting.dav.request import DavResponse, empty
from hosting.dav.resources import A_HOME, KEPT, OBJECTS, TYPE_OF, Resource, ResourceType
from storage.collections.conditions import Conditions
from storage.collections.transfers import FirstOfMove
from storage.collections.values import Kind, Stored
from storage.database.database import Transaction
from storage.errors import OverQuota

_FOLDERS = frozenset({ResourceType.FOLDER, ResourceType.FILE_HOME})
_MEMBER_OF = {  # where an entry of this type may go
    ResourceType.EVENT: frozenset({ResourceType.CALENDAR}),
    ResourceType.INBOX_ITEM: frozenset({ResourceType.CALENDAR}),
    ResourceType.CARD: frozenset({ResourceType.ADDRESS_BOOK}),
    ResourceType.FILE: _FOLDERS,
    ResourceType.FOLDER: _FOLDERS,
    ResourceType.CALENDAR: frozenset({ResourceType.CALENDAR_HOME}),
    ResourceType.ADDRESS_BOOK: frozenset({ResourceType.ADDRESS_BOOK_HOME}),
}


class Transfer:
    """COPY, or with `move` MOVE."""

    def __init__(self, registry: Registry, *, move: bool) -> None:
        self._move = move
        self._storing = Storing(registry)
        self._deleting = Deleting(registry)
        self._registry = registry

    def __call__(self, context: Context) -> DavResponse:
        path = requested(context)
        source = locate(context, path.segments)
        context.require(source, Reach.READ)
        if source.type not in KEPT | OBJECTS:
            raise Refused(403, why="This is made by the server and stays.")
        overwrite = _overwrite(context)
        deep = self._depth(context, source)
        check_if(context, source)
        check_conditions(conditions_from(context), source.stored)
        target = self._target(context, source)
        if target.found is not None and not overwrite:
            raise Refused(412, why="Something is there already.")
        blocked = self._check_allowed(context, source, target)
        if blocked:
            return answer(context, [status_response(href, 423, condition) for href, condition in blocked])
        created = self._do(context, source, target, overwrite=overwrite, deep=deep)
        after = target.segments
        return empty(201, [("Location", _location(after, source))]) if created else empty(204)

    def _depth(self, context: Context, source: Resource) -> bool:
        depth = depth_of(context, "infinity")
        if source.is_collection and (depth == "1" or (self._move and depth != "infinity")):
            raise Refused(400, why="This Depth is not for collections.")  # §9.8.3, §9.9.2
        return depth == "infinity"

    def _target(self, context: Context, source: Resource) -> Place:
        destination = context.request.header("destination")
        if not destination.strip():
            raise Refused(400, why="The Destination header is missing.")
        path = read_reference(context.request, destination, context.services.limits)
        if path.segments == source.segments:
            raise Refused(403, why="Source and destination are the same.")
        if source.is_collection and path.segments[: len(source.segments)] == source.segments:
            raise Refused(403, why="A collection cannot go into itself.")
        if source.segments[: len(path.segments)] == path.segments and len(path.segments) > 2:
            raise Refused(403, why="A collection cannot be replaced by what is in it.")
        target = place(context, path)
        if target.parent.type not in _MEMBER_OF.get(source.type, frozenset()):
            if target.parent.type is ResourceType.CALENDAR:
                raise precondition(403, caldav("supported-calendar-data"), why="This is no entry of a calendar.")
            if target.parent.type is ResourceType.ADDRESS_BOOK:
                raise precondition(403, carddav("supported-address-data"), why="This is no card.")
            if source.type in (ResourceType.CALENDAR, ResourceType.ADDRESS_BOOK) and target.parent.type not in A_HOME:
                name = caldav("calendar-collection-location-ok")
                if source.type is ResourceType.ADDRESS_BOOK:
                    name = carddav("addressbook-collection-location-ok")
                raise precondition(403, name, why="Nothing of this kind lies there.")
            raise Refused(403, why="Nothing of this kind lies there.")
        return target

    def _check_allowed(self, context: Context, source: Resource, target: Place) -> list[tuple[bytes, bytes]]:
        """Raises Refused; what is locked deep below is what stands in the way of the whole."""
        blocked: list[tuple[bytes, bytes]] = []
        for each in (source if self._move else None, target.found):
            if each is not None and each.stored is not None:
                for check in self._registry.before_changing:
                    check(context, each)
        if self._move:
            parent = locate(context, source.segments[:-1])
            if source.share is not None and source.stored is None:
                raise Refused(403, why="What somebody else shares stays where it is.")
            context.require(parent, Reach.UNBIND)
            check_unlocked(context, source)
            check_members_unlocked(context, parent)
            if source.is_collection:
                blocked += blocked_below(context, source)
                for guard in self._registry.guards:
                    guard(context, source.row)
        found = target.found
        if found is not None:
            context.require(target.parent, Reach.BIND | Reach.UNBIND)
            if found.share is not None and found.stored is None:
                raise Refused(403, why="What somebody else shares is not overwritten.")
            check_unlocked(context, found)
            if found.is_collection:
                blocked += blocked_below(context, found)
        else:
            context.require(target.parent, Reach.BIND)
        check_members_unlocked(context, target.parent)
        return blocked

    def _do(self, context: Context, source: Resource, target: Place, *, overwrite: bool, deep: bool) -> bool:
        """Whether nothing was there before."""
        if context.principal.full and not self._move:
            raise OverQuota("All accounts of the contract together are above its storage.")
        parent = with_folder(context, target.parent)
        if source.stored is None:
            return self._collection(context, source, parent, target, overwrite=overwrite, deep=deep)
        created = target.found is None
        if target.found is not None and target.found.stored is None:
            self._deleting.remove_collection(context, target.found)
        messages = source.type is ResourceType.INBOX_ITEM  # they have a METHOD, which a calendar does not take
        if source.account is not parent.account or messages or (self._schedules(context, source) and not self._move):
            self._between(context, source, parent, target.name, overwrite=overwrite)
            return created
        do = source.data.transfers.move if self._move else source.data.transfers.copy
        first = self._first(context, source, parent)
        do(source.object, parent.row.id, target.name, overwrite=overwrite, first=first)
        return created

    def _first(self, context: Context, source: Resource, parent: Resource) -> FirstOfMove:
        """Looks again at locks at both ends, in the transaction."""
        leaving = first_unlocked(context, source, members=True) if self._move else None
        coming = first_unlocked(context, parent, members=True)

        def first(transaction: Transaction, moved: Stored, overwritten: Stored | None) -> None:
            if leaving is not None:
                leaving(transaction, moved)
            coming(transaction, overwritten)

        return first

    @staticmethod
    def _schedules(context: Context, source: Resource) -> bool:
        return context.services.scheduler is not None and source.object.schedule_tag is not None

    def _between(self, context: Context, source: Resource, parent: Resource, name: str, *, overwrite: bool) -> None:
        """Into another account, or a copy that others have to be told of: as if it were put there."""
        stored = source.object
        data = shown(source, source.data.objects.read(stored))
        content = self._storing.content(context, parent, name, data, stored.content_type)
        none = None if overwrite else ("*",)
        put, _ = self._storing.store(
            context, parent, name, content, Conditions(if_none_match=none), new_uid=not self._move
        )
        kept = dead_of(source)
        if kept and parent.share is None:
            after = put.stored
            parent.data.properties.change(after.collection_id, after.object_id, put=kept)
        if self._move:
            self._deleting.remove_object(context, source, Conditions(if_match=(stored.etag,)), quietly=True)

    def _collection(
        self, context: Context, source: Resource, parent: Resource, target: Place, *, overwrite: bool, deep: bool
    ) -> bool:
        if source.account is not parent.account:
            raise Refused(403, why="Whole collections stay in their account; copy what is in them.")
        parent_id = int(parent.row.id) if source.row.kind is Kind.FOLDER else 0
        found = target.found
        if found is not None and found.stored is None and found.type is not TYPE_OF[source.row.kind]:
            raise Refused(403, why="Something of another kind is there.")
        transfers = source.data.transfers
        if self._move:
            return transfers.move_collection(source.row.id, parent_id, target.name, overwrite=overwrite).created
        return transfers.copy_collection(source.row.id, parent_id, target.name, deep=deep, overwrite=overwrite).created


def _overwrite(context: Context) -> bool:
    """§10.6."""
    value = context.request.header("overwrite").strip().upper()
    if value not in ("", "T", "F"):
        raise Refused(400, why="The Overwrite header is T or F.")
    return value != "F"


def _location(segments: tuple[str, ...], source: Resource) -> str:
    from_source = Resource(source.type, segments, source.reach)
    return from_source.href.decode("ascii")
