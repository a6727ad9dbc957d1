"""Files below run/feed: sockets of who listens to the change feed, and beside them tables of which accounts they watch.

A table has one octet for each of `SLOTS` accounts, and accounts so many numbers apart share one: what is told in vain
does no harm. The process that watches writes it, everybody who commits maps it and looks there first. So whoever nobody
watches costs a publisher a look, and nobody else anything.

Nothing is missed between the two: a publisher looks after its commit; whoever begins to watch looks at the database
after the table has it.
"""

from __future__ import annotations

import mmap
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path

from storage.files import durable
from storage.values import AccountId

SLOTS = 1 << 16
SOCKET, TABLE = ".sock", ".watched"  # how names end
_MASK = SLOTS - 1
_TO_SOCKET = 60.0  # seconds after which a table without a socket will not get one any more


class Addresses:
    """Socket addresses below a directory whose path may be longer than the 107 octets an address takes."""

    def __init__(self, directory: Path) -> None:
        self._descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def of(self, name: str) -> str:
        return f"/proc/self/fd/{self._descriptor}/{name}"

    def close(self) -> None:
        os.close(self._descriptor)


class WatchedAccounts:
    """The table of one subscriber, for itself. An account may be watched several times. Raises StorageFull."""

    def __init__(self, socket: Path) -> None:
        self._path = socket.with_suffix(TABLE)
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise durable.translated(error) from None
        try:
            os.posix_fallocate(descriptor, 0, SLOTS)  # else the first octet on a full disk ends the process (SIGBUS)
            self._table = mmap.mmap(descriptor, SLOTS)
        except OSError as error:
            self._path.unlink()
            raise durable.translated(error) from None
        finally:
            os.close(descriptor)
        self._counts: Counter[int] = Counter()

    def watch(self, account_id: AccountId) -> None:
        slot = account_id & _MASK
        self._counts[slot] += 1
        self._table[slot] = 1

    def unwatch(self, account_id: AccountId) -> None:
        slot = account_id & _MASK
        self._counts[slot] -= 1
        if not self._counts[slot]:
            del self._counts[slot]
            self._table[slot] = 0

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        self._table.close()


def table_of(socket: Path) -> mmap.mmap | None:
    """The table beside a socket, for who publishes; None: its subscriber watches all accounts, or so it is told."""
    try:
        descriptor = os.open(socket.with_suffix(TABLE), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # there is none, or no descriptor is left: whoever commits must not fail for it
        return None
    try:
        return mmap.mmap(descriptor, SLOTS, prot=mmap.PROT_READ)
    except (OSError, ValueError):
        return None
    finally:
        os.close(descriptor)


def is_watched(table: mmap.mmap, account_id: AccountId) -> bool:
    return bool(table[account_id & _MASK])


def sweep(directory: Path, now: float) -> None:
    """Tables whose process was killed before it had a socket: nobody else would find them."""
    for table in directory.glob("*" + TABLE):
        with suppress(OSError):
            if not table.with_suffix(SOCKET).exists() and now - table.stat().st_mtime > _TO_SOCKET:
                table.unlink()


def remove(socket: Path) -> None:
    """What a dead subscriber left behind; the socket last, since by it the rest is found."""
    socket.with_suffix(TABLE).unlink(missing_ok=True)
    socket.unlink(missing_ok=True)
