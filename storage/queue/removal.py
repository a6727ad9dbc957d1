"""An entry goes: its rows in one commit that also names its file; then the file; then its name, with a later commit.

So content that nothing needs any more is removed whoever was killed in between: the sweep removes what the rows name.

Raises: Unavailable, StorageFull.
"""

from __future__ import annotations

from collections import deque
from functools import partial

from sqlalchemy import bindparam, delete, insert, select

from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.queue.spool import Spool
from storage.schema.queue import entry, recipient, unlink
from storage.values import TenantId

_SLICE = 500

_DELETE_RECIPIENTS = prepare(delete(recipient).where(recipient.c.queue_id == bindparam("id")))
_DELETE_ENTRY = prepare(delete(entry).where(entry.c.queue_id == bindparam("id")))
_INSERT_UNLINK = prepare(insert(unlink))
_DELETE_UNLINK = prepare(
    delete(unlink).where(unlink.c.tenant_id == bindparam("tenant"), unlink.c.file == bindparam("name"))
)
_UNLINK_OF_TENANT = prepare(
    select(unlink.c.file)
    .where(unlink.c.tenant_id == bindparam("tenant"), unlink.c.file > bindparam("after"))
    .order_by(unlink.c.file)
    .limit(_SLICE)
)


class Removals:
    """The files of entries that are gone. Any thread may use it."""

    def __init__(self, database: Database, spool: Spool) -> None:
        self._database = database
        self._spool = spool
        self._removed: deque[tuple[TenantId, str]] = deque()  # files whose row may go

    def remove(self, transaction: Transaction, tenant_id: TenantId, queue_id: str, file: str) -> None:
        """The entry's rows now, its content right after the commit."""
        _DELETE_RECIPIENTS.run(transaction, id=queue_id)
        _DELETE_ENTRY.run(transaction, id=queue_id)
        _INSERT_UNLINK.run(transaction, tenant_id=tenant_id, file=file)
        self._forget(transaction)
        transaction.after_commit(partial(self._unlink, tenant_id, file))

    def finish(self, tenant_id: TenantId) -> int:
        """Removes the tenant's files that are named still, whoever was to remove them; how many."""
        finished, after = 0, ""
        while True:
            with self._database.reading() as connection:
                rows = _UNLINK_OF_TENANT.rows(connection, tenant=tenant_id, after=after)
            if not rows:
                return finished
            for (file,) in rows:
                finished += self._unlink(tenant_id, file)
            self.flush()
            after = rows[-1][0]

    def flush(self) -> None:
        """Forgets the files that are removed."""
        if self._removed:
            self._database.write(self._forget, durable=False)

    def _unlink(self, tenant_id: TenantId, file: str) -> bool:
        if self._spool.is_being_copied():  # the row stays, and `finish` removes the file when it is asked next
            return False
        removed = self._spool.remove(tenant_id, file)
        if removed:
            self._removed.append((tenant_id, file))
        return removed

    def _forget(self, transaction: Transaction) -> None:
        """If this is not committed, the sweep finds the rows."""
        rows = []
        while self._removed:
            try:
                tenant_id, file = self._removed.popleft()
            except IndexError:  # another thread was quicker
                break
            rows.append({"tenant": tenant_id, "name": file})
        _DELETE_UNLINK.run_many(transaction, rows)
