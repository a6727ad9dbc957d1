"""How files get into a backup and out of it: linked where that is possible, else copied; and what they look like.

A link costs nothing and is safe for files that are never written again. Where the file systems differ, or one of them
has no links, the octets are copied, by the kernel alone where it can (reflinks cost nothing either). Nothing here
fsyncs: `sync` brings the whole file system to the disk once, before the manifest.

Raises: FileNotFoundError (the source), StorageFull, Unavailable.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import stat
import time
from contextlib import suppress
from io import FileIO
from pathlib import Path

from storage.errors import StorageFull, Unavailable
from storage.files import durable

_BLOCK = 1 << 20
_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES})
_NO_RANGES = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})
_SETTLED = 2.0  # seconds after which a time of the file system tells one write from the next

_libc = ctypes.CDLL(None, use_errno=True)


def link(source: str, target: str) -> None:
    """The same file under another name, or a copy. Whatever is under the target already stays."""
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise failed(error) from None
        copy(source, target)


def copy(source: str, target: str) -> None:
    """The octets that the source has now, under a name that is free."""
    try:
        reader = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise failed(error) from None
    try:
        try:
            writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _copy(reader, writer)
            finally:
                os.close(writer)
        except FileExistsError:
            return
        except OSError as error:
            with suppress(OSError):
                os.unlink(target)
            raise failed(error) from None
    finally:
        os.close(reader)


def _copy(reader: int, writer: int) -> None:
    try:
        while os.copy_file_range(reader, writer, 1 << 30):
            pass
    except OSError as error:
        if error.errno not in _NO_RANGES:
            raise
    while block := os.read(reader, _BLOCK):  # the rest; all of it where the kernel does not copy between these two
        durable.write_all(writer, block)


def copy_hashed(source: str, target: str) -> tuple[int, str]:
    """Copy; size and SHA-256 of what was written."""
    digest, size = hashlib.sha256(), 0
    try:
        with _opened(source) as reader:
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                while block := reader.read(_BLOCK):
                    digest.update(block)
                    durable.write_all(descriptor, block)
                    size += len(block)
            finally:
                os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise failed(error) from None
    return size, digest.hexdigest()


def measure(path: str) -> tuple[int, str]:
    """Size and SHA-256."""
    digest, size = hashlib.sha256(), 0
    try:
        with _opened(path) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                size += len(block)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise failed(error) from None
    return size, digest.hexdigest()


def _opened(path: str) -> FileIO:
    """A file, and nothing that only looks like one: not what a link leads to, nor what would be waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no file")
    return FileIO(descriptor, "rb")


def sync(path: Path) -> None:
    """Everything that was written to the file system of `path` is on the disk. Raises Unavailable if it is not."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor):
            raise failed(OSError(ctypes.get_errno(), "sync"))
    finally:
        os.close(descriptor)


def failed(error: OSError) -> StorageFull | Unavailable:
    """In words for whoever makes a backup."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("There is no space left where the backup is written; nothing of it was kept.")
    return Unavailable(f"A file cannot be copied: {os.strerror(error.errno or errno.EIO)}.")


# What a file looks like


def mark_of(path: str) -> str:
    """Changes with every write; empty if a write in this moment would not show.

    File systems count time in steps, so a file that was written this instant says nothing yet.
    """
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return ""
    return _mark(found) if _is_settled(found) else ""


def mark_of_database(path: str) -> str:
    """Of a database with its write-ahead log: what is committed stands in one of the two.

    Neither is opened: closing one would drop the locks of the connections that this process may have.
    """
    marks = []
    for suffix in ("", "-wal"):
        try:
            found = os.stat(path + suffix, follow_symlinks=False)
        except FileNotFoundError:
            if not suffix:
                return ""
            marks.append("-")
            continue
        except OSError:
            return ""
        if not _is_settled(found):
            return ""
        marks.append(_mark(found) if found.st_size or not suffix else "-")  # an empty log is none
    return " ".join(marks)


def _mark(found: os.stat_result) -> str:
    return f"{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"


def _is_settled(found: os.stat_result) -> bool:
    return found.st_mtime < time.time() - _SETTLED
