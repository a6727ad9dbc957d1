"""`python -m storage.backup.snapshot`: copies databases that others have open, each in one step, under its own key.

A process of its own, since whoever holds connections may not open, hash or copy a database's file (closing it would
drop SQLite's locks). Requests come as lines of JSON on standard input, one for each database, with the key; nothing is
kept between two of them, and the process ends with its parent. The copy is made by SQLite's backup in one read
transaction: writers go on meanwhile and what they commit is in the next backup. Every page is decrypted, verified and
encrypted again under the same key and a new salt, so a damaged page is noticed here.

    {"source", "target", "key", "kind"}  →  {"names": […]} …, then {"size", "digest", "mark"} or {"error", "detail"}
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from storage import errors
from storage.backup import files
from storage.database.errors import translated
from storage.database.lockfile import LockFile, lock_path
from storage.database.opening import Driver, Error, connect
from storage.errors import CleanmailError

_PATIENCE = 30.0  # seconds that a migration of the database is waited for
_BATCH = 5000
_PR_SET_PDEATHSIG = 1

# Which files the rows of a kind of database name: its tables, and what is listed of each.
NAMES = {
    "account": (
        ("message", "SELECT file FROM message"),
        ("object_data", "SELECT DISTINCT 'objects/cur/' || file FROM object_data WHERE file IS NOT NULL"),
    ),
    "tenant": (("quarantine", "SELECT file FROM quarantine"),),
    "queue": (("entry", "SELECT tenant_id || '/' || file FROM entry"),),
}


def main() -> None:
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            _answer(_snapshot(request))
        except Error as error:
            _answer(_failure(_translated(error)))
        except CleanmailError as error:
            _answer(_failure(error))
        except OSError as error:
            _answer(_failure(files.failed(error)))


def _snapshot(request: dict[str, Any]) -> dict[str, Any]:
    source, target = Path(request["source"]), Path(request["target"])
    key = bytes.fromhex(request["key"])
    mark = files.mark_of_database(str(source))  # before: what is written from now on makes it look different
    lock_file = LockFile(lock_path(source))
    try:
        lock_file.share(_PATIENCE)
        _copy(source, target, key, request["kind"])
    finally:
        lock_file.close()
    size, digest = files.measure(str(target))
    return {"size": size, "digest": digest, "mark": mark}


def _copy(source: Path, target: Path, key: bytes, kind: str) -> None:
    original = connect(source, key)
    try:
        copied = connect(target, key, create=True)
        try:
            # It is no database before it is whole: the file system is synced once, at the end of the backup.
            copied.execute("PRAGMA synchronous = OFF").fetchall()
            original.backup(copied, pages=-1)
            _list(copied, kind)
        finally:
            copied.close()
    finally:
        original.close()


def _list(driver: Driver, kind: str) -> None:
    """The files that its rows name."""
    for table, statement in NAMES.get(kind, ()):
        if not driver.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchall():
            continue
        cursor = driver.execute(statement)
        while rows := cursor.fetchmany(_BATCH):
            _answer({"names": [row[0] for row in rows]})


def _failure(error: CleanmailError) -> dict[str, Any]:
    return {"error": type(error).__name__, "public": error.public, "detail": error.detail}


def _translated(error: Exception) -> CleanmailError:
    found = translated(error)
    return found if isinstance(found, CleanmailError) else errors.Unavailable(detail=type(error).__name__)


def error_of(answer: dict[str, Any]) -> CleanmailError:
    """The error that an answer tells of."""
    kind = getattr(errors, str(answer["error"]), errors.Unavailable)
    error: CleanmailError = kind(answer["public"], detail=answer["detail"])
    return error


def _answer(words: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(words).encode("ascii") + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
