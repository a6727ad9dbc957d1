"""The BDAT reader: the argument, and that any chunks in any pieces give the same (RFC 3030 §2)."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.smtp.chunks import ChunkReader, ChunkSize, read_size


@pytest.mark.parametrize(
    ("argument", "size"),
    [
        ("0", ChunkSize(0, False)),
        ("86 LAST", ChunkSize(86, True)),
        ("00086  last ", ChunkSize(86, True)),
        ("9" * 20, ChunkSize(10**20 - 1, False)),
        ("9" * 21, None),
        (None, None),
        ("", None),
        ("LAST", None),
        ("-1", None),
        ("+1", None),
        ("1LAST", None),
        ("1 LASTING", None),
        ("1 2", None),
        ("0x10", None),
        ("1_000", None),
        ("٣", None),
        ("1\tLAST", None),
    ],
)
def test_argument(argument: str | None, size: ChunkSize | None) -> None:
    assert read_size(argument) == size


def read(pieces: list[bytes], *, normalise: bool = False) -> tuple[bytes, bool, bool]:
    """(message, bare line end, NUL)"""
    taken: list[bytes] = []
    reader = ChunkReader(taken.append, normalise=normalise)
    for piece in pieces:
        reader.feed(piece)
    reader.end()
    return b"".join(taken), reader.bare_line_end, reader.nul


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([], b""),
        ([b""], b""),
        ([b"a"], b"a\r\n"),
        ([b"a\r\n"], b"a\r\n"),
        ([b"a\r", b"\n"], b"a\r\n"),
        ([b"a\r", b"", b"\nb"], b"a\r\nb\r\n"),
        ([b"..\r\n.\r\n"], b"..\r\n.\r\n"),  # dots mean nothing
    ],
)
def test_message(pieces: list[bytes], message: bytes) -> None:
    assert read(pieces) == (message, False, False)


@pytest.mark.parametrize("wire", [b"a\rb", b"a\nb", b"a\r", b"\n", b"\r\r\n", b"a\r\n\n"])
def test_lone_line_ends_are_noticed(wire: bytes) -> None:
    for cut in range(len(wire) + 1):
        assert read([wire[:cut], wire[cut:]])[1]


def test_nul_is_noticed() -> None:
    assert read([b"a\0\r\n"]) == (b"a\0\r\n", False, True)


octets = st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.\r\n", b"a", b"\0", b"bc"])).map(b"".join)


@given(octets, st.lists(st.integers(0, 60)), st.booleans())
@settings(max_examples=500, deadline=None)
def test_any_split_gives_the_same(wire: bytes, cuts: list[int], normalise: bool) -> None:
    places = sorted({min(cut, len(wire)) for cut in cuts} | {0, len(wire)})
    message = re.sub(rb"\r\n|\r|\n", b"\r\n", wire) if normalise else wire
    if message and not message.endswith(b"\r\n"):
        message += b"\r\n"
    left = wire.replace(b"\r\n", b"")
    bare = not normalise and (b"\r" in left or b"\n" in left)
    if not normalise and wire.endswith(b"\r"):
        message = wire + b"\r\n"
    for pieces in ([wire[a:b] for a, b in pairwise(places)], [wire[i : i + 1] for i in range(len(wire))]):
        assert read(pieces, normalise=normalise) == (message, bare, b"\0" in wire)
