"""storage.mime.decode, transfer, casemap, normalise: octets as text, and text made comparable."""

from __future__ import annotations

import pytest

from storage.errors import InvalidInput
from storage.mime.casemap import casemap
from storage.mime.decode import decode_charset, decode_parameter, decode_words
from storage.mime.normalise import to_crlf
from storage.mime.transfer import decode_transfer, is_known


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"plain", "plain"),
        (b"a\r\n b", "a b"),
        (b"=?iso-8859-1?q?a?=", "a"),  # RFC 2047 §8
        (b"=?iso-8859-1?q?a?= b", "a b"),
        (b"=?iso-8859-1?q?a?= =?iso-8859-1?q?b?=", "ab"),
        (b"=?iso-8859-1?q?a?=  \r\n  =?iso-8859-2?q?b?=", "ab"),
        (b"=?iso-8859-1?q?a_b?=", "a b"),
        (b"x =?utf-8?B?w6k=?=y", "x éy"),
        (b"=?UTF-8*de?Q?=C3=A9?=", "é"),  # RFC 2231 §5
        (b"=?utf-8?q?=C3?= =?utf-8?q?=A9?=", "é"),
        (b"=?utf-8?b?w6?=", "\ufffd"),
        (b"=?utf-8?q?two words?=", "two words"),
        (b"=?x-nonsense?q?=E9?= =?utf-8?x?y?=", "é =?utf-8?x?y?="),
        (b"=?utf-8?q?open", "=?utf-8?q?open"),
        (b"caf\xc3\xa9 \0", "café "),
        (b"caf\xe9", "café"),
        (b"=?gb2312?b?xOO6ww==?=", "你好"),
        (b"=?utf-7?q?+2AA-?=", "\ufffd"),  # no lone surrogates
    ],
)
def test_encoded_words(value: bytes, text: str) -> None:
    assert decode_words(value) == text


@pytest.mark.parametrize(
    ("data", "charset", "text"),
    [
        (b"\xe9", b"ISO-8859-1", "é"),
        (b"\x80", b"iso-8859-1", "€"),  # what senders mean
        (b"\xc3\xa9", b"us-ascii", "é"),
        (b"\xe9", b"utf-8", "\ufffd"),
        (b"\xa4", b"iso-8859-15", "€"),
        (b'\x1b$B$"\x1b(B', b"iso-2022-jp", "あ"),
        (b"\xc7\xd1", b"ks_c_5601-1987", "한"),
        (b"\xa1", b"windows-874", "ก"),
        (b"x", b"hex", "x"),
        (b"\\u0041", b"unicode-escape", "\\u0041"),
        (b"xn--a", b"idna", "xn--a"),
        (b"\xe9", b"no such charset" * 50, "é"),
        (b"a\0b", b"", "ab"),
    ],
)
def test_charsets(data: bytes, charset: bytes, text: str) -> None:
    assert decode_charset(data, charset) == text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        (b"filename*", b"utf-8'de'%C3%9C.pdf", "Ü.pdf"),
        (b"filename*", b"''a%25", "a%"),
        (b"filename*", b"a%41", "aA"),
        (b"filename", b"=?utf-8?q?=C3=9C?=.pdf", "Ü.pdf"),
        (b"filename", b"a%41", "a%41"),
    ],
)
def test_parameters(name: bytes, value: bytes, text: str) -> None:
    """RFC 2231 §4."""
    assert decode_parameter(name, value) == text


@pytest.mark.parametrize(
    ("encoding", "data", "decoded"),
    [
        (b"7bit", b"=41", b"=41"),
        (b"binary", b"\0", b"\0"),
        (b"base64", b"QUJD\r\nREVG", b"ABCDEF"),
        (b"base64", b"QU JD*!", b"ABC"),
        (b"base64", b"QUI=QUI=", b"ABAB"),
        (b"base64", b"QUJDR", b"ABC"),
        (b"base64", b"QUJDRA", b"ABCD"),
        (b"base64", b"====", b""),
        (b"quoted-printable", b"a=3Db=\r\nc=zz", b"a=bc=zz"),
        (b"quoted-printable", b"a  \r\n", b"a\r\n"),
    ],
)
def test_transfer_encodings(encoding: bytes, data: bytes, decoded: bytes) -> None:
    assert decode_transfer(data, encoding) == decoded


def test_an_unknown_transfer_encoding_is_refused() -> None:
    """RFC 3516 §4.3: the server says UNKNOWN-CTE and does not guess."""
    assert not is_known(b"x-uuencode")
    with pytest.raises(InvalidInput):
        decode_transfer(b"", b"x-uuencode")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("abc", "ABC"),
        ("straße", "STRASSE"),
        ("É", "é"),
        ("e\u0301", "é"),
        ("ﬁ", "FI"),
        ("ς", "Σ"),
        ("ａ", "A"),
        ("ǆ", "ǅ"),
        ("ẞ", "ß"),
    ],
)
def test_casemap(one: str, other: str) -> None:
    assert casemap(one) == casemap(other)


def test_casemap_orders_as_upper_case() -> None:
    """RFC 5256: i;ascii-casemap and i;unicode-casemap map to capitals, so that "_" sorts after letters."""
    assert sorted(["_", "b", "A", "é"], key=casemap) == ["A", "b", "é", "_"]


def test_every_character_is_mapped_once_for_all() -> None:
    characters = (chr(code) for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF)
    mapped = [once for c in characters if (once := casemap(c)) != c]
    assert len(mapped) > 10_000
    assert [once for once in mapped if casemap(once) != once] == []


@pytest.mark.parametrize(
    ("data", "normal"),
    [
        (b"", b""),
        (b"a\r\nb\r\n", b"a\r\nb\r\n"),
        (b"a\nb\n", b"a\r\nb\r\n"),
        (b"a\r\nb\n", b"a\r\nb\r\n"),
        (b"a\rb", b"a\rb"),
        (b"a\r\r\n", b"a\r\r\n"),
        (b"a\r\n\n\r", b"a\r\n\r\n\r"),
    ],
)
def test_line_ends(data: bytes, normal: bytes) -> None:
    assert to_crlf(data) == normal
    assert to_crlf(normal) == normal
