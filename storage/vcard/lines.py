"""The content lines of vCards, as address books send them and as they are written here.

Read are also lines that calendars do not have: types without TYPE= (vCard 2.1), base64 whose lines begin without a
space (Outlook), lists of types in quotes. Linear in the octets; nothing is decoded that nobody asks for.

Standards: RFC 6350 §3.2 and §3.3, RFC 2425 §5.8, RFC 6868 (^-escapes of parameters).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

FOLD_AT = 75  # octets of a line without its end (RFC 6350 §3.2)

_PHYSICAL = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|\Z)")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]+={0,2}[ \t]*\Z")
_HEAD = re.compile(r"(?:([A-Za-z0-9_-]+)\.)?([A-Za-z0-9_-]+)(?=[;:])")
_PARAMETER = re.compile(r";[ \t]*([A-Za-z0-9_-]+)[ \t]*(=|(?=[;:]))")
_VALUE = re.compile(r'"([^"]*)"|([^;:,"]*)')
_CIRCUMFLEX = re.compile(r"\^([n^'])")
_DECODED = {"n": "\n", "^": "^", "'": '"'}
_NAME = re.compile(r"[A-Za-z0-9-]+\Z")


@dataclass(frozen=True, slots=True)
class Field:
    """A content line. Names are in upper case; `value` has its escapes."""

    name: str
    value: str = field(repr=False)
    parameters: tuple[tuple[str, tuple[str, ...]], ...] = ()
    group: str = ""
    start: int = 0  # its octets, with line ends
    end: int = 0

    def parameter(self, name: str) -> str:
        """The first value of a parameter; empty: there is none."""
        return next((values[0] for one, values in self.parameters if one == name and values), "")

    def values_of(self, name: str) -> list[str]:
        """All values of a parameter, also of one that is given several times."""
        return [value for one, values in self.parameters if one == name for value in values]

    @property
    def types(self) -> list[str]:
        """Its TYPEs in lower case, also from a list in quotes."""
        return [word.strip().lower() for value in self.values_of("TYPE") for word in value.split(",") if word.strip()]

    def having(self, *parameters: tuple[str, Iterable[str]], without: Iterable[str] = ()) -> Field:
        """With these parameters in place of those of their names, and none of `without`; without values: none."""
        gone = {*without, *(name for name, _ in parameters)}
        kept = [one for one in self.parameters if one[0] not in gone]
        added = [(name, tuple(values)) for name, values in parameters]
        return replace(self, parameters=(*kept, *(one for one in added if one[1])))


class LineError(ValueError):
    """A line that is none of vCard; the number is that of the physical line, from 1."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def without_bom(data: bytes) -> int:
    """Where the text of `data` begins."""
    return 3 if data.startswith(b"\xef\xbb\xbf") else 0


def logical_lines(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Unfolded lines of `data`: number of the first physical line, start, end (with the line end), octets.

    Empty lines are left out.
    """
    pieces: list[bytes] = []
    first = start = end = 0
    encoded = False
    for number, match in enumerate(_PHYSICAL.finditer(data, without_bom(data)), start=1):
        if match.end() == match.start():
            break
        line = match[0].rstrip(b"\r\n")
        if pieces and line[:1] in (b" ", b"\t"):
            pieces.append(line[1:])
            end = match.end()
        elif pieces and encoded and _BASE64.match(line):
            pieces.append(line)
            end = match.end()
        else:
            if pieces:
                yield first, start, end, b"".join(pieces)
            pieces = [line] if line.strip() else pieces[:0]
            first, start, end = number, match.start(), match.end()
            encoded = _is_encoded(line)
    if pieces:
        yield first, start, end, b"".join(pieces)


def _is_encoded(line: bytes) -> bool:
    head = line.partition(b":")[0].upper()
    return b";" in head and (b"BASE64" in head or b"ENCODING=B" in head)


def read_fields(data: bytes) -> Iterator[Field]:
    """The content lines of `data`, which is UTF-8. Raises LineError, UnicodeDecodeError."""
    for number, start, end, octets in logical_lines(data):
        yield _read_field(octets.decode("utf-8"), number, start, end)


def _read_field(text: str, number: int, start: int, end: int) -> Field:
    head = _HEAD.match(text)
    if head is None:
        raise LineError(number)
    at = head.end()
    parameters: list[tuple[str, tuple[str, ...]]] = []
    while text[at] == ";":
        match = _PARAMETER.match(text, at)
        if match is None:
            if text[at + 1 : at + 2] in (";", ":"):  # "TEL;;HOME:" and "TEL;:" are sent
                at += 1
                continue
            raise LineError(number)
        at = match.end()
        if match[2] != "=":
            parameters.append(_bare(match[1]))
        else:
            at, values = _read_values(text, at)
            parameters.append((match[1].upper(), values))
        if at >= len(text) or text[at] not in ";:":
            raise LineError(number)
    return Field(head[2].upper(), text[at + 1 :], tuple(parameters), head[1] or "", start, end)


def _bare(word: str) -> tuple[str, tuple[str, ...]]:
    """A parameter without a name, as vCard 2.1 has them."""
    if word.upper() in ("BASE64", "QUOTED-PRINTABLE", "8BIT", "7BIT"):
        return "ENCODING", (word.upper(),)
    return "TYPE", (word,)


def _read_values(text: str, at: int) -> tuple[int, tuple[str, ...]]:
    values: list[str] = []
    while True:
        match = _VALUE.match(text, at)
        assert match is not None  # the second half matches the empty string
        value = match[1] if match[1] is not None else match[2]
        values.append(_CIRCUMFLEX.sub(_decoded, value) if "^" in value else value)
        at = match.end()
        if text[at : at + 1] != ",":
            return at, tuple(values)
        at += 1


def _decoded(match: re.Match[str]) -> str:
    return _DECODED[match[1]]


def write_field(one: Field, *, circumflex: bool = True) -> bytes:
    """A content line with its end, folded. `circumflex`: parameters may hold all that RFC 6868 can say (vCard 4)."""
    pieces = [f"{one.group}.{one.name}" if one.group else one.name]
    for name, values in one.parameters:
        pieces.append(f";{name}={','.join(_parameter_value(value, circumflex) for value in values)}")
    return fold(f"{''.join(pieces)}:{one.value}")


def _parameter_value(value: str, circumflex: bool) -> str:
    if circumflex:
        value = value.replace("^", "^^").replace("\r\n", "^n").replace("\n", "^n").replace('"', "^'")
    else:
        value = value.replace("\r\n", " ").replace("\n", " ").replace('"', "'")
    return f'"{value}"' if any(mark in value for mark in ",;:") else value


def fold(line: str) -> bytes:
    """`line` with its end, on as many lines as it needs, never within a character."""
    octets = line.encode("utf-8")
    if len(octets) <= FOLD_AT:
        return octets + b"\r\n"
    pieces: list[bytes] = []
    at, room = 0, FOLD_AT
    while at < len(octets):
        end = min(at + room, len(octets))
        while end < len(octets) and octets[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(octets[at:end])
        at, room = end, FOLD_AT - 1
    return b"\r\n ".join(pieces) + b"\r\n"


def is_name(text: str) -> bool:
    """Whether it may stand for a property or a group (RFC 6350 §3.3)."""
    return _NAME.match(text) is not None


def compound(value: str, separator: str = ";") -> list[str]:
    """The parts of a structured value, with their escapes."""
    if "\\" not in value:
        return value.split(separator)
    parts: list[list[str]] = [[]]
    for at, piece in enumerate(value.split(separator)):
        if at and _escapes(parts[-1][-1]):
            parts[-1] += [separator, piece]
        elif at:
            parts.append([piece])
        else:
            parts[-1].append(piece)
    return ["".join(part) for part in parts]


def _escapes(piece: str) -> bool:
    """Whether it ends with a backslash that escapes what follows."""
    return (len(piece) - len(piece.rstrip("\\"))) % 2 == 1
