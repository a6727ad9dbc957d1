"""Reads labelled corpora that an operator names, and shows their messages in the order in which they arrived.

A corpus is a TREC index (lines "spam ../data/inmail.1"), a folder with such an index (or full/index), a tar with one, a
tar or folder whose folders and files are named after what is in them (ham, easy_ham, spam_2: Maildir, mbox, folder of
.eml files), or any archive that `storage.importing` reads, with its label given.

What the classifier looks at of each message is kept in a file without a name, so that a corpus may be larger than
memory and be read in an order of its own, several times. Undated messages are spread evenly among the others.

Raises: InvalidInput for what is no corpus; entries that are no message are counted and left out.
"""

from __future__ import annotations

import re
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Self

from gateway.classifier.content import OCTETS_MAX
from storage.archives.archive import Found, begins_with_header, without_from_line
from storage.archives.maildir import MaildirArchive
from storage.errors import InvalidInput
from storage.importing import open_archive
from storage.mime.dates import parse_date
from storage.mime.fields import read_header

Progress = Callable[[int], None]

_INDEX_LINE = re.compile(r"\s*(ham|spam)\s+(\S.*?)\s*\Z", re.IGNORECASE)
_INDEX_MAX = 64 * 1024 * 1024
_SPAM_NAME = re.compile(r"(?:\A|[^a-z])spam(?:\Z|[^a-z])", re.IGNORECASE)
_HAM_NAME = re.compile(r"(?:\A|[^a-z])ham(?:\Z|[^a-z])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Entry:
    is_spam: bool
    at: int
    length: int
    arrived: int | None


class Corpus:
    """Messages with labels; add all of them, then go through them. A context: its file ends with it."""

    def __init__(self, progress: Progress | None = None) -> None:
        """`progress` is told how many messages were read so far."""
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="cleanmail-corpus-")  # noqa: SIM115 - closed by the context
        self._length = 0
        self._entries: list[_Entry] = []
        self._progress = progress
        self.left_out = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def spam(self) -> int:
        return sum(entry.is_spam for entry in self._entries)

    @property
    def ham(self) -> int:
        return len(self._entries) - self.spam

    def messages(self) -> Iterator[tuple[bytes, bool]]:
        """All messages in the order of their arrival, each with whether it is spam."""
        for entry in _in_order(self._entries):
            self._file.seek(entry.at)
            yield self._file.read(entry.length), entry.is_spam

    def add(self, path: Path) -> None:
        """The corpus at `path`, whatever its format."""
        if not path.exists():
            raise InvalidInput(f"There is nothing at {path}.")
        if path.is_dir():
            index = next((index for index in (path / "index", path / "full" / "index") if index.is_file()), None)
            if index is not None:
                self._add_index(index)
            else:
                self._add_folder(path)
        elif tarfile.is_tarfile(path):
            self._add_tar(path)
        else:
            self._add_index(path)

    def add_archive(self, path: Path, *, is_spam: bool) -> None:
        """A Maildir, an mbox or a folder of message files, all of one label."""
        archive = open_archive(path)
        # The times of a Maildir's files are those of whoever copied it; a From_ line says when a message arrived.
        is_dated = not isinstance(archive, MaildirArchive)
        for entry in archive.messages():
            if isinstance(entry, Found):
                self._keep(entry.octets, is_spam, entry.received if is_dated else None)
            else:
                self.left_out += 1

    def _add_folder(self, path: Path) -> None:
        labelled = [(below, label) for below in sorted(path.iterdir()) if (label := label_of(below.name)) is not None]
        if not labelled:
            raise InvalidInput(f"{path} is no corpus: there is neither an index nor anything called ham or spam in it.")
        for below, is_spam in labelled:
            self.add_archive(below, is_spam=is_spam)

    def _add_index(self, index: Path) -> None:
        with index.open("rb") as file:
            lines = _parse_index(file.read(_INDEX_MAX))
        if not lines:
            raise InvalidInput(
                f"{index} is no corpus: it is no index, no tar and no folder. Name archives by --ham, --spam."
            )
        for is_spam, name in lines:
            try:
                with (index.parent / name).open("rb") as message:
                    self._keep_file(message, is_spam)
            except OSError:
                self.left_out += 1

    def _add_tar(self, path: Path) -> None:
        """Its index may stand behind its messages, so labels come last."""
        members: dict[str, tuple[int, int, int | None]] = {}
        headless: set[str] = set()  # no messages, unless an index says so
        index: tuple[PurePosixPath, bytes] | None = None
        try:
            with tarfile.open(path) as tar:
                for member in tar:
                    content = tar.extractfile(member) if member.isfile() else None
                    if content is None:
                        continue
                    name = PurePosixPath(member.name)
                    if name.name == "index":
                        index = (name.parent, content.read(_INDEX_MAX))
                    elif (octets := content.read(OCTETS_MAX)).strip():
                        octets, arrived = without_from_line(octets)
                        if not begins_with_header(octets):
                            headless.add(str(name))
                        members[str(name)] = self._write(octets, arrived)
                        self._tell(len(self._entries) + len(members))
        except (tarfile.TarError, EOFError, OSError) as error:
            raise InvalidInput(f"{path} cannot be read to its end: {error}.") from None
        if index is not None:
            pairs = [(is_spam, _joined(index[0], entry)) for is_spam, entry in _parse_index(index[1])]
        else:
            labels = [(label_of(PurePosixPath(entry).parent.name), entry) for entry in sorted(members)]
            pairs = [(label, entry) for label, entry in labels if label is not None and entry not in headless]
            self.left_out += sum(label is not None for label, _ in labels) - len(pairs)
        if not pairs:
            raise InvalidInput(f"{path} is no corpus: there is neither an index nor a folder called ham or spam in it.")
        for is_spam, entry in pairs:
            if entry in members:
                self._entries.append(_Entry(is_spam, *members[entry]))
            else:
                self.left_out += 1

    def _keep_file(self, file: IO[bytes], is_spam: bool) -> None:
        octets, arrived = without_from_line(file.read(OCTETS_MAX))
        if octets.strip():
            self._keep(octets, is_spam, arrived)
        else:
            self.left_out += 1

    def _keep(self, octets: bytes, is_spam: bool, arrived: int | None) -> None:
        self._entries.append(_Entry(is_spam, *self._write(octets, arrived)))
        self._tell(len(self._entries))

    def _write(self, octets: bytes, arrived: int | None) -> tuple[int, int, int | None]:
        octets = octets[:OCTETS_MAX]
        at = self._length
        self._file.seek(at)
        self._file.write(octets)
        self._length += len(octets)
        return at, len(octets), _arrival(octets) if arrived is None else arrived

    def _tell(self, count: int) -> None:
        if self._progress is not None:
            self._progress(count)


def label_of(name: str) -> bool | None:
    """What the name of a folder or file says of the messages in it: spam, ham, or nothing."""
    if _SPAM_NAME.search(name):
        return True
    return False if _HAM_NAME.search(name) else None


def _parse_index(octets: bytes) -> list[tuple[bool, str]]:
    """An index's lines; none if most lines are something else."""
    lines = octets.decode("utf-8", "surrogateescape").splitlines()
    found = [match for line in lines if (match := _INDEX_LINE.match(line))]
    if len(found) * 2 < len(lines):
        return []
    return [(match[1].lower() == "spam", match[2]) for match in found]


def _joined(folder: PurePosixPath, name: str) -> str:
    """A name as an index gives it, as the tar has it; links are not followed."""
    parts: list[str] = []
    for part in (folder / name).parts:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return str(PurePosixPath(*parts))


def _arrival(octets: bytes) -> int | None:
    """When a message arrived: by its uppermost Received field, else by its Date."""
    if not begins_with_header(octets):
        return None
    header = read_header(octets)
    received = (header.value(b"received") or b"").rpartition(b";")[2]
    date = parse_date(received) or parse_date(header.value(b"date") or b"")
    return date.seconds if date else None


def _in_order(entries: list[_Entry]) -> list[_Entry]:
    """By arrival; those without a date spread evenly among the others of the corpus, ham and spam alike."""
    dates = sorted(entry.arrived for entry in entries if entry.arrived is not None)
    undated = {label: sum(e.arrived is None and e.is_spam is label for e in entries) for label in (False, True)}
    seen = {False: 0, True: 0}
    keys: list[tuple[float, float, int]] = []
    for number, entry in enumerate(entries):
        if entry.arrived is not None:
            keys.append((entry.arrived, 0.0, number))
            continue
        share = (seen[entry.is_spam] + 0.5) / undated[entry.is_spam]
        seen[entry.is_spam] += 1
        keys.append((dates[int(share * len(dates))] if dates else 0, share, number))
    return [entries[number] for _, _, number in sorted(keys)]
