"""A Maildir of encrypted message files; flags, UIDs and mailboxes are the database's.

    write (tmp/) → link (new/) → sync (fsync) → sync_new (fsync of the directory) → commit of the row → settle (cur/)

The fsync comes after the rename: a file system with a journal then writes both names and the file in one step of it,
and finds nothing left to do for the directory.

So a crash leaves a file in tmp/ or new/, whole or not, that the sweep compares with the rows; cur/ holds what rows
name. A file's name carries its writer's incarnation, whose lock tells whether that writer still lives. Readers try cur,
new, cur, since a file moves from one to the other while they look.

A disk that says EIO for a file that has lain there for an hour has lost it: that is damage, and not for now. Of newer
ones it is not believed yet, since what reading them gives is kept for good.

Raises: NotFound (no such file now: read the row again), Corrupt, StorageFull, Unavailable.
"""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from storage.errors import CleanmailError, Corrupt, NotFound, StorageFull, Unavailable
from storage.files import durable
from storage.files.format import read_all, read_message, read_meta, read_span, write_file
from storage.files.metadata import FileMeta
from storage.keys.sealing import Key
from storage.register import classes
from storage.register.values import FileClass

T = TypeVar("T")

_BELIEVED = 3600.0  # seconds of a file's age from which on EIO is damage

_FOLDERS = _TMP, _NEW, _CUR = ("tmp", "new", "cur")


FILES = tuple(
    FileClass(f"tenants/*/accounts/*/Maildir/{folder}/*", classes.MAIL, "a message, compressed and encrypted")
    for folder in _FOLDERS
)


class Maildir:
    __slots__ = ("_cur",)  # few: every open account has two of these

    def __init__(self, path: Path) -> None:
        self._cur = f"{path}/{_CUR}/"  # kept, since reading a message asks for it

    @property
    def path(self) -> Path:
        return Path(self._root)

    @property
    def _root(self) -> str:
        return self._cur[: -len(_CUR) - 2]

    @property
    def _tmp(self) -> str:
        return f"{self._root}/{_TMP}/"

    @property
    def _new(self) -> str:
        return f"{self._root}/{_NEW}/"

    def create(self) -> None:
        """Make what is missing of its folders, durably."""
        for folder in _FOLDERS:
            durable.make_directory(self.path / folder)

    @staticmethod
    def new_name(incarnation: str) -> str:
        """A base name that no other message has."""
        return f"{secrets.token_hex(12)}.{incarnation}"

    # Writing

    def write(self, name: str, key: Key, meta: FileMeta, data: bytes | Iterable[bytes]) -> None:
        """Put the message into tmp/; when it raises, nothing is left there. Durable after `sync` or `sync_all`."""
        os.close(self._written(name, key, meta, data))

    def put(self, name: str, key: Key, meta: FileMeta, data: bytes | Iterable[bytes], *, at_once: bool = True) -> None:
        """`write` and `link`, and with `at_once` `sync`, opening the file but once."""
        descriptor = self._written(name, key, meta, data)
        try:
            self.link(name)
            if at_once:
                durable.fsync_file(descriptor)
        except StorageFull:
            with suppress(CleanmailError):
                self.remove(name)
            raise
        finally:
            os.close(descriptor)

    def _written(self, name: str, key: Key, meta: FileMeta, data: bytes | Iterable[bytes]) -> int:
        """A new file in tmp/, whole and still open."""
        path = self._tmp + name
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise durable.translated(error) from None
        try:
            write_file(descriptor, name, key, meta, data)
        except BaseException as error:
            os.close(descriptor)
            os.unlink(path)
            if isinstance(error, OSError):
                raise durable.translated(error) from None
            raise
        return descriptor

    def link(self, name: str) -> None:
        """tmp/ → new/; the name is durable after `sync_new`."""
        try:
            os.rename(self._tmp + name, self._new + name)
        except OSError as error:
            raise durable.translated(error) from None

    def sync(self, name: str) -> None:
        """What is in a file in new/ is found after a power loss; when it raises, the file is gone."""
        try:
            descriptor = os.open(self._new + name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                durable.fsync_file(descriptor)
            finally:
                os.close(descriptor)
        except (CleanmailError, OSError) as error:
            with suppress(CleanmailError):
                self.remove(name)
            raise durable.translated(error) if isinstance(error, OSError) else error from None

    def sync_new(self) -> None:
        """Every file linked before is found after a power loss."""
        durable.fsync_directory(self._new)

    def sync_all(self) -> None:
        """Every file written and linked before is found, with what is in it, after a power loss."""
        descriptor = os.open(self._new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            durable.sync_file_system(descriptor)
        except OSError as error:
            durable.end_process(f"syncfs failed with errno {error.errno}")
        finally:
            os.close(descriptor)

    def settle(self, name: str) -> None:
        """new/ → cur/, after the commit of its row; that it is there already is no error."""
        try:
            os.rename(self._new + name, self._cur + name)
        except FileNotFoundError:
            return
        except OSError as error:
            raise durable.translated(error) from None

    def remove(self, name: str) -> bool:
        """Remove the file wherever it is; False if it was nowhere."""
        for folder in (self._cur, self._new, self._cur, self._tmp):
            try:
                os.unlink(folder + name)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise durable.translated(error) from None
            return True
        return False

    # Reading

    def read(self, name: str, key: Key) -> tuple[FileMeta, bytes]:
        """Metadata and message, without the added prefix."""
        return self._wherever(name, lambda path: read_all(path, key))

    def read_message(self, name: str, key: Key) -> bytes:
        """The message with the added prefix in front."""
        try:
            return read_message(self._cur + name, key)  # where nearly every message lies
        except FileNotFoundError:
            return self._wherever(name, lambda path: read_message(path, key))
        except OSError as error:
            raise _unreadable(error, self._cur + name) from None

    def read_span(self, name: str, key: Key, start: int, end: int) -> bytes:
        """A part of the message; of a large one only the chunks that hold it are read."""
        return self._wherever(name, lambda path: read_span(path, key, start, end))

    def read_meta(self, name: str, key: Key) -> FileMeta:
        return self._wherever(name, lambda path: read_meta(path, key))

    def size(self, name: str) -> int:
        """Octets on the disk."""
        return self._wherever(name, lambda path: os.stat(path).st_size)

    def has(self, name: str) -> bool:
        try:
            self.size(name)
        except NotFound:
            return False
        return True

    def names(self, folder: str = "cur") -> Iterator[str]:
        """The base names in tmp, new or cur, in no order."""
        try:
            with os.scandir(self.path / folder) as entries:
                yield from (entry.name for entry in entries if not entry.name.startswith("."))
        except FileNotFoundError:
            return

    def _wherever(self, name: str, read: Callable[[str], T]) -> T:
        for folder in (self._cur, self._new, self._cur):
            try:
                return read(folder + name)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise _unreadable(error, folder + name) from None
        raise NotFound("The message file is not there.")


def incarnation_of(name: str) -> str:
    """The writer whose incarnation a base name carries."""
    return name.rpartition(".")[2]


def _unreadable(error: OSError, path: str) -> Unavailable | Corrupt:
    why = f"message file: {errno.errorcode.get(error.errno or 0, error.errno)}"
    if error.errno == errno.EIO:
        with suppress(OSError):
            if os.stat(path).st_mtime <= time.time() - _BELIEVED:
                return Corrupt(detail=f"{why}, the disk cannot read it any more")
    return Unavailable(detail=why)
