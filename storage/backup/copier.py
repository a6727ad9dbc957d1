"""Brings one part of a backup after the other into its folder: databases, the files that their rows name, and the rest.

Of a database a snapshot is taken in one step (`storage.backup.snapshot`), then the files that its rows name are linked;
nothing of that account is removed meanwhile (`storage.backup.lease`), so every row in the snapshot has its file. What
has not changed since the backup before is linked from there: neither read nor hashed.

Raises: NotFound (no such database), Corrupt (it is damaged), StorageFull, Unavailable, and what `pause` raises.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from storage.backup import files, lease
from storage.backup import manifest as manifests
from storage.backup.manifest import Entry, Part
from storage.backup.place import Stored
from storage.backup.snapshots import Snapshots, Taken
from storage.errors import CleanmailError, NotFound
from storage.mail.account import DATABASE, MAILDIR, OBJECTS

_log = logging.getLogger("cleanmail.storage")

_TRIES = 3  # snapshots of one database, until the files that it names are there
_SIDE_FILES = ("-wal", "-shm", "-journal", ".lock")


@dataclass
class Tally:
    """Of the whole backup."""

    linked: int = 0
    taken: int = 0
    snapshots: int = 0
    missing: list[str] = field(default_factory=list)  # files that rows name and that were not there
    skipped: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Point:
    """How far a part was."""

    entries: int
    missing: int


class Copier:
    def __init__(
        self,
        data: Path,
        root: Path,
        previous: Stored | None,
        pause: Callable[[], None],
        *,
        excluded: Collection[Path],
        longest: float,
    ) -> None:
        """`root`: the folder of the backup that is made. `pause` is called often; what it raises ends the work."""
        self.tally = Tally()
        self.snapshots = Snapshots(pause)
        self.before: dict[str, Entry] = {}  # the part that is copied, in the backup before
        self.entries: list[Entry] = []  # of the part that is copied
        self._data = data
        self._root = root
        self._previous = previous
        self._pause = pause
        self._excluded = {path.resolve() for path in excluded}
        self._longest = longest
        self._base = f"{root}/{manifests.DATA}/"
        self._base_before = f"{previous.root}/{manifests.DATA}/" if previous is not None else ""
        self._folders: set[str] = set()  # that were made

    # Parts

    def begin(self, name: str) -> None:
        self.entries, self.before = [], {}
        self._folders.clear()
        if self._previous is not None:
            with suppress(CleanmailError):  # what is damaged there is copied anew
                self.before = {entry.path: entry for entry in self._previous.entries(name)}

    def write(self, name: str) -> Part:
        """The list of the part that was copied."""
        return manifests.write_part(self._root, name, self.entries)

    def point(self) -> Point:
        return Point(len(self.entries), len(self.tally.missing))

    def back_to(self, point: Point, folder: str) -> None:
        """Give up what was copied of `folder` since then."""
        del self.entries[point.entries :]
        del self.tally.missing[point.missing :]
        self.remove(folder)

    def remove(self, folder: str) -> None:
        """A folder is not to be in the backup."""
        shutil.rmtree(self._base + folder, ignore_errors=True)
        self._folders.clear()

    # Databases and what their rows name

    def with_files(
        self,
        path: str,
        key: bytes | Callable[[], bytes],
        kind: str,
        scope: str,
        paths_of: Callable[[str], list[str]],
        before: Callable[[], list[Entry]],
    ) -> None:
        """A database, and the files of each name that its rows have; `before`: those in the backup before."""
        linked: set[str] = set()  # in the backup, and not measured yet
        for attempt in range(1, _TRIES + 1):
            count = len(self.entries)
            missing: list[str] = []
            with lease.hold(self._data, scope, self._longest) as held:
                taken = self.database(path, key, kind)
                names = self._named(path, taken, paths_of, before)
                linked.update(relative for relative in names if not self._link(relative, missing))
                over = held.is_over
            if not missing or not over or attempt == _TRIES:
                break
            del self.entries[count:]  # files went, since it took too long; the next time less is to be done
            self.before.pop(path, None)
        for relative in linked.difference(names):  # of a snapshot that was given up
            (self._root / manifests.DATA / relative).unlink(missing_ok=True)
        self._measure(sorted(linked.intersection(names)))
        self.tally.missing += missing
        for relative in missing:
            _log.error("backup: a file that a row names is not there: %s", relative)

    def _named(
        self, path: str, taken: Taken | None, paths_of: Callable[[str], list[str]], before: Callable[[], list[Entry]]
    ) -> list[str]:
        """The files that the rows of a snapshot name."""
        if taken is not None:
            return [each for name in taken.names for each in paths_of(name)]
        assert self._previous is not None
        folder = f"{path.rpartition('/')[0]}/"
        lost = [each for each in self._previous.manifest.missing if each.startswith(folder)]
        return [entry.path for entry in before()] + lost

    def database(self, path: str, key: bytes | Callable[[], bytes], kind: str) -> Taken | None:
        """A snapshot of it; None if it is the one of the backup before."""
        source, target = self._data / path, self._root / manifests.DATA / path
        self.folder(path.rpartition("/")[0])
        before = self.before.get(path)
        unchanged = before is not None and before.mark and before.mark == files.mark_of_database(str(source))
        if before is not None and unchanged and self._link_previous(before):
            return None
        if not source.exists():
            raise NotFound("There is no such database.")
        target.unlink(missing_ok=True)
        taken = self.snapshots.take(source, target, key if isinstance(key, bytes) else key(), kind)
        self.entries.append(Entry(path, taken.size, taken.digest, taken.mark))
        self.tally.snapshots += 1
        return taken

    def _link(self, path: str, missing: list[str]) -> bool:
        """A file that is never written again. True: its entry is there already; False: it has to be measured."""
        self._pause()
        before = self.before.get(path)
        if before is not None and self._link_previous(before):
            return True
        target = self._base + path
        self.folder(path.rpartition("/")[0])
        for _ in range(2):  # it may move from new/ to cur/ while we look
            for source in _sources(path):
                with suppress(FileNotFoundError):
                    files.link(str(self._data / source), target)
                    self.tally.taken += 1
                    return False
        missing.append(path)
        return True

    def _link_previous(self, before: Entry) -> bool:
        """A file as it is in the backup before."""
        if self._previous is None:
            return False
        self.folder(before.path.rpartition("/")[0])
        try:
            files.link(self._base_before + before.path, self._base + before.path)
        except FileNotFoundError:  # somebody removed it there
            return False
        self.entries.append(before)
        self.tally.linked += 1
        return True

    def _measure(self, paths: Iterable[str]) -> None:
        for path in paths:
            self._pause()
            size, digest = files.measure(str(self._root / manifests.DATA / path))
            self.entries.append(Entry(path, size, digest))

    # Everything else

    def tree(self, folder: str, apart: frozenset[str]) -> None:
        """Files that may be written again: copied, unless they look as they did."""
        for path in sorted(self._files_below(folder, apart)):
            self._pause()
            source, target = str(self._data / path), str(self._root / manifests.DATA / path)
            mark = files.mark_of(source)
            before = self.before.get(path)
            if before is not None and mark and before.mark == mark and self._link_previous(before):
                continue
            self.folder(path.rpartition("/")[0])
            try:
                size, digest = files.copy_hashed(source, target)
            except FileNotFoundError:
                continue  # removed meanwhile
            self.entries.append(Entry(path, size, digest, mark))
            self.tally.taken += 1

    def _files_below(self, folder: str, apart: frozenset[str] = frozenset()) -> Iterator[str]:
        with suppress(FileNotFoundError), os.scandir(self._data / folder) as found:
            for entry in found:
                if entry.name in apart or entry.name.startswith(".") or entry.name.endswith(_SIDE_FILES):
                    continue
                if entry.name.startswith(DATABASE) or (self._excluded and Path(entry.path).resolve() in self._excluded):
                    continue
                path = f"{folder}/{entry.name}".lstrip("/")
                if entry.is_dir(follow_symlinks=False):
                    yield from self._files_below(path)
                elif entry.is_file(follow_symlinks=False):
                    yield path
                elif entry.is_symlink():
                    _log.warning("backup: %s is a link, and what it leads to was left out", path)

    def folder(self, path: str) -> None:
        if path not in self._folders:
            os.makedirs(self._base + path, mode=0o700, exist_ok=True)
            self._folders.add(path)


def _sources(path: str) -> tuple[str, ...]:
    """Where a file may be: messages and objects whose commit is new stand in new/ still."""
    for folder in (MAILDIR, OBJECTS):
        if f"/{folder}/cur/" in path:
            return path, path.replace(f"/{folder}/cur/", f"/{folder}/new/"), path
    return (path,)
