"""Where the master key lives, and how a new text takes the place of the old one, so that the old one is gone.

A file is replaced in one step; then the octets of the old file are overwritten where they are and it is unlinked. A
command of the operator gets the new text on its standard input, never as an argument, and the command that gives the
key is asked whether it comes back. A kill at any point leaves the old text in force or the new one, and what is left of
the other is overwritten by the next `store`.

Raises: Unavailable.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from storage.errors import Unavailable
from storage.files import durable
from storage.keys.destruction import Sanitization
from storage.keys.master import Master, file_text, read_master_file, run_command, run_master_command


class MasterPlace(Protocol):
    def read(self) -> Master: ...

    def can_store(self) -> bool:
        """Whether `store` may be tried: without it an old generation stays where it is for good."""

    def store(self, master: Master) -> None:
        """Put these generations in the place of those that are there; nothing of the old text is left there."""

    def describe(self, keys: Path) -> tuple[str, Sanitization]:
        """For certificates: what kind of place it is, and what destroying a generation there reaches.

        `keys`: where the wrapped keys are.
        """


@dataclass(frozen=True, slots=True)
class HeldMaster:
    """A master that somebody else read, and that nobody can replace."""

    master: Master

    def read(self) -> Master:
        return self.master

    def can_store(self) -> bool:
        return False

    def store(self, master: Master) -> None:
        raise Unavailable("The master key cannot be replaced where it lives.")

    def describe(self, keys: Path) -> tuple[str, Sanitization]:
        return "given by the operator", "clear"


@dataclass(frozen=True, slots=True)
class MasterFile:
    """A file that only its owner can read: keys/master, or one outside of the data directory.

    A file in memory is filled anew at each start of the machine from somewhere that is not known here: a new generation
    would be gone then, with everything under it. So there it is not replaced, unless the data are in memory themselves.
    """

    path: Path
    keys: Path | None = None  # where the wrapped keys are; None: beside it

    def read(self) -> Master:
        return read_master_file(self.path)

    def can_store(self) -> bool:
        target = self.path.resolve()
        if self.keys is not None and _device(target) != _device(self.keys) and is_in_memory(target):
            return False
        return os.access(target.parent, os.W_OK | os.X_OK) and os.access(target, os.W_OK)

    def store(self, master: Master) -> None:
        target = self.path.resolve()
        self._clean(target)
        new, old = _beside(target, "new"), _beside(target, "old")
        try:
            descriptor = os.open(target, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise durable.translated(error) from None
        try:
            before = os.pread(descriptor, 65536, 0).decode("ascii", "replace")
            try:
                _write(new, file_text(before, master).encode("ascii", "replace"))
                with suppress(OSError):  # a file system without links: the octets are overwritten by the descriptor
                    os.link(target, old)  # a name by which the next run finds them, should this one die here
                os.rename(new, target)
            except OSError as error:
                raise durable.translated(error) from None
            durable.fsync_directory(target.parent)
            overwrite(descriptor)
        finally:
            os.close(descriptor)
        if old.exists():
            durable.remove_file(old)

    def describe(self, keys: Path) -> tuple[str, Sanitization]:
        folder = self.path.resolve().parent
        if _device(folder) != _device(keys):
            if is_in_memory(folder):
                return "a file in memory, which is filled at each start of the machine", "clear"
            ours, theirs = disks_of(_device(folder)), disks_of(_device(keys))
            if ours and theirs and ours.isdisjoint(theirs):
                return "a file on another disk than the data", "purge"
            return "a file on another file system than the data, perhaps on the same disk", "clear"
        if folder.is_relative_to(keys.resolve().parent):
            return "a file in the data directory", "clear"
        return "a file outside of the data directory, on the same file system", "clear"

    def _clean(self, target: Path) -> None:
        """What a run that was killed left beside the file."""
        new, old = _beside(target, "new"), _beside(target, "old")
        if new.exists():
            shred(new)
        if old.exists():
            if target.exists() and old.samefile(target):
                durable.remove_file(old)
            else:
                shred(old)


@dataclass(frozen=True, slots=True)
class MasterCommand:
    """A command of the operator that prints the key, and perhaps one that takes a new text."""

    command: Sequence[str]
    store_command: Sequence[str] = ()

    def read(self) -> Master:
        return run_master_command(self.command)

    def can_store(self) -> bool:
        return bool(self.store_command)

    def store(self, master: Master) -> None:
        if not self.store_command:
            raise Unavailable("There is no command that stores a new master key ([keys] master_store_command).")
        done = run_command(self.store_command, master.text().encode("ascii"))
        if done is None:
            raise Unavailable("The command that stores the master key cannot be run or takes too long.")
        if done.returncode != 0:
            raise Unavailable(f"The command that stores the master key failed with status {done.returncode}.")
        if self.read() != master:
            raise Unavailable(
                "The command that stores the master key did its work, but [keys] master_command gives another text."
            )

    def describe(self, keys: Path) -> tuple[str, Sanitization]:
        if self.store_command:
            return "a key store of the operator, reached by a command", "purge"
        return "a key store of the operator, reached by a command that only reads", "clear"


def is_in_memory(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Whether what is written there is gone when the machine starts again."""
    device = _device(path)
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    for line in lines:
        before, _, after = line.partition(" - ")
        if before.split()[2:3] == [number]:
            return after.split()[:1] in (["tmpfs"], ["ramfs"])
    return False


def disks_of(device: int, blocks: Path = Path("/sys/dev/block")) -> frozenset[str]:
    """The disks below a file system, through partitions, volumes and encryption; none, if that cannot be told."""
    found: set[str] = set()
    left = [blocks / f"{os.major(device)}:{os.minor(device)}"]
    while left:
        try:
            place = left.pop().resolve(strict=True)
            slaves = list((place / "slaves").iterdir()) if (place / "slaves").is_dir() else []
        except OSError:
            return frozenset()
        left += slaves
        if not slaves:
            disk = place.parent if (place / "partition").exists() else place
            if "virtual" in disk.parts:  # a file as a device, or memory
                return frozenset()
            found.add(str(disk))
    return frozenset(found)


def _device(path: Path) -> int:
    """Of the file system that it is on, or would be."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path.stat().st_dev


def overwrite(descriptor: int) -> None:
    """Other octets in the place of all that the file holds, on the disk when it returns."""
    size = os.fstat(descriptor).st_size
    os.lseek(descriptor, 0, os.SEEK_SET)
    durable.write_all(descriptor, os.urandom(size))
    durable.fsync_file(descriptor)


def shred(path: Path) -> bool:
    """Overwrite and unlink; False if it was not there."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        overwrite(descriptor)
    finally:
        os.close(descriptor)
    return durable.remove_file(path)


def _write(path: Path, data: bytes) -> None:
    """A new file of exactly this name: a kill leaves nothing that `_clean` does not find."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        durable.write_all(descriptor, data)
        durable.fsync_file(descriptor)
    finally:
        os.close(descriptor)


def _beside(target: Path, what: str) -> Path:
    return target.with_name(f".{target.name}.{what}")
