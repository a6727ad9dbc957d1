"""storage.mime.fields and parameters: header fields as byte spans, structured values."""

from __future__ import annotations

import pytest

from storage.mime.fields import FIELDS_MAX, listed_fields, read_header, received_fields, select_fields, unfold
from storage.mime.parameters import Parameters, parse_disposition, parse_languages, parse_token, parse_type

HEADER = b"From: a\r\nSubject : one\r\n two\r\nX-Other:\r\n\t \r\nno colon\r\n: no name\r\nFROM:b\r\n\r\nbody: none\r\n"


def test_fields_have_names_and_spans() -> None:
    header = read_header(HEADER)
    assert [field.name for field in header.fields] == [b"from", b"subject", b"x-other", b"no colon", b"", b"from"]
    assert b"".join(HEADER[f.start : f.end] for f in header.fields) + b"\r\n" == HEADER[: header.end]
    assert HEADER[header.end :] == b"body: none\r\n"
    assert header.value(b"subject") == b"one two"
    assert header.value(b"x-other") == b""
    assert header.value(b"x-missing") is None
    assert list(header.values(b"from")) == [b"a", b"b"]
    assert header.raw(b"subject") == b" one\r\n two\r\n"


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"", 0),
        (b"\r\n", 2),
        (b"\nx", 1),
        (b"a: b", 4),
        (b"a: b\r\n\r\nx", 8),
        (b"a: b\n\nx", 6),
        (b"a: b\r\n \r\n\r\nx", 11),
        (b"a\r\r\n\r\n", 6),
    ],
)
def test_a_header_ends_after_its_first_empty_line(data: bytes, end: int) -> None:
    assert read_header(data).end == end


def test_a_header_of_many_fields_is_cut_but_not_what_is_kept_of_it() -> None:
    data = b"Received: x\r\n" + b"a: b\r\n" * FIELDS_MAX + b"To: x\r\nReceived: y\r\n\r\n"
    header = read_header(data)
    assert len(header.fields) == FIELDS_MAX
    assert header.end == len(data)
    assert listed_fields(header) == b"To: x\r\n"
    assert received_fields(header) == (b"Received: x\r\nReceived: y\r\n", False)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b" a\r\n", b"a"),
        (b"", b""),
        (b" a\r\n\tb\r\n c \r\n", b"a\tb c"),
        (b"a\n b\n", b"a b"),
        (b" \r\n \r\n", b""),
        (b"a\rb", b"a\rb"),
    ],
)
def test_unfold(raw: bytes, value: bytes) -> None:
    """RFC 5322 §2.2.3: line ends go, the white space after them stays."""
    assert unfold(raw) == value


def test_fields_are_selected_in_order() -> None:
    header = HEADER[: read_header(HEADER).end]
    assert select_fields(header, frozenset((b"from", b"x-other"))) == b"From: a\r\nX-Other:\r\n\t \r\nFROM:b\r\n"
    left = select_fields(header, frozenset((b"from", b"x-other")), negate=True)
    assert left == b"Subject : one\r\n two\r\nno colon\r\n: no name\r\n"


def test_received_fields_stand_apart() -> None:
    before = read_header(b"Return-Path: <>\r\nReceived: 1\r\n x\r\nReceived: 2\r\nTo: x\r\n\r\n")
    assert received_fields(before) == (b"Received: 1\r\n x\r\nReceived: 2\r\n", True)
    assert listed_fields(before) == b"To: x\r\n"
    after = read_header(b"Received: 1\r\nTo: x\r\nReceived: 2\r\n\r\n")
    assert received_fields(after) == (b"Received: 1\r\nReceived: 2\r\n", False)
    assert received_fields(read_header(b"To: x\r\n\r\n")) == (b"", True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"text/plain", (b"text", b"plain", ())),
        (b" Text / Plain ; Charset = utf-8 ", (b"text", b"plain", ((b"charset", b"utf-8"),))),
        (b"text/plain (a;b=c) ; charset=(x)utf-8", (b"text", b"plain", ((b"charset", b"utf-8"),))),
        (b'a/b; n="x;\\"y\\\\"; m=z', (b"a", b"b", ((b"n", b'x;"y\\'), (b"m", b"z")))),
        (b'a/b; n="open; m=z', (b"a", b"b", ((b"n", b"open; m=z"),))),
        (b"a/b; n=one two; ; m=z;", (b"a", b"b", ((b"n", b"one"), (b"m", b"z")))),
        (b"multipart/mixed; boundary=----=_Part_1/2", (b"multipart", b"mixed", ((b"boundary", b"----=_Part_1/2"),))),
        (b"a/b;name==?utf-8?q?x?=", (b"a", b"b", ((b"name", b"=?utf-8?q?x?="),))),
        (b"text", (b"text", b"", ())),
        (b"", (b"", b"", ())),
        (b"/x; a=b", (b"", b"x", ((b"a", b"b"),))),
        (b"a/b; (open", (b"a", b"b", ())),
    ],
)
def test_content_types(value: bytes, expected: tuple[bytes, bytes, Parameters]) -> None:
    assert parse_type(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"x; n*=utf-8''%C3%A9", ((b"n*", b"utf-8''%C3%A9"),)),
        (b"x; n*1=b; n*0=a; n*2=c", ((b"n", b"abc"),)),
        (b"x; n*0*=utf-8'de'%41; n*1=50%; n*2*=%42", ((b"n*", b"utf-8'de'%4150%25%42"),)),
        (b"x; n*0=a%; n*1*=%42", ((b"n*", b"''a%25%42"),)),
        (b"x; n*0=a; n*2=c; m=d", ((b"m", b"d"), (b"n*0", b"a"), (b"n*2", b"c"))),
        (b"x; n*0=a; n*0=b", ((b"n*0", b"a"), (b"n*0", b"b"))),
        (b"x; n*x=a", ((b"n*x", b"a"),)),
    ],
)
def test_continued_parameters(value: bytes, expected: Parameters) -> None:
    """RFC 2231 §3 and §4.1."""
    assert parse_disposition(value) == (b"x", expected)


def test_tokens_and_languages() -> None:
    assert parse_token(b" (c) Quoted-Printable (d)") == b"quoted-printable"
    assert parse_token(b'"7bit"') == b""
    assert parse_languages(b"de, en-GB (British), ,fr") == (b"de", b"en-GB", b"fr")


def test_no_more_fields_are_read_than_are_wanted() -> None:
    data = b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(10)) + b"\r\nText\r\n"
    some, all_ = read_header(data, most=4), read_header(data)
    assert [field.name for field in some.fields] == [b"x-0", b"x-1", b"x-2", b"x-3"] and some.is_cut
    assert len(all_.fields) == 10 and not all_.is_cut and some.end == all_.end == data.index(b"Text")
