"""Reads files of events, tasks, notes and cards (.ics, .vcf): one of them, a folder of them, or a zip of them.

Each entry comes as it may be stored (storage.icalendar.splitting, storage.vcard.splitting), with the file and the line
where it begins. A file of another kind is passed over, hidden ones and links are left alone; of a zip nothing is
unpacked onto the disk, and no more is unpacked than the bounds say, whatever it claims.

Raises: InvalidInput (nothing there, too many files).
"""

from __future__ import annotations

import codecs
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from storage.archives.archive import Unreadable
from storage.errors import InvalidInput
from storage.icalendar import splitting as calendars
from storage.icalendar.contentlines import BOM
from storage.vcard import splitting as cards

FILE_MAX = 128 * 1024 * 1024  # octets
FILES_MAX = 100_000
ZIP_MAX = 1024 * 1024 * 1024  # octets of all its files together

_ENDINGS = {".ics": "calendar", ".ical": "calendar", ".ifb": "calendar", ".vcf": "card", ".vcard": "card"}
_HEAD = 64  # octets that tell what a file is


class EntryKind(Enum):
    CALENDAR = "calendar"
    CARD = "card"


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a file."""

    origin: str  # the file and the line, for a report to the person who imports
    kind: EntryKind
    octets: bytes = field(repr=False)


def kind_of(name: str, head: bytes) -> EntryKind | None:
    """What a file is, by its name, or else by its first octets."""
    known = _ENDINGS.get(os.path.splitext(name)[1].lower())
    if known is not None:
        return EntryKind(known)
    for mark, codec in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if head.startswith(mark):
            head = head[2 : 2 + (len(head) - 2) // 2 * 2].decode(codec, "replace").encode("utf-8", "replace")
    begins = head.removeprefix(BOM).lstrip()[:15].upper()
    if begins.startswith(b"BEGIN:VCALENDAR"):
        return EntryKind.CALENDAR
    return EntryKind.CARD if begins.startswith(b"BEGIN:VCARD") else None


def are_entries(path: Path) -> bool:
    """Whether there is something for `EntryFiles` at `path`."""
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(_HEAD)
        return head.startswith(b"PK\x03\x04") or kind_of(path.name, head) is not None
    return any(os.path.splitext(name)[1].lower() in _ENDINGS for name in _walk(path))


class EntryFiles:
    """A file, a folder with all below it, or a zip."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise InvalidInput(f"There is nothing at {path}.")
        self._path = path
        self._is_zip = path.is_file() and zipfile.is_zipfile(path)

    def octets(self) -> int:
        """How many `entries` will read."""
        if self._is_zip:
            return self._path.stat().st_size
        return sum(os.path.getsize(self._path / name) for name in self._names())

    def entries(self) -> Iterator[tuple[int, Entry | Unreadable]]:
        """Each entry, with the octets read up to it, as `octets` counts them."""
        yield from self._of_zip() if self._is_zip else self._of_files()

    def _of_files(self) -> Iterator[tuple[int, Entry | Unreadable]]:
        done = 0
        for name in self._names():
            path = self._path / name if name else self._path
            origin = name or path.name
            try:
                with path.open("rb") as file:
                    data = file.read(FILE_MAX + 1)
            except OSError as error:
                yield done, Unreadable(origin, f"it cannot be read: {error.strerror}.")
                continue
            for each in _taken_apart(origin, data):
                yield done, each
            done += len(data)

    def _names(self) -> list[str]:
        if self._path.is_file():
            return [""]
        return sorted(name for name in _walk(self._path) if os.path.splitext(name)[1].lower() in _ENDINGS)

    def _of_zip(self) -> Iterator[tuple[int, Entry | Unreadable]]:
        done = unpacked = 0
        try:
            with zipfile.ZipFile(self._path) as archive:
                members = archive.infolist()
                if len(members) > FILES_MAX:
                    raise InvalidInput(f"The zip has more than {FILES_MAX} files.")
                for member in members:
                    name = member.filename
                    if os.path.splitext(name)[1].lower() not in _ENDINGS or os.path.basename(name).startswith("."):
                        continue
                    try:
                        if member.flag_bits & 1:
                            raise InvalidInput("it is encrypted.")
                        with archive.open(member) as file:
                            data = file.read(min(FILE_MAX, ZIP_MAX - unpacked) + 1)
                    except InvalidInput as error:
                        yield done, Unreadable(_shown(name), error.public)
                        continue
                    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError):
                        yield done, Unreadable(_shown(name), "it cannot be unpacked.")
                        continue
                    unpacked += len(data)
                    if unpacked > ZIP_MAX:
                        raise InvalidInput(f"The zip unpacks to more than {ZIP_MAX} octets.")
                    for each in _taken_apart(_shown(name), data):
                        yield done, each
                    done += member.compress_size
        except (zipfile.BadZipFile, OSError, ValueError):
            raise InvalidInput(f"{self._path.name} is no zip that can be read.") from None


def _shown(name: str) -> str:
    """A name that a stranger chose, in a report."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)[:200]


def _taken_apart(origin: str, data: bytes) -> Iterator[Entry | Unreadable]:
    kind = kind_of(origin, data[:_HEAD])
    if len(data) > FILE_MAX:
        yield Unreadable(origin, f"it has more than {FILE_MAX} octets.")
        return
    found = False
    if kind is not None:
        split = calendars.split_lines if kind is EntryKind.CALENDAR else cards.split_lines
        for line, octets in split(data):
            found = True
            yield Entry(f"{origin}, line {line}", kind, octets)
    if not found and data.strip():
        yield Unreadable(origin, "there is no event, task, note or card in it.")


def _walk(path: Path) -> Iterator[str]:
    """Regular files at and below a folder, relative to it."""
    count = 0
    for folder, below, files in os.walk(path):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in files:
            full = os.path.join(folder, name)
            if not name.startswith(".") and stat.S_ISREG(os.lstat(full).st_mode):
                count += 1
                if count > FILES_MAX:
                    raise InvalidInput(f"There are more than {FILES_MAX} files in {path}.")
                yield os.path.relpath(full, path)
