"""Turns a message into features: hashed 4-grams of octets, of its header and of the beginning of its body.

A feature says only that an n-gram occurs (Goodman & Yih 2006; Sculley & Wachman 2007), so repeating words gains
nothing. What is looked at is the message as a gateway gets it: an mbox From_ line, what mail stores add, and fields
that this server writes itself do not count, so that a message has the same features whether it comes over SMTP, out of
a mailbox or out of a corpus. Line ends may be CRLF or LF.

Never fails; time and memory are bounded by `HEADER_MAX` and `BODY_MAX`, however large the message is.
"""

from __future__ import annotations

import re
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

HEADER_MAX = 16 * 1024  # octets of the header that are looked at, without the fields that do not count
BODY_MAX = 8 * 1024
FEATURES_MAX = HEADER_MAX + BODY_MAX

Features: TypeAlias = NDArray[np.uint32]  # ascending, each once

_HEADER_SEARCHED = 256 * 1024  # a header may not be longer, or the message has no body for us
_IGNORED = re.compile(
    rb"^(?:status|x-status|x-keywords|x-uid|x-imap|x-imapbase|x-mozilla-status2?|x-mozilla-keys|lines|content-length"
    rb"|return-path|authentication-results|x-cleanmail-[!-9;-~]*+)[ \t]*+:[^\n]*+(?:\n[ \t][^\n]*+)*+\n?",
    re.IGNORECASE | re.MULTILINE,
)
_PRIME = np.uint32(2654435761)  # Knuth's multiplicative hash: the upper bits are the good ones
_BODY_SALT = np.uint32(0x9E3779B9)
_SHIFTS = (np.uint32(24), np.uint32(16), np.uint32(8))
_PADDING = b"\0\0\0"


def features_of(message: bytes) -> Features:
    """The features of a message."""
    header, body = _header_and_body(message)
    hashes = np.concatenate((_grams(header), _grams(body) ^ _BODY_SALT)) * _PRIME
    hashes.sort()
    keep = np.empty(len(hashes), np.bool_)
    keep[:1] = True
    np.not_equal(hashes[1:], hashes[:-1], out=keep[1:])
    return hashes[keep]


def _header_and_body(message: bytes) -> tuple[bytes, bytes]:
    """Both with LF at line ends, and no longer than what counts of them."""
    start = 0
    if message.startswith(b"From "):
        start = message.find(b"\n", 0, 1024) + 1
    searched = message[start : start + _HEADER_SEARCHED]
    ends = [(at, at + size) for mark, size in ((b"\n\n", 2), (b"\n\r\n", 3)) if (at := searched.find(mark)) >= 0]
    end, body = min(ends, default=(len(searched), len(searched)))
    header = _IGNORED.sub(b"", searched[: end + 1].replace(b"\r\n", b"\n"))[:HEADER_MAX]
    # Twice as many octets hold enough of them with either line end.
    window = message[start + body : start + body + 2 * BODY_MAX]
    return header, window.replace(b"\r\n", b"\n")[:BODY_MAX]


def _grams(data: bytes) -> Features:
    """Every four octets that follow one another, as numbers."""
    if not data:
        return np.empty(0, np.uint32)
    octets = np.frombuffer(data + _PADDING, np.uint8).astype(np.uint32)
    grams = octets[3:].copy()
    for position, shift in enumerate(_SHIFTS):
        grams |= octets[position:][: len(grams)] << shift
    return grams
