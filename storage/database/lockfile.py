"""The lock file beside a database: who may write now, and who has it open at all.

Writers take `flock` on it and only then BEGIN IMMEDIATE: SQLite's own way to wait for a writer is to sleep (p99 56 ms
between processes against 5). Whoever has the database open also holds a shared record lock on the file's first octet,
the database's lease; a migration, a rotation of its key or a restore takes that one exclusively. The two kinds of lock
do not see each other, both end with the process, and neither lies on the database file itself, where closing a second
descriptor would drop the locks of SQLite.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import Unavailable
from storage.files.durable import translated

_POLL = 0.01  # seconds between tries for a lease, which is rare; writers never poll


def lock_path(database: Path) -> Path:
    return database.with_name(database.name + ".lock")


class LockFile:
    """Not thread-safe: the database serialises its writers before they come here."""

    __slots__ = ("_borrowed", "_descriptor", "_path")

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._descriptor = _open(self._path)
        self._borrowed = -1  # a second descriptor, on which another thread waited for us

    def close(self) -> None:
        """Every lock ends."""
        if self._borrowed >= 0:
            os.close(self._borrowed)
        os.close(self._descriptor)

    # The writer's lock

    def try_write(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def write(self, timeout: float) -> None:
        """Wait for the writer's lock. Raises Unavailable after `timeout` seconds.

        flock knows no time limit, so when the lock is not free another thread waits in the kernel and hands over its
        descriptor; one that comes too late lets go at once.
        """
        if self.try_write():
            return
        waiter = _Waiter(self._path)
        self._borrowed = waiter.wait(timeout)

    def written(self) -> None:
        if self._borrowed >= 0:
            os.close(self._borrowed)
            self._borrowed = -1
        else:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    # The lease

    def share(self, timeout: float) -> None:
        """Say that the database is open here. Raises Unavailable while somebody has it exclusively."""
        self._record_lock(fcntl.F_RDLCK, timeout)

    def unshare(self) -> None:
        self._record_lock(fcntl.F_UNLCK, 0)

    @contextmanager
    def exclusively(self, timeout: float) -> Iterator[None]:
        """Nobody else has the database open. Give the shared lease back before; afterwards it is held again."""
        self._record_lock(fcntl.F_WRLCK, timeout)
        try:
            yield
        finally:
            self._record_lock(fcntl.F_RDLCK, 0)  # one step for the kernel: nobody gets in between

    def _record_lock(self, kind: int, timeout: float) -> None:
        request = struct.pack("hhqqi0q", kind, os.SEEK_SET, 0, 1, 0)
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, request)
                return
            except (BlockingIOError, PermissionError):
                if time.monotonic() >= deadline:
                    raise Unavailable(detail="database lease is held by another process") from None
            time.sleep(_POLL)


class _Waiter:
    """One wait for the writer's lock on a descriptor and a thread of its own."""

    def __init__(self, path: str) -> None:
        self._descriptor = _open(path)
        self._guard = threading.Lock()
        self._settled = threading.Event()
        self._has_lock = False
        self._given_up = False

    def wait(self, timeout: float) -> int:
        threading.Thread(target=self._block, name="database-lock", daemon=True).start()
        self._settled.wait(timeout)
        with self._guard:
            if self._has_lock:
                return self._descriptor
            self._given_up = True
        raise Unavailable(detail="database is locked by another writer")

    def _block(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        with self._guard:
            if self._given_up:
                os.close(self._descriptor)
            else:
                self._has_lock = True
        self._settled.set()


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise translated(error) from None
