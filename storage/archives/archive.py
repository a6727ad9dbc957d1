"""What an archive of messages is, whatever its format: folders, a count, and the messages one after the other.

Readers hand out octets as the archive means them (From_ lines dropped, quoting undone) with the line ends that they
found; `storage.importing` normalises those. A reader never stops at one bad entry: it hands an `Unreadable` out.
Messages come in the same order on every run, so that an import that was interrupted can go on.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

OCTETS_MAX = 256 * 1024 * 1024  # of one message; what a server takes is decided by the account

_HEADER_LINE = re.compile(rb"[!-9;-~]+[ \t]*:")  # RFC 5322 §2.2, RFC 5322 §4.5 (space before the colon)
_KEYWORD = re.compile(r'[^\x00-\x20\x7f-\U0010ffff(){%*"\\\]]{1,255}\Z')  # RFC 9051 §9: an atom
_MONTHS = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
# "From " sender, date as asctime writes it (RFC 4155), with a zone on either side of the year as some programs add.
_ASCTIME = re.compile(
    rb"\b(" + b"|".join(_MONTHS) + rb")\s+(\d{1,2})\s+(\d{1,2}):(\d\d)(?::(\d\d))?"
    rb"(?:\s+(?:([+-]\d{4})|[A-Z]{2,5}))?\s+(\d{4})(?:\s+([+-]\d{4}))?"
)


@dataclass(frozen=True, slots=True)
class Found:
    """One message of an archive. `folder` is "" for the archive's own, "Work/2024" for one below it."""

    folder: str
    origin: str  # where it stands in the archive, for a report to the person who imports
    octets: bytes
    flags: int = 0
    keywords: tuple[str, ...] = ()
    received: int | None = None  # Unix seconds, if the archive says so


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An entry that is no message, and why."""

    origin: str
    reason: str


class Archive(Protocol):
    """Messages in folders."""

    def folders(self) -> list[str]:
        """The folders below the archive's own, parents first, empty ones too."""
        ...

    def count(self) -> int:
        """How many messages and unreadable entries `messages` will hand out."""
        ...

    def messages(self) -> Iterator[Found | Unreadable]:
        """All entries, folder by folder, in the order in which UIDs should ascend."""
        ...


def begins_with_header(octets: bytes) -> bool:
    """Whether this can be a message: it starts with a header field."""
    return _HEADER_LINE.match(octets) is not None


def keywords_of(words: Iterable[str]) -> tuple[str, ...]:
    """Those of the words that a message may have as keywords: no other may come into a reply (RFC 9051 §2.3.2)."""
    return tuple(dict.fromkeys(word for word in words if _KEYWORD.match(word)))


def from_line_date(line: bytes) -> int | None:
    """The time that an mbox From_ line names, in Unix seconds; without a zone it is UTC (RFC 4155)."""
    found = _ASCTIME.search(line)
    if found is None:
        return None
    month, day, hour, minute, second, zone, year, late_zone = found.groups()
    numbers = (int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second or 0))
    if not (numbers[0] >= 1970 and 1 <= numbers[2] <= 31 and numbers[3] < 24 and numbers[4] < 60 and numbers[5] < 61):
        return None
    seconds = timegm((*numbers, 0, 0, 0))
    offset = zone or late_zone
    if offset:
        minutes = int(offset[1:3]) * 60 + int(offset[3:5])
        seconds -= 60 * (minutes if offset[:1] == b"+" else -minutes)
    return seconds


def is_from_line(line: bytes) -> bool:
    """Whether a line divides messages: "From " with a date behind it, or (Thunderbird) with nothing at all.

    Prose that begins a line with "From " is not taken for one, since not every program quotes it.
    """
    return line.startswith(b"From ") and (not line[5:].strip() or _ASCTIME.search(line) is not None)


def without_from_line(octets: bytes) -> tuple[bytes, int | None]:
    """A single message without the From_ line that some programs leave on top, and the time that it names."""
    if not octets.startswith(b"From "):
        return octets, None
    line, _, rest = octets.partition(b"\n")
    return rest, from_line_date(line)
