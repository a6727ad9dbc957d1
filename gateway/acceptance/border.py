"""What must leave a message's header at our border: what only we, or nobody, may say of a message. Pure.

Everything else stays as it came, octet by octet. A message that begins with white space gets a field of ours before
it: its first line would continue the last of the fields that we put in front, and speak in our name.

Standards: RFC 5321 §4.4 (Return-Path), RFC 8601 §5 (results in our name), RFC 5322 §2.2.3 (folding).
"""

from __future__ import annotations

import re

from storage.mime.fields import Header

RETURN_PATH = frozenset({b"return-path"})
_OWN_PREFIX = b"x-cleanmail-"
_CONTINUED = b"X-Cleanmail-Continued:\r\n"  # what a first line that begins with white space belongs to

_COMMENTED = re.compile(rb"[()]|(?:[^\s()\\]|\\.)+", re.DOTALL)
_WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"|[^\s;()"]+', re.DOTALL)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)


def without_border(data: bytes, header: Header, hostname: str, remove: frozenset[bytes] = RETURN_PATH) -> bytes:
    """`data` without the fields named in `remove` (lower case), without X-Cleanmail-*, without results in our name."""
    kept: list[bytes] = []
    position = 0
    for field in header.fields:
        name = field.name
        if name in remove or name.startswith(_OWN_PREFIX) or _claims_us(data, name, field.value, field.end, hostname):
            kept.append(data[position : field.start])
            position = field.end
    if kept:
        kept.append(data[position:])
        data = b"".join(kept)
    return _CONTINUED + data if data[:1] in {b" ", b"\t"} else data


def _claims_us(data: bytes, name: bytes, start: int, end: int, hostname: str) -> bool:
    """Whether the field is an Authentication-Results whose authserv-id is ours."""
    if name != b"authentication-results":
        return False
    # Some readers take what only looks like our name for it: with the root's dot, or with the version right behind it.
    claimed = _authserv_id(data[start:end]).lower().partition(b"/")[0].rstrip(b".")
    return claimed == hostname.lower().encode()


def _authserv_id(value: bytes) -> bytes:
    """The first word, as RFC 8601 §2.2 has it: comments may stand before it, and it may be quoted."""
    depth = 0
    for match in _COMMENTED.finditer(value):
        if match[0] == b"(":
            depth += 1
        elif match[0] == b")":
            depth = max(depth - 1, 0)
        elif depth == 0:
            word = _WORD.match(value, match.start())
            return b"" if word is None else word[0] if word[1] is None else _QUOTED_PAIR.sub(rb"\1", word[1])
    return b""
