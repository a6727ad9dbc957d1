"""A withheld message goes: its rows in one commit that also names its files; then the files; then their name.

So content that nobody may get any more is removed whoever was killed in between: `finish` removes what the rows name.

Raises: Unavailable, StorageFull.
"""

from __future__ import annotations

from collections import deque
from functools import partial

from sqlalchemy import bindparam, delete, insert, select

from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.quarantine.files import QuarantineFiles
from storage.schema.tenant import quarantine, quarantine_recipient, quarantine_unlink

_SLICE = 500

_DELETE_RECIPIENTS = prepare(
    delete(quarantine_recipient).where(quarantine_recipient.c.quarantine_id == bindparam("id"))
)
_DELETE_MESSAGE = prepare(
    delete(quarantine).where(quarantine.c.quarantine_id == bindparam("id")).returning(quarantine.c.file)
)
_INSERT_UNLINK = prepare(insert(quarantine_unlink))
_DELETE_UNLINK = prepare(delete(quarantine_unlink).where(quarantine_unlink.c.file == bindparam("name")))
_TO_UNLINK = prepare(
    select(quarantine_unlink.c.file)
    .where(quarantine_unlink.c.file > bindparam("after"))
    .order_by(quarantine_unlink.c.file)
    .limit(_SLICE)
)


class Removals:
    """The files of messages that are settled. Any thread may use it."""

    def __init__(self, database: Database, files: QuarantineFiles) -> None:
        self._database = database
        self._files = files
        self._removed: deque[str] = deque()  # whose row may go

    def remove(self, transaction: Transaction, quarantine_id: str) -> None:
        """The message's rows now, its files right after the commit."""
        _DELETE_RECIPIENTS.run(transaction, id=quarantine_id)
        for (file,) in _DELETE_MESSAGE.rows(transaction, id=quarantine_id):
            _INSERT_UNLINK.run(transaction, file=file)
            transaction.after_commit(partial(self._unlink, file))
        self._forget(transaction)

    def finish(self) -> int:
        """Removes the files that are named still, whoever was to remove them; of how many messages."""
        finished, after = 0, ""
        while True:
            with self._database.reading() as connection:
                rows = _TO_UNLINK.rows(connection, after=after)
            if not rows:
                return finished
            for (file,) in rows:
                finished += self._unlink(file)
            self._database.write(self._forget, durable=False)
            after = rows[-1][0]

    def _unlink(self, file: str) -> bool:
        if self._files.are_being_copied():  # the row stays, and `finish` removes them when it is asked next
            return False
        removed = self._files.remove(file)
        if removed:
            self._removed.append(file)
        return removed

    def _forget(self, transaction: Transaction) -> None:
        """If this is not committed, `finish` finds the rows."""
        rows = []
        while self._removed:
            try:
                rows.append({"name": self._removed.popleft()})
            except IndexError:  # another thread was quicker
                break
        _DELETE_UNLINK.run_many(transaction, rows)
