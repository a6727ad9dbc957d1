"""Accounts of a tenant whose sending is stopped. Every change is durable on return, and may be repeated.

When an operator lets an account send again, that is remembered for a day: what it had sent before would freeze it at
once otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import bindparam, delete, insert, select, update

from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.schema.tenant import frozen
from storage.values import AccountId

TRUSTED = 86_400  # seconds after an operator's decision in which nothing freezes the account by itself

_COLUMNS = (frozen.c.account_id, frozen.c.since, frozen.c.reason, frozen.c.thawed)
_THIS = frozen.c.account_id == bindparam("id")

_ONE = prepare(select(*_COLUMNS).where(_THIS))
_ALL = prepare(select(*_COLUMNS).where(frozen.c.thawed.is_(None)).order_by(frozen.c.account_id))
_INSERT = prepare(insert(frozen))
_FREEZE_AGAIN = prepare(
    update(frozen)
    .where(_THIS, frozen.c.thawed.is_not(None))
    .values(since=bindparam("now"), reason=bindparam("why"), thawed=None)
)
_THAW = prepare(update(frozen).where(_THIS, frozen.c.thawed.is_(None)).values(thawed=bindparam("now")))
_DELETE = prepare(delete(frozen).where(_THIS))
_FORGET = prepare(delete(frozen).where(frozen.c.thawed <= bindparam("before")))


@dataclass(frozen=True, slots=True)
class Frozen:
    account_id: AccountId
    since: int  # Unix seconds
    reason: str = field(repr=False)


class FrozenAccounts:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def find(self, account_id: AccountId) -> Frozen | None:
        """None: the account may send."""
        with self._database.reading() as connection:
            row = _ONE.one(connection, id=account_id)
        return None if row is None or row[3] is not None else Frozen(AccountId(row[0]), row[1], row[2])

    def all(self) -> list[Frozen]:
        with self._database.reading() as connection:
            return [Frozen(AccountId(row[0]), row[1], row[2]) for row in _ALL.rows(connection)]

    def is_trusted(self, account_id: AccountId) -> bool:
        """Whether an operator let it send again a short while ago."""
        with self._database.reading() as connection:
            row = _ONE.one(connection, id=account_id)
        return row is not None and row[3] is not None and self._clock.now() < row[3] + TRUSTED

    def freeze(self, account_id: AccountId, reason: str) -> bool:
        """False: it was frozen already, and the first reason stays."""

        def work(transaction: Transaction) -> bool:
            now = self._clock.now()
            if _ONE.one(transaction, id=account_id) is None:
                _INSERT.run(transaction, account_id=account_id, since=now, reason=reason, thawed=None)
                return True
            return bool(_FREEZE_AGAIN.run(transaction, id=account_id, now=now, why=reason))

        return self._database.write(work)

    def thaw(self, account_id: AccountId) -> bool:
        """False: it was not frozen."""
        return bool(self._database.write(lambda t: _THAW.run(t, id=account_id, now=self._clock.now())))

    def remove_thawed(self) -> int:
        """Forgets what is old enough; how many."""
        return self._database.write(lambda t: _FORGET.run(t, before=self._clock.now() - TRUSTED))

    def remove_account(self, transaction: Transaction, account_id: AccountId) -> None:
        """In the commit that removes an account's rows."""
        _DELETE.run(transaction, id=account_id)
