"""The tables of all processes that hold limits together: one file each in DATA/run/limits, mapped into memory.

A table is locked by its process as long as it lives, however it ends; the table of a dead one counts for nothing and is
removed by whoever notices. The folder is in memory (/dev/shm, where there is one; DATA/run/limits leads there), so that
no write ever waits for a disk, and a file's pages are taken when it is made, so that a full one ends no process
(SIGBUS). Beside the tables lies what is common to all: the key of their hashes, so that no table names anybody, and how
often somebody came or went, so that nobody is overlooked.

Raises OSError where a folder or a file cannot be made; looking at the others raises nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.smtp.limit_table import SIZE, LimitTable
from storage.register import classes
from storage.register.values import FileClass

_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder in it has a name of its own and belongs to nobody else
_PREFIX = "cleanmail-limits-"
_SUFFIX = ".table"
_COMMON = "common"
_PATIENCE = 2.0  # seconds for others to make or remove the folder
_KEY_SIZE = 16
_COMMON_SIZE = _KEY_SIZE + 8

FILES = (
    FileClass("run/limits", classes.SENDING, "leads to the tables in memory: connections by keyed hash, no names"),
    FileClass("run/limits/*", classes.SENDING, "the tables, where there is no memory for files"),
)


class TableFile:
    """A table in a file: one's own, or another process's, to read."""

    def __init__(self, path: Path, descriptor: int, *, own: bool) -> None:
        self._path = path
        self._descriptor = descriptor
        self._map = mmap.mmap(descriptor, SIZE, prot=mmap.PROT_READ | (mmap.PROT_WRITE if own else 0))
        self._view = memoryview(self._map)
        self.table = LimitTable(self._view)

    @property
    def dead(self) -> bool:
        """Of another process's: whether it is over."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        self.table.release()
        self._view.release()
        self._map.close()
        os.close(self._descriptor)


class Common:
    """The key of all hashes, and a number that grows whenever somebody comes or goes."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size != _COMMON_SIZE:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, secrets.token_bytes(_KEY_SIZE) + bytes(8), 0)
            self._map = mmap.mmap(descriptor, _COMMON_SIZE)
        finally:
            os.close(descriptor)
        self.key = self._map[:_KEY_SIZE]
        self._view = memoryview(self._map)
        self._number = self._view[_KEY_SIZE:].cast("Q")

    @property
    def number(self) -> int:
        return self._number[0]

    def count_up(self) -> None:
        self._number[0] += 1

    def close(self) -> None:
        self._number.release()
        self._view.release()
        self._map.close()


class LimitFolder:
    """The folder as one process sees it: its own table, those of the living others, and the key of all hashes."""

    def __init__(self, run: Path) -> None:
        """In DATA/run."""
        self._run = run
        self._link = run / "limits"
        self._others: dict[str, TableFile] = {}
        self._closed = False
        with _alone(run):
            folder = self._folder()
            self._common = Common(folder / _COMMON)
            self._own_name = secrets.token_hex(8) + _SUFFIX
            try:
                self.own = _make_table(folder / self._own_name)
            except OSError:
                self._common.close()
                raise
            self._common.count_up()
        self.key = self._common.key
        self._seen = 0  # the common number at the last look

    @property
    def changed(self) -> bool:
        """Whether somebody came or went, other than by its death, since `look`."""
        return self._common.number != self._seen

    @property
    def others(self) -> list[LimitTable]:
        """As `look` saw them last."""
        return [file.table for file in self._others.values()]

    def look(self) -> None:
        """Who has come, and who is gone."""
        self._seen = self._common.number
        for name, file in list(self._others.items()):
            if file.dead:
                del self._others[name]
                with contextlib.suppress(OSError):
                    file.remove()
                file.close()
        try:
            with os.scandir(self._link) as entries:
                new = {entry.name for entry in entries if entry.name.endswith(_SUFFIX) and entry.name[0] != "."}
        except OSError:
            return
        for name in new - self._others.keys() - {self._own_name}:
            with contextlib.suppress(OSError, ValueError):
                self._meet(name)

    def close(self) -> None:
        """Removes the own table, and the folder with the last one. May be called again."""
        if self._closed:
            return
        self._closed = True
        for file in self._others.values():
            file.close()
        self._others.clear()
        with contextlib.suppress(OSError), _alone(self._run):
            self.own.remove()
            if not any(name.endswith(_SUFFIX) for name in os.listdir(self._link)):
                remove_folder(self._link)
        self.own.close()
        self._common.count_up()  # at worst one of two at the same moment is lost: then it is seen by its free lock
        self._common.close()

    def _meet(self, name: str) -> None:
        path = self._link / name
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if os.fstat(descriptor).st_size != SIZE:
                raise ValueError
            file = TableFile(path, descriptor, own=False)
        except (OSError, ValueError):
            os.close(descriptor)
            raise
        if file.dead:
            file.remove()
        elif file.table.readable:
            self._others[name] = file
            return
        file.close()

    def _folder(self) -> Path:
        """The folder, made if there is none, or if it was lost with a restart of the machine."""
        if _is_own_folder(self._link):
            return self._link
        self._link.unlink(missing_ok=True)
        if os.access(_MEMORY, os.W_OK):
            self._link.symlink_to(tempfile.mkdtemp(prefix=_PREFIX, dir=_MEMORY))
        else:
            self._link.mkdir(mode=0o700)
        return self._link


def remove_folder(link: Path) -> None:
    """DATA/run/limits and all tables in it, when no process uses them any more."""
    with contextlib.suppress(OSError):
        folder = link.resolve()
        for name in os.listdir(folder):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
    if link.is_symlink():
        link.unlink(missing_ok=True)


@contextmanager
def _alone(run: Path) -> Iterator[None]:
    """One process at a time makes or removes the folder. Raises OSError if another one stands still over it."""
    descriptor = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.005)
        yield
    finally:
        os.close(descriptor)


def _is_own_folder(path: Path) -> bool:
    """After a restart of the machine a folder of that name may be somebody else's: others may make some there too."""
    try:
        status = path.stat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


def _make_table(path: Path) -> TableFile:
    """It appears under its name only when it is whole and locked."""
    hidden = path.with_name(f".{path.name}")
    descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.posix_fallocate(descriptor, 0, SIZE)
        file = TableFile(path, descriptor, own=True)
        file.table.format()
        hidden.rename(path)
    except OSError:
        hidden.unlink(missing_ok=True)
        os.close(descriptor)
        raise
    return file
