"""Legal holds, in control.db: what must not be removed, by time or by order, until when.

A hold covers a tenant or one account. While it is in force nothing in its scope is removed by retention, no erasure
begins and no key is destroyed: `check` stops who would. Two persons make one; it ends by itself, or two lift it.
Its reason is sealed under the tenant's key. Ended holds stay: a certificate says which ones delayed it. Every change is
durable on return.

Raises: Conflict (a hold is in force), NotFound, InvalidInput, NotPermitted.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import bindparam, insert, or_, select, update

from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.database.prepared import Connection, prepare
from storage.errors import Conflict, Gone, InvalidInput, NotFound, NotPermitted
from storage.keys.sealing import open_sealed, seal
from storage.keys.source import KeySource
from storage.schema.contracts import legal_hold as hold
from storage.values import AccountId, TenantId

_REASON_MAX = 2000
_YEARS_MAX = 10 * 366 * 86_400

_COLUMNS = (
    hold.c.hold_id,
    hold.c.tenant_id,
    hold.c.account_id,
    hold.c.begun,
    hold.c.ends,
    hold.c.asked_by,
    hold.c.approved_by,
    hold.c.lifted,
    hold.c.lifted_by,
)
# One that was made is in force whatever the clock says of its beginning: a step back must not lift it.
_IN_FORCE = (hold.c.lifted.is_(None), hold.c.ends > bindparam("now"))
_ONE = prepare(select(*_COLUMNS).where(hold.c.hold_id == bindparam("id")))
_REASON = prepare(select(hold.c.reason).where(hold.c.hold_id == bindparam("id")))
_ALL = prepare(select(*_COLUMNS).order_by(hold.c.begun, hold.c.hold_id))
_OF_TENANT = prepare(
    select(*_COLUMNS).where(hold.c.tenant_id == bindparam("tenant")).order_by(hold.c.begun, hold.c.hold_id)
)
_ON_TENANT = prepare(
    select(*_COLUMNS).where(hold.c.tenant_id == bindparam("tenant"), *_IN_FORCE).order_by(hold.c.ends.desc())
)
_ON_ACCOUNT = prepare(
    select(*_COLUMNS)
    .where(
        hold.c.tenant_id == bindparam("tenant"),
        or_(hold.c.account_id.is_(None), hold.c.account_id == bindparam("account")),
        *_IN_FORCE,
    )
    .order_by(hold.c.ends.desc())
)
_INSERT = prepare(insert(hold))
_LIFT = prepare(
    update(hold)
    .where(hold.c.hold_id == bindparam("id"), hold.c.lifted.is_(None))
    .values(lifted=bindparam("time"), lifted_by=bindparam("person"))
)


@dataclass(frozen=True, slots=True)
class Hold:
    hold_id: str
    tenant_id: TenantId
    account_id: AccountId | None  # None: the whole tenant
    begun: int
    ends: int
    asked_by: str = field(repr=False)
    approved_by: str = field(repr=False)
    lifted: int | None = None
    lifted_by: str | None = field(default=None, repr=False)

    def in_force(self, now: int) -> bool:
        return self.lifted is None and now < self.ends

    @property
    def over(self) -> int:
        """When it stops, or stopped, being in force."""
        return self.ends if self.lifted is None else min(self.lifted, self.ends)


class Holds:
    def __init__(self, database: Database, keys: KeySource, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock

    def check(
        self, tenant_id: TenantId, account_id: AccountId | None = None, *, clock_is_believed: bool = True
    ) -> None:
        """Raises Conflict, naming the hold, if one covers any of the scope: for who is about to erase it.

        A whole tenant is held by a hold on any of its accounts. Where the clock is not believed, no hold has ended
        by itself.
        """
        found = self._covering(tenant_id, account_id, self._clock.now() if clock_is_believed else 0)
        if found:
            what = "account" if found[0].account_id is not None else "tenant"
            if found[0].ends <= self._clock.now():
                raise Conflict(
                    f"A legal hold ({found[0].hold_id}) is on the {what}; it would be over, but the clock is not"
                    " believed: cleanmail clock show."
                )
            raise Conflict(
                f"A legal hold ({found[0].hold_id}) is on the {what} until {_day(found[0].ends)}: nothing of it may be"
                " erased. See: cleanmail hold list."
            )

    def covers(self, tenant_id: TenantId, account_id: AccountId | None = None) -> bool:
        """Whether retention has to leave what belongs to the account, or to the tenant, as it is."""
        return bool(self.in_force(tenant_id, account_id))

    def in_force(self, tenant_id: TenantId, account_id: AccountId | None = None) -> list[Hold]:
        """Those that cover any of the scope now, the one that ends last first."""
        return self._covering(tenant_id, account_id, self._clock.now())

    def _covering(self, tenant_id: TenantId, account_id: AccountId | None, now: int) -> list[Hold]:
        with self._database.reading() as connection:
            if account_id is None:
                rows = _ON_TENANT.rows(connection, tenant=tenant_id, now=now)
            else:
                rows = _ON_ACCOUNT.rows(connection, tenant=tenant_id, account=account_id, now=now)
        return [_row(row) for row in rows]

    def during(self, tenant_id: TenantId, account_id: AccountId | None, since: int) -> list[Hold]:
        """Those that covered any of the scope at some time after `since`: what a certificate tells."""
        with self._database.reading() as connection:
            found = [_row(row) for row in _OF_TENANT.rows(connection, tenant=tenant_id)]
        return [
            each
            for each in found
            if each.over > since and (account_id is None or each.account_id in (None, account_id))
        ]

    def add(
        self,
        tenant_id: TenantId,
        account_id: AccountId | None,
        *,
        ends: int,
        reason: str,
        asked_by: str,
        approved_by: str,
        hold_id: str | None = None,
    ) -> Hold:
        """In force when it returns. `hold_id`: of what was approved, so that it makes one hold and no second."""
        now = self._clock.now()
        check_new(ends, reason, now)
        if asked_by == approved_by:
            raise NotPermitted("A legal hold needs two persons: another one than who asked for it has to approve it.")
        made = Hold(hold_id or secrets.token_hex(8), tenant_id, account_id, now, ends, asked_by, approved_by)
        key = self._keys.tenant_key(tenant_id, "directory.name")
        box = seal(key.secret, reason.encode(), _reason_context(made.hold_id))

        def work(transaction: Transaction) -> Hold:
            there = _ONE.one(transaction, id=made.hold_id)
            if there is not None:
                return _row(there)
            _INSERT.run(
                transaction,
                hold_id=made.hold_id,
                tenant_id=tenant_id,
                account_id=account_id,
                reason=box,
                begun=made.begun,
                ends=made.ends,
                asked_by=asked_by,
                approved_by=approved_by,
                lifted=None,
                lifted_by=None,
            )
            return made

        added: Hold = self._database.write(work)
        return added

    def lift(self, hold_id: str, by: str) -> Hold:
        """From now on it holds nothing, because `by` asked for it and somebody else approved. Raises Conflict if it was
        over already."""
        now = self._clock.now()

        def work(transaction: Transaction) -> Hold:
            found = _find(transaction, hold_id)
            check_in_force(found, now)
            _LIFT.run(transaction, id=hold_id, time=now, person=by)
            return replace(found, lifted=now, lifted_by=by)

        lifted: Hold = self._database.write(work)
        return lifted

    def show(self, hold_id: str) -> Hold:
        with self._database.reading() as connection:
            return _find(connection, hold_id)

    def reason(self, found: Hold) -> str:
        """Why it is held; empty when the tenant's key is gone."""
        with self._database.reading() as connection:
            row = _REASON.one(connection, id=found.hold_id)
        try:
            key = self._keys.tenant_key(found.tenant_id, "directory.name")
        except (Gone, NotFound):
            return ""
        return "" if row is None else open_sealed(key.secret, row[0], _reason_context(found.hold_id)).decode()

    def all(self) -> list[Hold]:
        """Those that are over too, the oldest first."""
        with self._database.reading() as connection:
            return [_row(row) for row in _ALL.rows(connection)]


def check_new(ends: int, reason: str, now: int) -> None:
    """Raises InvalidInput for what cannot be a hold: for who asks a second person first."""
    if not now < ends <= now + _YEARS_MAX:
        raise InvalidInput("A legal hold ends on a day ahead, at most ten years from now.")
    if not reason.strip() or len(reason) > _REASON_MAX:
        raise InvalidInput(f"A legal hold needs a reason, of at most {_REASON_MAX} characters.")


def check_in_force(found: Hold, now: int) -> None:
    """Raises Conflict for one that is over."""
    if not found.in_force(now):
        raise Conflict(f"The hold {found.hold_id} is over since {_day(found.over)}.")


def _find(connection: Connection, hold_id: str) -> Hold:
    row = _ONE.one(connection, id=hold_id)
    if row is None:
        raise NotFound(f"There is no legal hold {hold_id[:40]}.")
    return _row(row)


def _row(row: tuple[Any, ...]) -> Hold:
    account_id = None if row[2] is None else AccountId(row[2])
    return Hold(row[0], TenantId(row[1]), account_id, *row[3:])


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def _reason_context(hold_id: str) -> bytes:
    return b"control.legal_hold.reason:" + hold_id.encode()
