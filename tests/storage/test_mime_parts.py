"""storage.mime.parts: sections by number (RFC 9051 §6.4.5.1), packed trees, header subsets."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.errors import Corrupt
from storage.mime.message import read_message
from storage.mime.parts import SectionText, find_part, find_section, header_fields, pack_parts, unpack_parts
from storage.values import ByteSpan

TYPICAL = (Path(__file__).parents[1] / "data" / "mime" / "typical.eml").read_bytes().replace(b"\n", b"\r\n")
ROOT = unpack_parts(pack_parts(read_message(TYPICAL).root))  # FETCH works on what was packed


@pytest.mark.parametrize(
    ("numbers", "text", "begins", "ends"),
    [
        ((), "", b"Return-Path:", b"epilogue.\r\n"),
        ((), "HEADER", b"Return-Path:", b'"outer"\r\n\r\n'),
        ((), "TEXT", b"This is the preamble.", b"epilogue.\r\n"),
        ((1,), "", b"--outer-inner\r\n", b"--outer-inner--"),
        ((1,), "MIME", b"Content-Type: multipart/alternative", b'"outer-inner"\r\n\r\n'),
        ((1, 1), "", b"> quoted", b"noon?\r\n"),
        ((1, 2), "MIME", b"Content-Type: text/html", b"utf-8\r\n\r\n"),
        ((2,), "", b"QUJD", b"QUJD"),
        ((3,), "", b"From: inner", b"--in--"),
        ((3,), "MIME", b"Content-Type: message/rfc822", b"rfc822\r\n\r\n"),
        ((3,), "HEADER", b"From: inner", b"boundary=in\r\n\r\n"),
        ((3,), "TEXT", b"--in\r\n", b"--in--"),
        ((3, 1), "", b"First", b"part"),
        ((3, 2), "MIME", b"Content-Type: text/x-notes", b"\r\n\r\n"),
    ],
)
def test_sections(numbers: tuple[int, ...], text: SectionText, begins: bytes, ends: bytes) -> None:
    span = find_section(ROOT, numbers, text)
    assert span is not None
    octets = span.of(TYPICAL)
    assert octets.startswith(begins) and octets.endswith(ends)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((4,), ""),
        ((0,), ""),
        ((1, 3), ""),
        ((2, 1), ""),
        ((2,), "HEADER"),
        ((2,), "TEXT"),
        ((), "MIME"),
        ((1,), "HEADER"),
        ((3, 3), ""),
        ((3, 1, 1), ""),
    ],
)
def test_sections_that_are_not_there(numbers: tuple[int, ...], text: SectionText) -> None:
    assert find_section(ROOT, numbers, text) is None


def test_part_1_of_a_message_that_is_no_multipart_is_its_body() -> None:
    data = b"Subject: x\r\n\r\nbody"
    root = read_message(data).root
    span, mime = find_section(root, (1,), ""), find_section(root, (1,), "MIME")
    assert span is not None and mime is not None
    assert (span.of(data), mime.of(data)) == (b"body", b"Subject: x\r\n\r\n")
    assert find_section(root, (1, 1), "") is None
    assert find_section(root, (2,), "") is None


def test_a_message_in_a_message() -> None:
    data = b"Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nbody"
    root = read_message(data).root
    sections: list[tuple[tuple[int, ...], SectionText, bytes]] = [
        ((1,), "", b"Subject: in\r\n\r\nbody"),
        ((1,), "HEADER", b"Subject: in\r\n\r\n"),
        ((1,), "TEXT", b"body"),
        ((1, 1), "", b"body"),
    ]
    for numbers, text, octets in sections:
        span = find_section(root, numbers, text)
        assert span is not None and span.of(data) == octets
    assert find_section(root, (1, 2), "") is None


def test_packed_trees_keep_encodings_without_a_code() -> None:
    data = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"".join(
        b"--b\r\nContent-Transfer-Encoding: %b\r\n\r\n\r\n" % name for name in (b"x-uu", b"base64", b"x-yenc", b"x-uu")
    )
    root = unpack_parts(pack_parts(read_message(data).root))
    assert [part.encoding for part in root.children] == [b"x-uu", b"base64", b"x-yenc", b"x-uu"]
    part = find_part(root, (2,))
    assert part is not None and part.encoding == b"base64"


@pytest.mark.parametrize(
    "damage", [b"", b"\1\0\0\0", pack_parts(ROOT)[:-1], b"\7" + pack_parts(ROOT)[1:], b"\xff" * 40]
)
def test_what_was_not_packed_is_corrupt(damage: bytes) -> None:
    with pytest.raises(Corrupt):
        unpack_parts(damage)


def test_header_subsets_end_with_an_empty_line() -> None:
    """RFC 9051 §6.4.5.1: the order of the message, whatever the order of the request; names without case."""
    header = b"From: a\r\nTo: b\r\n c\r\nX: d\r\n\r\n"
    assert header_fields(header, frozenset((b"TO", b"from"))) == b"From: a\r\nTo: b\r\n c\r\n\r\n"
    assert header_fields(header, frozenset((b"To",)), negate=True) == b"From: a\r\nX: d\r\n\r\n"
    assert header_fields(header, frozenset((b"Cc",))) == b"\r\n"
    assert header_fields(b"To: cut", frozenset((b"to",))) == b"To: cut\r\n\r\n"


@pytest.mark.parametrize("text", ["Content-Type: multipart/x\r\n\r\n", "Content-Type: multipart/x; boundary=b\r\n\r\n"])
def test_part_1_of_a_multipart_without_parts_is_the_empty_text_of_its_structure(text: str) -> None:
    data = text.encode() + b"body"
    root = unpack_parts(pack_parts(read_message(data).root))
    assert [find_section(root, (1,), each) for each in ("", "MIME")] == [ByteSpan(len(data), len(data))] * 2
    assert find_section(root, (2,), "") is find_section(root, (1, 1), "") is find_section(root, (1,), "TEXT") is None
