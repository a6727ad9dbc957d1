"""How a database comes to be open in this process: with its lease held, in a file of this version.

Whoever holds the lease keeps others from migrating the file, or taking it away, under connections.

Raises: Unavailable (others hold it for too long; a newer file), and what opening raises.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from storage.database.driver import Driver
from storage.database.lockfile import LockFile, lock_path
from storage.database.migrations import Schema, migrate, needs_migration
from storage.errors import Unavailable

_TURN: Final = 0.5  # seconds for which others are waited for before the file is looked at again


def open_leased(
    path: Path, schema: Schema, connect_only: Callable[[], Driver], patience: float
) -> tuple[Driver, LockFile]:
    """The first connection, and what holds the lease; migrated if the file is older. `patience`: seconds."""
    lock_file = LockFile(lock_path(path))
    until = time.monotonic() + patience
    try:
        while True:
            lock_file.share(patience)
            driver = connect_only()
            if not _needs_migration(driver, schema):
                return driver, lock_file
            driver.close()
            lock_file.unshare()
            with ExitStack() as lease:
                try:
                    lease.enter_context(lock_file.exclusively(_TURN))
                except Unavailable:  # who has migrated it meanwhile shares it from now on: it is to be looked at again
                    if time.monotonic() >= until:
                        raise
                    continue
                _migrate(connect_only(), schema)
    except BaseException:
        lock_file.close()
        raise


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
