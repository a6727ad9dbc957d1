"""The objects of an account's collections: found, read, put and deleted.

When `put` or `delete` returns, it is durable. Conditions are checked in the writing transaction, so of writers that
race with one ETag exactly one wins. Followers (storage.collections.follow) and the caller's `within` write in the same
transaction. Who has a transaction already uses the methods that end in `_in`, with a body that `packed` has made ready
before.

Raises: NotFound, PreconditionFailed, Violated (a precondition of CalDAV or CardDAV), NotPermitted (the server writes
it), Conflict (a folder stands there), OverQuota, LimitReached, StorageFull, Unavailable.
Standards: RFC 4791 §5.3.2.1, RFC 6352 §6.3.2.1, RFC 6638 §3.2.10, RFC 9110 §13.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import bindparam, delete, insert, update

from storage.collections.conditions import ANYTHING, Conditions, conditions_of
from storage.collections.follow import Follower, Preparing
from storage.collections.ledger import CollectionLedger
from storage.collections.locks import Locks
from storage.collections.lookup import Lookup
from storage.collections.names import checked_name, sought_name
from storage.collections.octets import INLINE_MAX, Octets, Packed
from storage.collections.places import check_place, place_of
from storage.collections.properties import Properties
from storage.collections.tombstones import ObjectTombstones
from storage.collections.values import Collection, CollectionId, Content, ObjectId, Put, Stored, Times
from storage.database.database import Transaction
from storage.database.prepared import prepare
from storage.errors import NotFound
from storage.schema.collections import object_

First = Callable[[Transaction, Stored | None], None]
Within = Callable[[Transaction, Stored | None, Stored], None]
WithinDelete = Callable[[Transaction, Stored], None]

PUT_AT_ONCE = 200  # of many, in one commit

_mine = object_.c.account_id == bindparam("account")
_in_collection = (_mine, object_.c.collection_id == bindparam("collection"))
_this = (*_in_collection, object_.c.object_id == bindparam("object"))
_insert = prepare(insert(object_))
_update = prepare(
    update(object_)
    .where(*_this)
    .values(
        uid=bindparam("new_uid"),
        component=bindparam("new_component"),
        etag=bindparam("new_etag"),
        schedule_tag=bindparam("new_tag"),
        content_type=bindparam("new_type"),
        size=bindparam("new_size"),
        modseq=bindparam("new_modseq"),
        modified=bindparam("now"),
    )
)
_delete = prepare(delete(object_).where(*_this))


class Objects(Lookup):
    """Of one account."""

    def __init__(
        self,
        ledger: CollectionLedger,
        octets: Octets,
        tombstones: ObjectTombstones,
        properties: Properties,
        locks: Locks,
    ) -> None:
        super().__init__(ledger.database, ledger.account_id, octets)
        self._ledger = ledger
        self._tombstones = tombstones
        self._properties = properties
        self._locks = locks
        self._followers: tuple[Follower, ...] = ()
        self._preparing: tuple[Preparing, ...] = ()  # those of them that write files

    def follow(self, follower: Follower) -> None:
        """Tell it of everything that is stored and removed from here on; for who composes an account."""
        self._followers = (*self._followers, follower)
        if isinstance(follower, Preparing):
            self._preparing = (*self._preparing, follower)

    # Writing

    def put(
        self,
        collection_id: CollectionId,
        name: str,
        content: Content,
        *,
        if_match: tuple[str, ...] | None = None,
        if_none_match: bool | tuple[str, ...] = False,
        if_schedule_tag: str | None = None,
        first: First | None = None,
        within: Within | None = None,
        keep_schedule_tag: bool = False,
        by_server: bool = False,
    ) -> Put:
        """Store a checked body under a name, in place of what is there. `if_none_match` True: nothing may be there.

        `first` is called in the transaction with what is there, before anything is done, and may refuse; `within` at
        its end with what was there and what is there now. `keep_schedule_tag`: the change is one that RFC 6638 §3.2.10
        does not count. `by_server`: into a collection that its owner only reads.
        """
        conditions = conditions_of(if_match, if_none_match, if_schedule_tag)
        with self.packed(content, collection_id, name) as packed:
            return self._database.write(
                lambda transaction: self.put_in(
                    transaction,
                    collection_id,
                    name,
                    packed,
                    conditions,
                    first=first,
                    within=within,
                    keep_schedule_tag=keep_schedule_tag,
                    by_server=by_server,
                )
            )

    def put_many(
        self, collection_id: CollectionId, bodies: Iterable[tuple[str, Content]], *, by_server: bool = False
    ) -> int:
        """Store many, some in each commit; how many. When it raises, some may be stored."""
        done = 0
        part: list[tuple[str, Content]] = []
        for each in bodies:
            part.append(each)
            if len(part) == PUT_AT_ONCE:
                done += self._put_some(collection_id, part, by_server)
                part = []
        return done + (self._put_some(collection_id, part, by_server) if part else 0)

    def _put_some(self, collection_id: CollectionId, part: Sequence[tuple[str, Content]], by_server: bool) -> int:
        ready: list[tuple[str, Packed]] = []
        try:
            for name, content in part:
                ready.append((name, self._pack(content, collection_id, name)))

            def work(transaction: Transaction) -> None:
                for name, packed in ready:
                    self.put_in(transaction, collection_id, name, packed, by_server=by_server)

            self._database.write(work)
        except Exception:
            for _, packed in ready:
                self._octets.drop(packed)
            raise
        for _, packed in ready:
            self._octets.settle(packed)
        return len(ready)

    def forget_gone(self, before: int) -> int:
        """Names of what went before a time: a client that has not come since then reads its collections anew."""
        return self._tombstones.forget_before(before)

    def delete(
        self,
        collection_id: CollectionId,
        name: str,
        *,
        if_match: tuple[str, ...] | None = None,
        if_none_match: bool | tuple[str, ...] = False,
        if_schedule_tag: str | None = None,
        first: First | None = None,
        within: WithinDelete | None = None,
        by_server: bool = False,
    ) -> Stored:
        """What was there. `first` and `within` as with `put`. Raises NotFound."""
        conditions = conditions_of(if_match, if_none_match, if_schedule_tag)
        return self._database.write(
            lambda transaction: self.delete_in(
                transaction, collection_id, name, conditions, first=first, within=within, by_server=by_server
            )
        )

    # In the transaction of somebody else

    @contextmanager
    def packed(self, content: Content, collection_id: CollectionId, name: str) -> Iterator[Packed]:
        """A body made ready outside of a transaction; its file goes again if the block raises."""
        packed = self._pack(content, collection_id, name)
        prepared: Sequence[Callable[[], None]] = ()
        try:
            prepared = self._prepared(collection_id, content)
            yield packed
        except Exception:  # an interrupt may come after the commit: it leaves the file alone
            self._octets.drop(packed)
            for over in prepared:
                over()
            raise
        self._octets.settle(packed)
        for over in prepared:
            over()

    def _prepared(self, collection_id: CollectionId, content: Content) -> Sequence[Callable[[], None]]:
        found = (each.prepare(collection_id, content) for each in self._preparing)
        return [over for over in found if over is not None]

    def _pack(self, content: Content, collection_id: CollectionId, name: str) -> Packed:
        place = ""
        if len(content.data) > INLINE_MAX:  # its file says where it belongs: kind, folders and name
            with self._database.reading() as connection:
                place = place_of(connection, self._account_id, collection_id, checked_name(name))
        return self._octets.pack(content, place, self._ledger.now())

    def put_in(
        self,
        transaction: Transaction,
        collection_id: CollectionId,
        name: str,
        packed: Packed,
        conditions: Conditions = ANYTHING,
        *,
        first: First | None = None,
        within: Within | None = None,
        keep_schedule_tag: bool = False,
        by_server: bool = False,
        told: bool = True,
    ) -> Put:
        """`told`: followers are told of it; False for a follower's own writing."""
        name = checked_name(name)
        before = self.find_in(transaction, collection_id, name)
        if first is not None:
            first(transaction, before)
        conditions.check(*_tags(before))
        size = packed.size
        parent = self._ledger.advance(
            transaction,
            collection_id,
            objects=0 if before else 1,
            octets=size - (before.size if before else 0),
            by_server=by_server,
        )
        content = packed.content
        check_place(transaction, self._account_id, parent, before, name, content)
        object_id = before.object_id if before else ObjectId(self._ledger.take(transaction, "object_id"))
        tag = schedule_tag(parent, object_id) if content.is_scheduling else None
        if tag is not None and keep_schedule_tag and before is not None:
            tag = before.schedule_tag or tag
        now = parent.modified
        after = Stored(
            collection_id,
            object_id,
            name,
            content.uid,
            content.component,
            packed.etag,
            tag,
            content.content_type,
            size,
            parent.highest_modseq,
            before.created if before else now,
            now,
        )
        if before is None:
            self.insert_row(transaction, after)
            self._octets.insert(transaction, object_id, packed)
        else:
            _update.run(
                transaction,
                account=self._account_id,
                collection=collection_id,
                object=object_id,
                new_uid=content.uid,
                new_component=content.component,
                new_etag=packed.etag,
                new_tag=tag,
                new_type=content.content_type,
                new_size=size,
                new_modseq=after.modseq,
                now=now,
            )
            self._octets.replace(transaction, object_id, packed, before.size)
        if content.times is not None or before is not None:
            self.put_times(transaction, after, content.times)
        if told:
            for follower in self._followers:
                follower.stored(transaction, parent, before, after, content)
        if within is not None:
            within(transaction, before, after)
        return Put(after, before is None)

    def delete_in(
        self,
        transaction: Transaction,
        collection_id: CollectionId,
        name: str,
        conditions: Conditions = ANYTHING,
        *,
        first: First | None = None,
        within: WithinDelete | None = None,
        by_server: bool = False,
        told: bool = True,
    ) -> Stored:
        stored = self.find_in(transaction, collection_id, sought_name(name))
        if first is not None:
            first(transaction, stored)
        conditions.check(*_tags(stored))
        if stored is None:
            raise NotFound("There is no such object.")
        self.take_out(transaction, stored, by_server=by_server, told=told)
        self._octets.delete(transaction, stored.object_id)
        if within is not None:
            within(transaction, stored)
        return stored

    def take_out(
        self,
        transaction: Transaction,
        stored: Stored,
        *,
        by_server: bool = False,
        told: bool = True,
        moves: bool = False,
    ) -> Collection:
        """Everything of it but its octets goes from its collection, and leaves a tombstone.

        `moves`: it stays in the account, and its properties go with it.
        """
        parent = self._ledger.advance(
            transaction,
            stored.collection_id,
            objects=-1,
            octets=-stored.size,
            by_server=by_server,
            charged=not moves,
        )
        scope = {"account": self._account_id, "collection": stored.collection_id, "object": stored.object_id}
        _delete.run(transaction, **scope)
        self._times.delete(transaction, stored.collection_id, stored.object_id)
        if not moves:
            self._properties.delete_in(transaction, stored.collection_id, stored.object_id)
        self._locks.forget_in(transaction, stored.collection_id, stored.object_id)
        self._tombstones.insert(transaction, stored.collection_id, parent.highest_modseq, stored.name, parent.modified)
        if told:
            for follower in self._followers:
                follower.removed(transaction, parent, stored)
        return parent

    def forget_in(self, transaction: Transaction, parent: Collection, stored: Stored) -> None:
        """Of a collection that dies: rows alone, nobody asks for its changes and the quota was given back."""
        scope = {"account": self._account_id, "collection": stored.collection_id, "object": stored.object_id}
        _delete.run(transaction, **scope)
        self._times.delete(transaction, stored.collection_id, stored.object_id)
        self._octets.delete(transaction, stored.object_id)
        self._properties.forget_in(transaction, stored.collection_id, stored.object_id)
        for follower in self._followers:
            follower.removed(transaction, parent, stored)

    def insert_row(self, transaction: Transaction, stored: Stored) -> None:
        _insert.run(
            transaction,
            account_id=self._account_id,
            collection_id=stored.collection_id,
            object_id=stored.object_id,
            name=stored.name,
            uid=stored.uid,
            component=stored.component,
            etag=stored.etag,
            schedule_tag=stored.schedule_tag,
            content_type=stored.content_type,
            size=stored.size,
            modseq=stored.modseq,
            created=stored.created,
            modified=stored.modified,
        )

    def put_times(self, transaction: Transaction, stored: Stored, times: Times | None) -> None:
        """When it takes place; also for who computes it anew, e.g. because `known_until` has come near."""
        if times is not None:
            self._times.put(transaction, stored.collection_id, stored.object_id, times)
        else:
            self._times.delete(transaction, stored.collection_id, stored.object_id)

    def tell_stored(self, transaction: Transaction, parent: Collection, after: Stored, times: Times | None) -> None:
        """Tell followers of an object that was copied or moved here; its octets are read only if somebody follows."""
        if not self._followers:
            return
        data = self._octets.read_in(transaction, after.object_id, after.size)
        scheduling = after.schedule_tag is not None
        content = Content(data, after.content_type, after.uid, after.component, times, scheduling)
        for follower in self._followers:
            follower.stored(transaction, parent, None, after, content)


def schedule_tag(parent: Collection, object_id: ObjectId) -> str:
    """Of a change that just brought its collection to a modseq; no other change of the object ever has it, wherever
    the object moves (RFC 6638 §3.2.10)."""
    return f'"{parent.id:x}-{object_id:x}-{parent.highest_modseq:x}"'


def _tags(stored: Stored | None) -> tuple[str | None, str | None]:
    return (None, None) if stored is None else (stored.etag, stored.schedule_tag)
