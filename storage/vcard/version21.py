"""vCard 2.1 as 3.0, for cards that are imported: old telephones and Outlook still write it.

Quoted-printable, charsets, types without TYPE= and base64 are brought into the form of vCard 3; a card within a card
(AGENT) is left to the check, which refuses it. Linear in the octets. Standards: vCard 2.1 (versit, 1996), RFC 2426.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from storage.icalendar.contentlines import Property, escaped, split, text
from storage.mime.decode import decode_charset, decode_unknown
from storage.mime.transfer import decode_transfer
from storage.vcard.convert import write_card
from storage.vcard.properties import ENCODINGS, made, repaired

_HEAD = re.compile(r"(?:([A-Za-z0-9_-]+)\.)?([A-Za-z0-9_-]+)((?:;[^:]*+)?)\Z")
_STRUCTURED = ("N", "ADR", "ORG")
_AS_THEY_ARE = ("URL", "SOURCE", "BDAY", "REV", "GEO", "TZ", "UID", "PHOTO", "LOGO", "SOUND", "KEY")
_VERSION = re.compile(rb"^VERSION[^:\n]{0,100}:[ \t]*2\.1[ \t\r]*$", re.MULTILINE | re.IGNORECASE)


def is_version21(data: bytes) -> bool:
    """Whether the octets of a card say VERSION:2.1."""
    return _VERSION.search(data) is not None


def from_version21(data: bytes) -> bytes:
    """The same card in vCard 3.0. Lines that are none are left out."""
    properties = [one for one in map(_property, _lines(repaired(data))) if one is not None]
    return write_card([Property("VERSION", "3.0"), *properties], "3.0")


def _lines(data: bytes) -> Iterator[bytes]:
    """Unfolded lines, soft breaks of quoted-printable undone."""
    pieces: list[bytes] = []
    quoted = False
    for raw in data.split(b"\n"):
        line = raw.rstrip(b"\r")
        if quoted and pieces:
            pieces.append(line)
        elif pieces and line[:1] in (b" ", b"\t"):
            pieces.append(line[1:] if _is_base64(pieces[0]) else b" " + line.lstrip())
        else:
            if pieces:
                yield b"".join(pieces)
            pieces = [line]
            quoted = b"QUOTED-PRINTABLE" in line[:300].upper().partition(b":")[0]
        if quoted:
            quoted = line.endswith(b"=")
            if quoted:
                pieces[-1] = pieces[-1][:-1]
    if pieces:
        yield b"".join(pieces)


def _is_base64(line: bytes) -> bool:
    return b"BASE64" in line[:300].upper().partition(b":")[0]


def _property(line: bytes) -> Property | None:
    head, colon, value = line.partition(b":")
    match = _HEAD.match(head.decode("ascii", "replace").strip())
    if not colon or match is None:
        return None
    name = match[2].upper()
    if name in ("BEGIN", "END", "VERSION"):
        return None
    types: list[str] = []
    said: dict[str, str] = {}
    for parameter in match[3].split(";")[1:]:
        key, equals, word = (part.strip() for part in parameter.partition("="))
        if not equals and key.upper() in ENCODINGS:
            said["ENCODING"] = key.upper()
        elif not equals or key.upper() == "TYPE":
            types += [each for each in (word or key).split(",") if each]
        else:
            said[key.upper()] = word
    is_base64 = said.get("ENCODING", "").upper() in ("BASE64", "B")
    return made(
        name,
        _value(name, value, said, is_base64),
        ("TYPE", types),
        ("ENCODING", ["b"] if is_base64 else []),
        ("VALUE", [{"URL": "uri"}.get(said["VALUE"].upper(), said["VALUE"])] if said.get("VALUE") else []),
        ("LANGUAGE", [said["LANGUAGE"]] if said.get("LANGUAGE") else []),
        group=match[1] or "",
    )


def _value(name: str, value: bytes, said: dict[str, str], is_base64: bool) -> str:
    if is_base64:
        return b"".join(value.split()).decode("ascii", "replace")
    if said.get("ENCODING", "").upper() == "QUOTED-PRINTABLE":
        value = decode_transfer(value, b"quoted-printable")
    charset = said.get("CHARSET", "")
    found = decode_charset(value, charset) if charset else decode_unknown(value)
    found = "".join(letter for letter in found.replace("\r\n", "\n") if letter >= " " or letter in "\t\n")
    if name in _AS_THEY_ARE:
        return " ".join(found.split("\n"))
    if name in _STRUCTURED:
        return ";".join(escaped(text(part)) for part in split(found, ";"))
    return escaped(text(found))
