"""Which backups of this installation there are, in control.db: so that who erases knows until when a copy could exist.

A row is written when a backup is complete, and goes when the backup is removed; the files themselves say everything
else. Every change is durable on return.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.dialects.sqlite import insert

from storage.clock import Clock
from storage.database.database import Database
from storage.database.prepared import prepare
from storage.schema.contracts import backup

_COLUMNS = (
    backup.c.backup_id,
    backup.c.made,
    backup.c.place,
    backup.c.files,
    backup.c.bytes,
    backup.c.verified,
    backup.c.expires,
)
_ALL = prepare(select(*_COLUMNS).order_by(backup.c.made, backup.c.backup_id))
_INSERT = prepare(insert(backup).on_conflict_do_nothing())
_VERIFIED = prepare(update(backup).where(backup.c.backup_id == bindparam("id")).values(verified=bindparam("time")))
_DELETE = prepare(delete(backup).where(backup.c.backup_id == bindparam("id")))


@dataclass(frozen=True, slots=True)
class BackupRow:
    backup_id: str
    made: int
    place: str  # the folder that holds it and others
    files: int
    bytes: int
    verified: int | None  # when a mailbox of it was last restored and found whole
    expires: int | None  # when it is removed at the latest

    @property
    def name(self) -> str:
        """Of its folder in `place`."""
        return self.backup_id.partition("-")[0]


class Backups:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(self, row: BackupRow) -> None:
        """A backup that is complete. Repeated for the same one nothing happens."""
        self._database.write(
            lambda transaction: _INSERT.run(
                transaction,
                backup_id=row.backup_id,
                made=row.made,
                place=row.place,
                files=row.files,
                bytes=row.bytes,
                verified=row.verified,
                expires=row.expires,
            )
        )

    def verified(self, backup_id: str) -> None:
        """It was verified now."""
        now = self._clock.now()
        self._database.write(lambda transaction: _VERIFIED.run(transaction, id=backup_id, time=now))

    def removed(self, backup_id: str) -> None:
        self._database.write(lambda transaction: _DELETE.run(transaction, id=backup_id))

    def all(self) -> list[BackupRow]:
        """In the order in which they were made."""
        with self._database.reading() as connection:
            return [BackupRow(*row) for row in _ALL.rows(connection)]
