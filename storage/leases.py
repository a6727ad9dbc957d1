"""The lease of a tenant: whoever uses its data holds it shared, whoever ends it takes it exclusively.

A lease is a lock on run/leases/<tenant id> that ends with the process. Erasure takes it exclusively, so when it has it,
no process has a database of the tenant open and none will open one.

Raises: Unavailable (somebody holds it so that it cannot be given now).
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import Unavailable
from storage.files import durable
from storage.register import classes
from storage.register.values import FileClass
from storage.values import TenantId

_POLL = 0.02  # seconds between tries: leases are taken rarely and held long


FILES = (FileClass("run/leases/*", classes.INSTALLATION, "locks: who uses a tenant; empty"),)


class TenantLease:
    """One process's share of a tenant's lease; it counts its users, and may be used by any thread."""

    def __init__(self, data: Path, tenant: TenantId) -> None:
        directory = data / "run" / "leases"
        durable.make_directory(directory)
        self._path = directory / str(int(tenant))
        self._guard = threading.Lock()
        self._users = 0
        self._descriptor = -1

    @property
    def held(self) -> bool:
        return self._users > 0

    def acquire(self, timeout: float = 0.0) -> None:
        """One more user here; each of them calls `release`."""
        with self._guard:
            if not self._users:
                self._descriptor = _lock(self._path, fcntl.LOCK_SH, timeout)
            self._users += 1

    def release(self) -> None:
        with self._guard:
            if not self._users:
                raise RuntimeError("a lease was released more often than taken")
            self._users -= 1
            if not self._users:
                os.close(self._descriptor)
                self._descriptor = -1

    @contextmanager
    def shared(self, timeout: float = 0.0) -> Iterator[None]:
        self.acquire(timeout)
        try:
            yield
        finally:
            self.release()

    @contextmanager
    def exclusive(self, timeout: float) -> Iterator[None]:
        """Nobody uses the tenant, here or elsewhere, until the context is left."""
        descriptor = _lock(self._path, fcntl.LOCK_EX, timeout)
        try:
            yield
        finally:
            os.close(descriptor)


def _lock(path: Path, kind: int, timeout: float) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise durable.translated(error) from None
    deadline = time.monotonic() + timeout
    try:
        while True:
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Unavailable(detail="the lease of the tenant is held by another process") from None
            time.sleep(_POLL)
    except BaseException:
        os.close(descriptor)
        raise
