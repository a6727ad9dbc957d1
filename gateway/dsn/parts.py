"""The pieces that reports and notices are made of: dates, texts on one line, addresses, MIME parts. Pure.

Every part ends with CRLF, holds only octets that its encoding allows, and has no line longer than 998 octets, whatever
the message or another server's reply had in it.

Standards: RFC 3461 §4 (xtext), RFC 6533 §3 (utf-8 addresses), RFC 6522 §4 (text/rfc822-headers), RFC 2045 §6.7.
"""

from __future__ import annotations

import quopri
import re
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime

from storage.mime.fields import header_end, read_header
from storage.queue.entries import Reply

HEADER_MAX = 64 * 1024  # octets of a message's header that are returned
_LINE_MAX = 998
_REPLY_MAX = 1000  # characters of another server's reply

_XTEXT = re.compile(r"\+([0-9A-F]{2})")
_UNITEXT = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_NOT_PRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_MESSAGE_ID = re.compile(rb"<[!-;=?-~]{1,250}>")
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


def date(seconds: int) -> str:
    return format_datetime(datetime.fromtimestamp(seconds, UTC))


def one_line(text: str, most: int = _REPLY_MAX) -> str:
    """`text` without line ends and control characters, cut."""
    line = " ".join(_NOT_PRINTABLE.sub(" ", text).split())
    return line if len(line) <= most else f"{line[:most]} [cut]"


def ascii_line(text: str, most: int = _REPLY_MAX) -> str:
    """The same in ASCII: what a 7-bit field of a report may hold."""
    return one_line(text.encode("ascii", "replace").decode("ascii"), most)


def words(reply: Reply, otherwise: str = "") -> str:
    """A reply in a sentence for people: whose words they are, or whom ours are about."""
    said = one_line(reply.text) or otherwise
    code = f"{reply.code} " if reply.code else ""
    if not said or not reply.mta:
        return said and f"{code}{said}"
    return f"The server {one_line(reply.mta)}{' said' if reply.code else ''}: {code}{said}"


def wrapped(text: str, indent: str = "") -> str:
    """A paragraph for people; what has no blank in it is never broken."""
    return textwrap.fill(
        text, 76, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def text(paragraphs: Sequence[str]) -> bytes:
    """The paragraphs, an empty line between them; CRLF line ends."""
    return ("\n\n".join(paragraphs) + "\n").replace("\n", "\r\n").encode()


def decode_xtext(text: str) -> str:
    """RFC 3461 §4. What is not printable ASCII afterwards becomes a blank, so that nothing can add a field."""
    return ascii_line(_XTEXT.sub(lambda match: chr(int(match[1], 16)), text))


def typed_address(address: str, *, eight_bit: bool) -> str:
    """`address` with its type, as a field of a report has it (RFC 3464 §2.1.2, RFC 6533 §3)."""
    if address.isascii():
        return f"rfc822; {one_line(address)}"
    return f"utf-8; {address if eight_bit else _unitext(address)}"


def original_recipient(orcpt: str, *, eight_bit: bool) -> str:
    """ORCPT as Original-Recipient shows it: decoded (RFC 3461 §6.3 d, RFC 6533 §3)."""
    kind, _, value = orcpt.partition(";")
    if kind.lower() != "utf-8":
        return f"{ascii_line(kind)}; {decode_xtext(value)}"
    address = _UNITEXT.sub(lambda match: _character(match[1]), value)
    return f"utf-8; {one_line(address) if eight_bit else _unitext(address)}"


def _character(digits: str) -> str:
    number = int(digits, 16)
    return "?" if number > 0x10FFFF or 0xD800 <= number < 0xE000 else chr(number)


def _unitext(address: str) -> str:
    """7-bit form of an internationalised address (utf-8-addr-xtext)."""
    return "".join(
        char if char.isascii() and char.isprintable() and char not in " \\+=" else f"\\x{{{ord(char):02X}}}"
        for char in address
    )


def header_of(content: bytes) -> bytes:
    """The header fields of a message, whole ones, without the empty line; CRLF line ends."""
    end = header_end(content, 0, len(content))
    header = content[:end].rstrip(b"\r\n") + b"\r\n"
    if len(header) > HEADER_MAX:
        cut = header.rfind(b"\r\n", 0, HEADER_MAX)
        while cut > 0 and header[cut + 2 : cut + 3] in (b" ", b"\t"):  # not within a folded field
            cut = header.rfind(b"\r\n", 0, cut)
        header = header[: cut + 2] if cut > 0 else b""
    return _BARE.sub(b"\r\n", header)


def quoted_printable(octets: bytes) -> bytes:
    """RFC 2045 §6.7, with CRLF line ends."""
    return quopri.encodestring(octets.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")


def part(media_type: str, octets: bytes, *, eight_bit: bool = False, about: str = "") -> bytes:
    """One body part. Encoded as quoted-printable unless it is 7-bit, or 8-bit octets may stay as they are."""
    fits = all(len(line) <= _LINE_MAX for line in octets.split(b"\r\n"))
    encoding = "quoted-printable"
    if fits and octets.isascii():
        encoding = "7bit"
    elif fits and eight_bit:
        encoding = "8bit"
    else:
        octets = quoted_printable(octets)
    head = f"Content-Type: {media_type}\r\nContent-Transfer-Encoding: {encoding}\r\n"
    if about:
        head += f"Content-Description: {about}\r\n"
    return head.encode() + b"\r\n" + octets


def multipart(boundary: str, parts: list[bytes]) -> bytes:
    """The body of a multipart; RFC 2046 §5.1.1."""
    pieces = [b"--" + boundary.encode() + b"\r\n" + each + b"\r\n" for each in parts]
    return b"".join(pieces) + b"--" + boundary.encode() + b"--\r\n"


def message_id(header: bytes) -> str:
    """The message's own Message-ID if it is a plain one; empty otherwise."""
    match = _MESSAGE_ID.fullmatch((read_header(header).value(b"message-id") or b"").strip())
    return match[0].decode("ascii") if match else ""
