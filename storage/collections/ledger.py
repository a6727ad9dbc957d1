"""What every change of a collection has in common: its modseq, its counters, the quota, and who is told.

A collection's modseq rises with each change of an object in it, and every change commits FULL; so whoever knows modseq
n and is told of the changes after it knows everything (RFC 6578 tokens are made of it).

Raises: NotFound (no such collection), NotPermitted (the server writes it), OverQuota, LimitReached.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, update

from storage.clock import Clock
from storage.collections.rows import COLUMNS, LIVE, collection_of
from storage.collections.values import Collection, CollectionId, CollectionLimits
from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.errors import LimitReached, NotFound, NotPermitted
from storage.mail.ledger import Ledger
from storage.schema.collections import collection
from storage.values import AccountId

Tell = Callable[[Mapping[CollectionId, int]], None]

READ_ONLY = "The server keeps this collection: it can be read and copied from, but not changed."

_advance = prepare(
    update(collection)
    .where(*LIVE, collection.c.collection_id == bindparam("collection"))
    .values(
        highest_modseq=collection.c.highest_modseq + 1,
        objects=collection.c.objects + bindparam("count"),
        bytes=collection.c.bytes + bindparam("octets"),
        modified=bindparam("now"),
    )
    .returning(*COLUMNS)
)


@dataclass(slots=True)
class _Telling:
    """After a commit: what changed in it, once for each collection."""

    tell: Tell
    changes: dict[CollectionId, int]

    def __call__(self) -> None:
        self.tell(self.changes)


class CollectionLedger:
    """Of one account. `tell` is called after each commit, with what it brought collections to."""

    def __init__(self, mail: Ledger, clock: Clock, tell: Tell, limits: CollectionLimits | None = None) -> None:
        self.database: Database = mail.database
        self.account_id: AccountId = mail.account_id
        self.limits = limits or CollectionLimits()
        self._mail = mail
        self._clock = clock
        self._tell = tell

    def now(self) -> int:
        return self._clock.now()

    def advance(
        self,
        transaction: Transaction,
        collection_id: CollectionId,
        *,
        objects: int = 0,
        octets: int = 0,
        by_server: bool = False,
        charged: bool = True,
    ) -> Collection:
        """The collection as it is after the change that is being made, with its next modseq; charged to the quota.

        `by_server`: of a collection that its owner only reads; such are not charged. `charged` False: what it takes in
        comes from another collection of the account, and the other way round, so that the quota is as before.
        """
        row = _advance.one(
            transaction,
            account=self.account_id,
            collection=collection_id,
            count=objects,
            octets=octets,
            now=self._clock.now(),
        )
        if row is None:
            raise NotFound("There is no such collection.")
        found = collection_of(row)
        if found.source:
            if not by_server:
                raise NotPermitted(READ_ONLY)
        elif charged:
            self.charge(transaction, octets)
        if objects > 0 and found.objects > self.limits.objects:
            raise LimitReached("The collection has as many entries as it may have.")
        self.changed(transaction, collection_id, found.highest_modseq)
        return found

    def charge(self, transaction: Transaction, octets: int) -> None:
        """Count octets, or give them back. Raises OverQuota."""
        if octets > 0:
            self._mail.charge(transaction, octets, 0)
        elif octets:
            self._mail.release(transaction, -octets, 0)

    def take(self, transaction: Transaction, name: str, count: int = 1) -> int:
        """The first of `count` numbers that are never given out again."""
        return self._mail.take(transaction, name, count)

    def changed(self, transaction: Transaction, collection_id: CollectionId, modseq: int) -> None:
        """Tell of the change once it is committed."""
        last: Any = transaction.after[-1] if transaction.after else None
        if not isinstance(last, _Telling):
            last = next((each for each in transaction.after if isinstance(each, _Telling)), None)
        if last is None:
            last = _Telling(self._tell, {})
            transaction.after_commit(last)
        last.changes[collection_id] = modseq
