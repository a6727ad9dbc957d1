"""Reads a folder of message files (.eml), with everything below it, as one folder in the order of the paths.

A leading mbox From_ line is dropped and gives the time of arrival. A file that is not called .eml is taken if it begins
with a header field; hidden files, links and pipes are left alone. A single .eml file is an archive of one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from storage.archives.archive import OCTETS_MAX, Found, Unreadable, begins_with_header, without_from_line


class EmlFolder:
    """Message files at and below `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: list[str] | None = None

    def folders(self) -> list[str]:
        return []

    def count(self) -> int:
        return len(self._names())

    def messages(self) -> Iterator[Found | Unreadable]:
        for name in self._names():
            yield self._entry(name)

    def _names(self) -> list[str]:
        if self._files is None:
            self._files = sorted(_walk(self._path))
        return self._files

    def _entry(self, name: str) -> Found | Unreadable:
        path = self._path / name if name else self._path
        origin = name or path.name
        try:
            with path.open("rb") as file:
                octets = file.read(OCTETS_MAX + 1)
        except OSError as error:
            return Unreadable(origin, f"it cannot be read: {error.strerror}.")
        if len(octets) > OCTETS_MAX:
            return Unreadable(origin, f"it has more than {OCTETS_MAX} octets.")
        octets, received = without_from_line(octets)
        if not octets.strip():
            return Unreadable(origin, "it is empty.")
        if not path.name.lower().endswith(".eml") and not begins_with_header(octets):
            return Unreadable(origin, "it is not a message: it does not begin with a header field.")
        return Found("", origin, octets, received=received)


def _walk(path: Path) -> Iterator[str]:
    """Paths below `path`, relative to it; "" for a single file."""
    if path.is_file():
        yield ""
        return
    for folder, below, files in os.walk(path):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in files:
            full = os.path.join(folder, name)
            if not name.startswith(".") and stat.S_ISREG(os.lstat(full).st_mode):
                yield os.path.relpath(full, path)
