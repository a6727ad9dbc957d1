"""The files of keys/: written whole, followed by the mirror, removed by overwriting, changed by one process at a time.

Every change is made under the lock file keys/.lock. A change that makes something new goes to the mirror first, so that
nothing is ever used that is not there; any other change is made here first, and a mirror that cannot follow is told in
the log and made whole later.

Raises: Unavailable (the mirror where it must follow; another process has been changing keys for too long).
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from storage.errors import Unavailable
from storage.files import durable
from storage.keys import names
from storage.keys.mirror import Mirror
from storage.keys.places import shred

LOCK = ".lock"
_PATIENCE = 60.0  # seconds to wait for another process: a command that stores the master may take half of it

_log = logging.getLogger("cleanmail.keys")


class KeyFiles:
    def __init__(self, directory: Path, mirror: Mirror | None = None) -> None:
        self.directory = directory
        self.mirror = mirror
        self.mirror_behind = False  # it could not follow since it was looked at last
        self._thread = threading.RLock()

    def path(self, name: str) -> Path:
        return self.directory / name

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError."""
        return (self.directory / name).read_bytes()

    def exists(self, name: str) -> bool:
        return (self.directory / name).exists()

    def write(self, name: str, data: bytes) -> None:
        path = self.directory / name
        durable.make_directory(path.parent)
        durable.write_file(path, data)
        self._mirrored(name, data)

    def write_new(self, name: str, data: bytes) -> None:
        """For what will be used only after it is in the mirror, too."""
        if self.mirror is not None:
            self.mirror.put(name, data)
        path = self.directory / name
        durable.make_directory(path.parent)
        durable.write_file(path, data)

    def write_many(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Into one folder: each is whole, all are durable at the end, with one fsync of the folder."""
        temporaries: dict[str, Path] = {}
        if not files:
            return
        try:
            for name, data in files.items():
                temporary = self.directory / folder / f".{name}.{secrets.token_hex(6)}"
                temporaries[name] = temporary
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                try:
                    durable.write_all(descriptor, data)
                    durable.fsync_file(descriptor)
                finally:
                    os.close(descriptor)
            for name, temporary in temporaries.items():
                temporary.replace(self.directory / folder / name)
        except OSError as error:
            for temporary in temporaries.values():
                temporary.unlink(missing_ok=True)
            raise durable.translated(error) from None
        durable.fsync_directory(self.directory / folder)
        for name, data in files.items():
            self._mirrored(f"{folder}/{name}", data)

    def sweep(self, *folders: str) -> None:
        """What processes that were killed left half written."""
        for folder in folders:
            path = self.directory / folder
            for name in os.listdir(path) if path.is_dir() else []:
                if names.LEFTOVER.match(name):
                    shred(path / name)

    def remove(self, name: str) -> None:
        """Overwritten, then unlinked."""
        shred(self.directory / name)
        if self.mirror is not None:
            self._guarded(lambda mirror: mirror.remove(name))

    def remove_folder(self, name: str) -> None:
        """A tenant's, with all that is in it."""
        folder = self.directory / name
        if folder.is_dir():
            for entry in os.listdir(folder):
                shred(folder / entry)
            folder.rmdir()
            durable.fsync_directory(self.directory)
        if self.mirror is not None:
            self._guarded(lambda mirror: mirror.remove_folder(name))

    # The mirror

    def check_mirror(self, *more: str, whole: bool = False) -> None:
        """Before something new is made: the mirror holds what wraps it, or is repaired. Raises Unavailable.

        `whole`: every file of it is looked at.
        """
        if self.mirror is None:
            return
        if whole or self.mirror_behind or not self.mirror.same(self.directory, (*names.TOP, *more)):
            self.mirror.follow(self.directory)
            self.mirror_behind = False

    def follow(self) -> None:
        """After a change: what the mirror missed, if it can be had now."""
        if self.mirror is not None and self.mirror_behind:
            self.mirror_behind = False
            self._guarded(lambda mirror: mirror.follow(self.directory))

    def mirrors(self) -> tuple[str, ...]:
        """Those that followed."""
        return (str(self.mirror.directory),) if self.mirror is not None and not self.mirror_behind else ()

    def _mirrored(self, name: str, data: bytes) -> None:
        if self.mirror is not None:
            self._guarded(lambda mirror: mirror.put(name, data))

    def _guarded(self, follow: Callable[[Mirror], object]) -> None:
        assert self.mirror is not None
        if self.mirror_behind:
            return  # it is made whole by `follow` or by the next round
        try:
            follow(self.mirror)
        except Unavailable as error:
            self.mirror_behind = True
            _log.error("the mirror of the keys does not follow: %s", error.detail or error.public)

    # The lock

    @contextmanager
    def locked(self, *, wait: bool = True) -> Iterator[bool]:
        """Nobody else changes keys meanwhile; False if somebody else does and `wait` is not asked for."""
        if not self._thread.acquire(timeout=_PATIENCE if wait else 0.0):
            if wait:
                raise Unavailable("Keys are being changed; try again.")
            yield False
            return
        try:
            descriptor = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if _take(descriptor, _PATIENCE if wait else 0.0):
                    yield True
                elif wait:
                    raise Unavailable("Another process has been changing keys for too long; try again.")
                else:
                    yield False
            finally:
                os.close(descriptor)
        finally:
            self._thread.release()


def _take(descriptor: int, patience: float) -> bool:
    deadline = time.monotonic() + patience
    pause = 0.001
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 2, 0.05)
        else:
            return True
