"""Binary parts in base64: what is decoded is what came, whatever the message looks like.

Standards: RFC 3516 §4.4, §6; RFC 2045 §6.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.mime.binary import without_binary
from storage.mime.fields import read_header
from storage.mime.message import Kind, Part, read_message
from storage.mime.transfer import decode_transfer

CTE = b"Content-Transfer-Encoding: "

KEPT: list[tuple[str, bytes]] = [
    ("nothing", b""),
    ("a header alone", b"Subject: x\r\n"),
    ("text", b"Subject: x\r\n\r\nText\xff\r\n"),
    ("text in 8bit", b"Subject: x\r\n" + CTE + b"8bit\r\n\r\nText\xff\r\n"),
    ("an encoding that nobody knows, with a NUL", CTE + b"x-own\r\n\r\na\0b"),
    ("base64 with a NUL", CTE + b"base64\r\n\r\nAA\0A"),
]


@pytest.mark.parametrize("data", [row[1] for row in KEPT], ids=[row[0] for row in KEPT])
def test_what_lines_hold_stays(data: bytes) -> None:
    assert without_binary(data) == data


CHANGED: list[tuple[str, bytes, bytes]] = [
    ("line ends", b"A: b\nC: d\n\nx\ny", b"A: b\r\nC: d\r\n\r\nx\r\ny"),
    ("a whole message", CTE + b"binary\r\n\r\n\0", CTE + b"base64\r\n\r\nAA==\r\n"),
    ("without a body", b"A: b\r\n" + CTE + b"Binary\r\n\r\n", b"A: b\r\n" + CTE + b"base64\r\n\r\n"),
    (
        "header lines that end in LF",
        b"A: b\n" + CTE + b"binary\nC: d\n\n\n",
        b"A: b\r\n" + CTE + b"base64\r\nC: d\r\n\r\nCg==\r\n",
    ),
    ("a NUL and no encoding", b"A: b\r\n\r\n\0", b"A: b\r\n" + CTE + b"base64\r\n\r\nAA==\r\n"),
    ("a NUL in 8bit", CTE + b"8bit\r\nA: b\r\n\r\n\0", CTE + b"base64\r\nA: b\r\n\r\nAA==\r\n"),
    ("told twice", CTE + b"binary\r\n" + CTE + b"7bit\r\n\r\nx", CTE + b"base64\r\n\r\neA==\r\n"),
    (
        "in multiparts, which have no encoding",
        CTE
        + b"binary\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
        + CTE
        + b"binary\r\n\r\n\n\r\n--b--\r\n",
        CTE
        + b"8bit\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
        + CTE
        + b"base64\r\n\r\nCg==\r\n--b--\r\n",
    ),
    (
        "in a message in the message",
        b"Content-Type: message/rfc822\r\n" + CTE + b"binary\r\n\r\nA: b\r\n" + CTE + b"binary\r\n\r\n\xff",
        b"Content-Type: message/rfc822\r\n" + CTE + b"8bit\r\n\r\nA: b\r\n" + CTE + b"base64\r\n\r\n/w==\r\n",
    ),
]


@pytest.mark.parametrize(("data", "expected"), [row[1:] for row in CHANGED], ids=[row[0] for row in CHANGED])
def test_what_changes(data: bytes, expected: bytes) -> None:
    assert without_binary(data) == expected
    assert without_binary(expected) == expected


BODY = st.binary(max_size=200).filter(lambda body: b"--b" not in body)


@given(bodies=st.lists(BODY, min_size=1, max_size=4), nested=st.booleans())
@settings(max_examples=60, deadline=None)
def test_what_is_decoded_is_what_came(bodies: list[bytes], nested: bool) -> None:
    head = b"Content-Type: application/octet-stream\r\n" + CTE + b"binary\r\n\r\n"
    data = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    data += b"".join(b"--b\r\n" + head + body + b"\r\n" for body in bodies) + b"--b--\r\n"
    if nested:
        data = b"Content-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\nContent-Type: message/rfc822\r\n\r\n" + data
    converted = without_binary(data)
    assert [decode_transfer(part.body.of(converted), part.encoding) for part in leaves(converted)] == bodies
    assert b"\0" not in converted


@given(
    data=st.lists(
        st.sampled_from(
            [
                CTE,
                b"binary\r\n",
                b"\r\n",
                b"\n",
                b"\0",
                b"--b",
                b"--b--",
                b"Content-Type: ",
                b"multipart/mixed; boundary=b\r\n",
                b"message/rfc822\r\n",
                b"x",
                b"\r",
            ]
        ),
        max_size=25,
    )
)
@settings(max_examples=150, deadline=None)
def test_never_fails_and_loses_no_octet_of_a_header(data: list[bytes]) -> None:
    converted = without_binary(b"".join(data))
    assert without_binary(converted) == converted
    names = [field.name for field in read_header(b"".join(data)).fields if field.name != CTE[:-2].lower()]
    assert names == [field.name for field in read_header(converted).fields if field.name != CTE[:-2].lower()]


def leaves(data: bytes) -> list[Part]:
    found: list[Part] = []
    todo = [read_message(data).root]
    while todo:
        part = todo.pop(0)
        if part.kind is Kind.LEAF:
            found.append(part)
        todo = [*([part.embedded] if part.embedded else part.children), *todo]
    return found
