"""Makes a new database, whole or not at all.

It is made under another name beside its own, closed, and renamed, under the writer's lock of the new name; what a crash
leaves behind is removed by the next try. When `create_file` returns, the file and its directory entry are on the disk.

Raises: AlreadyExists, StorageFull, Unavailable.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from storage.clock import Clock
from storage.database.batch import Transaction, Work, carry_out
from storage.database.driver import Error, connect
from storage.database.errors import translated
from storage.database.lockfile import LockFile, lock_path
from storage.database.migrations import Schema
from storage.errors import AlreadyExists
from storage.files import durable

Fill = Callable[[Transaction], object]


def create_file(path: Path, key: bytes, schema: Schema, clock: Clock, fill: Fill | None, timeout: float) -> None:
    """`key` is the database's own (`driver.database_key`); `fill` writes what stands in it from the start."""
    lock_file = LockFile(lock_path(path))
    try:
        lock_file.write(timeout)
        if path.exists():
            raise AlreadyExists("The database exists already.")
        _make(path, key, schema, clock, fill)
    finally:
        lock_file.close()


def _make(path: Path, key: bytes, schema: Schema, clock: Clock, fill: Fill | None) -> None:
    """A whole database under another name, then under its own."""
    temporary = path.with_name(f".{path.name}.new")
    _remove(temporary)
    try:
        driver = connect(temporary, key, create=True)
        try:
            driver.execute("PRAGMA journal_mode = WAL").fetchall()
            work = Work(lambda transaction: _define(transaction, schema, fill), durable=True)
            carry_out(driver, [work], clock)
            if work.error is not None:
                raise work.error
        finally:
            driver.close()  # the last connection: the log goes into the file, fsynced
        temporary.rename(path)
    except BaseException as error:
        _remove(temporary)
        if isinstance(error, OSError):
            raise durable.translated(error) from error
        raise translated(error) from None if isinstance(error, Error) else error
    durable.fsync_directory(path.parent)


def _define(transaction: Transaction, schema: Schema, fill: Fill | None) -> None:
    for statement in schema.definitions():
        transaction.driver.execute(statement)
    transaction.driver.execute(f"PRAGMA user_version = {int(schema.version)}")
    if fill is not None:
        fill(transaction)


def _remove(path: Path) -> None:
    """A database that nobody has open, with its log."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
