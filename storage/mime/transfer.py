"""Content-Transfer-Encodings undone, as far as broken data goes.

Octets that don't belong to base64 are passed over; data after the padding goes on as data (concatenated encodings
occur); an "=" that begins no escape in quoted-printable stays. Linear time.
Raises: InvalidInput for an encoding that is not known (IMAP answers UNKNOWN-CTE).
Standards: RFC 2045 §6.7 and §6.8, RFC 3516 §4.3.
"""

from __future__ import annotations

import binascii
import re

from storage.errors import InvalidInput

_IDENTITY = frozenset((b"7bit", b"8bit", b"binary"))
_NO_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))
_PADDING = re.compile(rb"=+")
_TRAILING_BLANKS = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n|\Z)")


def is_known(encoding: bytes) -> bool:
    """Whether `decode_transfer` takes this encoding (lower case)."""
    return encoding in _IDENTITY or encoding in (b"base64", b"quoted-printable")


def decode_transfer(data: bytes, encoding: bytes) -> bytes:
    """`data` without its transfer encoding (lower case). Raises InvalidInput for an unknown encoding."""
    if encoding in _IDENTITY:
        return data
    if encoding == b"base64":
        return decode_base64(data)
    if encoding == b"quoted-printable":
        return binascii.a2b_qp(_TRAILING_BLANKS.sub(b"", data))  # RFC 2045 §6.7 (3)
    raise InvalidInput("The part has an unknown transfer encoding.")


def decode_base64(data: bytes) -> bytes:
    """What base64 `data` holds; a last group that is cut gives the octets that are whole."""
    data = data.translate(None, _NO_BASE64)
    if b"=" not in data:
        return _decode_run(data)
    return b"".join([_decode_run(run) for run in _PADDING.split(data)])


def _decode_run(run: bytes) -> bytes:
    """A run of base64 letters without padding."""
    rest = len(run) % 4
    if rest == 1:  # six bits are no octet
        run, rest = run[:-1], 0
    return binascii.a2b_base64(run + b"=" * (4 - rest) if rest else run)
