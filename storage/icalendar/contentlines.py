"""Reads content lines, as iCalendar and vCard have them, into a tree of components and properties; and writes one.

Each property and component knows where it stands in the octets (`start`, `end`), folds and line end included, so that
who has to change one line of a client's data leaves all others as they are. Unfolded before it is decoded: a fold may
stand in the middle of a character. Lines end with CRLF, LF, or CRs and LF; empty ones count for nothing; a BOM at the
beginning is passed over. Parameters' values are as they are meant (quotes taken off, `^` decoded by RFC 6868), a
property's value is as it stands in the line: only its type says what a backslash or a comma means.

Reads what real clients write rather than what the grammar allows: quotes in the middle of a parameter, a parameter
without "=" (vCard 2.1), names in lower case or with "_". Refused are characters that XML cannot carry, since no
CalDAV or CardDAV answer could hold them.

Every octet is looked at a fixed number of times; lines, parameters and levels are limited by `LineLimits`.
Raises: Malformed, with a sentence that names the line.
Standards: RFC 5545 §3.1, RFC 6350 §3.2 and §3.3, RFC 6868.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from storage.errors import InvalidInput

BOM = b"\xef\xbb\xbf"


class Malformed(InvalidInput):
    """These are no content lines, or too many; the caller names the precondition."""


@dataclass(frozen=True, slots=True)
class LineLimits:
    """What a reader takes before it gives up."""

    lines: int = 100_000  # after unfolding
    parameters: int = 200_000  # of all lines together, each of their values counted
    depth: int = 16


LINE_LIMITS = LineLimits()


@dataclass(slots=True)
class Property:
    """One content line. `start` to `end` are its octets in the data it was read from, with its line end."""

    name: str  # upper case
    value: str = ""  # unfolded, else as it stands there
    parameters: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)  # names in upper case
    group: str = ""  # of vCard, as it stands there
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)

    def parameter(self, name: str) -> str | None:
        """The first value of a parameter; None: it is not there."""
        for key, values in self.parameters:
            if key == name:
                return values[0] if values else ""
        return None

    def values_of(self, name: str) -> list[str]:
        """All values of all parameters of that name."""
        return [value for key, values in self.parameters if key == name for value in values]


@dataclass(slots=True)
class Component:
    """What stands between BEGIN and END. `start` to `end` are its octets with both lines."""

    name: str  # upper case
    properties: list[Property] = field(default_factory=list)
    components: list[Component] = field(default_factory=list)
    start: int = field(default=0, compare=False)
    inner_start: int = field(default=0, compare=False)  # after the BEGIN line
    inner_end: int = field(default=0, compare=False)  # before the END line: where a new line may be put
    end: int = field(default=0, compare=False)

    def first(self, name: str) -> Property | None:
        """The first property of that name."""
        for one in self.properties:
            if one.name == name:
                return one
        return None

    def all(self, name: str) -> list[Property]:
        return [one for one in self.properties if one.name == name]

    def value(self, name: str) -> str | None:
        """The value of the first property of that name, as it stands there."""
        for one in self.properties:
            if one.name == name:
                return one.value
        return None

    def below(self, name: str) -> list[Component]:
        """The components of that name in this one, not deeper."""
        return [one for one in self.components if one.name == name]

    def walk(self) -> Iterator[Component]:
        """This and all below, in the order in which they stand there."""
        todo = [self]
        while todo:
            one = todo.pop()
            yield one
            todo.extend(reversed(one.components))


_END = re.compile(rb"\n(?![ \t])")  # of a line with its folds
_NO_XML = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|\xef\xbf[\xbe\xbf]|\r[^\r\n]")
_HEAD = re.compile(r"(?:([A-Za-z0-9_-]+)\.)?([A-Za-z0-9_-]+)(?=[;:])")
_VALUE = r'(?:"(?:[^"]|"(?![,;:]))*+"(?=[,;:])|(?!")[^;:,]*+)'
_PARAMETER = re.compile(rf";([A-Za-z0-9_-]+)(?:=({_VALUE}(?:,{_VALUE})*+))?+(?=[;:])")
_ENCODED = re.compile(r"\^([n'^])")
_DECODED = {"n": "\n", "'": '"', "^": "^"}


def read(data: bytes, limits: LineLimits = LINE_LIMITS) -> Component:
    """The one component that the data is."""
    found = read_all(data, limits)
    if len(found) != 1:
        raise Malformed("There has to be exactly one object in it." if found else "There is nothing in it.")
    return found[0]


def read_all(data: bytes, limits: LineLimits = LINE_LIMITS) -> list[Component]:
    """The components that follow each other in the data, e.g. the cards of a file."""
    wrong = _NO_XML.search(data)
    if wrong:
        raise Malformed(f"There is a control character in line {_number(data, wrong.start())}.")
    roots: list[Component] = []
    stack: list[Component] = []
    counted = parameters = 0
    end, size = (len(BOM) if data.startswith(BOM) else 0), len(data)
    while end < size:
        start = end
        match = _END.search(data, start)
        if match is None:
            raw, end = data[start:], size
        else:
            end = match.end()
            raw = data[start : end - 1]
        counted += 1
        if counted > limits.lines:
            raise Malformed(f"There are more than {limits.lines:,} lines in it.")
        if raw.endswith(b"\r"):
            raw = raw.rstrip(b"\r")
        if not raw:
            continue
        if b"\n" in raw:
            raw = _unfolded(raw)
            if _NO_XML.search(raw):  # put together only now
                raise Malformed(f"There is a control character in line {_number(data, start)}.")
            if not raw:
                continue
        try:
            line = raw.decode()
        except UnicodeDecodeError:
            raise Malformed(f"Line {_number(data, start)} is not UTF-8.") from None
        head = _HEAD.match(line)
        if head is None:
            raise Malformed(f"Line {_number(data, start)} has no name before a colon.")
        group, name = head.groups("")
        name = name.upper()
        position = head.end()
        if line[position] == ":":
            if name == "BEGIN":
                if len(stack) >= limits.depth:
                    raise Malformed(f"Components are nested more than {limits.depth} deep.")
                component = Component(line[position + 1 :].strip().upper(), start=start, inner_start=end)
                (stack[-1].components if stack else roots).append(component)
                stack.append(component)
                continue
            if name == "END":
                ended = line[position + 1 :].strip().upper()
                if not stack or stack[-1].name != ended:
                    raise Malformed(f"Line {_number(data, start)} ends what has not begun.")
                component = stack.pop()
                component.inner_end = start
                component.end = end
                continue
            found: list[tuple[str, tuple[str, ...]]] = []
        else:
            found, position = _parameters(line, position, limits.parameters - parameters)
            if position < 0:
                raise Malformed(f"Line {_number(data, start)} has parameters that cannot be read.")
            parameters += len(found)
            for _, values in found:
                parameters += len(values)
        if not stack:
            raise Malformed(f"Line {_number(data, start)} stands outside of BEGIN and END.")
        stack[-1].properties.append(Property(name, line[position + 1 :], found, group, start, end))
    if stack:
        raise Malformed(f"It ends before END:{stack[-1].name[:40]}.")
    return roots


def _unfolded(raw: bytes) -> bytes:
    """Without its folds (RFC 5545 §3.1). Whatever CR is left stood before one."""
    for fold in (b"\r\n ", b"\n ", b"\n\t"):
        raw = raw.replace(fold, b"")
    return raw.replace(b"\r", b"")


def _parameters(line: str, position: int, left: int) -> tuple[list[tuple[str, tuple[str, ...]]], int]:
    """The parameters from `position` on, and where the colon after them stands; -1: they cannot be read."""
    found: list[tuple[str, tuple[str, ...]]] = []
    while line[position] == ";":
        match = _PARAMETER.match(line, position)
        if match is None:
            return found, -1
        name, value = match.groups()
        values: tuple[str, ...]
        if value is None:
            values = ()
        elif "," not in value or value.count(",") > left:
            values = (value,)
        else:
            values = _values(value)
        if value and ('"' in value or "^" in value):
            values = tuple(_meant(one) for one in values)
        found.append((name.upper(), values))
        left -= 1 + (value.count(",") + 1 if value else 1)
        if left < 0:
            raise Malformed("There are too many parameters in it.")
        position = match.end()
    return found, position


def _values(value: str) -> tuple[str, ...]:
    """Values between commas that stand in no quotes."""
    values: list[str] = []
    position = 0
    while True:
        quoted = value.startswith('"', position)
        end = position
        if quoted:  # to the quote before a comma or the end
            while True:
                end = value.find('"', end + 1)
                if end < 0 or end + 1 == len(value) or value[end + 1] == ",":
                    break
            end = len(value) if end < 0 else end + 1
        else:
            end = value.find(",", position)
            end = len(value) if end < 0 else end
        values.append(value[position:end])
        if end == len(value):
            return tuple(values)
        position = end + 1


def _meant(value: str) -> str:
    """A parameter's value without its quotes and with what `^` stands for (RFC 6868 §3.2)."""
    if len(value) > 1 and value[0] == '"' == value[-1]:
        value = value[1:-1]
    return _ENCODED.sub(lambda match: _DECODED[match[1]], value) if "^" in value else value


def _number(data: bytes, position: int) -> int:
    return data.count(b"\n", 0, position) + 1


# Writing

_QUOTED = re.compile(r'[;:,]|^"')
_FOLD_AT = 75  # octets of a line without its end (RFC 5545 §3.1)


def write(component: Component) -> bytes:
    """The component with all below as CRLF lines of at most 75 octets."""
    lines: list[bytes] = []
    todo: list[Component | str] = [component]
    while todo:
        one = todo.pop()
        if isinstance(one, str):
            lines.append(f"END:{one}\r\n".encode())
            continue
        lines.append(f"BEGIN:{one.name}\r\n".encode())
        lines.extend(write_property(each) for each in one.properties)
        todo.append(one.name)
        todo.extend(reversed(one.components))
    return b"".join(lines)


def write_property(one: Property) -> bytes:
    """One property as folded lines with CRLF."""
    pieces = [f"{one.group}." if one.group else "", one.name]
    for name, values in one.parameters:
        pieces.append(f";{name}=" if values else f";{name}")
        pieces.append(",".join(_parameter_value(value) for value in values))
    pieces.append(":")
    pieces.append(one.value)
    return folded("".join(pieces))


def _parameter_value(value: str) -> str:
    if "^" in value or "\n" in value or '"' in value:
        value = value.replace("^", "^^").replace("\n", "^n").replace('"', "^'")
    return f'"{value}"' if _QUOTED.search(value) else value


def folded(line: str) -> bytes:
    """The line, folded between characters where it is longer than 75 octets, with CRLF (RFC 5545 §3.1)."""
    data = line.encode()
    if len(data) <= _FOLD_AT:
        return data + b"\r\n"
    pieces: list[bytes] = []
    position, room = 0, _FOLD_AT
    while len(data) - position > room:
        end = position + room
        while data[end] & 0xC0 == 0x80:  # in the middle of a character
            end -= 1
        pieces.append(data[position:end])
        position, room = end, _FOLD_AT - 1
    pieces.append(data[position:])
    return b"\r\n ".join(pieces) + b"\r\n"


# Values of type TEXT (RFC 5545 §3.3.11, RFC 6350 §3.4)

_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_SPECIAL = re.compile(r"[\\;,\n]")


def text(value: str) -> str:
    """What a value of type TEXT says, without its backslashes."""
    if "\\" not in value:
        return value
    return _ESCAPE.sub(lambda match: "\n" if match[1] in "nN" else match[1], value)


def escaped(said: str) -> str:
    """A text as a value of type TEXT."""
    said = said.replace("\r\n", "\n")
    return _SPECIAL.sub(lambda match: "\\n" if match[0] == "\n" else "\\" + match[0], said)


def split(value: str, separator: str = ",") -> list[str]:
    """Parts between separators that no backslash precedes, as they stand there: CATEGORIES, N, ADR."""
    if "\\" not in value:
        return value.split(separator)
    parts: list[str] = []
    begin = position = 0
    size = len(value)
    while position < size:
        if value[position] == "\\":
            position += 2
            continue
        if value[position] == separator:
            parts.append(value[begin:position])
            begin = position + 1
        position += 1
    parts.append(value[begin:])
    return parts


def texts(values: Iterable[str]) -> list[str]:
    """All texts of properties that hold lists, e.g. CATEGORIES."""
    return [text(one) for value in values for one in split(value)]
