"""A folder that is erased: taken away under another name in one step, counted, and then removed file by file.

Its files are encrypted under keys that are destroyed, so only its name has to go at once. Counting and removing read
directories entry by entry, whatever their size, and go on where they were interrupted.

Raises: Unavailable.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storage.files import durable

ERASING = "erasing"
_EACH = 1000  # files between two calls of `progress`


@dataclass(frozen=True, slots=True)
class Counted:
    files: int = 0
    bytes: int = 0
    messages: int = 0  # files of messages
    withheld: int = 0  # messages of the quarantine


def take_away(data: Path, folder: Path, ending_id: str) -> Path:
    """Rename it to erasing/<ending id>; durable. If that is there already, what came into being since goes into it."""
    target = data / ERASING / ending_id
    durable.make_directory(target)
    if folder.is_dir():
        number = sum(1 for _ in target.iterdir())
        try:
            folder.rename(target / str(number))
        except OSError as error:
            raise durable.translated(error) from None
        durable.fsync_directory(target)
        durable.fsync_directory(folder.parent)
    return target


def count(folder: Path, progress: Callable[[int], None]) -> Counted:
    files = octets = messages = withheld = 0
    for parent, entry in _walk(str(folder)):
        files += 1
        with suppress(FileNotFoundError):
            octets += entry.stat(follow_symlinks=False).st_size
        messages += parent.endswith(("Maildir/new", "Maildir/cur"))
        withheld += parent.endswith("quarantine") and entry.name.endswith(".header")
        if files % _EACH == 0:
            progress(files)
    return Counted(files, octets, messages, withheld)


def remove(folder: Path, progress: Callable[[int], None]) -> None:
    """All of it. `progress` hears how many files are gone, and may raise to stop it there."""
    for removed, (parent, entry) in enumerate(_walk(str(folder)), 1):
        with suppress(FileNotFoundError):
            os.unlink(f"{parent}/{entry.name}")
        if removed % _EACH == 0:
            progress(removed)
    try:
        for path, _, _ in os.walk(folder, topdown=False):
            os.rmdir(path)
    except OSError as error:
        raise durable.translated(error) from None
    if folder.parent.is_dir():
        durable.fsync_directory(folder.parent)


def _walk(folder: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every file with the folder it is in."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _walk(entry.path)
                else:
                    yield folder, entry
    except FileNotFoundError:
        return
