"""How a connection to a database of SQLCipher is opened; without SQLAlchemy, for short-lived processes.

The key goes in by `set_key`, never into a URL, a statement or a log. Only `create=True` makes a file. Autocommit is
on: transactions are what `storage.database.database` says they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlcipher3

from storage.database.errors import translated
from storage.errors import NotFound

Driver = Any  # sqlcipher3.Connection: the module has no types

Error: type[Exception] = sqlcipher3.Error

BUSY_TIMEOUT = 5_000  # ms; a backstop only: writers hold the lock file, see storage.database.lockfile
SMALL_CACHE = 512  # KiB
_JOURNAL_SIZE_LIMIT = 4 << 20  # a write-ahead log that has grown is cut back to this when it starts anew
_OPEN_EXRESCODE = 0x02000000  # extended result codes: which I/O failed, which constraint
_WAL_PAGES = 1_000  # without a Checkpointer, SQLite's own default


def connect(
    path: Path, key: bytes, *, create: bool = False, cache: int = SMALL_CACHE, autocheckpoint: bool = True
) -> Driver:
    """A connection in autocommit mode, whose key has been tried. `key` is raw: 32 octets from `database_key`.

    Raises: NotFound (no such file), Corrupt (not a database, or not with this key), Unavailable.
    """
    flags = sqlcipher3.SQLITE_OPEN_READWRITE | _OPEN_EXRESCODE | (sqlcipher3.SQLITE_OPEN_CREATE if create else 0)
    try:
        driver: Driver = sqlcipher3.connect(str(path), flags=flags, isolation_level=None, check_same_thread=False)
    except sqlcipher3.Error as error:
        if not path.exists():
            raise NotFound("There is no such database.") from None
        raise translated(error) from None
    try:
        driver.set_busy_timeout(BUSY_TIMEOUT)
        driver.set_key(b"x'" + key.hex().encode("ascii") + b"'")
        for pragma in (
            "cipher_hmac_algorithm = HMAC_SHA256",  # processors have instructions for it: half again as fast as SHA-512
            f"cache_size = -{cache}",
            "secure_delete = ON",
            f"journal_size_limit = {_JOURNAL_SIZE_LIMIT}",
            f"wal_autocheckpoint = {_WAL_PAGES if autocheckpoint else 0}",
            "user_version",  # reads the first page
        ):
            driver.execute(f"PRAGMA {pragma}").fetchall()
    except sqlcipher3.Error as error:
        driver.close()
        raise translated(error) from None
    return driver
