"""Dated copies of keys/ that were made, in control.db: until when one could exist that opens what was destroyed here.

A copy is recorded before its first file is written and counts until it is recorded that it was removed. Every change is
durable on return.

Raises: NotFound.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, func, insert, select, update

from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.errors import NotFound
from storage.schema.contracts import key_backup

_COLUMNS = (
    key_backup.c.backup_id,
    key_backup.c.made,
    key_backup.c.expires,
    key_backup.c.place,
    key_backup.c.master,
    key_backup.c.removed,
)
_ALL = prepare(select(*_COLUMNS).order_by(key_backup.c.made, key_backup.c.backup_id))
_LEFT = prepare(
    select(*_COLUMNS).where(key_backup.c.removed.is_(None)).order_by(key_backup.c.made, key_backup.c.backup_id)
)
_UNTIL = prepare(select(func.max(key_backup.c.expires)).where(key_backup.c.removed.is_(None)))
_INSERT = prepare(insert(key_backup))
_REMOVED = prepare(
    update(key_backup).where(key_backup.c.backup_id == bindparam("which")).values(removed=bindparam("time"))
)
_ONE = prepare(select(*_COLUMNS).where(key_backup.c.backup_id == bindparam("which")))


@dataclass(frozen=True, slots=True)
class KeyBackup:
    backup_id: str
    made: int
    expires: int
    folder: Path  # where it was written
    master: int  # the generation of the master that wraps what it holds
    removed: int | None = None


class KeyBackups:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def record(self, folder: Path, *, expires: int, master: int) -> KeyBackup:
        """One that is about to be made."""
        made = KeyBackup(secrets.token_hex(8), self._clock.now(), expires, folder, master)

        def work(transaction: Transaction) -> None:
            _INSERT.run(
                transaction,
                backup_id=made.backup_id,
                made=made.made,
                expires=expires,
                place=str(folder),
                master=master,
                removed=None,
            )

        self._database.write(work)
        return made

    def removed(self, backup_id: str) -> None:
        """It is not there any more; said twice it is the same."""
        now = self._clock.now()

        def work(transaction: Transaction) -> None:
            row = _ONE.one(transaction, which=backup_id)
            if row is None:
                raise NotFound("There is no such copy of the keys.")
            if row[5] is None:
                _REMOVED.run(transaction, which=backup_id, time=now)

        self._database.write(work)

    def all(self) -> list[KeyBackup]:
        """The oldest first; removed ones too."""
        with self._database.reading() as connection:
            return [_backup(row) for row in _ALL.rows(connection)]

    def left(self) -> list[KeyBackup]:
        """Those that are not recorded as removed, the oldest first."""
        with self._database.reading() as connection:
            return [_backup(row) for row in _LEFT.rows(connection)]

    def until(self) -> int | None:
        """When the last of those that are left expires."""
        with self._database.reading() as connection:
            row = _UNTIL.one(connection)
        return int(row[0]) if row is not None and row[0] is not None else None


def _backup(row: tuple[Any, ...]) -> KeyBackup:
    return KeyBackup(row[0], row[1], row[2], Path(row[3]), row[4], row[5])
