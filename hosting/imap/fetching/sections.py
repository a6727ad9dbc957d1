"""BODY[…], RFC822.*, BINARY[…]: the items of FETCH that send parts of the message itself.

The header fields that clients list folders with come from a column that holds just these; everything else is a span of
the message's file, found in the packed parts. Large messages are sent in pieces, never held whole.

Standards: RFC 9051 §6.4.5.1 and §7.5.2, RFC 3516 (BINARY, literal8, UNKNOWN-CTE).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from hosting.imap.commands import FetchItem, Section
from hosting.imap.fetching.fetch_items import Slice, Writer
from hosting.imap.replies import Refused
from storage.errors import InvalidInput
from storage.mime.fields import LISTED
from storage.mime.parts import find_part, find_section, header_fields, unpack_parts
from storage.mime.transfer import decode_transfer
from storage.values import ByteSpan

_PIECE = 256 * 1024
_RECEIVED: Final = frozenset([b"received"])
_FILE = ("message_id", "file", "size")


def section_writer(item: FetchItem) -> Writer:
    section = item.section
    assert section is not None
    if item.name == "BINARY.SIZE":
        return Writer(
            _label(item) + b" %d",
            _each(lambda part, at: len(_decoded(section, part, at) or b"")),
            (*_FILE, "parts"),
            True,
        )
    if item.name == "BINARY":
        return Writer(
            _label(item) + b" %b", _each(lambda part, at: _binary(section, part, at)), (*_FILE, "parts"), True
        )
    if section.text.startswith("HEADER.FIELDS"):
        return _fields_writer(item, section)
    if not section.part and not section.text and section.partial is None:
        return Writer(
            _label(item) + b" {%d}\r\n%b",
            _sized(Slice.message),
            _FILE,
            reads_message=True,
            stream=lambda part: _stream(_label(item), section, part),
        )
    return Writer(
        _label(item) + b" %b",
        _each(lambda part, at: _nstring(_cut(section, _text(section, part, at)))),
        (*_FILE, "parts") if section.part or section.text else _FILE,
        reads_message=True,
        stream=lambda part: _stream(_label(item), section, part),
    )


def _each(value: Callable[[Slice, int], object]) -> Callable[[Slice], tuple[list[object]]]:
    return lambda part: ([value(part, at) for at in range(len(part.rows))],)


def _label(item: FetchItem) -> bytes:
    """The item's name in the response, "%" doubled for the template."""
    section = item.section
    assert section is not None
    if item.name.startswith("RFC822"):
        return item.name.encode("ascii")
    words = [str(number) for number in section.part]
    if section.text:
        words.append(section.text)
    spec = ".".join(words).encode("ascii")
    if section.fields:
        spec += b" (" + b" ".join(section.fields) + b")"
    name = b"BODY" if item.name == "SECTION" else item.name.encode("ascii")
    start = b"<%d>" % section.partial[0] if section.partial and item.name != "BINARY.SIZE" else b""
    return (name + b"[" + spec + b"]" + start).replace(b"%", b"%%")


def _nstring(value: bytes | None) -> bytes:
    return b"NIL" if value is None else b"{%d}\r\n%b" % (len(value), value)


def _cut(section: Section, value: bytes | None) -> bytes | None:
    if value is None or section.partial is None:
        return value
    start, length = section.partial
    return value[start : start + length]


# --- spans of the message ---


def _span(section: Section, part: Slice, at: int, size: int) -> ByteSpan | None:
    if not section.part and not section.text:
        return ByteSpan(0, size)
    root = unpack_parts(part.rows[at][part.columns["parts"]])
    text = section.text
    if text.startswith("HEADER.FIELDS"):
        return find_section(root, section.part, "HEADER")
    return find_section(root, section.part, text)  # type: ignore[arg-type]


def _text(section: Section, part: Slice, at: int) -> bytes | None:
    octets = part.message(at)
    span = _span(section, part, at, len(octets))
    return None if span is None else span.of(octets)


def _stream(label: bytes, section: Section, part: Slice) -> Iterator[bytes]:
    row = part.rows[0]
    span = _span(section, part, 0, row[part.columns["size"]])
    label = label.replace(b"%%", b"%")
    if span is None:
        yield label + b" NIL"
        return
    start, end = span.start, span.end
    if section.partial is not None:
        start = min(start + section.partial[0], end)
        end = min(start + section.partial[1], end)
    yield label + b" {%d}\r\n" % (end - start)
    message_id, file = row[part.columns["message_id"]], row[part.columns["file"]]
    for at in range(start, end, _PIECE):
        yield part.messages.read_span(message_id, file, at, min(at + _PIECE, end))


# --- header fields ---


def _fields_writer(item: FetchItem, section: Section) -> Writer:
    names = frozenset(name.lower() for name in section.fields)
    negate = section.text == "HEADER.FIELDS.NOT"
    template = _label(item) + b" {%d}\r\n%b"

    def from_file(part: Slice, at: int) -> bytes:
        return header_fields(_text(section, part, at) or b"", names, negate=negate)

    if not section.part and not negate and section.partial is None and names <= LISTED | _RECEIVED:
        if names == LISTED:
            return Writer(template, _whole_listed, ("listed",))
        if names >= _RECEIVED:
            return _with_received(template, names, from_file)
        return Writer(template, _sized(lambda part, at: header_fields(_listed(part, at), names)), ("listed",))
    if section.part or section.partial is not None:
        return Writer(
            _label(item) + b" %b",
            _each(lambda part, at: _nstring(_cut(section, _maybe_fields(section, part, at, names, negate)))),
            (*_FILE, "parts"),
            reads_message=True,
        )
    return Writer(template, _sized(from_file), (*_FILE, "parts"), reads_message=True)


def _maybe_fields(section: Section, part: Slice, at: int, names: frozenset[bytes], negate: bool) -> bytes | None:
    header = _text(section, part, at)
    return None if header is None else header_fields(header, names, negate=negate)


def _sized(value: Callable[[Slice, int], bytes]) -> Callable[[Slice], tuple[list[int], list[bytes]]]:
    def fill(part: Slice) -> tuple[list[int], list[bytes]]:
        values = [value(part, at) for at in range(len(part.rows))]
        return [len(octets) for octets in values], values

    return fill


def _listed(part: Slice, at: int) -> bytes:
    listed: bytes = part.rows[at][part.columns["listed"]]
    return listed + b"\r\n"


def _whole_listed(part: Slice) -> tuple[list[int], list[bytes]]:
    """Exactly the fields that are kept: nothing to look for."""
    values = [listed + b"\r\n" for listed in part.column("listed")]
    return [len(octets) for octets in values], values


def _with_received(template: bytes, names: frozenset[bytes], from_file: Callable[[Slice, int], bytes]) -> Writer:
    """Received too: kept apart, and in front nearly always; else the order is only in the message."""
    exact = names == LISTED | _RECEIVED

    def value(part: Slice, at: int) -> bytes:
        row, columns = part.rows[at], part.columns
        if not row[columns["received_first"]]:
            return from_file(part, at)
        both: bytes = row[columns["received"]] + row[columns["listed"]] + b"\r\n"
        return both if exact else header_fields(both, names)

    return Writer(template, _sized(value), (*_FILE, "parts", "listed", "received", "received_first"))


# --- BINARY ---


def _decoded(section: Section, part: Slice, at: int) -> bytes | None:
    if section.text:  # headers, and all that follows one: these have no transfer encoding of their own
        names, negate = frozenset(name.lower() for name in section.fields), section.text == "HEADER.FIELDS.NOT"
        return _maybe_fields(section, part, at, names, negate) if names else _text(section, part, at)
    octets = part.message(at)
    if not section.part:
        return octets
    found = find_part(unpack_parts(part.rows[at][part.columns["parts"]]), section.part)
    if found is None:
        return None
    body = found.body.of(octets)
    if found.children:
        return body
    try:
        return decode_transfer(body, found.encoding)
    except InvalidInput:
        raise Refused(b"UNKNOWN-CTE", "The part has an unknown transfer encoding.") from None


def _binary(section: Section, part: Slice, at: int) -> bytes:
    value = _cut(section, _decoded(section, part, at))
    if value is None:
        return b"NIL"
    return b"%b{%d}\r\n%b" % (b"~" if b"\0" in value else b"", len(value), value)
