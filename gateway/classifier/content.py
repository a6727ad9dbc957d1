"""What of a message the classifier looks at: its header and the beginning of its text, as they were before encoding.

The message is seen as a gateway gets it: an mbox From_ line, what mail stores add, and fields that this server writes
itself do not count, so that a message gives the same octets whether it comes over SMTP, out of a mailbox or out of a
corpus. Line ends become LF. Encoded words, base64 and quoted-printable text are decoded: senders choose the encoding,
not what it says. Charsets stay as they are.

Never fails; time and memory are bounded by the constants here, however large the message is.
"""

from __future__ import annotations

import re

from storage.errors import InvalidInput
from storage.mime.decode import decode_words
from storage.mime.message import Kind, Part, read_message
from storage.mime.transfer import decode_transfer

HEADER_MAX = 16 * 1024  # octets of the header that are looked at, without the fields that do not count
BODY_MAX = 8 * 1024

_FROM_LINE_MAX = 1024
_HEADER_SEARCHED = 128 * 1024  # a header may not be longer, or the message has no body for us
_WINDOW = 3 * BODY_MAX  # of the body, when its text is encoded
OCTETS_MAX = _FROM_LINE_MAX + _HEADER_SEARCHED + 2 * _WINDOW  # of a message: nothing behind them is ever read
_ATTACHED_MAX = 512  # octets of a part that is no text
_PARTS_MAX = 64
_DASHED_LINES_MAX = 256  # with more of them nothing is decoded: they cost time, and no letter has them

# Fields are searched for with the line end before them: ten times as fast as trying each octet for a line's beginning.
_IGNORED = re.compile(
    rb"\n(?:status|x-status|x-keywords|x-uid|x-imap|x-imapbase|x-mozilla-status2?|x-mozilla-keys|lines|content-length"
    rb"|return-path|authentication-results|x-cleanmail-[!-9;-~]*+)[ \t]*+:[^\n]*+(?:\n[ \t][^\n]*+)*+",
    re.IGNORECASE,
)
_ENCODING = re.compile(rb"\ncontent-transfer-encoding[ \t]*+:\s*+(?:base64|quoted-printable)", re.IGNORECASE)
_CONTINUED = re.compile(rb"[^\n]*+(?:\n[ \t][^\n]*+)*+")


def content_of(message: bytes) -> tuple[bytes, bytes]:
    """Header and text, at most `HEADER_MAX` and `BODY_MAX` octets."""
    start = 0
    if message.startswith(b"From "):
        start = message.find(b"\n", 0, _FROM_LINE_MAX) + 1
    end = start + _header_length(message[start : start + _HEADER_SEARCHED])
    header = _IGNORED.sub(b"", b"\n" + message[start:end].replace(b"\r\n", b"\n"))[1 : HEADER_MAX + 1]
    # Twice as many octets hold enough of them with either line end.
    window = message[end : end + 2 * _WINDOW].replace(b"\r\n", b"\n")[:_WINDOW]
    encoded = _ENCODING.search(b"\n" + header) or _ENCODING.search(b"\n" + window)
    if encoded and window.count(b"\n--") <= _DASHED_LINES_MAX:
        window = _text(header, window)
    return _decoded(header)[:HEADER_MAX], window[:BODY_MAX]


def _decoded(header: bytes) -> bytes:
    """With its encoded words decoded."""
    pieces, position = [], 0
    while (at := header.find(b"=?", position)) >= 0:
        start = max(position, header.rfind(b"\n", 0, at) + 1)
        lines = _CONTINUED.match(header, at)
        assert lines is not None, "it matches nothing at least"
        pieces += [header[position:start], decode_words(header[start : lines.end()]).encode("utf-8", "replace")]
        position = lines.end()
    return b"".join([*pieces, header[position:]])


def _header_length(data: bytes) -> int:
    """Octets of the header with its empty line; all of `data` without one."""
    if data.startswith((b"\n", b"\r\n")):
        return data.index(b"\n") + 1
    at = data.find(b"\n\n")
    other = data.find(b"\n\r\n", 0, at if at >= 0 else len(data))
    if other >= 0:
        return other + 3
    return at + 2 if at >= 0 else len(data)


def _text(header: bytes, body: bytes) -> bytes:
    """The body with its text decoded, the headers of its parts between; little of what is no text."""
    message = read_message((header if header.endswith(b"\n\n") else header.rstrip(b"\n") + b"\n\n") + body)
    pending: list[Part] = [message.root]
    found: list[bytes] = []
    length = parts = 0
    while pending and length < BODY_MAX and parts < _PARTS_MAX:
        part = pending.pop()
        if parts:
            found.append(message.data[part.start : part.body_start])
        parts += 1
        if part.kind is Kind.MULTIPART:
            pending.extend(reversed(part.children))
        elif part.embedded is not None:
            pending.append(part.embedded)
        else:
            found.append(_leaf(part, message.data[part.body_start : part.end]))
        length += len(found[-1]) if found else 0
    return b"\n".join(found)


def _leaf(part: Part, data: bytes) -> bytes:
    if part.media_type != b"text":
        return data[:_ATTACHED_MAX]
    try:
        return decode_transfer(data, part.encoding).replace(b"\r\n", b"\n")
    except InvalidInput:  # an encoding that nobody knows
        return data
