"""How a database comes to be open in this process: with its lease held, in a file of this version.

Whoever holds the lease keeps others from migrating the file, or taking it away, under connections.

Raises: Unavailable (others hold it for too long; a newer file), and what opening raises.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from storage.database.driver import Driver
from storage.database.lockfile import LockFile, lock_path
from storage.database.migrations import Schema, migrate, needs_migration


def open_leased(
    path: Path, schema: Schema, connect_only: Callable[[], Driver], patience: float
) -> tuple[Driver, LockFile]:
    """The first connection, and what holds the lease; migrated if the file is older. `patience`: seconds."""
    lock_file = LockFile(lock_path(path))
    try:
        lock_file.share(patience)
        driver = connect_only()
        if _needs_migration(driver, schema):
            driver.close()
            lock_file.unshare()
            with lock_file.exclusively(patience):
                _migrate(connect_only(), schema)
            driver = connect_only()
    except BaseException:
        lock_file.close()
        raise
    return driver, lock_file


def _needs_migration(driver: Driver, schema: Schema) -> bool:
    try:
        return needs_migration(driver, schema)
    except BaseException:
        driver.close()
        raise


def _migrate(driver: Driver, schema: Schema) -> None:
    try:
        if needs_migration(driver, schema):  # another process may have done it meanwhile
            migrate(driver, schema)
    finally:
        driver.close()
