"""What makes files and directories survive a power loss: fsync, and what to do when it fails.

When a function here returns, what it made is on the disk under its name. A disk without space raises StorageFull and
leaves nothing. Any other failed fsync ends the process: the kernel may have dropped the pages and marked them clean, so
a second try would report success for data that are lost; the supervisor starts the role again on what is really there.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from storage.errors import NotFound, StorageFull, Unavailable

_log = logging.getLogger("cleanmail.storage")

EXIT_FSYNC_FAILED = 74  # EX_IOERR of sysexits.h
_LIBC = ctypes.CDLL(None, use_errno=True)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def end_process(reason: str) -> NoReturn:
    """After a failed fsync: nothing that this process believes about its files may be told to anybody."""
    _log.critical("the process ends: %s", reason)
    logging.shutdown()
    os._exit(EXIT_FSYNC_FAILED)


def fsync_file(descriptor: int) -> None:
    """For a file that nobody knows yet: without space it is dropped by the caller, so StorageFull is safe."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise StorageFull from None
        end_process(f"fsync of a file failed with errno {error.errno}")


def fsync_directory(path: str | os.PathLike[str]) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        end_process(f"fsync of a directory failed with errno {error.errno}")
    finally:
        os.close(descriptor)


def sync_file_system(descriptor: int) -> None:
    """Everything written before to the file system of an open file or folder is on the disk.

    Cheaper than an fsync of each of many files. Raises OSError as the kernel does.
    """
    if _LIBC.syncfs(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def make_directory(path: Path, *, mode: int = 0o700) -> None:
    """Make `path` and its missing parents, each fsynced in its parent; existing ones are left as they are."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        try:
            directory.mkdir(mode=mode, exist_ok=True)
        except OSError as error:
            raise translated(error) from error
        fsync_directory(directory.parent)


def make_child(path: Path, *, mode: int = 0o700) -> None:
    """Make `path` in a directory that is there, fsynced; nothing happens if it is there itself.

    For what lies below a tenant's folder: where that was taken away it must not come into being again.
    Raises NotFound if there is no parent.
    """
    try:
        path.mkdir(mode=mode)
    except FileExistsError:
        return
    except FileNotFoundError:
        raise NotFound("There is no such folder any more.") from None
    except OSError as error:
        raise translated(error) from error
    with suppress(FileNotFoundError):  # taken away since
        fsync_directory(path.parent)


def write_file(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Put `data` under `path` in one step: readers see the old file or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            write_all(descriptor, data)
            fsync_file(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise translated(error) from error
        raise
    fsync_directory(path.parent)


def remove_file(path: Path) -> bool:
    """Remove `path` for good; False if it was not there."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    fsync_directory(path.parent)
    return True


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """os.write until everything is written. Raises OSError as the kernel does."""
    written = os.write(descriptor, data)
    if written == len(data):
        return
    rest = memoryview(data)[written:]
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def translated(error: OSError) -> StorageFull | Unavailable:
    """The error of the taxonomy for a failed write; no path goes into it."""
    if error.errno in _NO_SPACE:
        return StorageFull()
    return Unavailable(detail=f"file system: {errno.errorcode.get(error.errno or 0, error.errno)}")
