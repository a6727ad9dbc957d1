"""Parts that lines of text cannot hold, in base64: what is stored of a message that came as a literal8.

What a reader decodes of a part is, octet for octet, what was sent. A part is encoded when it says that it is binary, or
when it has a NUL and no encoding; multiparts and messages in messages, which have none, say 8bit instead. Everything
else gets CRLF line ends as all mail does (`storage.mime.normalise`).

Never fails. Standards: RFC 3516 §4.4 and §6 (BODYSTRUCTURE and BODY never show a binary part), RFC 2045 §6.4, §6.8.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from io import BytesIO
from typing import Final

from storage.mime.fields import read_header
from storage.mime.message import Kind, Part, read_message
from storage.mime.normalise import to_crlf

_IDENTITY: Final = frozenset((b"7bit", b"8bit"))
_FIELD: Final = b"content-transfer-encoding"
_PIECE = 1000 * 57  # octets that are encoded at a time; 57 make a line of 76 characters


def without_binary(data: bytes) -> bytes:
    """`data` with every binary part in base64, and CRLF line ends around them."""
    whole = BytesIO()  # gives its octets away without a copy
    position = 0
    for part in _walk(read_message(data).root):
        encoding = _encoding(data, part)
        if encoding is None:
            continue
        whole.write(to_crlf(data[position : part.start]))
        whole.write(_header(data, part, encoding))
        position = part.body_start
        if encoding == b"base64":
            _write_based(whole, data, part.body_start, part.end)
            if position != part.end and part.end == len(data):
                whole.write(b"\r\n")
            position = part.end
    if not position:
        return to_crlf(data)
    whole.write(to_crlf(data[position:]))
    return whole.getvalue()


def _walk(root: Part) -> Iterator[Part]:
    """The parts in the order in which they stand in the message."""
    todo = [root]
    while todo:
        part = todo.pop()
        yield part
        todo.extend(reversed([part.embedded] if part.embedded is not None else part.children))


def _encoding(data: bytes, part: Part) -> bytes | None:
    """What is to be said of a part instead of what it says; None: it stays."""
    is_composite = part.kind is not Kind.LEAF or part.media_type == b"multipart"
    if part.encoding == b"binary":
        return b"8bit" if is_composite else b"base64"
    if not is_composite and part.encoding in _IDENTITY and data.find(b"\0", part.body_start, part.end) >= 0:
        return b"base64"
    return None


def _header(data: bytes, part: Part, encoding: bytes) -> bytes:
    """The part's header, whose first field about the encoding says this one."""
    raw = data[part.start : part.body_start]
    header = read_header(raw)
    told = b"Content-Transfer-Encoding: " + encoding + b"\r\n"
    kept: list[bytes] = []
    is_told = False
    end = 0
    for field in header.fields:
        end = field.end
        if field.name != _FIELD:
            kept.append(raw[field.start : field.end])
        elif not is_told:
            kept.append(told)
            is_told = True
    text = to_crlf(b"".join(kept))
    if text and not text.endswith(b"\r\n"):
        text += b"\r\n"
    if not is_told:
        text += told
    return text + (to_crlf(raw[end:]) or b"\r\n")


def _write_based(whole: BytesIO, data: bytes, start: int, end: int) -> None:
    """[start, end) of `data` in lines, the last of which does not end."""
    for at in range(start, end, _PIECE):
        if at != start:
            whole.write(b"\r\n")
        lines = base64.encodebytes(data[at : min(at + _PIECE, end)])
        whole.write(lines[:-1].replace(b"\n", b"\r\n"))
