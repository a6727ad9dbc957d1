"""Dead properties: elements of XML that clients keep with an object, a collection or a home (RFC 4918 §4, §15).

A name is "{namespace}local", a value the octets of the element. They count against the owner's quota.

Raises: NotFound (no such collection or object), LimitReached, OverQuota.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from storage.collections.ledger import CollectionLedger
from storage.collections.rows import DYING
from storage.collections.values import CollectionId, Kind, ObjectId
from storage.database.database import Connection, Transaction
from storage.database.prepared import prepare
from storage.errors import LimitReached, NotFound
from storage.schema.collections import collection, object_, property_

HOME = CollectionId(0)
_HOMES: Mapping[Kind | None, int] = {None: 0, Kind.CALENDAR: 1, Kind.ADDRESS_BOOK: 2, Kind.FOLDER: 3}

_mine = property_.c.account_id == bindparam("account")
_of_collection = (_mine, property_.c.collection_id == bindparam("collection"))
_of_object = (*_of_collection, property_.c.object_id == bindparam("object"))
_pairs = (property_.c.name, property_.c.value)
_select = prepare(select(*_pairs).where(*_of_object).order_by(property_.c.name))
_select_below = prepare(
    select(property_.c.object_id, *_pairs)
    .where(*_of_collection, property_.c.object_id > 0)
    .order_by(property_.c.object_id, property_.c.name)
)
_given = select(func.json_each(bindparam("collections")).table_valued("value").c.value)
_select_many = prepare(
    select(property_.c.collection_id, *_pairs).where(
        _mine, property_.c.collection_id.in_(_given), property_.c.object_id == 0
    )
)
_count = prepare(select(func.count()).select_from(property_).where(*_of_object))
_put = upsert(property_)
_upsert = prepare(_put.on_conflict_do_update(set_={"value": _put.excluded.value, "size": _put.excluded.size}))
_delete_one = prepare(
    delete(property_).where(*_of_object, property_.c.name == bindparam("called")).returning(property_.c.size)
)
_delete_all = prepare(delete(property_).where(*_of_object).returning(property_.c.size))
_sum = prepare(select(func.coalesce(func.sum(property_.c.size), 0)).where(_mine, property_.c.collection_id.in_(_given)))
_copy = prepare(
    insert(property_)
    .from_select(
        ["account_id", "collection_id", "object_id", "name", "size", "value"],
        select(
            property_.c.account_id,
            bindparam("target", type_=property_.c.collection_id.type),
            bindparam("target_object", type_=property_.c.object_id.type),
            property_.c.name,
            property_.c.size,
            property_.c.value,
        ).where(*_of_object),
    )
    .returning(property_.c.size)
)
_move = prepare(update(property_).where(*_of_object).values(collection_id=bindparam("target")))
_exists_collection = prepare(
    select(collection.c.source).where(
        collection.c.account_id == bindparam("account"),
        collection.c.collection_id == bindparam("collection"),
        collection.c.parent_id > DYING,
    )
)
_exists_object = prepare(
    select(object_.c.object_id).where(
        object_.c.account_id == bindparam("account"),
        object_.c.collection_id == bindparam("collection"),
        object_.c.object_id == bindparam("object"),
    )
)


def home(kind: Kind | None) -> tuple[CollectionId, int]:
    """Where the properties of a kind's home are kept; None: of the principal."""
    return HOME, _HOMES[kind]


class Properties:
    """Of one account. `object_id` 0 is the collection itself."""

    def __init__(self, ledger: CollectionLedger) -> None:
        self._ledger = ledger
        self._database = ledger.database
        self._account_id = ledger.account_id

    def get(self, collection_id: CollectionId, object_id: int = 0) -> dict[str, bytes]:
        with self._database.reading() as connection:
            return self.get_in(connection, collection_id, object_id)

    def get_below(self, collection_id: CollectionId) -> dict[int, dict[str, bytes]]:
        """Of all objects in a collection that have any, in one statement."""
        found: dict[int, dict[str, bytes]] = {}
        with self._database.reading() as connection:
            rows = _select_below.rows(connection, account=self._account_id, collection=collection_id)
        for object_id, name, value in rows:
            found.setdefault(object_id, {})[name] = value
        return found

    def get_many(self, collection_ids: Iterable[int]) -> dict[int, dict[str, bytes]]:
        """Of these collections themselves."""
        found: dict[int, dict[str, bytes]] = {}
        with self._database.reading() as connection:
            rows = _select_many.rows(connection, account=self._account_id, collections=json.dumps(list(collection_ids)))
        for collection_id, name, value in rows:
            found.setdefault(collection_id, {})[name] = value
        return found

    def change(
        self,
        collection_id: CollectionId,
        object_id: int = 0,
        *,
        put: Mapping[str, bytes] | None = None,
        remove: Iterable[str] = (),
    ) -> None:
        """All of it or nothing (RFC 4918 §9.2). Removing what is not there is no error."""
        names = tuple(remove)
        self._database.write(
            lambda transaction: self.change_in(transaction, collection_id, object_id, put=put, remove=names)
        )

    def set(self, collection_id: CollectionId, object_id: int, name: str, value: bytes) -> None:
        self.change(collection_id, object_id, put={name: value})

    def remove(self, collection_id: CollectionId, object_id: int, name: str) -> None:
        self.change(collection_id, object_id, remove=(name,))

    # In the transaction of somebody else

    def get_in(self, connection: Connection, collection_id: CollectionId, object_id: int) -> dict[str, bytes]:
        rows = _select.rows(connection, account=self._account_id, collection=collection_id, object=object_id)
        return {row[0]: row[1] for row in rows}

    def change_in(
        self,
        transaction: Transaction,
        collection_id: CollectionId,
        object_id: int = 0,
        *,
        put: Mapping[str, bytes] | None = None,
        remove: Sequence[str] = (),
    ) -> None:
        scope = {"account": self._account_id, "collection": collection_id, "object": object_id}
        self._check_exists(transaction, collection_id, object_id)
        octets = 0
        for name in (*remove, *(put or ())):
            octets -= sum(row[0] for row in _delete_one.rows(transaction, **scope, called=name))
        for name, value in (put or {}).items():
            size = len(name.encode()) + len(value)
            if size > self._ledger.limits.property_size:
                raise LimitReached("A property is larger than this server keeps.")
            _upsert.run(
                transaction,
                account_id=self._account_id,
                collection_id=collection_id,
                object_id=object_id,
                name=name,
                size=size,
                value=value,
            )
            octets += size
        if put and _count.rows(transaction, **scope)[0][0] > self._ledger.limits.properties:
            raise LimitReached("It has as many properties as this server keeps.")
        self._ledger.charge(transaction, octets)

    def _check_exists(self, connection: Connection, collection_id: CollectionId, object_id: int) -> None:
        if collection_id == HOME:
            if object_id not in _HOMES.values():
                raise NotFound("There is no such home.")
            return
        scope = {"account": self._account_id, "collection": collection_id}
        if _exists_collection.one(connection, **scope) is None:
            raise NotFound("There is no such collection.")
        if object_id and _exists_object.one(connection, **scope, object=object_id) is None:
            raise NotFound("There is no such object.")

    def copy_in(
        self, transaction: Transaction, source: tuple[CollectionId, int], target: tuple[CollectionId, int]
    ) -> None:
        """To a target that has none (RFC 4918 §9.8.2)."""
        rows = _copy.rows(
            transaction,
            account=self._account_id,
            collection=source[0],
            object=source[1],
            target=target[0],
            target_object=target[1],
        )
        self._ledger.charge(transaction, sum(row[0] for row in rows))

    def move_in(
        self, transaction: Transaction, source: CollectionId, target: CollectionId, object_id: ObjectId
    ) -> None:
        """With an object that goes from one collection into another."""
        _move.run(transaction, account=self._account_id, collection=source, object=object_id, target=target)

    def delete_in(self, transaction: Transaction, collection_id: CollectionId, object_id: int) -> None:
        """All of one object."""
        rows = _delete_all.rows(transaction, account=self._account_id, collection=collection_id, object=object_id)
        if rows:
            self._ledger.charge(transaction, -sum(row[0] for row in rows))

    def give_back_in(self, transaction: Transaction, collection_ids: Iterable[int]) -> None:
        """The quota for what collections that die have: the rows go later."""
        given = json.dumps(list(collection_ids))
        self._ledger.charge(transaction, -_sum.rows(transaction, account=self._account_id, collections=given)[0][0])

    def forget_in(self, transaction: Transaction, collection_id: CollectionId, object_id: int) -> None:
        """Rows of what is dying; their quota was given back."""
        _delete_all.run(transaction, account=self._account_id, collection=collection_id, object=object_id)
