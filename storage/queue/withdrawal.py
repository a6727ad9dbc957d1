"""What a tenant or an account has in the queue when it ends: counted, then gone, and nobody is told.

Needs no key. Durable on return, in transactions of some 1,000 recipients; interrupted, the same call goes on where it
stopped. It is safe while the runner works on the same entries: what it settles afterwards is of an entry that is no
longer there. Whoever accepts mail for the tenant at the same time commits before its entry is withdrawn here, or fails:
the spool that its content would lie in has no name any more (`Spool.sync`).

Raises: Unavailable, StorageFull.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, delete, func, select

from storage.database.database import Transaction
from storage.database.prepared import prepare
from storage.queue.bulk import BulkOperations
from storage.queue.rows import BY_OPERATOR, FREE, WITH_ACCOUNT
from storage.queue.sent import forget_sent_of
from storage.schema import queue as schema
from storage.values import AccountId, TenantId

_entry, _recipient, _held = schema.entry, schema.recipient, schema.held_account
_HELD_OR_NOT = (FREE, BY_OPERATOR, WITH_ACCOUNT)

_FOUND = prepare(select(_entry.c.file, _entry.c.size).where(_entry.c.queue_id == bindparam("id")))
_RECIPIENTS = prepare(select(func.count()).where(_recipient.c.queue_id == bindparam("id")))
_FORGET_FILES = prepare(delete(schema.unlink).where(schema.unlink.c.tenant_id == bindparam("tenant")))
_UNMARK_TENANT = prepare(delete(_held).where(_held.c.tenant_id == bindparam("tenant")))
_UNMARK_ACCOUNT = prepare(
    delete(_held).where(_held.c.tenant_id == bindparam("tenant"), _held.c.account_id == bindparam("account"))
)


@dataclass(frozen=True, slots=True)
class Withdrawn:
    entries: int = 0
    recipients: int = 0
    bytes: int = 0

    def __add__(self, other: Withdrawn) -> Withdrawn:
        return Withdrawn(self.entries + other.entries, self.recipients + other.recipients, self.bytes + other.bytes)


class Withdrawal(BulkOperations):
    """A part of Queue. With an account: what it submitted; what is on the way to it finds nobody, as mail does."""

    def what_waits(self, tenant_id: TenantId, account_id: AccountId | None = None) -> Withdrawn:
        """What `withdraw_tenant` would find now."""
        total = Withdrawn()
        for page in self.pages(tenant_id, _HELD_OR_NOT, account_id):
            with self._database.reading() as connection:
                for row in page:
                    found = _FOUND.one(connection, id=row[0])
                    if found is not None:
                        recipients = _RECIPIENTS.rows(connection, id=row[0])[0][0]
                        total += Withdrawn(1, recipients, found[1])
        return total

    def withdraw_tenant(self, tenant_id: TenantId, account_id: AccountId | None = None) -> Withdrawn:
        """All of it is gone from the queue, with what was counted and held of who ends."""
        total = Withdrawn()

        def work(queue_ids: Sequence[str], transaction: Transaction) -> int:
            nonlocal total
            withdrawn = Withdrawn()
            for queue_id in queue_ids:
                row = _FOUND.one(transaction, id=queue_id)
                if row is not None:
                    recipients = _RECIPIENTS.rows(transaction, id=queue_id)[0][0]
                    self._removals.remove(transaction, tenant_id, queue_id, row[0])
                    withdrawn += Withdrawn(1, recipients, row[1])
            total += withdrawn
            return withdrawn.entries

        while self.in_slices(self.pages(tenant_id, _HELD_OR_NOT, account_id), work):
            pass  # again, since an entry may have been held or released meanwhile
        self._removals.finish(tenant_id)
        if account_id is None and not self._spool.folder(tenant_id).is_dir():  # their files went with the folder
            self._database.write(lambda transaction: _FORGET_FILES.run(transaction, tenant=tenant_id))
        self._database.write(lambda transaction: _unmark(transaction, tenant_id, account_id))
        forget_sent_of(self._database, tenant_id, account_id)
        return total


def _unmark(transaction: Transaction, tenant_id: TenantId, account_id: AccountId | None) -> None:
    if account_id is None:
        _UNMARK_TENANT.run(transaction, tenant=tenant_id)
    else:
        _UNMARK_ACCOUNT.run(transaction, tenant=tenant_id, account=account_id)
