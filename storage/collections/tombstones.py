"""What went from a collection and when, so that clients that come back learn of it (RFC 6578 §3.5.2).

Each collection keeps its last `KEPT` tombstones and forgets older ones in the background; up to its horizon nobody
knows any more what went, and a token from before it is not valid any more. Retention forgets those of long ago.
"""

from __future__ import annotations

from sqlalchemy import bindparam, delete, func, insert, select, update

from storage.background import Background
from storage.collections.values import CollectionId
from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.schema.collections import collection, object_gone
from storage.values import AccountId

KEPT = 20_000
_SLICE = 1000  # forgotten in one transaction
_LOOK_AFTER = 1000  # new tombstones of a collection, the number of its old ones is looked at

_these = (object_gone.c.account_id == bindparam("account"), object_gone.c.collection_id == bindparam("collection"))
_insert = prepare(insert(object_gone))
_oldest = prepare(
    select(object_gone.c.modseq).where(*_these).order_by(object_gone.c.modseq).limit(1).offset(bindparam("skip"))
)
_newest = prepare(
    select(object_gone.c.modseq).where(*_these).order_by(object_gone.c.modseq.desc()).limit(1).offset(bindparam("skip"))
)
_delete = prepare(delete(object_gone).where(*_these, object_gone.c.modseq <= bindparam("modseq")))
_delete_all = prepare(delete(object_gone).where(*_these))
_set_horizon = prepare(
    update(collection)
    .where(collection.c.account_id == bindparam("account"), collection.c.collection_id == bindparam("collection"))
    .values(gone_horizon=bindparam("modseq"))
)
_raise_horizon = prepare(
    update(collection)
    .where(
        collection.c.account_id == bindparam("account"),
        collection.c.collection_id == bindparam("collection"),
        collection.c.gone_horizon < bindparam("modseq"),
    )
    .values(gone_horizon=bindparam("modseq"))
)
_old = prepare(
    select(object_gone.c.collection_id, func.max(object_gone.c.modseq))
    .where(object_gone.c.account_id == bindparam("account"), object_gone.c.gone < bindparam("before"))
    .group_by(object_gone.c.collection_id)
)


class ObjectTombstones:
    """Of one account."""

    def __init__(self, database: Database, account_id: AccountId, background: Background) -> None:
        self._database = database
        self._account_id = account_id
        self._background = background
        self._new: dict[CollectionId, int] = {}

    def insert(self, transaction: Transaction, collection_id: CollectionId, modseq: int, name: str, gone: int) -> None:
        """`gone` is when, in Unix seconds."""
        _insert.run(
            transaction, account_id=self._account_id, collection_id=collection_id, modseq=modseq, name=name, gone=gone
        )
        transaction.after_commit(lambda: self._count(collection_id))

    def _count(self, collection_id: CollectionId) -> None:
        """Once in a while the oldest ones of a collection are forgotten.

        At the first already: a feed that is fetched each hour opens the account, removes a few hundred, and closes it.
        """
        count = self._new.get(collection_id, _LOOK_AFTER - 1) + 1
        self._new[collection_id] = count % _LOOK_AFTER
        if count < _LOOK_AFTER:
            return
        self._background.submit(
            (self._account_id, "object tombstones", collection_id),
            lambda: self._database.write(lambda transaction: self.forget_old(transaction, collection_id)),
        )

    def forget_old(self, transaction: Transaction, collection_id: CollectionId, kept: int = KEPT) -> bool:
        """Forget some of those beyond the last `kept` and move the horizon. True: there may be more."""
        scope = {"account": self._account_id, "collection": collection_id}
        newest = _newest.one(transaction, **scope, skip=kept)
        oldest = _oldest.one(transaction, **scope, skip=_SLICE)
        if newest is None:
            return False
        modseq = min(newest[0], oldest[0]) if oldest is not None else newest[0]
        _set_horizon.run(transaction, **scope, modseq=modseq)
        return _delete.run(transaction, **scope, modseq=modseq) > 0

    def forget_before(self, time: int) -> int:
        """Forget all of things that went before, in every collection, and move the horizons; how many."""
        forgotten = 0
        with self._database.reading() as connection:
            old = _old.rows(connection, account=self._account_id, before=time)
        for collection_id, modseq in old:
            forgotten += self._forget(CollectionId(collection_id), modseq)
        return forgotten

    def _forget(self, collection_id: CollectionId, modseq: int) -> int:
        scope = {"account": self._account_id, "collection": collection_id}
        forgotten, more = 0, True
        while more:
            count, more = self._database.write(lambda transaction: self._forget_upto(transaction, scope, modseq))
            forgotten += count
        return forgotten

    @staticmethod
    def _forget_upto(transaction: Transaction, scope: dict[str, int], modseq: int) -> tuple[int, bool]:
        """Some of them; how many, and whether there are more."""
        oldest = _oldest.one(transaction, **scope, skip=_SLICE)
        upto = modseq if oldest is None else min(modseq, oldest[0])
        _raise_horizon.run(transaction, **scope, modseq=upto)
        return _delete.run(transaction, **scope, modseq=upto), upto < modseq

    def forget_all(self, transaction: Transaction, collection_id: CollectionId) -> bool:
        """Forget some of those of a collection that is deleted. True: there are more."""
        scope = {"account": self._account_id, "collection": collection_id}
        oldest = _oldest.one(transaction, **scope, skip=_SLICE)
        if oldest is not None:
            _delete.run(transaction, **scope, modseq=oldest[0])
            return True
        _delete_all.run(transaction, **scope)
        return False
