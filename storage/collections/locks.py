"""Locks of WebDAV: exclusive or shared, on one object, a collection or all below it, each until its time is over.

Of writers that race for an exclusive lock one gets it: conflicts are looked for in the transaction that makes the lock.
Whether a request carries the token of a lock is the protocol's question; here stands which locks there are. A writer
asks before his transaction, where he can say best what is locked, and in it (`covering_in`), where no lock comes
between.

Raises: Locked (conflict, with the locks in the way), NotFound, LimitReached. Standards: RFC 4918 §6, §7, §9.10.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import bindparam, delete, func, insert, select, update

from storage.collections.folders import ancestry, below
from storage.collections.ledger import CollectionLedger
from storage.collections.rows import DYING
from storage.collections.values import CollectionId
from storage.database.database import Connection, Transaction
from storage.database.prepared import Row, prepare
from storage.errors import Conflict, LimitReached, NotFound
from storage.schema.collections import collection, dav_lock, object_
from storage.values import AccountId

LONGEST = 7 * 24 * 3600  # seconds
OWNER_MAX = 16 * 1024  # octets of DAV:owner


@dataclass(frozen=True, slots=True)
class Lock:
    token: str  # urn:uuid:…
    collection_id: CollectionId
    object_id: int  # 0: the collection itself
    shared: bool
    deep: bool  # Depth: infinity
    holder: AccountId
    owner: bytes = field(repr=False)  # DAV:owner, as its client says
    expires: int  # Unix seconds


class Locked(Conflict):
    """Somebody holds a lock there; `locks` are those in the way (RFC 4918 §16, no-conflicting-lock)."""

    default = "It is locked."

    def __init__(self, public: str | None = None, *, detail: str = "", locks: Sequence[Lock] = ()) -> None:
        super().__init__(public, detail=detail)
        self.locks = tuple(locks)


_columns = (
    dav_lock.c.token,
    dav_lock.c.collection_id,
    dav_lock.c.object_id,
    dav_lock.c.shared,
    dav_lock.c.deep,
    dav_lock.c.holder,
    dav_lock.c.owner,
    dav_lock.c.expires,
)
_mine = dav_lock.c.account_id == bindparam("account")
_valid = (_mine, dav_lock.c.expires > bindparam("now"))
_given = select(func.json_each(bindparam("collections")).table_valued("value").c.value)
_in_collections = prepare(select(*_columns).where(*_valid, dav_lock.c.collection_id.in_(_given)))
_any = prepare(select(dav_lock.c.token).where(*_valid).limit(1))
_by_token = prepare(select(*_columns).where(*_valid, dav_lock.c.token == bindparam("wanted")))
_insert = prepare(insert(dav_lock))
_refresh = prepare(
    update(dav_lock)
    .where(*_valid, dav_lock.c.token == bindparam("wanted"))
    .values(expires=bindparam("until"))
    .returning(*_columns)
)
_delete = prepare(delete(dav_lock).where(*_valid, dav_lock.c.token == bindparam("wanted")))
_expire = prepare(delete(dav_lock).where(_mine, dav_lock.c.expires <= bindparam("now")))
_any_expired = prepare(select(dav_lock.c.token).where(_mine, dav_lock.c.expires <= bindparam("now")).limit(1))
_count = prepare(select(func.count()).select_from(dav_lock).where(_mine))
_forget = prepare(
    delete(dav_lock).where(
        _mine, dav_lock.c.collection_id == bindparam("collection"), dav_lock.c.object_id == bindparam("object")
    )
)
_forget_collections = prepare(delete(dav_lock).where(_mine, dav_lock.c.collection_id.in_(_given)))
_is_object = prepare(
    select(object_.c.object_id).where(
        object_.c.account_id == bindparam("account"),
        object_.c.collection_id == bindparam("collection"),
        object_.c.object_id == bindparam("object"),
    )
)
_parent = prepare(
    select(collection.c.parent_id).where(
        collection.c.account_id == bindparam("account"),
        collection.c.collection_id == bindparam("collection"),
        collection.c.parent_id > DYING,
    )
)


class Locks:
    """Of one account."""

    def __init__(self, ledger: CollectionLedger) -> None:
        self._ledger = ledger
        self._database = ledger.database
        self._account_id = ledger.account_id

    def has_any(self) -> bool:
        """Whether there is a lock at all: nearly never, and cheap to know."""
        with self._database.reading() as connection:
            return _any.one(connection, account=self._account_id, now=self._ledger.now()) is not None

    def covering(self, collection_id: CollectionId, object_id: int = 0) -> Sequence[Lock]:
        """The locks that protect an object, or with 0 a collection itself: its own and deep ones from above."""
        with self._database.reading() as connection:
            if _any.one(connection, account=self._account_id, now=self._ledger.now()) is None:
                return []
            return self._covering(connection, collection_id, object_id)

    def covering_in(self, transaction: Transaction, collection_id: CollectionId, object_id: int = 0) -> Sequence[Lock]:
        """The same within somebody's writing: no lock comes until that is committed."""
        if _any.one(transaction, account=self._account_id, now=self._ledger.now()) is None:
            return []
        return self._covering(transaction, collection_id, object_id)

    def below(self, collection_id: CollectionId) -> Sequence[Lock]:
        """All locks on a collection, its objects and what is below: in the way of who removes it."""
        with self._database.reading() as connection:
            if _any.one(connection, account=self._account_id, now=self._ledger.now()) is None:
                return []
            return self._within(connection, below(connection, self._account_id, collection_id))

    def by_token(self, token: str) -> Lock:
        """Raises NotFound."""
        with self._database.reading() as connection:
            row = _by_token.one(connection, account=self._account_id, now=self._ledger.now(), wanted=token)
        if row is None:
            raise NotFound("There is no such lock.")
        return _lock(row)

    def create(
        self,
        collection_id: CollectionId,
        object_id: int,
        holder: AccountId,
        *,
        shared: bool = False,
        deep: bool = False,
        owner: bytes = b"",
        seconds: int = 600,
    ) -> Lock:
        """Raises Locked if another one stands against it."""
        if len(owner) > OWNER_MAX:
            raise LimitReached("The owner of a lock is described at too great length.")
        now = self._ledger.now()
        expires = now + min(max(seconds, 1), LONGEST)
        token = f"urn:uuid:{uuid.uuid4()}"
        lock = Lock(token, collection_id, object_id, shared, deep and not object_id, holder, owner, expires)
        return self._database.write(lambda transaction: self._create(transaction, lock, now))

    def _create(self, transaction: Transaction, lock: Lock, now: int) -> Lock:
        self._check_exists(transaction, lock)
        _expire.run(transaction, account=self._account_id, now=now)
        if _count.rows(transaction, account=self._account_id)[0][0] >= self._ledger.limits.locks:
            raise LimitReached("There are as many locks as this server keeps.")
        others = list(self._covering(transaction, lock.collection_id, lock.object_id))
        if lock.deep:
            others += self._within(transaction, below(transaction, self._account_id, lock.collection_id))
        against = {each.token: each for each in others if not (lock.shared and each.shared)}
        if against:
            raise Locked(locks=tuple(against.values()))
        _insert.run(
            transaction,
            account_id=self._account_id,
            token=lock.token,
            collection_id=lock.collection_id,
            object_id=lock.object_id,
            shared=lock.shared,
            deep=lock.deep,
            holder=lock.holder,
            owner=lock.owner,
            expires=lock.expires,
        )
        return lock

    def refresh(self, token: str, seconds: int) -> Lock:
        """It lasts from now again (RFC 4918 §9.10.2). Raises NotFound."""
        now = self._ledger.now()
        until = now + min(max(seconds, 1), LONGEST)
        row = self._database.write(
            lambda transaction: _refresh.one(transaction, account=self._account_id, now=now, wanted=token, until=until)
        )
        if row is None:
            raise NotFound("There is no such lock.")
        return _lock(row)

    def remove(self, token: str) -> None:
        """Raises NotFound."""
        now = self._ledger.now()
        if not self._database.write(
            lambda transaction: _delete.run(transaction, account=self._account_id, now=now, wanted=token)
        ):
            raise NotFound("There is no such lock.")

    def remove_expired(self) -> int:
        """Those whose time is over; how many. They count for nothing before that either."""
        now = self._ledger.now()
        with self._database.reading() as connection:
            if _any_expired.one(connection, account=self._account_id, now=now) is None:
                return 0
        return self._database.write(lambda transaction: _expire.run(transaction, account=self._account_id, now=now))

    def forget_in(self, transaction: Transaction, collection_id: CollectionId, object_id: int) -> None:
        """Locks end with what they are on (RFC 4918 §6.1), and don't move with it (§7.7)."""
        _forget.run(transaction, account=self._account_id, collection=collection_id, object=object_id)

    def forget_collections_in(self, transaction: Transaction, collection_ids: Sequence[int]) -> None:
        _forget_collections.run(transaction, account=self._account_id, collections=json.dumps(list(collection_ids)))

    def _covering(self, connection: Connection, collection_id: CollectionId, object_id: int) -> Sequence[Lock]:
        found = self._within(connection, ancestry(connection, self._account_id, collection_id))
        return [
            each
            for each in found
            if (each.collection_id == collection_id and each.object_id == object_id)
            or (each.deep and not each.object_id)
        ]

    def _within(self, connection: Connection, collection_ids: Sequence[int]) -> Sequence[Lock]:
        given = json.dumps(list(collection_ids))
        rows = _in_collections.rows(connection, account=self._account_id, now=self._ledger.now(), collections=given)
        return [_lock(row) for row in rows]

    def _check_exists(self, connection: Connection, lock: Lock) -> None:
        scope = {"account": self._account_id, "collection": lock.collection_id}
        if _parent.one(connection, **scope) is None:
            raise NotFound("There is no such collection.")
        if lock.object_id and _is_object.one(connection, **scope, object=lock.object_id) is None:
            raise NotFound("There is no such object.")


def _lock(row: Row) -> Lock:
    token, collection_id, object_id, shared, deep, holder, owner, expires = row
    return Lock(
        token, CollectionId(collection_id), object_id, bool(shared), bool(deep), AccountId(holder), owner, expires
    )
