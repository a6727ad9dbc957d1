"""The canonical forms of header fields and bodies: *relaxed* is what survives the usual changes on the way.

The *simple* form of a header field is the field as it is, and has no function here.

Content has CRLF line ends; a CR or LF by itself is an ordinary octet here, as verifiers take it. Pure, never fails,
linear.

Standards: RFC 6376 §3.4.1 and §3.4.2 (header), §3.4.3 and §3.4.4 (body).
"""

from __future__ import annotations

import re

# Only what has to change is matched: nearly every blank is a single space already.
_BLANKS = re.compile(rb"[ \t]{2,}|\t")
_FOLD = re.compile(rb"\r\n(?=[ \t])")
_LINES = b"\r\n" * 4096


def relaxed_field(name: bytes, value: bytes) -> bytes:
    """`name:value` with its CRLF. `name` is in lower case; `value` is what stands behind the colon, folded or not."""
    if b"\n" in value:
        value = _FOLD.sub(b"", value.removesuffix(b"\r\n"))
    return b"%s:%s\r\n" % (name, _BLANKS.sub(b" ", value).strip(b" \t\r\n"))


def relaxed_body(content: bytes, start: int) -> bytes:
    """The body that begins at `start`. What has no last CRLF gets one, since SMTP sends it with one."""
    body = content[start:]
    if not body:
        return b""
    if not body.endswith(b"\r\n"):
        body += b"\r\n"
    # Ten times as fast as an expression; each round halves every run of blanks, and most bodies have no long ones.
    body = body.replace(b"\t", b" ")
    while b"  " in body:
        body = body.replace(b"  ", b" ")
    body = body.replace(b" \r\n", b"\r\n")
    if body.endswith(b"\r\n\r\n") or body == b"\r\n":
        body = _without_last_lines(body)
    return body


def simple_body(content: bytes, start: int) -> bytes:
    """The body that begins at `start`, without the empty lines at its end; it always has a last CRLF."""
    body = content[start:]
    if not body.endswith(b"\r\n"):
        return body + b"\r\n"
    return _without_last_lines(body) or b"\r\n"


def _without_last_lines(body: bytes) -> bytes:
    """The body without the empty lines at its end; nothing at all if there were only such lines."""
    end = len(body)
    while body.endswith(_LINES, 0, end):  # a body can consist of millions of them
        end -= len(_LINES)
    while body.endswith(b"\r\n", 0, end):
        end -= 2
    return body[:end] + b"\r\n" if end else b""
