"""One server for a data directory: a lock that the kernel gives back when its holder ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import Unavailable

_LOCK = Path("run", "serve.lock")


@contextmanager
def only_server(data: Path) -> Iterator[None]:
    """Hold the data directory's server lock. Raises Unavailable if another server has it."""
    try:
        (data / "run").mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(data / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.geteuid() == 0:  # the next server may be started by the data's owner
            os.fchown(descriptor, data.stat().st_uid, data.stat().st_gid)
    except OSError as error:
        raise Unavailable(f"{data} cannot be used: {error.strerror}.") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            raise Unavailable(f"A server runs on {data} already (process {holder}).") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def server_runs(data: Path, locks: Path = Path("/proc/locks")) -> bool:
    """Whether somebody holds the lock; False where the kernel does not tell. Nobody who takes it is disturbed."""
    try:
        inode = (data / _LOCK).stat().st_ino
        lines = locks.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    held = [line.split() for line in lines]
    return any(len(words) >= 6 and words[1] == "FLOCK" and words[5].endswith(f":{inode}") for words in held)
