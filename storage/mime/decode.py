"""Octets of mail as text: charsets, encoded words, extended parameters. Every octet string has a text.

A charset that is not known, or that a message names wrongly, gives UTF-8 where the octets are valid UTF-8, else
windows-1252; octets that a known charset lacks give U+FFFD. No text has NULs or lone surrogates. Charsets are looked
up in a fixed table: a name from a message is never handed to the codec registry, which would import and remember it.

Never fails; linear time. Standards: RFC 2047, RFC 2231 §4 and §5, RFC 6532 §3.2 (raw UTF-8), RFC 2978.
"""

from __future__ import annotations

import binascii
import re
from encodings.aliases import aliases
from urllib.parse import unquote_to_bytes

from storage.mime.transfer import decode_base64

_NO_CHARSET = frozenset(
    [
        "idna",
        "punycode",
        "unicode_escape",
        "raw_unicode_escape",
        "undefined",
        "mbcs",
        "oem",
        "palmos",
        "base64_codec",
        "bz2_codec",
        "hex_codec",
        "quopri_codec",
        "rot_13",
        "uu_codec",
        "zlib_codec",
    ]
)
_WITHOUT_ALIAS = ["cp720", "cp737", "cp856", "cp874", "cp875", "cp1006", "koi8_r", "koi8_t", "koi8_u", "utf_8"]
# Names that mail uses and Python lacks, and names of which mail means a larger charset (as the WHATWG table has it).
_IN_MAIL = {
    "ansi_x3.110-1983": "latin_1",
    "cp949": "cp949",
    "euc_cn": "gb18030",
    "gb2312": "gb18030",
    "gb_2312_80": "gb18030",
    "gbk": "gb18030",
    "hz": "hz",
    "iso_8859_8_e": "iso8859_8",
    "iso_8859_8_i": "iso8859_8",
    "ks_c_5601": "cp949",
    "ks_c_5601_1987": "cp949",
    "tis_620": "cp874",
    "iso_8859_11": "cp874",
    "unicode_1_1_utf_7": "utf_7",
    "windows_31j": "cp932",
    "windows_874": "cp874",
    "windows_949": "cp949",
    "x_gbk": "gb18030",
    "x_mac_roman": "mac_roman",
    "x_sjis": "cp932",
    "shift_jis": "cp932",
    "cp65001": "utf_8",
}
_GUESSED = frozenset(("ascii", "latin_1", "iso8859_1"))  # named by many who mean something else


def _normal(name: str) -> str:
    return name.strip().strip("\"'").lower().replace("-", "_").replace(" ", "_")


def _known_charsets() -> dict[str, str]:
    codecs = {name: name for name in (*aliases.values(), *_WITHOUT_ALIAS)}
    codecs.update(aliases)
    codecs.update(_IN_MAIL)
    return {_normal(name): codec for name, codec in codecs.items() if codec not in _NO_CHARSET}


_CHARSETS = _known_charsets()


def _codec(charset: bytes | str) -> str | None:
    """The codec of a charset name, None when the name is not known."""
    name = charset.decode("latin-1") if isinstance(charset, bytes) else charset
    if len(name) > 60:
        return None
    name = _normal(name)
    return _CHARSETS.get(name) or _CHARSETS.get(name.removeprefix("x_")) or _CHARSETS.get(name.replace(".", "_"))


def decode_charset(data: bytes, charset: bytes | str) -> str:
    """`data` as text; see the head of this module for what can go wrong and doesn't."""
    if data.isascii() and b"\x1b" not in data and charset in (b"", b"us-ascii", b"utf-8", b"iso-8859-1"):
        return data.decode("ascii").replace("\0", "")
    codec = _codec(charset)
    if codec is None or codec in _GUESSED:
        return decode_unknown(data)
    text = data.decode(codec, "replace")
    if codec == "utf_7":
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # it alone lets lone surrogates pass
    return text.replace("\0", "")


def decode_unknown(data: bytes) -> str:
    """Text without a (credible) charset: UTF-8 where it is valid, else windows-1252."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    return text.replace("\0", "")


_ENCODED_WORD = re.compile(rb"=\?([^?*\s]++)(?:\*[^?\s]*+)?\?([bBqQ])\?([^?\r\n]*+)\?=")
_FOLD = re.compile(rb"\r?\n")
_UNDERSCORE = bytes.maketrans(b"_", b" ")


def decode_words(value: bytes) -> str:
    """A field value with its encoded words decoded (RFC 2047), unfolded.

    White space between two encoded words is dropped (§6.2); words of one charset are decoded together, since senders
    split characters between them although §5 forbids it.
    """
    if b"\n" in value:
        value = _FOLD.sub(b"", value)
    if b"=?" not in value:
        return decode_unknown(value)
    texts: list[str] = []
    run: list[bytes] = []  # decoded octets of adjacent words
    run_charset = b""
    last = 0
    for match in _ENCODED_WORD.finditer(value):
        between = value[last : match.start()]
        charset = match[1].lower()
        if run and (charset != run_charset or between.strip(b" \t")):
            texts.append(decode_charset(b"".join(run), run_charset))
            run = []
        if not last or between.strip(b" \t"):
            texts.append(decode_unknown(between))
        run.append(_decode_word(match[2], match[3]))
        run_charset = charset
        last = match.end()
    if run:
        texts.append(decode_charset(b"".join(run), run_charset))
    texts.append(decode_unknown(value[last:]))
    return "".join(texts)


def _decode_word(encoding: bytes, text: bytes) -> bytes:
    if encoding in b"bB":
        return decode_base64(text)
    return binascii.a2b_qp(text.translate(_UNDERSCORE))  # §4.2


def decode_parameter(name: bytes, value: bytes) -> str:
    """The text of a MIME parameter: charset'language'percent-encoded when the name ends in "*" (RFC 2231 §4).

    An encoded word in a parameter is decoded too: forbidden by RFC 2047 §5, written by many.
    """
    if not name.endswith(b"*"):
        return decode_words(value)
    charset, first, rest = value.partition(b"'")
    _, second, encoded = rest.partition(b"'")
    if not first or not second:
        return decode_unknown(unquote_to_bytes(value))
    return decode_charset(unquote_to_bytes(encoded), charset or b"utf-8")
