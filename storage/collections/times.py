"""When calendar objects take place: the index that time-range queries ask (RFC 4791 §9.9)."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects.sqlite import insert as upsert

from storage.collections.rows import OBJECT_COLUMNS, WIDTH, stored_of
from storage.collections.values import CollectionId, ObjectId, Stored, Times
from storage.database.database import Connection, Transaction
from storage.database.prepared import Row, prepare
from storage.schema.collections import object_, object_time
from storage.values import AccountId

_mine = object_time.c.account_id == bindparam("account")
_in_collection = (_mine, object_time.c.collection_id == bindparam("collection"))
_this = (*_in_collection, object_time.c.object_id == bindparam("object"))
_put = upsert(object_time)
_upsert = prepare(
    _put.on_conflict_do_update(
        set_={name: _put.excluded[name] for name in ("first", "last", "floating", "known_until", "instances")}
    )
)
_delete = prepare(delete(object_time).where(*_this))
_columns = (
    object_time.c.first,
    object_time.c.last,
    object_time.c.floating,
    object_time.c.known_until,
    object_time.c.instances,
)
_select = prepare(select(*_columns).where(*_this))
_between = prepare(
    select(*OBJECT_COLUMNS, *_columns)
    .join(
        object_time,
        (object_time.c.account_id == object_.c.account_id)
        & (object_time.c.collection_id == object_.c.collection_id)
        & (object_time.c.object_id == object_.c.object_id),
    )
    .where(*_in_collection, object_time.c.last > bindparam("after"), object_time.c.first < bindparam("before"))
)


class TimeIndex:
    """Of one account."""

    __slots__ = ("_account_id",)

    def __init__(self, account_id: AccountId) -> None:
        self._account_id = account_id

    def between(
        self, connection: Connection, collection_id: CollectionId, start: int, end: int
    ) -> Sequence[tuple[Stored, Times]]:
        """Candidates: all of which something may take place in [start, end)."""
        rows = _between.rows(connection, account=self._account_id, collection=collection_id, after=start, before=end)
        return [(stored_of(row[:WIDTH]), _times(row[WIDTH:])) for row in rows]

    def of(self, connection: Connection, collection_id: CollectionId, object_id: ObjectId) -> Times | None:
        row = _select.one(connection, account=self._account_id, collection=collection_id, object=object_id)
        return None if row is None else _times(row)

    def put(self, transaction: Transaction, collection_id: CollectionId, object_id: ObjectId, times: Times) -> None:
        _upsert.run(
            transaction,
            account_id=self._account_id,
            collection_id=collection_id,
            object_id=object_id,
            first=times.first,
            last=times.last,
            floating=times.floating,
            known_until=times.known_until,
            instances=times.instances,
        )

    def delete(self, transaction: Transaction, collection_id: CollectionId, object_id: ObjectId) -> None:
        _delete.run(transaction, account=self._account_id, collection=collection_id, object=object_id)


def _times(row: Row) -> Times:
    first, last, floating, known_until, instances = row
    return Times(first, last, bool(floating), known_until, instances)
