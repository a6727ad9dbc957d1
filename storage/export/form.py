"""A message as it stands in a Maildir or an mbox, and back again, octet by octet.

Both keep text with LF where the message has CRLF everywhere; any other message keeps its line ends as they are. In an
mbox a line of ">"s and "From " gets one ">" more (mboxrd), status fields stand before the header, and a message that
does not end with a line end gets one: how many octets are ours is for the index to note.

Standards: RFC 4155; the mbox(5) manual; Dovecot's X-Keywords.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import NamedTuple

from storage.errors import InvalidInput
from storage.values import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN

_FROM = re.compile(rb"^(>*From )", re.MULTILINE)
_QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)
_LETTERS = ((ANSWERED, "A"), (FLAGGED, "F"), (DELETED, "D"), (DRAFT, "T"))
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LAST_SECOND = 253402300799  # 9999-12-31


class InMbox(NamedTuple):
    octets: bytes
    added: int
    ended: bool


def text_of(message: bytes) -> tuple[bytes, bool]:
    """With LF for CRLF, and whether that can be undone."""
    crlf = message.count(b"\r\n")
    if message.count(b"\n") != crlf:
        return message, False
    return (message.replace(b"\r\n", b"\n") if crlf else message), True


def message_of(text: bytes, crlf: bool) -> bytes:
    return text.replace(b"\n", b"\r\n") if crlf else text


def in_mbox(text: bytes, internal_date: int, flags: int, keywords: Sequence[str]) -> InMbox:
    """The text between its From_ line and the blank line before the next."""
    head = from_line(internal_date) + status_fields(flags, keywords)
    ended = not text.endswith(b"\n")
    body = _FROM.sub(rb">\1", text) if b"From " in text else text
    return InMbox(b"".join((head, body, b"\n\n" if ended else b"\n")), len(head), ended)


def out_of_mbox(octets: bytes, added: int, ended: bool) -> bytes:
    """Raises InvalidInput if that cannot have been written by `in_mbox`."""
    behind = b"\n\n" if ended else b"\n"
    if not octets.startswith(b"From ") or not octets.endswith(behind) or added + len(behind) > len(octets):
        raise InvalidInput("A message of the archive is not where the index says.")
    body = octets[added : len(octets) - len(behind)]
    return _QUOTED.sub(rb"\1", body) if b">From " in body else body


def from_line(internal_date: int) -> bytes:
    at = time.gmtime(min(max(internal_date, 0), _LAST_SECOND))
    clock = f"{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d}"
    return (
        f"From MAILER-DAEMON {_DAYS[at.tm_wday]} {_MONTHS[at.tm_mon - 1]} {at.tm_mday:2d} {clock} {at.tm_year:04d}\n"
    ).encode()


def status_fields(flags: int, keywords: Sequence[str]) -> bytes:
    fields = [f"Status: {'RO' if flags & SEEN else 'O'}\n"]
    if letters := "".join(letter for bit, letter in _LETTERS if flags & bit):
        fields.append(f"X-Status: {letters}\n")
    if keywords:
        fields.append(f"X-Keywords: {' '.join(keywords)}\n")
    return "".join(fields).encode()
