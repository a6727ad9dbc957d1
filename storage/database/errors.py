"""What SQLite's result codes mean in the one taxonomy of errors.

A failed fsync of the write-ahead log or the database ends the process, as `storage.files.durable` explains.
"""

from __future__ import annotations

from typing import Any, Final

from storage.errors import AlreadyExists, Busy, CleanmailError, Corrupt, StorageFull, Unavailable
from storage.files.durable import end_process

__all__ = ["Busy", "translated"]

# https://www.sqlite.org/rescode.html
_BUSY, _LOCKED, _READONLY, _IOERR, _CORRUPT, _FULL, _CANTOPEN, _NOTADB = 5, 6, 8, 10, 11, 13, 14, 26
_IOERR_FSYNC, _IOERR_DIR_FSYNC, _IOERR_SHMSIZE, _IOERR_CORRUPTFS, _IOERR_DATA = 1034, 1290, 4874, 8458, 8202
_CONSTRAINT_PRIMARYKEY, _CONSTRAINT_UNIQUE, _CONSTRAINT_ROWID = 1555, 2067, 2579

_BY_CODE: Final[dict[int, type[CleanmailError]]] = {
    _IOERR_SHMSIZE: StorageFull,  # the shared memory file could not grow
    _IOERR_CORRUPTFS: Corrupt,
    _IOERR_DATA: Corrupt,
    _CONSTRAINT_PRIMARYKEY: AlreadyExists,
    _CONSTRAINT_UNIQUE: AlreadyExists,
    _CONSTRAINT_ROWID: AlreadyExists,
}
_BY_KIND: Final[dict[int, type[CleanmailError]]] = {
    _BUSY: Unavailable,
    _LOCKED: Unavailable,
    _READONLY: Unavailable,
    _IOERR: Unavailable,
    _CORRUPT: Corrupt,
    _FULL: StorageFull,
    _CANTOPEN: Unavailable,
    _NOTADB: Corrupt,  # not a database, or not under this key: SQLCipher cannot tell which
}


def translated(error: Any) -> Exception:
    """The error to raise for an error of the driver. A mistake in a statement stays what it is."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return error if isinstance(error, Exception) else Unavailable()
    if code in {_IOERR_FSYNC, _IOERR_DIR_FSYNC}:
        end_process(f"fsync of a database failed: SQLite code {code}")
    kind = _BY_CODE.get(code) or _BY_KIND.get(code & 0xFF)
    if kind is None:
        return error if isinstance(error, Exception) else Unavailable()
    return kind(detail=f"SQLite code {code}")
