"""Collections that were deleted and still have objects: hidden in one commit, emptied in the background.

A hidden collection lies nowhere, so that its name is free at once and nothing finds it any more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from sqlalchemy import bindparam, delete, func, select, update

from storage.background import Background
from storage.collections.folders import below
from storage.collections.ledger import CollectionLedger
from storage.collections.locks import Locks
from storage.collections.objects import Objects
from storage.collections.properties import Properties
from storage.collections.rows import COLUMNS, DYING, LIVE, collection_of
from storage.collections.tombstones import ObjectTombstones
from storage.collections.values import Collection
from storage.database.database import Transaction
from storage.database.prepared import Row, prepare
from storage.schema.collections import collection

SLICE = 500  # objects removed in one transaction

_given = select(func.json_each(bindparam("collections")).table_valued("value").c.value)
_hide = prepare(
    update(collection)
    .where(*LIVE, collection.c.collection_id.in_(_given))
    .values(parent_id=DYING, highest_modseq=collection.c.highest_modseq + 1)
    .returning(collection.c.collection_id, collection.c.bytes, collection.c.source, collection.c.highest_modseq)
)
_next = prepare(
    select(*COLUMNS).where(collection.c.account_id == bindparam("account"), collection.c.parent_id == DYING).limit(1)
)
_delete = prepare(
    delete(collection).where(
        collection.c.account_id == bindparam("account"), collection.c.collection_id == bindparam("collection")
    )
)


class DyingCollections:
    """Of one account."""

    def __init__(
        self,
        ledger: CollectionLedger,
        objects: Objects,
        tombstones: ObjectTombstones,
        properties: Properties,
        locks: Locks,
        background: Background,
    ) -> None:
        self._ledger = ledger
        self._database = ledger.database
        self._account_id = ledger.account_id
        self._objects = objects
        self._tombstones = tombstones
        self._properties = properties
        self._locks = locks
        self._background = background
        # Told in the transaction that hides collections: who keeps something about them elsewhere.
        self.leaving: list[Callable[[Transaction, Sequence[int]], None]] = []

    def hide(self, transaction: Transaction, found: Collection) -> None:
        """From the commit on it does not exist, nor what is below it; their quota is given back."""
        ids = below(transaction, self._account_id, found.id)
        for tell in self.leaving:
            tell(transaction, ids)
        self._properties.give_back_in(transaction, ids)
        self._locks.forget_collections_in(transaction, ids)
        rows: Sequence[Row] = _hide.rows(transaction, account=self._account_id, collections=json.dumps(ids))
        self._ledger.charge(transaction, -sum(row[1] for row in rows if not row[2]))
        for row in rows:
            self._ledger.changed(transaction, row[0], row[3])
        transaction.after_commit(self.schedule)

    def schedule(self) -> None:
        self._background.submit((self._account_id, "collections"), self.empty)

    def has_any(self) -> bool:
        return self._next() is not None

    def _next(self) -> Collection | None:
        with self._database.reading() as connection:
            row = _next.one(connection, account=self._account_id)
        return None if row is None else collection_of(row)

    def empty(self) -> bool:
        """Remove some of what hidden collections hold. True: there is more."""
        found = self._next()
        if found is None:
            return False
        self._database.write(lambda transaction: self._empty(transaction, found))
        return True

    def _empty(self, transaction: Transaction, found: Collection) -> None:
        objects = self._objects.some_in(transaction, found.id, 0, SLICE)
        if objects:
            for each in objects:
                self._objects.forget_in(transaction, found, each)
            return
        if self._tombstones.forget_all(transaction, found.id):
            return
        self._properties.forget_in(transaction, found.id, 0)
        _delete.run(transaction, account=self._account_id, collection=found.id)
