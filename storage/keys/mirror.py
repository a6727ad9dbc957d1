"""A mirror of keys/ on another disk ([keys] backup): all wrapped keys, never the master.

A new key is in the mirror before anybody may use it; what is wrapped anew or removed follows. The mirror's folder is
made by people: one that is not there (its disk is not mounted) is an error, never a folder on the wrong disk. Failures
of the mirror's disk are errors to be told and repaired, they end no process.

Raises: Unavailable.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from storage.errors import Unavailable
from storage.keys import names


def wrapped_files(directory: Path) -> Iterator[str]:
    """The files of keys/ that are wrapped keys or markers of destroyed ones: what may leave this folder."""
    for name in names.TOP:
        if (directory / name).is_file():
            yield name
    for entry in _entries(directory):
        if names.TENANT_MARKER.match(entry):
            yield entry
        elif entry == "groups" or names.NUMBER.match(entry):
            pattern = names.IN_GROUPS if entry == "groups" else names.IN_TENANT
            for name in _entries(directory / entry):
                if pattern.match(name):
                    yield f"{entry}/{name}"


class Mirror:
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def put(self, name: str, data: bytes) -> None:
        """On the mirror's disk when it returns."""
        path = self.directory / name
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        try:
            self._make(path.parent)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _write(descriptor, data)
            finally:
                os.close(descriptor)
            temporary.replace(path)
            _fsync(path.parent)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise _unavailable(error) from None

    def remove(self, name: str) -> None:
        """Overwritten and gone."""
        path = self.directory / name
        try:
            self._check()
            with suppress(FileNotFoundError):
                descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    _write(descriptor, os.urandom(os.fstat(descriptor).st_size))
                finally:
                    os.close(descriptor)
                path.unlink()
                _fsync(path.parent)
        except OSError as error:
            raise _unavailable(error) from None

    def remove_folder(self, name: str) -> None:
        """All of a tenant's, with what was left half written."""
        folder = self.directory / name
        try:
            self._check()
            for entry in _entries(folder):
                self.remove(f"{name}/{entry}")
            with suppress(FileNotFoundError):
                folder.rmdir()
        except OSError as error:
            raise _unavailable(error) from None

    def same(self, source: Path, some: tuple[str, ...]) -> bool:
        """Whether these files are in the mirror as they are in keys/."""
        self._check()
        return all(_read(source / name) == self._read(name) for name in some)

    def differences(self, source: Path) -> list[str]:
        """The files that are not in the mirror as they are in keys/, or only there."""
        self._check()
        here = set(wrapped_files(source))
        wrong = [name for name in here if _read(source / name) != self._read(name)]
        return sorted([*wrong, *(set(wrapped_files(self.directory)) - here)])

    def follow(self, source: Path) -> int:
        """Make it the same as keys/, which nobody changes meanwhile; how many files differed."""
        different = self.differences(source)
        for name in different:
            data = _read(source / name)
            if data is None:
                self.remove(name)
                with suppress(OSError):  # of a tenant that is destroyed it was the last
                    (self.directory / name).parent.rmdir()
            else:
                self.put(name, data)
        return len(different)

    def _read(self, name: str) -> bytes | None:
        try:
            return _read(self.directory / name)
        except OSError as error:
            raise _unavailable(error) from None

    def _check(self) -> None:
        if not self.directory.is_dir():
            raise Unavailable(
                "The folder of the keys' mirror ([keys] backup) is not there: mount its disk, or make it. "
                "No new key is made without it."
            )

    def _make(self, folder: Path) -> None:
        self._check()
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)
            _fsync(folder.parent)


def _entries(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.fsync(descriptor)


def _fsync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unavailable(error: OSError) -> Unavailable:
    return Unavailable(
        "The mirror of the keys ([keys] backup) cannot be read or written. No new key is made without it.",
        detail=f"mirror of keys: {errno.errorcode.get(error.errno or 0, error.errno)}",
    )
