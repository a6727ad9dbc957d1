"""The DATA reader: any split of the octets gives the same result (RFC 5321 §4.1.1.4, §4.5.2)."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.smtp.data import DataReader


def read(chunks: list[bytes]) -> tuple[bytes, bytes, bool, bool, bool]:
    """(message, what follows, done, bare line end, NUL)"""
    pieces: list[bytes] = []
    reader = DataReader(pieces.append)
    rest = b""
    for chunk in chunks:
        if reader.done:
            rest += chunk
        else:
            rest = reader.feed(chunk)
    return b"".join(pieces), rest, reader.done, reader.bare_line_end, reader.nul


@pytest.mark.parametrize(
    ("wire", "message", "rest"),
    [
        (b".\r\n", b"", b""),
        (b"a\r\n.\r\n", b"a\r\n", b""),
        (b"..\r\n.\r\n", b".\r\n", b""),
        (b"..a\r\n...\r\n.\r\nQUIT\r\n", b".a\r\n..\r\n", b"QUIT\r\n"),
        (b".a\r\n.\r\n", b"a\r\n", b""),  # RFC 5321 §4.5.2: a dot alone at the start of a longer line goes too
        (b"a.\r\n.b\r\n\r\n.\r\n", b"a.\r\nb\r\n\r\n", b""),
        (b"\r\n.\r\n.\r\n", b"\r\n", b".\r\n"),
    ],
)
def test_message_and_what_follows(wire: bytes, message: bytes, rest: bytes) -> None:
    assert read([wire]) == (message, rest, True, False, False)


@pytest.mark.parametrize(
    "false_end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\r\r\n.\n", b"\n\r\n.\r\r\n"]
)
def test_false_ends_are_data_and_noticed(false_end: bytes) -> None:
    message, rest, done, bare, _ = read([b"Subject: a\r\n\r\nb" + false_end + b"NOOP smuggled\r\n.\r\nQUIT\r\n"])
    assert (rest, done, bare) == (b"QUIT\r\n", True, True)
    assert b"NOOP smuggled\r\n" in message


def test_nul_is_noticed() -> None:
    assert read([b"a\0b\r\n.\r\n"])[4]
    message, rest, done, bare, nul = read([b"a\r\n.\0\r\n.\r\n"])
    assert (message, rest, done, bare, nul) == (b"a\r\n\0\r\n", b"", True, False, True)


def plain_reading(wire: bytes) -> tuple[bytes, bytes, bool, bool, bool]:
    """The same by the letter of the RFC, with everything at hand."""
    whole = b"\r\n" + wire
    end = whole.find(b"\r\n.\r\n")
    if end < 0:
        return b"", b"", False, False, False
    message = b"".join(
        (line[1:] if line.startswith(b".") else line) + b"\r\n" for line in whole[2 : end + 2].split(b"\r\n")[:-1]
    )
    left = whole[: end + 2].replace(b"\r\n", b"")
    return message, whole[end + 5 :], True, b"\r" in left or b"\n" in left, b"\0" in left


octets = st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"\r\n.\r\n", b"a", b"\0", b"bc"])).map(
    b"".join
)


@given(octets, st.lists(st.integers(0, 60)))
@settings(max_examples=500, deadline=None)
def test_any_split_gives_the_same(wire: bytes, cuts: list[int]) -> None:
    wire += b"\r\n.\r\n"
    places = sorted({min(cut, len(wire)) for cut in cuts} | {0, len(wire)})
    chunks = [wire[a:b] for a, b in pairwise(places)]
    assert read(chunks) == plain_reading(wire)
    assert read([wire[i : i + 1] for i in range(len(wire))]) == plain_reading(wire)


# Lone line ends as CRLF, where that is asked for


def read_normalised(chunks: list[bytes]) -> tuple[bytes, bytes, bool]:
    """(message, what follows, done)"""
    pieces: list[bytes] = []
    reader = DataReader(pieces.append, normalise=True)
    rest = b""
    for chunk in chunks:
        rest = rest + chunk if reader.done else reader.feed(chunk)
    assert not reader.bare_line_end
    return b"".join(pieces), rest, reader.done


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        (b"a\nb\r\n.\r\n", b"a\r\nb\r\n"),
        (b"a\rb\r\n.\r\n", b"a\r\nb\r\n"),
        (b"a\r\r\n.\r\n", b"a\r\n\r\n"),
        (b"a\n..b\r\n.\r\n", b"a\r\n.b\r\n"),  # its sender ends lines with LF, and doubles their dots
        (b"a\n.\nMAIL FROM:<x@y>\n.\r\n\r\n.\r\n", b"a\r\n\r\nMAIL FROM:<x@y>\r\n\r\n\r\n"),
        (b"\n.\r\n.\r\n", b"\r\n\r\n"),
    ],
)
def test_normalised_and_only_crlf_dot_crlf_ends(wire: bytes, message: bytes) -> None:
    for cut in range(len(wire) + 1):
        assert read_normalised([wire[:cut], wire[cut:] + b"QUIT\r\n"]) == (message, b"QUIT\r\n", True)


def plain_normalising(wire: bytes) -> tuple[bytes, bytes, bool]:
    whole = b"\r\n" + wire
    end = whole.find(b"\r\n.\r\n")
    lines = re.split(rb"\r\n|\r|\n", whole[: end + 2])[1:-1]
    message = b"".join((line[1:] if line.startswith(b".") else line) + b"\r\n" for line in lines)
    return message, whole[end + 5 :], True


@given(octets, st.lists(st.integers(0, 60)))
@settings(max_examples=500, deadline=None)
def test_any_split_normalises_the_same(wire: bytes, cuts: list[int]) -> None:
    wire += b"\r\n.\r\n"
    places = sorted({min(cut, len(wire)) for cut in cuts} | {0, len(wire)})
    assert read_normalised([wire[a:b] for a, b in pairwise(places)]) == plain_normalising(wire)
    assert read_normalised([wire[i : i + 1] for i in range(len(wire))]) == plain_normalising(wire)
