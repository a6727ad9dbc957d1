"""What FETCH needs of a stored message: its tree of spans in a compact form, and the sections that clients name.

A packed part keeps span, kind, transfer encoding and line count; its Content-* fields stand in the BODYSTRUCTURE.
`unpack_parts` raises Corrupt for octets that `pack_parts` did not make. Everything else never fails.
Standards: RFC 9051 §6.4.5 and §6.4.5.1, RFC 3516 §4 (section-binary).
"""

from __future__ import annotations

from array import array
from sys import byteorder
from typing import Literal

from storage.errors import Corrupt
from storage.mime.fields import select_fields
from storage.mime.message import Kind, Part
from storage.values import ByteSpan

SectionText = Literal["", "HEADER", "TEXT", "MIME"]

_ENCODINGS = (b"7bit", b"8bit", b"binary", b"base64", b"quoted-printable")
_KINDS = 4  # the first number of a part is its kind plus this times its encoding
_NUMBERS = 6  # kind and encoding, start, body start, end, lines, parts below


def pack_parts(root: Part) -> bytes:
    """The spans, kinds and encodings of `root` and all below it."""
    numbers = array("I")
    encodings = dict(zip(_ENCODINGS, range(len(_ENCODINGS)), strict=True))
    todo = [root]
    while todo:
        part = todo.pop()
        below = [part.embedded] if part.embedded is not None else part.children
        code = encodings.setdefault(part.encoding, len(encodings))
        numbers.extend((part.kind + _KINDS * code, part.start, part.body_start, part.end, part.lines, len(below)))
        todo.extend(reversed(below))
    if byteorder == "big":
        numbers.byteswap()
    names = b"\0".join(list(encodings)[len(_ENCODINGS) :])  # encodings that have no code, rare and broken
    return len(numbers).to_bytes(4, "little") + numbers.tobytes() + names


def unpack_parts(packed: bytes) -> Part:
    """The tree that `pack_parts` packed; the Content-* fields have their defaults."""
    numbers = array("I")
    end = 4 + 4 * int.from_bytes(packed[:4], "little")
    if len(packed) < end or end < 4 + 4 * _NUMBERS:
        raise Corrupt(detail="packed parts are cut")
    numbers.frombytes(packed[4:end])
    if byteorder == "big":
        numbers.byteswap()
    encodings = (*_ENCODINGS, *packed[end:].split(b"\0"))
    try:
        return _unpack(numbers, encodings)
    except (IndexError, ValueError):
        raise Corrupt(detail="packed parts do not fit together") from None


def _unpack(numbers: array[int], encodings: tuple[bytes, ...]) -> Part:
    missing: list[tuple[Part, int]] = []  # open parts and how many of their parts are still to come
    root: Part | None = None
    for at in range(0, len(numbers), _NUMBERS):
        code, start, body_start, end, lines, below = numbers[at : at + _NUMBERS]
        kind = Kind(code % _KINDS)
        part = Part(start, body_start, end, kind, encodings[code // _KINDS], lines)
        if root is None:
            root = part
        else:
            parent, left = missing.pop()
            if parent.kind is Kind.MESSAGE:
                parent.embedded = part
            else:
                parent.children.append(part)
            if left > 1:
                missing.append((parent, left - 1))
        if below:
            missing.append((part, below))
    if root is None or missing:
        raise ValueError
    return root


def find_part(root: Part, numbers: tuple[int, ...]) -> Part | None:
    """The part that a section number names; () names the message itself.

    RFC 9051 §6.4.5.1: numbers count the parts of a multipart; part 1 of a message that is none is its body; the numbers
    go on inside a message/rfc822 part as if it were the message. Part 1 of a multipart without parts is the empty text
    that its BODYSTRUCTURE names.
    """
    part = root
    of_message = True  # whether `part` stands for a message, whose part 1 may be its own body
    for number in numbers:
        if part.kind is Kind.MESSAGE and part.embedded is not None and not of_message:
            part = part.embedded
            of_message = True
        if part.kind is Kind.MULTIPART:
            if not 1 <= number <= max(1, len(part.children)):
                return None
            part = part.children[number - 1] if part.children else Part(part.end, part.end, part.end)
        elif number != 1 or not of_message:
            return None
        of_message = False
    return part


def find_section(root: Part, numbers: tuple[int, ...], text: SectionText) -> ByteSpan | None:
    """The octets of BODY[numbers.text]; None if there is no such section.

    HEADER and TEXT exist of the message itself and of message/rfc822 parts, MIME of numbered parts only.
    """
    part = find_part(root, numbers)
    if part is None:
        return None
    if not numbers:
        if text == "":
            return ByteSpan(part.start, part.end)
        message: Part | None = part
    else:
        if text == "":
            return part.body
        if text == "MIME":
            return part.header
        message = part.embedded
    if message is None or text == "MIME":
        return None
    return message.header if text == "HEADER" else message.body


def header_fields(header: bytes, names: frozenset[bytes], *, negate: bool = False) -> bytes:
    """BODY[HEADER.FIELDS (names)] or, with `negate`, HEADER.FIELDS.NOT: the fields in order and an empty line."""
    chosen = select_fields(header, frozenset([name.lower() for name in names]), negate=negate)
    if chosen and not chosen.endswith(b"\n"):
        chosen += b"\r\n"
    return chosen + b"\r\n"
