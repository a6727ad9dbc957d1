"""Header objects: where a header ends, what of it is shown, and that nothing of a stranger acts on a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import Corrupt
from storage.mime.fields import read_header
from storage.quarantine.header_object import LINES_MAX, HeaderObject, shown_fields, split, text_of, visible

OBJECT = HeaderObject(
    "06bn886s03rrrf6h",
    1_750_000_000,
    1234,
    "stranger@far.example",
    ("one.test", "bücher.example"),
    "spam",
    "Its content is that of spam.",
    "",
    None,
    {"spf": "pass"},
    b"Received: x\r\n",
    b"Subject: y\r\n\r\n",
)


def test_what_is_packed_comes_back() -> None:
    assert HeaderObject.unpack(OBJECT.pack()) == OBJECT
    assert OBJECT.lines() == [("Received", "x"), ("Subject", "y")]


@pytest.mark.parametrize("octets", [b"", b"\0\0\0\x02{}", b"\xff\xff\xff\xff", b"\0\0\0\x01[", OBJECT.pack()[:50]])
def test_what_is_no_header_object(octets: bytes) -> None:
    with pytest.raises(Corrupt):
        HeaderObject.unpack(octets)


@pytest.mark.parametrize(
    ("data", "header"),
    [
        (b"A: b\r\n\r\nbody", b"A: b\r\n\r\n"),
        (b"A: b\n c\n\nbody", b"A: b\n c\n\n"),
        (b"A: b\r\n", b"A: b\r\n"),
        (b"\r\nbody", b"\r\n"),
        (b"", b""),
        # RFC 5322 §2.2: what is no field is no header, though no empty line stands before it.
        (b"A: b\r\nDear reader, this is secret\r\nC: d\r\n\r\nbody", b"A: b\r\n"),
        (b"Dear reader: this is secret\r\n", b""),
        (b"A: b\r\n: c\r\n\r\n", b"A: b\r\n"),
        (b" folded\r\nA: b\r\n\r\n", b""),
        (b"From me Mon Jan 1\r\nA: b\r\n\r\n", b""),
        (b"A : b\r\n\r\nbody", b"A : b\r\n\r\n"),
    ],
)
def test_where_a_header_ends(data: bytes, header: bytes) -> None:
    assert data[: split(data)] == header


@given(st.binary(max_size=300))
def test_a_split_loses_nothing_and_its_header_has_fields_only(data: bytes) -> None:
    end = split(data)
    assert 0 <= end <= len(data)
    header = read_header(data[:end])
    assert all(b":" in header.data[field.start : field.value] for field in header.fields)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"=?utf-8?q?J=C3=B6rg?= <j@x>", "Jörg <j@x>"),
        (b"a\r\n\tb", "a b"),
        (b"\x1b[31mred\x07", "[31mred"),
        (b"=?utf-8?q?=1B]0;title=07?=", "]0;title"),
        (b"=?utf-8?q?a=0D=0ABcc:_x?=", "a Bcc: x"),
        (b"=?utf-8?q?=E2=80=AEgpj.exe?=", "gpj.exe"),
        (b"a" * 5000, "a" * 1999 + "…"),
        (b"\xff\xfe", "ÿþ"),
    ],
)
def test_values_for_people(value: bytes, shown: str) -> None:
    assert shown_fields(b"Subject: " + value + b"\r\n") == [("Subject", shown)]


@given(st.binary(max_size=200), st.text(max_size=100))
def test_nothing_acts_on_a_terminal(octets: bytes, text: str) -> None:
    header = b"Subject: " + octets.replace(b"\n", b" ") + b"\r\nX: " + text.encode("utf-8", "replace") + b"\r\n"
    values = [value for _, value in shown_fields(header)] + [
        visible(text, 50),
        text_of(read_header(header), b"subject"),
    ]
    for character in "".join(values):
        assert unicodedata.category(character) not in ("Cc", "Zl", "Zp"), repr(character)
        assert unicodedata.bidirectional(character) not in (
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        )


def test_no_more_lines_than_people_read() -> None:
    shown = shown_fields(b"A: b\r\n" * (LINES_MAX + 5))
    assert len(shown) == LINES_MAX + 1 and shown[-1] == ("…", "5 more")


def test_texts_that_rows_keep() -> None:
    header = read_header(b"subject: =?utf-8?b?w5w=?= b\r\nSubject: second\r\n\r\n")
    assert text_of(header, b"subject") == "Ü b"
    assert text_of(header, b"from") == ""
