"""Properties of vCards beyond what they share with calendars: types, encodings, lines that only address books write.

`repaired` folds base64 whose lines begin without a space, as Outlook writes them, before anybody reads the octets.
Linear in the octets. Standards: RFC 6350 §5, RFC 2426 §4.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from storage.icalendar.contentlines import Property, folded, write_property

ENCODINGS = ("BASE64", "QUOTED-PRINTABLE", "8BIT", "7BIT")

# Names as Apple's programs write them, in case one of them compares octets.
_AS_APPLE = {"X-ABLABEL": "X-ABLabel", "X-ABSHOWAS": "X-ABShowAs"}

_PHYSICAL = re.compile(rb"[^\n]*\n?")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]+={0,2}[ \t\r]*\n?\Z")
_LOOSE = re.compile(rb"\n[A-Za-z0-9+/]+={0,2}[ \t\r]*(?:\n|\Z)")  # a line of base64 that is not folded


def repaired(data: bytes) -> bytes:
    """`data` with a space before each line that goes on with the base64 above it."""
    if _LOOSE.search(data) is None:
        return data
    pieces: list[bytes] = []
    encoded = False
    for match in _PHYSICAL.finditer(data):
        line = match[0]
        if line[:1] in (b" ", b"\t"):
            pieces.append(line)
        elif encoded and _BASE64.match(line):
            pieces.append(b" " + line)
        else:
            encoded = _begins_base64(line)
            pieces.append(line)
    return b"".join(pieces)


def _begins_base64(line: bytes) -> bool:
    head = line[:300].partition(b":")[0].upper()
    return b";" in head and (b"BASE64" in head or b"ENCODING=B" in head or b'ENCODING="B' in head)


def types(one: Property) -> list[str]:
    """Its TYPEs in lower case: also from a list in quotes, also those that vCard 2.1 wrote without TYPE=."""
    found: list[str] = []
    for name, values in one.parameters:
        if name == "TYPE":
            found += [word.strip().lower() for value in values for word in value.split(",") if word.strip()]
        elif not values and name not in ENCODINGS:
            found.append(name.lower())
    return found


def encoding(one: Property) -> str:
    """B for base64 whatever it is called, Q for quoted-printable; empty: none."""
    said = (one.parameter("ENCODING") or "").upper()
    if not said:
        said = next((name for name, values in one.parameters if not values and name in ENCODINGS), "")
    return {"B": "B", "BASE64": "B", "QUOTED-PRINTABLE": "Q", "Q": "Q"}.get(said, "")


def made(name: str, value: str, *parameters: tuple[str, Iterable[str]], group: str = "") -> Property:
    """A new property; parameters without values are left out."""
    kept = [(key, tuple(values)) for key, values in parameters]
    return Property(name, value, [one for one in kept if one[1]], group)


def having(
    one: Property,
    *parameters: tuple[str, Iterable[str]],
    without: Iterable[str] = (),
    name: str | None = None,
    value: str | None = None,
) -> Property:
    """A copy with these parameters in place of those of their names, and without others."""
    gone = {*without, *(key for key, _ in parameters)}
    kept = [each for each in one.parameters if each[0] not in gone]
    added = [(key, tuple(values)) for key, values in parameters]
    return Property(
        one.name if name is None else name,
        one.value if value is None else value,
        [*kept, *(each for each in added if each[1])],
        one.group,
    )


def written(one: Property, version: str) -> bytes:
    """A line with its end. Before vCard 4 a parameter can hold neither quotes nor line ends (RFC 6868 §1)."""
    name = _AS_APPLE.get(one.name, one.name)
    if version == "4.0" or not one.parameters:
        return write_property(Property(name, one.value, one.parameters, one.group))
    pieces = [f"{one.group}.{name}" if one.group else name]
    for key, values in one.parameters:
        plain = (value.replace("\n", " ").replace('"', "'") for value in values)
        said = ",".join(f'"{value}"' if any(mark in value for mark in ",;:") else value for value in plain)
        pieces.append(f";{key}={said}" if values else f";{key}")
    return folded(f"{''.join(pieces)}:{one.value}")
