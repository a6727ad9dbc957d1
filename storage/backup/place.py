"""A folder of backups: which there are, who works on them, and which of them have had their time.

A backup is a folder named after the time (UTC) at which it was begun. What is being made ends in .incomplete, what is
being removed in .removing: a crash leaves such a folder, nobody takes it for a backup, and the next run removes it.
How long a backup is kept is decided when it is made, so that its end is known from then on.

Raises: InvalidInput, Conflict (somebody is at work there), NotFound, StorageFull, Unavailable.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from storage.backup import manifest as manifests
from storage.backup.manifest import Entry, Manifest
from storage.errors import CleanmailError, Conflict, InvalidInput, NotFound, Unavailable
from storage.files import durable

INCOMPLETE, REMOVING = ".incomplete", ".removing"
_NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z\Z")
_LEFT = re.compile(r"[0-9]{8}T[0-9]{6}Z(?:\.incomplete|\.removing)\Z")
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Keep:
    """How many days, weeks and months: the first backup of a month is kept longest, the others of a day least."""

    daily: int = 7
    weekly: int = 4
    monthly: int = 6
    most: int = 220  # days, whatever the others say: what was erased must not live on for longer

    def until(self, made: int, earlier: Sequence[int]) -> int:
        """When a backup of that time has had its time, among those that were made before."""
        now = datetime.fromtimestamp(made, UTC)
        others = [datetime.fromtimestamp(each, UTC) for each in earlier]
        days = max(self.daily, 1)
        if all(other.isocalendar()[:2] != now.isocalendar()[:2] for other in others):
            days = max(days, self.weekly * 7)
        if all((other.year, other.month) != (now.year, now.month) for other in others):
            days = max(days, self.monthly * 31)
        return made + min(days, self.most) * _DAY

    @property
    def longest(self) -> int:
        """Days that any backup is kept."""
        return min(max(1, self.daily, self.weekly * 7, self.monthly * 31), self.most)


@dataclass(frozen=True, slots=True)
class Stored:
    """A complete backup."""

    root: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        return self.root.name

    def entries(self, part: str) -> Iterator[Entry]:
        """The files of a part, by path. Raises NotFound, InvalidInput."""
        return manifests.read_part(self.root, self.manifest.part(part))

    def path(self, relative: str) -> Path:
        """Where a file of the data directory stands in the backup."""
        return self.root / manifests.DATA / relative


class Place:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self, data: Path) -> None:
        """Make the folder if it is missing; it must be outside of what is backed up, and be writable."""
        folder, inside = self.folder.resolve(), data.resolve()
        if folder == inside or inside in folder.parents or folder in inside.parents:
            raise InvalidInput(f"{self.folder} and the data directory {data} lie in each other; take another place.")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except FileExistsError:
            raise InvalidInput(f"{self.folder} is not a folder.") from None
        except OSError as error:
            raise Unavailable(f"{self.folder} cannot be written to: {error.strerror}.") from None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else makes or removes a backup here. Raises Conflict."""
        descriptor = _locked(self.folder / ".lock", f"Another backup is being made, or one removed, in {self.folder}.")
        try:
            yield
        finally:
            os.close(descriptor)

    # Looking

    def names(self) -> list[str]:
        """Names of the complete backups, the oldest first. Raises NotFound."""
        try:
            found = [name for name in os.listdir(self.folder) if _NAME.match(name)]
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"There are no backups in {self.folder}.") from None
        except OSError as error:
            raise Unavailable(f"{self.folder} cannot be read: {error.strerror}.") from None
        return sorted(name for name in found if (self.folder / name / manifests.FILE).exists())

    def incomplete(self) -> list[str]:
        """What a crash left, or somebody works on."""
        with suppress(OSError):
            return sorted(name for name in os.listdir(self.folder) if _LEFT.match(name))
        return []

    def open(self, name: str, public: bytes | None = None) -> Stored:
        """One backup by its name. Raises NotFound, InvalidInput."""
        root = self.folder / name
        return Stored(root, manifests.read(root, public))

    def all(self, public: bytes | None = None) -> list[Stored]:
        """The oldest first; those whose manifests cannot be read are left out."""
        found = []
        for name in self.names():
            with suppress(CleanmailError):
                found.append(self.open(name, public))
        return found

    def at(self, time: int | None, public: bytes | None = None) -> Stored:
        """The newest that was begun at that time or before; None: the newest. Raises NotFound, InvalidInput."""
        names = self.names()
        if not names:
            raise NotFound(f"There are no backups in {self.folder}.")
        chosen = [name for name in names if time is None or made_of(name) <= time]
        if not chosen:
            raise NotFound(f"The oldest backup in {self.folder} was made later: {names[0]}.")
        return self.open(chosen[-1], public)

    # Making and removing

    def tidy(self) -> int:
        """Remove what a crash left; the caller is alone here. How many folders went."""
        left = self.incomplete()
        for name in left:
            shutil.rmtree(self.folder / name, ignore_errors=True)
        return len(left)

    def begin(self, now: int) -> tuple[str, Path]:
        """The name of a new backup, and the folder that it is made in."""
        name = name_of(now)
        while (self.folder / name).exists():
            now += 1
            name = name_of(now)
        root = self.folder / f"{name}{INCOMPLETE}"
        for folder in (root, root / manifests.DATA, root / manifests.PARTS):
            folder.mkdir(mode=0o700)
        return name, root

    def complete(self, name: str, root: Path) -> Stored:
        """It has its manifest: from now on it is a backup."""
        target = self.folder / name
        root.rename(target)
        durable.fsync_directory(self.folder)
        return self.open(name)

    def remove(self, name: str) -> None:
        """A backup, in one step for everybody who looks; the caller is alone here."""
        going = self.folder / f"{name}{REMOVING}"
        try:
            (self.folder / name).rename(going)
            durable.fsync_directory(self.folder)
            shutil.rmtree(going)
        except FileNotFoundError:
            return
        except OSError as error:
            raise Unavailable(f"The backup {name} cannot be removed: {error.strerror}.") from None

    @staticmethod
    def expired(mine: Sequence[Stored], now: int, most: int) -> list[Stored]:
        """Those that have had their time. The newest stays as long as there is no newer one; none for `most` days."""
        old = [stored for stored in mine if stored.manifest.made + most * _DAY <= now]
        return old + [stored for stored in mine[:-1] if stored.manifest.expires <= now and stored not in old]


def place_and_time(where: Path, time: int | None) -> tuple[Place, int | None]:
    """`where` is a folder of backups, or one backup: then it is that one."""
    if _NAME.match(where.name) and (where / manifests.DATA).is_dir():
        return Place(where.parent), made_of(where.name)
    return Place(where), time


def name_of(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%SZ")


def made_of(name: str) -> int:
    return int(datetime.strptime(name, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp())


@contextmanager
def alone_in(data: Path) -> Iterator[None]:
    """One backup or restore of an installation at a time, wherever it goes. Raises Conflict."""
    durable.make_directory(data / "run")
    descriptor = _locked(data / "run" / "backup.lock", "Another backup or restore of this installation is at work.")
    try:
        yield
    finally:
        os.close(descriptor)


def _locked(path: Path, otherwise: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise Unavailable(f"{path.parent} cannot be written to: {error.strerror}.") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Conflict(otherwise) from None
    return descriptor
