"""COPY and MOVE inside an account: of one object, and of collections with everything below them.

An object that moves keeps its id, its octets and its properties, leaves a tombstone, and is not charged again, so that
who is over his quota may tidy up; a collection that moves keeps everything, tokens too. A copy has the same octets
under new ids. Each is one commit, so nobody sees a half of it; what is overwritten goes in the same commit. Locks stay
where they are: they end with what was there (RFC 4918 §7.7).

Raises: NotFound, PreconditionFailed (something is there and may not be overwritten), Conflict (no such folder, or a
file and a folder in each other's way), NotPermitted (into itself, between kinds), Violated (UIDs), OverQuota,
LimitReached. Standards: RFC 4918 §9.8, §9.9.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import bindparam, update

from storage.collections.collections import Collections
from storage.collections.conditions import ANYTHING, Conditions, PreconditionFailed
from storage.collections.folders import below, height
from storage.collections.ledger import CollectionLedger
from storage.collections.locks import Locks
from storage.collections.names import checked_name
from storage.collections.objects import Objects, schedule_tag
from storage.collections.octets import Octets
from storage.collections.places import check_place, check_uid
from storage.collections.properties import Properties
from storage.collections.rows import LIVE
from storage.collections.values import (
    Collection,
    CollectionId,
    Content,
    Kind,
    NewCollection,
    ObjectId,
    Placed,
    Put,
    Stored,
)
from storage.database.database import Transaction
from storage.database.prepared import prepare
from storage.errors import LimitReached, NotFound, NotPermitted
from storage.schema.collections import collection

FirstOfMove = Callable[[Transaction, Stored, Stored | None], None]
WithinMove = Callable[[Transaction, Stored, Stored], None]

_place = prepare(
    update(collection)
    .where(*LIVE, collection.c.collection_id == bindparam("collection"))
    .values(
        parent_id=bindparam("new_parent"),
        name=bindparam("new_name"),
        modified=bindparam("now"),
        highest_modseq=collection.c.highest_modseq + 1,
    )
)


class CollectionTransfers:
    """Of one account."""

    def __init__(
        self,
        ledger: CollectionLedger,
        collections: Collections,
        objects: Objects,
        octets: Octets,
        properties: Properties,
        locks: Locks,
    ) -> None:
        self._ledger = ledger
        self._database = ledger.database
        self._account_id = ledger.account_id
        self._collections = collections
        self._objects = objects
        self._octets = octets
        self._properties = properties
        self._locks = locks

    # Objects

    def copy(
        self,
        source: Stored,
        collection_id: CollectionId,
        name: str,
        *,
        overwrite: bool = True,
        conditions: Conditions = ANYTHING,
        first: FirstOfMove | None = None,
        within: WithinMove | None = None,
    ) -> Put:
        """`conditions` are about the source. `first` is told of the source and of what is there, before anything is
        done, and may refuse; `within` of source and copy."""
        return self._database.write(
            lambda transaction: self._transfer(
                transaction, source, collection_id, name, overwrite, conditions, first, within, move=False
            )
        )

    def move(
        self,
        source: Stored,
        collection_id: CollectionId,
        name: str,
        *,
        overwrite: bool = True,
        conditions: Conditions = ANYTHING,
        first: FirstOfMove | None = None,
        within: WithinMove | None = None,
    ) -> Put:
        return self._database.write(
            lambda transaction: self._transfer(
                transaction, source, collection_id, name, overwrite, conditions, first, within, move=True
            )
        )

    def _transfer(
        self,
        transaction: Transaction,
        source: Stored,
        collection_id: CollectionId,
        name: str,
        overwrite: bool,
        conditions: Conditions,
        first: FirstOfMove | None,
        within: WithinMove | None,
        *,
        move: bool,
    ) -> Put:
        name = checked_name(name)
        now = self._objects.find_in(transaction, source.collection_id, source.name)
        if now is None or now.object_id != source.object_id:
            raise NotFound("There is no such object any more.")
        conditions.check(now.etag, now.schedule_tag)
        if (collection_id, name) == (now.collection_id, now.name):
            raise NotPermitted("Source and destination are the same.")
        there = self._collections.by_id_in(transaction, collection_id)
        here = self._collections.by_id_in(transaction, now.collection_id)
        if there.kind is not here.kind:
            raise NotPermitted("Entries stay among collections of their kind.")
        target = self._objects.find_in(transaction, collection_id, name)
        if first is not None:
            first(transaction, now, target)
        if target is not None:
            if not overwrite:
                raise PreconditionFailed("Something is there already.")
            check_uid(there, target, now)
            self._objects.delete_in(transaction, collection_id, name)
        after = self._transferred(transaction, now, there, name, move=move)
        if within is not None:
            within(transaction, now, after)
        return Put(after, target is None)

    def _transferred(
        self, transaction: Transaction, source: Stored, there: Collection, name: str, *, move: bool
    ) -> Stored:
        """The row and what belongs to it under the new place, where nothing is."""
        times = self._objects.times_in(transaction, source)
        object_id = source.object_id if move else ObjectId(self._ledger.take(transaction, "object_id"))
        if move:
            self._objects.take_out(transaction, source, moves=True)
        parent = self._ledger.advance(transaction, there.id, objects=1, octets=source.size, charged=not move)
        content = Content(b"", source.content_type, source.uid, source.component, times, bool(source.schedule_tag))
        check_place(transaction, self._account_id, parent, None, name, content)
        after = replace(
            source,
            collection_id=there.id,
            object_id=object_id,
            name=name,
            modseq=parent.highest_modseq,
            schedule_tag=schedule_tag(parent, object_id) if source.schedule_tag else None,
            created=source.created if move else parent.modified,
            modified=parent.modified,
        )
        self._objects.insert_row(transaction, after)
        if move:
            self._properties.move_in(transaction, source.collection_id, there.id, object_id)
        else:
            self._octets.copy(transaction, source.object_id, object_id)
            self._properties.copy_in(transaction, (source.collection_id, source.object_id), (there.id, object_id))
        if times is not None:
            self._objects.put_times(transaction, after, times)
        self._objects.tell_stored(transaction, parent, after, times)
        return after

    # Collections

    def move_collection(
        self, collection_id: CollectionId, parent_id: int, name: str, *, overwrite: bool = False
    ) -> Placed:
        return self._database.write(
            lambda transaction: self._move_collection(transaction, collection_id, parent_id, name, overwrite)
        )

    def _move_collection(
        self, transaction: Transaction, collection_id: CollectionId, parent_id: int, name: str, overwrite: bool
    ) -> Placed:
        name = checked_name(name)
        source = self._collections.by_id_in(transaction, collection_id)
        if source.kind in (Kind.INBOX, Kind.OUTBOX):
            raise NotPermitted("Inbox and outbox stay where they are.")
        inner = below(transaction, self._account_id, collection_id)
        if parent_id in inner:
            raise NotPermitted("A folder cannot be moved into itself.")
        created = self._make_room(transaction, source, parent_id, name, overwrite)
        self._collections.check_depth(transaction, parent_id, height(transaction, self._account_id, inner))
        self._locks.forget_collections_in(transaction, inner)
        _place.run(
            transaction,
            account=self._account_id,
            collection=collection_id,
            new_parent=parent_id,
            new_name=name,
            now=self._ledger.now(),
        )
        moved = self._collections.by_id_in(transaction, collection_id)
        self._ledger.changed(transaction, collection_id, moved.highest_modseq)
        return Placed(moved, created)

    def copy_collection(
        self,
        collection_id: CollectionId,
        parent_id: int,
        name: str,
        *,
        deep: bool = True,
        overwrite: bool = False,
    ) -> Placed:
        """`deep`: Depth: infinity, else the collection with its properties alone (RFC 4918 §9.8.3)."""
        return self._database.write(
            lambda transaction: self._copy_collection(transaction, collection_id, parent_id, name, deep, overwrite)
        )

    def _copy_collection(
        self,
        transaction: Transaction,
        collection_id: CollectionId,
        parent_id: int,
        name: str,
        deep: bool,
        overwrite: bool,
    ) -> Placed:
        name = checked_name(name)
        source = self._collections.by_id_in(transaction, collection_id)
        if source.kind in (Kind.INBOX, Kind.OUTBOX):
            raise NotPermitted("There is one inbox and one outbox.")
        inner = below(transaction, self._account_id, collection_id)
        if deep and parent_id in inner:
            raise NotPermitted("A folder cannot be copied into itself.")
        sources = [self._collections.by_id_in(transaction, CollectionId(each)) for each in inner] if deep else [source]
        if len(sources) + sum(each.objects for each in sources) > self._ledger.limits.copied:
            raise LimitReached("This is more than one request may copy.")
        created = self._make_room(transaction, source, parent_id, name, overwrite)
        self._collections.check_depth(
            transaction, parent_id, height(transaction, self._account_id, inner) if deep else 1
        )
        made: dict[int, CollectionId] = {}
        for each in sources:  # parents come before what lies in them
            where = (parent_id, name) if each.id == collection_id else (made[each.parent_id], each.name)
            made[each.id] = self._copied(transaction, each, *where, deep=deep)
        return Placed(self._collections.by_id_in(transaction, made[collection_id]), created)

    def _copied(
        self, transaction: Transaction, source: Collection, parent_id: int, name: str, *, deep: bool
    ) -> CollectionId:
        new = NewCollection(
            source.kind,
            name,
            parent_id,
            source.display_name,
            source.description,
            source.color,
            source.position,
            source.timezone,
            source.components,
            source.transparent,
        )
        made = self._collections.create_in(transaction, new)
        self._properties.copy_in(transaction, (source.id, 0), (made.id, 0))
        if deep:
            for each in self._objects.some_in(transaction, source.id, 0, self._ledger.limits.copied):
                self._transferred(transaction, each, made, each.name, move=False)
        return made.id

    def _make_room(
        self, transaction: Transaction, source: Collection, parent_id: int, name: str, overwrite: bool
    ) -> bool:
        """Whether nothing was at the destination; what may be overwritten is gone then."""
        target = self._collections.find_in(transaction, source.kind, name, parent_id)
        file = self._objects.find_in(transaction, CollectionId(parent_id), name) if parent_id else None
        if target is not None or file is not None:
            if not overwrite:
                raise PreconditionFailed("Something is there already.")
            if target is not None and (
                target.id == source.id or source.id in below(transaction, self._account_id, target.id)
            ):
                raise NotPermitted("Source and destination are the same, or one lies in the other.")
        if target is not None:
            self._collections.delete_in(transaction, target.id)
        if file is not None:
            self._objects.delete_in(transaction, file.collection_id, file.name)
        self._collections.check_place(transaction, source.kind, name, parent_id)
        return target is None and file is None
