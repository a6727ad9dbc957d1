"""Properties of storage.mime on generated input (hypothesis)."""

from __future__ import annotations

import base64
import quopri

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.fuzz.mime import check
from storage.mime import message as module
from storage.mime.addresses import parse_addresses
from storage.mime.casemap import casemap
from storage.mime.dates import parse_date
from storage.mime.decode import decode_charset, decode_words
from storage.mime.fields import read_header, select_fields
from storage.mime.message import Part, read_message
from storage.mime.normalise import to_crlf
from storage.mime.parameters import parse_type
from storage.mime.subjects import base_subject
from storage.mime.text import walk
from storage.mime.transfer import decode_transfer

lines = st.lists(
    st.sampled_from(
        [
            b"--b",
            b"--b--",
            b"--bb",
            b"--a",
            b"",
            b"x",
            b"Content-Type: text/html",
            b"Subject: =?utf-8?q?=C3?=",
            b"Content-Type: multipart/mixed; boundary=b",
            b"Content-Type: multipart/mixed; boundary=bb",
            b"Content-Type: multipart/digest; boundary=a",
            b"Content-Type: message/rfc822",
            b" folded",
            b"To: a@b, (c",
        ]
    ),
    max_size=40,
)
bodies = st.lists(st.text(alphabet="ab-\t é", max_size=30).map(str.encode), max_size=8).map(b"\r\n".join)


@given(lines, st.sampled_from([b"\r\n", b"\n"]))
@settings(deadline=None)
def test_any_lines_make_a_sound_message(pieces: list[bytes], end: bytes) -> None:
    check(b"".join(piece + end for piece in pieces))


@st.composite
def nested(draw: st.DrawFn) -> bytes:
    """Open multiparts whose boundaries begin alike or do not, and lines that are boundary lines or nearly so."""
    texts = draw(st.lists(st.text("ab-. (", min_size=1, max_size=20).filter(str.strip), min_size=1, max_size=6))
    header = "".join(f'Content-Type: multipart/mixed; boundary="{text}"\r\n\r\n--{text}\r\n' for text in texts)
    ends = st.sampled_from(["", "--", "a", "-", "\r"])
    line = st.tuples(st.sampled_from(texts), st.integers(0, 20), ends).map(lambda each: each[0][: each[1]] + each[2])
    lines = draw(st.lists(line.map(lambda each: f"--{each}\n"), max_size=40))
    return (header + "".join(lines)).encode()


@given(st.one_of(nested(), lines.map(b"\n".join)))
@settings(deadline=None)
def test_one_search_for_all_boundaries_finds_what_one_for_each_does(data: bytes) -> None:
    """The pattern that takes over where many lines are nearly boundary lines, from the first such line on."""
    expected = _spans(read_message(data).root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PATIENCE", 1)
        assert _spans(read_message(data).root) == expected


def _spans(root: Part) -> list[tuple[int, int, int, int]]:
    return [(part.start, part.body_start, part.end, len(part.children)) for part in walk(root)]


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_octets_make_a_sound_message(data: bytes) -> None:
    check(data)
    check(b"Content-Type: multipart/mixed; boundary=" + data + b"\r\n\r\n--" + data)


@given(st.lists(bodies, min_size=1, max_size=6), bodies, bodies)
def test_what_is_put_together_comes_apart(parts: list[bytes], preamble: bytes, epilogue: bytes) -> None:
    """RFC 2046 §5.1.1: the parts of a multipart that was written by the rules are what went in."""
    data = b"Content-Type: multipart/mixed; boundary=the-boundary\r\n\r\n" + preamble
    for part in parts:
        data += b"\r\n--the-boundary\r\nContent-Type: text/x\r\n\r\n" + part
    root = read_message(data + b"\r\n--the-boundary--\r\n" + epilogue).root
    # A body that begins where the boundary line could follow at once is the one thing the grammar leaves open.
    assert [part.body.of(data) for part in root.children] == parts


@given(st.lists(st.tuples(st.text("abcXYZ-", min_size=1, max_size=10), st.text("abc: \t<>", max_size=20)), max_size=10))
def test_fields_are_all_of_the_header(fields: list[tuple[str, str]]) -> None:
    data = "".join(f"{name}: {value}x\r\n" for name, value in fields).encode() + b"\r\nbody"
    header = read_header(data)
    assert [(f.name, data[f.value : f.end]) for f in header.fields] == [
        (name.lower().encode(), f" {value}x\r\n".encode()) for name, value in fields
    ]
    names = frozenset(name.lower().encode() for name, _ in fields[::2])
    chosen, left = (select_fields(data[: header.end], names, negate=negate) for negate in (False, True))
    assert len(chosen) + len(left) + 2 == header.end


@given(st.binary(max_size=200))
def test_encodings_are_undone(data: bytes) -> None:
    assert decode_transfer(base64.encodebytes(data), b"base64") == data
    assert decode_transfer(quopri.encodestring(data), b"quoted-printable") == data


@given(st.binary(max_size=100), st.text(max_size=20))
def test_octets_always_have_a_text(data: bytes, charset: str) -> None:
    for text in (
        decode_words(data),
        decode_charset(data, charset),
        decode_words(b"=?%b?q?%b?=" % (charset.encode(), data)),
    ):
        text.encode("utf-8")
        assert "\0" not in text


@given(st.text(max_size=30))
def test_words_come_back(text: str) -> None:
    word = b"=?utf-8?B?" + base64.b64encode(text.encode()) + b"?="
    assert decode_words(word) == text.replace("\0", "")


@given(st.text(max_size=50))
def test_casemap_is_final(text: str) -> None:
    mapped = casemap(text)
    assert casemap(mapped) == mapped
    assert casemap(text.upper()) == casemap(text.lower()) or not text.isascii()


@given(st.text(max_size=30), st.text(max_size=10), st.text(max_size=30))
def test_what_is_part_of_a_text_is_part_of_it_casemapped(before: str, needle: str, after: str) -> None:
    """Substring search works on casemapped text; marks that change places across the seams are the known exception."""
    if (before + needle + after).isascii():
        assert casemap(needle) in casemap(before + needle + after)


@given(st.text("Refwd:[]( )x\t", max_size=60))
def test_base_subjects_are_final(subject: str) -> None:
    base, _ = base_subject(subject)
    again, _ = base_subject(base)
    assert again == base


@given(st.binary(max_size=60), st.text('a@<>(),;:."\\[] ', max_size=40))
def test_fields_of_any_content(data: bytes, text: str) -> None:
    for value in (data, text.encode()):
        parse_date(value)
        parse_type(value)
        depth = 0
        for address in parse_addresses(value):
            if address.host is None:
                depth += 1 if address.mailbox is not None else -1
            else:
                assert address.mailbox
            assert depth in (0, 1)  # groups open and close in turn
        assert depth == 0


@given(st.binary(max_size=60) | st.text("\r\na", max_size=20).map(str.encode))
def test_line_ends_are_made_once(data: bytes) -> None:
    normal = to_crlf(data)
    assert to_crlf(normal) == normal
    assert normal.count(b"\n") == normal.count(b"\r\n") == data.count(b"\n")
    assert normal.replace(b"\r\n", b"\n") == data.replace(b"\r\n", b"\n")
