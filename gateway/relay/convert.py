"""The same message for a server without 8BITMIME, or without lines that are too long: its parts are encoded anew.

Each part is encoded for itself and says so in its header: text in quoted-printable, or in base64 where it is hardly
ASCII, everything else in base64; what is encoded already is only wrapped. What a reader decodes is the same before
and after. Long header lines are folded. Parts that need nothing are not touched.

What is signed or encrypted as a part stays as it is, since every octet counts there (RFC 1847): its long lines are
left long, as servers take them in practice, and 8-bit octets in it cannot be converted. Nor can headers with 8-bit
octets, and parts whose structure is broken or deeper than we read.

Raises: `NotConvertible`, with the status for the sender.
Standards: RFC 6152 §3 (conversion or refusal), RFC 2045 §6 (encodings; composite parts have none), RFC 1847 §2, RFC
1428 §3 (8-bit text that names no charset), RFC 6532 §3.7 (message/global may be encoded), RFC 6531 §3.5.
"""

from __future__ import annotations

import base64
import re

from gateway.relay.lines import fold, has_long_line, quoted, requoted
from storage.mime.fields import read_header
from storage.mime.message import Kind, Part, read_message
from storage.mime.parameters import parse_type

_IDENTITY = frozenset((b"7bit", b"8bit", b"binary"))
_SEALED = frozenset((b"signed", b"encrypted"))
_EIGHT_BIT = re.compile(rb"[\x80-\xff]")
_HIGH = bytes(range(0x80, 0x100))
_NO_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))
_LINE = 57  # octets in a line of base64 of 76 characters


class NotConvertible(Exception):  # noqa: N818
    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def convert(content: bytes, *, seven_bit: bool) -> bytes:
    """`content`, with CRLF line ends, without lines that are too long; and without 8-bit octets if `seven_bit`."""
    converter = _Converter(content, seven_bit=seven_bit)
    converter.part(read_message(content).root)
    return b"".join(converter.pieces)


def has_internationalised_header(content: bytes) -> bool:
    """Whether a header, of the message or of a part, has octets beyond ASCII (RFC 6532 §3)."""
    if content.isascii():
        return False
    todo = [read_message(content).root]
    while todo:
        part = todo.pop()
        if not part.header.of(content).isascii():
            return True
        todo.extend(part.children)
        if part.embedded is not None:
            todo.append(part.embedded)
    return False


class _Converter:
    """Gathers the pieces of the converted message."""

    __slots__ = ("data", "pieces", "seven_bit")

    def __init__(self, data: bytes, *, seven_bit: bool) -> None:
        self.data = data
        self.seven_bit = seven_bit
        self.pieces: list[bytes] = []

    def part(self, part: Part) -> None:
        if not self._is_unfit(part.start, part.end):
            self.pieces.append(self.data[part.start : part.end])
        elif not self._is_unfit(part.body_start, part.end):
            self._header(part)
            self.pieces.append(self.data[part.body_start : part.end])
        elif part.media_type == b"multipart" and part.subtype in _SEALED:
            self._sealed(part)
        elif part.kind is Kind.MULTIPART and part.children:
            self._multipart(part)
        elif part.kind is Kind.MESSAGE and part.embedded is not None and part.encoding in _IDENTITY:
            self._message(part, part.embedded)
        else:
            self._leaf(part)

    def _is_unfit(self, start: int, end: int) -> bool:
        if has_long_line(self.data, start, end):
            return True
        return self.seven_bit and not self.data[start:end].isascii()

    def _sealed(self, part: Part) -> None:
        body = self.data[part.body_start : part.end]
        if self.seven_bit and not body.isascii():
            raise NotConvertible("5.6.3", "A signed part has 8-bit octets, which the next server does not take.")
        self._header(part)
        self.pieces.append(body)

    def _multipart(self, part: Part) -> None:
        self._header(part, b"7bit" if self.seven_bit else None)
        position = part.body_start
        for child in part.children:
            self._between(position, child.start, is_boundary=True)
            self.part(child)
            position = child.end
        self._between(position, part.end, is_boundary=False)

    def _message(self, part: Part, embedded: Part) -> None:
        if self.seven_bit and part.subtype == b"global" and has_internationalised_header(self.data[part.body_start :]):
            self._encoded(part, b"base64", _based(self.data[part.body_start : part.end]))
            return
        self._header(part, b"7bit" if self.seven_bit else None)
        self.pieces.append(self.data[part.body_start : embedded.start])
        self.part(embedded)
        self._between(embedded.end, part.end, is_boundary=False)

    def _leaf(self, part: Part) -> None:
        body = self.data[part.body_start : part.end]
        if part.encoding == b"base64":
            self._encoded(part, None, _rebased(body))
        elif part.encoding == b"quoted-printable":
            self._encoded(part, None, requoted(body))
        elif part.encoding in _IDENTITY and self._may_be_encoded(part):
            if part.media_type == b"text" and not _is_dense(body):
                self._encoded(part, b"quoted-printable", quoted(body))
            else:
                self._encoded(part, b"base64", _based(body))
        elif self.seven_bit and not body.isascii():
            raise NotConvertible("5.6.3", "A part has 8-bit octets and cannot be encoded; the next server takes none.")
        else:
            self._encoded(part, None, fold(body))

    def _may_be_encoded(self, part: Part) -> bool:
        """RFC 2045 §6.4: composite types have no encoding, whatever they turned out to be when they were read."""
        value = read_header(self.data, part.start, part.body_start).value(b"content-type")
        if value is None:
            return part.kind is Kind.LEAF
        media_type, subtype, _ = parse_type(value)
        return media_type != b"multipart" and (media_type != b"message" or subtype.startswith(b"global"))

    def _encoded(self, part: Part, encoding: bytes | None, body: bytes) -> None:
        self._header(part, encoding)
        self.pieces.append(body)

    def _between(self, start: int, end: int, *, is_boundary: bool) -> None:
        """What stands around parts and is nobody's content; at its end there may be the line of a boundary."""
        text = self.data[start:end]
        if self.seven_bit:
            text = _EIGHT_BIT.sub(b"?", text)
        boundary = b""
        if is_boundary:
            line = text.rfind(b"\n", 0, len(text) - 1) + 1
            text, boundary = text[:line], text[line:]
            if has_long_line(boundary):
                boundary = boundary.rstrip() + b"\r\n"
        self.pieces.append(fold(text) + boundary)

    def _header(self, part: Part, encoding: bytes | None = None) -> None:
        """The part's header, folded; with `encoding` instead of what it said, and all that this makes necessary."""
        raw = self.data[part.start : part.body_start]
        if self.seven_bit and not raw.isascii():
            raise NotConvertible("5.6.7", "A header has 8-bit octets, which the next server does not take.")
        if encoding is not None:
            raw = self._with_encoding(part, raw, encoding)
        self.pieces.append(fold(raw))

    def _with_encoding(self, part: Part, raw: bytes, encoding: bytes) -> bytes:
        header = read_header(raw)
        if part.kind is not Kind.LEAF and header.first(b"content-transfer-encoding") is None:
            return raw  # 7bit is what is meant without one
        kept = [raw[field.start : field.end] for field in header.fields if field.name != b"content-transfer-encoding"]
        tail = raw[header.fields[-1].end :] if header.fields else raw
        if kept and not kept[-1].endswith(b"\n"):
            kept.append(b"\r\n")
        if part.fields is not None and header.first(b"mime-version") is None:  # a message from before MIME
            kept.append(b"MIME-Version: 1.0\r\n")
            if header.first(b"content-type") is None and not self.data[part.body_start : part.end].isascii():
                kept.append(b"Content-Type: text/plain; charset=unknown-8bit\r\n")
        kept.append(b"Content-Transfer-Encoding: " + encoding + b"\r\n")
        return b"".join((*kept, tail or b"\r\n"))


def _is_dense(body: bytes) -> bool:
    """Whether quoted-printable would be larger than base64, and nobody could read it anyway."""
    return (len(body) - len(body.translate(None, _HIGH))) * 5 > len(body)


def _based(body: bytes) -> bytes:
    """`body` in base64, ending as a line does."""
    lines = [base64.b64encode(body[start : start + _LINE]) for start in range(0, len(body), _LINE)]
    return b"\r\n".join(lines) + b"\r\n"


def _rebased(encoded: bytes) -> bytes:
    """base64 in lines of 76; it stands for the same octets."""
    letters = encoded.translate(None, _NO_BASE64)
    return b"".join([letters[start : start + 76] + b"\r\n" for start in range(0, len(letters), 76)])
