"""Reads a Maildir with its subfolders: flags from the file names, INTERNALDATE from the files' times.

Subfolders are taken in both layouts: Maildir++ (".Work.2024" beside cur/) and plain directories ("Work/2024", each with
cur/; the top needs none, as mbsync and offlineimap lay them out). Folder names are decoded from modified UTF-7.
Keywords come from Dovecot's `dovecot-keywords`. Links are left alone: an archive has nothing outside of itself.
Standards: the Maildir description at cr.yp.to, Maildir++, RFC 3501 §5.1.3 (modified UTF-7).
"""

from __future__ import annotations

import binascii
import os
import re
from collections.abc import Iterator
from pathlib import Path

from storage.archives.archive import OCTETS_MAX, Found, Unreadable, keywords_of, without_from_line
from storage.errors import InvalidInput
from storage.values import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN

_INFO = re.compile(r"[:;!]2,([A-Za-z,]*)\Z")  # ";" and "!" where ":" may not stand in a file name
_FLAGS = {"D": DRAFT, "F": FLAGGED, "R": ANSWERED, "S": SEEN, "T": DELETED}
_OWN = frozenset({"cur", "new", "tmp"})
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ")  # gzip, bzip2, zstd, xz
_DEPTH_MAX = 32


def is_maildir(path: Path) -> bool:
    """Whether `path` or a folder right below it is one."""
    if (path / "cur").is_dir():
        return True
    return any(entry.is_dir() and (Path(entry.path) / "cur").is_dir() for entry in os.scandir(path))


class MaildirArchive:
    """A Maildir and its subfolders."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidInput if there is no Maildir."""
        self._path = path
        self._folders = dict(sorted(_folders(path)))
        if not self._folders:
            raise InvalidInput(f"{path.name} is not a Maildir: there is no cur/ in it.")

    def folders(self) -> list[str]:
        return [name for name in self._folders if name]

    def count(self) -> int:
        return sum(len(_files(path)) for path in self._folders.values())

    def messages(self) -> Iterator[Found | Unreadable]:
        for name, path in self._folders.items():
            keywords = _keywords(path)
            for file in _files(path):
                yield self._entry(name, file, keywords)

    def _entry(self, folder: str, path: str, keywords: dict[str, str]) -> Found | Unreadable:
        origin = os.path.relpath(path, self._path)
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                octets = file.read(OCTETS_MAX + 1)
        except OSError as error:
            return Unreadable(origin, f"it cannot be read: {error.strerror}.")
        if len(octets) > OCTETS_MAX:
            return Unreadable(origin, f"it has more than {OCTETS_MAX} octets.")
        if octets.startswith(_COMPRESSED):
            return Unreadable(origin, "it is compressed; decompress the Maildir first.")
        octets, _ = without_from_line(octets)
        if not octets.strip():
            return Unreadable(origin, "it is empty.")
        flags, words = _marks(os.path.basename(path), keywords)
        return Found(folder, origin, octets, flags=flags, keywords=words, received=int(status.st_mtime))


def _folders(root: Path) -> Iterator[tuple[str, Path]]:
    """Every Maildir at and below `root` with its folder name."""
    pending: list[tuple[tuple[str, ...], Path]] = [((), root)]
    while pending:
        names, path = pending.pop()
        if (path / "cur").is_dir() or (path / "new").is_dir():
            yield "/".join(names), path
        if len(names) >= _DEPTH_MAX:
            continue
        for entry in os.scandir(path):
            if entry.name in _OWN or not entry.is_dir(follow_symlinks=False):
                continue
            below = Path(entry.path)
            if entry.name.startswith("."):
                if (below / "cur").is_dir():  # Maildir++; anything else with a dot is not mail
                    inner = [decode_name(part) for part in entry.name[1:].split(".") if part]
                    yield "/".join((*names, *inner)), below
            else:
                pending.append(((*names, decode_name(entry.name)), below))


def _files(path: Path) -> list[str]:
    """The message files of one folder, oldest first."""
    found: list[tuple[int, str, str]] = []
    for part in ("cur", "new"):
        if (path / part).is_symlink():
            continue
        try:
            entries = list(os.scandir(path / part))
        except FileNotFoundError:
            continue
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False):
                found.append((int(entry.stat().st_mtime), entry.name, entry.path))
    return [name for _, _, name in sorted(found)]


def _keywords(path: Path) -> dict[str, str]:
    """Keyword by letter, from lines like "0 $Forwarded" (0 is "a")."""
    file = path / "dovecot-keywords"
    if file.is_symlink() or not file.is_file():
        return {}
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    pairs = (line.split(" ", 1) for line in lines if " " in line)
    return {chr(ord("a") + int(number)): word for number, word in pairs if number.isdecimal() and int(number) < 26}


def _marks(name: str, keywords: dict[str, str]) -> tuple[int, tuple[str, ...]]:
    info = _INFO.search(name)
    flags = 0
    words = []
    for letter in info[1] if info else "":
        flags |= _FLAGS.get(letter, 0)
        if letter == "P":
            words.append("$Forwarded")  # "passed" (RFC 5550 §2.8)
        elif letter in keywords:
            words.append(keywords[letter])
    return flags, keywords_of(words)


def decode_name(name: str) -> str:
    """A folder name from modified UTF-7; a name that is not well-formed in it is taken as it stands."""
    name = os.fsencode(name).decode("utf-8", "replace")

    def word(found: re.Match[str]) -> str:
        if not found[1]:
            return "&"
        padded = found[1].replace(",", "/") + "=" * (-len(found[1]) % 4)
        return binascii.a2b_base64(padded).decode("utf-16-be")

    try:
        return re.sub(r"&([A-Za-z0-9+,]*)-", word, name).replace("/", "_")
    except (ValueError, binascii.Error):
        return name
