"""How many recipients elsewhere each account and each tenant has sent to, by the hour: what limits on sending look at.

Counted in the transaction that queues the message, so the numbers are exact whichever process accepted it. Recipients
here, and those on the tenants' own servers, do not count.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from sqlalchemy import bindparam, delete, func, select
from sqlalchemy.dialects.sqlite import insert

from storage.database.database import Database, Transaction
from storage.database.prepared import Prepared, prepare
from storage.queue.entries import NewEntry, Origin
from storage.queue.store import QueueStore
from storage.schema.queue import sent
from storage.values import AccountId, TenantId

HOUR = 3600
_TENANT = 0  # the account id of a tenant's total
_SLICE = 1000

_new = insert(sent)
_ADD = prepare(
    _new.on_conflict_do_update(
        index_elements=[sent.c.tenant_id, sent.c.account_id, sent.c.hour],
        set_={"recipients": sent.c.recipients + _new.excluded.recipients},
    )
)
_SINCE = prepare(
    select(sent.c.hour, sent.c.recipients).where(
        sent.c.tenant_id == bindparam("tenant"),
        sent.c.account_id == bindparam("account"),
        sent.c.hour >= bindparam("since"),
    )
)
_OLD = prepare(
    select(sent.c.tenant_id, sent.c.account_id, sent.c.hour)
    .where(
        sent.c.hour < bindparam("before"),
        sent.c.tenant_id.not_in(select(func.json_each(bindparam("held")).table_valued("value").c.value)),
    )
    .order_by(sent.c.hour)
    .limit(_SLICE)
)
_OF_TENANT = prepare(
    select(sent.c.tenant_id, sent.c.account_id, sent.c.hour)
    .where(sent.c.tenant_id == bindparam("tenant"))
    .limit(_SLICE)
)
_OF_ACCOUNT = prepare(
    select(sent.c.tenant_id, sent.c.account_id, sent.c.hour)
    .where(sent.c.tenant_id == bindparam("tenant"), sent.c.account_id == bindparam("account"))
    .limit(_SLICE)
)
_FORGET = prepare(
    delete(sent).where(
        sent.c.tenant_id == bindparam("tenant"),
        sent.c.account_id == bindparam("account"),
        sent.c.hour == bindparam("of"),
    )
)


def count_sent(transaction: Transaction, entry: NewEntry, now: int) -> None:
    """Counts what a submitted message sends elsewhere."""
    if entry.origin is not Origin.SUBMISSION or entry.account_id is None:
        return
    outside = sum(recipient.account_id is None and recipient.routed is None for recipient in entry.recipients)
    if outside:
        for account in (entry.account_id, _TENANT):
            _ADD.run(transaction, tenant_id=entry.tenant_id, account_id=account, hour=now // HOUR, recipients=outside)


class SentCounts(QueueStore):
    """A part of Queue. An hour is Unix time / 3600."""

    def sent_by_account(self, tenant_id: TenantId, account_id: AccountId, since_hour: int) -> Mapping[int, int]:
        """Recipients by hour, from `since_hour` on; hours without any are missing."""
        return self._since(tenant_id, account_id, since_hour)

    def sent_by_tenant(self, tenant_id: TenantId, since_hour: int) -> Mapping[int, int]:
        """The same for all accounts of the tenant together."""
        return self._since(tenant_id, _TENANT, since_hour)

    def _since(self, tenant_id: int, account_id: int, since_hour: int) -> Mapping[int, int]:
        with self._database.reading() as connection:
            rows = _SINCE.rows(connection, tenant=tenant_id, account=account_id, since=since_hour)
        return dict(rows)

    def forget_sent(self, before_hour: int, held: Collection[TenantId] = ()) -> int:
        """Removes the counts of earlier hours, but of tenants that are `held`; how many."""
        return _forget(self._database, _OLD, {"before": before_hour, "held": json.dumps(sorted(held))})


def forget_sent_of(database: Database, tenant_id: TenantId, account_id: AccountId | None = None) -> int:
    """Removes all counts of a tenant, or of one of its accounts."""
    if account_id is None:
        return _forget(database, _OF_TENANT, {"tenant": tenant_id})
    return _forget(database, _OF_ACCOUNT, {"tenant": tenant_id, "account": account_id})


def _forget(database: Database, which: Prepared, parameters: Mapping[str, int | str]) -> int:
    """What `which` finds, a slice after the other."""
    forgotten = 0
    while True:
        with database.reading() as connection:
            found = which.rows(connection, **parameters)
        if not found:
            return forgotten
        rows = [{"tenant": tenant, "account": account, "of": hour} for tenant, account, hour in found]
        forgotten += database.write(partial(_forget_rows, rows), durable=False)


def _forget_rows(rows: list[dict[str, Any]], transaction: Transaction) -> int:
    return _FORGET.run_many(transaction, rows)
