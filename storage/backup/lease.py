"""While a part of an installation is copied, none of its files is removed: the lease that removers look at.

A lease is a lock on run/backup/<scope> that ends with the process that holds it, and after `LONGEST` seconds in any
case: then removal goes on, and the backup takes its snapshot again. Whoever removes files that no row names any more
asks first; while the answer is yes the rows that say what is to be removed stay, and removal is tried again later.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.files import durable

LONGEST = 1800.0  # seconds that removal waits for one part
RETRY = 15.0  # seconds after which removal is tried again

QUEUE = "queue"  # the spools of all tenants


def scope_of_tenant(tenant_id: int) -> str:
    """The quarantine of a tenant."""
    return f"{tenant_id:d}"


def scope_of_account(tenant_id: int, account_id: int) -> str:
    return f"{tenant_id:d}-{account_id:d}"


class Held:
    """A lease while it is held."""

    def __init__(self, ends: float) -> None:
        self._ends = ends

    @property
    def is_over(self) -> bool:
        """Whether removers do not wait any more."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) >= self._ends


@contextmanager
def hold(data: Path, scope: str, longest: float = LONGEST) -> Iterator[Held]:
    """Nothing of `scope` is removed until the context is left. Raises Unavailable."""
    folder = data / "run" / "backup"
    durable.make_directory(folder)
    ends = time.clock_gettime(time.CLOCK_BOOTTIME) + longest
    try:
        descriptor = os.open(folder / scope, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise durable.translated(error) from None
    try:
        os.pwrite(descriptor, b"%030.9f" % ends, 0)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield Held(ends)
    finally:
        (folder / scope).unlink(missing_ok=True)
        os.close(descriptor)


def is_held(data: Path | str, scope: str) -> bool:
    """Whether files of `scope` have to stay for now. Two microseconds where no backup is at work."""
    try:
        descriptor = os.open(f"{data}/run/backup/{scope}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            return time.clock_gettime(time.CLOCK_BOOTTIME) < float(os.pread(descriptor, 32, 0) or b"0")
        except ValueError:
            return False
    finally:
        os.close(descriptor)
    return False  # whoever held it has died


def is_account_held(root: Path) -> bool:
    """Of the account whose folder is DATA/tenants/<tenant>/accounts/<account>."""
    parents = root.parents
    return len(parents) > 3 and is_held(parents[3], f"{parents[1].name}-{root.name}")
