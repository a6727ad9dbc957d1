"""Whom the accounts of a tenant write to, so that the filter knows the senders who are no strangers.

Only keyed hashes of addresses are kept, under a key of the tenant's: whether an address is known can be asked, whom an
account knows cannot be read. A subaddress counts as its base (RFC 5233): who answers as user+shop@ is user@.

`record` gathers in memory; `flush` writes, a pair of account and address once a day at most. What a crash loses is
recorded with the next message. Rows end a good year after the last message, and those that are too many, the oldest
first.

Raises: nothing from `record`; Unavailable, StorageFull and Corrupt otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from threading import Lock
from typing import Any

from sqlalchemy import bindparam, delete, exists, func, select
from sqlalchemy.dialects.sqlite import insert as upsert

from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.errors import CleanmailError
from storage.keys.sealing import derive, keyed_hash
from storage.schema.tenant import account, correspondent
from storage.values import AccountId, EmailAddress

DAY = 86_400
KEPT_DAYS = 400  # after the last message: who writes once a year is known
ACCOUNT_MAX = 20_000  # correspondents of one account
_WAITING_MAX = 10_000  # pairs that wait to be written; more are those of a mass mailing

_ADDRESS = correspondent.c.address_hash == bindparam("hash")
_OF_ACCOUNT = correspondent.c.account_id == bindparam("id")

_LAST = prepare(select(correspondent.c.last).where(_ADDRESS, _OF_ACCOUNT))
_STANDING = prepare(
    select(
        exists(select(correspondent.c.last).where(_ADDRESS, _OF_ACCOUNT)),
        exists(select(correspondent.c.last).where(_ADDRESS)),
    )
)
_insert = upsert(correspondent)
_RECORD = prepare(
    _insert.on_conflict_do_update(
        index_elements=[correspondent.c.address_hash, correspondent.c.account_id],
        set_={"last": func.max(correspondent.c.last, _insert.excluded.last)},
    )
)
_EXISTS = prepare(select(account.c.account_id).where(account.c.account_id == bindparam("id")))
_EXPIRE = prepare(delete(correspondent).where(correspondent.c.last < bindparam("before")))
_TOO_MANY = prepare(
    select(correspondent.c.account_id, func.count() - bindparam("most"))
    .group_by(correspondent.c.account_id)
    .having(func.count() > bindparam("most"))
)
_FORGET_OLDEST = prepare(
    delete(correspondent).where(
        _OF_ACCOUNT,
        correspondent.c.address_hash.in_(
            select(correspondent.c.address_hash)
            .where(_OF_ACCOUNT)
            .order_by(correspondent.c.last)
            .limit(bindparam("excess"))
        ),
    )
)
_DELETE = prepare(delete(correspondent).where(_OF_ACCOUNT))
_KNOWING = prepare(select(func.count()).select_from(correspondent).where(_ADDRESS))
_DELETE_ADDRESS = prepare(delete(correspondent).where(_ADDRESS))


class Acquaintance(StrEnum):
    """Who writes to an address; the values are those of gateway.facts.values.Standing."""

    STRANGER = "stranger"  # nobody of the tenant
    TENANT = "tenant"  # another account of the tenant
    ACCOUNT = "account"  # the account itself


class Correspondents:
    """Of one tenant. Any thread may use it."""

    def __init__(self, database: Database, tenant_secret: bytes, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._key = derive(tenant_secret, "filter", "correspondents")
        self._guard = Lock()  # of the next
        self._waiting: set[tuple[bytes, AccountId]] = set()

    def record(self, account_id: AccountId, addresses: Iterable[EmailAddress]) -> None:
        """The account wrote to these addresses by its own hand. Never waits and never fails."""
        pairs = {(self._hash(address), account_id) for address in addresses}
        with self._guard:
            if len(self._waiting) < _WAITING_MAX:
                self._waiting |= pairs

    def flush(self) -> None:
        """Write what was recorded. What cannot be written now is tried again the next time."""
        with self._guard:
            waiting, self._waiting = self._waiting, set()
        if not waiting:
            return
        now = self._clock.now()
        today = now - now % DAY
        try:
            with self._database.reading() as connection:
                last = {(hash_, id_): _LAST.one(connection, hash=hash_, id=id_) for hash_, id_ in waiting}
            rows = [
                {"address_hash": hash_, "account_id": account_id, "last": today}
                for (hash_, account_id), row in last.items()
                if row is None or row[0] < today
            ]
            if rows:
                self._database.write(lambda t: _record(t, rows), durable=False)
        except CleanmailError:
            with self._guard:
                self._waiting |= waiting
            raise

    def standing(self, address: EmailAddress, account_id: AccountId | None) -> Acquaintance:
        """Who writes to the address: this account (None: no account is asked about), or others of the tenant."""
        with self._database.reading() as connection:
            row = _STANDING.one(connection, hash=self._hash(address), id=account_id or 0)
        own, anybody = row or (0, 0)
        if own:
            return Acquaintance.ACCOUNT
        return Acquaintance.TENANT if anybody else Acquaintance.STRANGER

    def knowing(self, address: EmailAddress) -> int:
        """How many accounts have written to the address."""
        with self._database.reading() as connection:
            return int(_KNOWING.rows(connection, hash=self._hash(address))[0][0])

    def remove_address(self, address: EmailAddress) -> int:
        """Nobody knows the address any more, until somebody writes to it; how many accounts did."""
        sought = self._hash(address)
        with self._guard:
            self._waiting = {pair for pair in self._waiting if pair[0] != sought}
        return self._database.write(lambda t: _DELETE_ADDRESS.run(t, hash=sought))

    def remove_expired(self, before: int | None = None) -> int:
        """Those to whom nobody has written since that time, and those that are too many; how many were removed."""
        if before is None:
            before = self._clock.now() - KEPT_DAYS * DAY

        def work(transaction: Transaction) -> int:
            removed = _EXPIRE.run(transaction, before=before)
            for account_id, excess in _TOO_MANY.rows(transaction, most=ACCOUNT_MAX):
                removed += _FORGET_OLDEST.run(transaction, id=account_id, excess=excess)
            return removed

        return self._database.write(work)

    def remove_account(self, transaction: Transaction, account_id: AccountId) -> None:
        """In the commit that removes an account's rows."""
        with self._guard:
            self._waiting = {pair for pair in self._waiting if pair[1] != account_id}
        _DELETE.run(transaction, id=account_id)

    def _hash(self, address: EmailAddress) -> bytes:
        return keyed_hash(self._key, address.base.key.encode())


def _record(transaction: Transaction, rows: list[dict[str, Any]]) -> None:
    """But nothing of accounts that were removed meanwhile."""
    living = {id_ for id_ in {row["account_id"] for row in rows} if _EXISTS.one(transaction, id=id_) is not None}
    _RECORD.run_many(transaction, [row for row in rows if row["account_id"] in living])
