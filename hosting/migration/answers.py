"""What an IMAP server answers, as typed values, read from what imaplib and IMAPClient hand over.

Nothing is believed: a response that makes no sense or names no message is passed over, and of its flags only those that
can be kept are taken. Whether it was asked for, and how much may come, is for the client to know.

Standards: RFC 9051 §2.3.2, §7 and §9; RFC 2342.
"""

from __future__ import annotations

import imaplib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from imapclient.response_parser import parse_fetch_response

from hosting.migration.wire import ServerLost
from storage.mail.moving_values import Tags
from storage.values import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN, UID_MAX

KEYWORDS_MAX = 100  # of one message

_SYSTEM = {b"\\seen": SEEN, b"\\answered": ANSWERED, b"\\flagged": FLAGGED, b"\\deleted": DELETED, b"\\draft": DRAFT}
_KEYWORD = re.compile(rb"[!#$&'+\-./0-9:;<=>?@A-Z\[^_`a-z|}~]{1,200}\Z")  # atoms (RFC 9051 §9)


class Refused(Exception):  # noqa: N818 - an answer
    """The server said NO or BAD to a command, or what it offers cannot be used. `said` is for people."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


@dataclass(frozen=True, slots=True)
class Listed:
    """A mailbox as LIST tells of it."""

    raw: bytes  # its name, to ask for it
    name: str
    delimiter: str  # "": it has no levels
    attributes: frozenset[str]  # small letters
    subscribed: bool = False


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Prefixes (RFC 2342) of what is the user's own, and of what is not."""

    personal: tuple[str, ...] = ("",)
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Opened:
    uidvalidity: int
    messages: int
    highest_modseq: int  # 0: it has none


@dataclass(frozen=True, slots=True)
class Attributes:
    size: int
    tags: Tags
    internal_date: int | None
    internal_zone: int = 0  # minutes east of UTC


@dataclass(slots=True)
class Bodies:
    """What came of a FETCH. `lost`: the connection ended meanwhile."""

    octets: dict[int, bytes] = field(default_factory=dict)
    empty: set[int] = field(default_factory=set)  # the server says NIL
    lost: ServerLost | None = None


def tags_of(flags: Collection[Any]) -> Tags:
    r"""Known system flags and keywords; \Recent and what is no keyword are left out."""
    bits = 0
    words: set[str] = set()
    for flag in flags:
        if flag is None or isinstance(flag, tuple):
            continue
        octets = octets_of(flag)
        if octets.startswith(b"\\"):
            bits |= _SYSTEM.get(octets.lower(), 0)
        elif _KEYWORD.match(octets) and len(words) < KEYWORDS_MAX:
            words.add(octets.decode("ascii"))
    return Tags(bits, frozenset(words))


def responses(data: Sequence[Any]) -> Iterator[list[Any]]:
    """imaplib's records, a list for each response: its literals are tuples, and it ends with a line."""
    response: list[Any] = []
    for record in data:
        if record is None:
            continue
        response.append(record)
        if not isinstance(record, tuple):
            yield response
            response = []


def fetched(data: Sequence[Any]) -> Iterator[tuple[int, dict[bytes, Any]]]:
    """UID and items of each response to FETCH that can be read and has one."""
    for response in responses(data):
        try:
            for items in parse_fetch_response(response, False, False).values():
                uid = items.get(b"UID")
                if isinstance(uid, int) and 0 < uid <= UID_MAX:
                    yield uid, items
        except (imaplib.IMAP4.error, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            continue


def octets_of(value: Any) -> bytes:
    """The lexer makes numbers of what looks like one."""
    return value if isinstance(value, bytes) else str(value).encode("ascii", "replace")


def seconds_of(value: Any) -> int | None:
    if not isinstance(value, datetime):
        return None
    try:
        seconds = int(value.timestamp())
    except (ValueError, OverflowError, OSError):
        return None
    return seconds if 0 <= seconds < 1 << 40 else None


def zone_of(value: Any) -> int:
    """The zone of a date that a server tells, in minutes east of UTC."""
    offset = value.utcoffset() if isinstance(value, datetime) else None
    return int(offset.total_seconds()) // 60 if offset is not None else 0
