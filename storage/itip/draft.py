"""iCalendar text that is changed in places: components and content lines, each with the octets that its client sent.

What nobody touches is written back octet by octet, also its folds and what no standard knows; a line that is changed
is folded anew, and only what is changed in it differs. No time zone and no recurrence is understood here.

Raises: Violated (valid-calendar-data) for what is no iCalendar object.
Standards: RFC 5545 §3.1 (content lines), §3.4 (objects), RFC 6868 (^ in parameters).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from storage.collections.conditions import Violated
from storage.icalendar import contentlines
from storage.icalendar.contentlines import Component, Malformed, Property, folded

_FOLD = re.compile(rb"\r*\n[ \t]")
_QUOTED = re.compile(r"[:;,]")


class Line:
    """A content line with the octets that it is written with."""

    __slots__ = ("_property", "_raw")

    def __init__(self, raw: bytes, known: Property | None = None) -> None:
        self._raw = raw
        self._property = known

    @classmethod
    def of(cls, name: str, value: str, *parameters: tuple[str, str]) -> Line:
        """A new line; `value` is written as it is, see `contentlines.escaped`."""
        written = "".join(f";{parameter}={_written(content)}" for parameter, content in parameters)
        return cls(folded(f"{name}{written}:{value}"))

    @property
    def raw(self) -> bytes:
        return self._raw

    @property
    def _read(self) -> Property:
        if self._property is None:
            [self._property] = contentlines.read(b"BEGIN:X\r\n" + self._raw + b"END:X\r\n").properties
        return self._property

    @property
    def name(self) -> str:
        """In upper case."""
        return self._read.name

    @property
    def value(self) -> str:
        """As it stands there."""
        return self._read.value

    @property
    def parameters(self) -> list[tuple[str, tuple[str, ...]]]:
        return self._read.parameters

    def parameter(self, name: str, default: str = "") -> str:
        """Its first value."""
        found = self._read.parameter(name)
        return default if found is None else found

    def set_parameter(self, name: str, value: str | None) -> bool:
        """Whether anything changed. None takes it out; a new one stands last."""
        text = self._text
        spans, colon = _spans(text)
        written = "" if value is None else f";{name}={_written(value)}"
        found = [(start, end) for known, start, end in spans if known == name]
        if not found:
            return self._replace(text[:colon] + written + text[colon:])
        for start, end in reversed(found):
            text = text[:start] + (written if (start, end) == found[0] else "") + text[end:]
        return self._replace(text)

    def set_value(self, value: str) -> bool:
        text = self._text
        return self._replace(text[: _spans(text)[1] + 1] + value)

    def copy(self) -> Line:
        return Line(self._raw, self._property)

    @property
    def _text(self) -> str:
        return _FOLD.sub(b"", self._raw).rstrip(b"\r\n").decode()

    def _replace(self, text: str) -> bool:
        if text == self._text:
            return False
        self._raw, self._property = folded(text), None
        return True


class Part:
    """A component: what stands between BEGIN and END, in its order."""

    __slots__ = ("begin", "end", "items", "name")

    def __init__(self, name: str, begin: bytes, end: bytes, items: list[Line | Part]) -> None:
        self.name = name
        self.begin = begin
        self.end = end
        self.items = items

    @classmethod
    def of(cls, name: str, *items: Line | Part) -> Part:
        return cls(name, f"BEGIN:{name}\r\n".encode(), f"END:{name}\r\n".encode(), list(items))

    def lines(self, *names: str) -> list[Line]:
        """Its own properties of these names; all if none is given."""
        return [item for item in self.items if isinstance(item, Line) and (not names or item.name in names)]

    def line(self, name: str) -> Line | None:
        return next((item for item in self.items if isinstance(item, Line) and item.name == name), None)

    def value(self, name: str, default: str = "") -> str:
        line = self.line(name)
        return default if line is None else line.value

    def parts(self, *names: str) -> list[Part]:
        return [item for item in self.items if isinstance(item, Part) and (not names or item.name in names)]

    def remove(self, *names: str) -> None:
        """Properties and components of these names."""
        self.items = [item for item in self.items if item.name not in names]

    def put(self, line: Line) -> None:
        """In place of the first property of its name, else behind the others."""
        for number, item in enumerate(self.items):
            if isinstance(item, Line) and item.name == line.name:
                self.items[number] = line
                return
        self.add(line)

    def set_value(self, name: str, value: str) -> None:
        """Of its first property of this name, which is made if there is none."""
        line = self.line(name)
        if line is None:
            self.add(Line.of(name, value))
        else:
            line.set_value(value)

    def add(self, line: Line) -> None:
        """Behind its other properties."""
        at = next((number for number, item in enumerate(self.items) if isinstance(item, Part)), len(self.items))
        self.items.insert(at, line)

    def copy(self) -> Part:
        return Part(self.name, self.begin, self.end, [item.copy() for item in self.items])

    def pieces(self) -> Iterator[bytes]:
        yield self.begin
        for item in self.items:
            if isinstance(item, Line):
                yield item.raw
            else:
                yield from item.pieces()  # the reader bounds the depth
        yield self.end

    def __bytes__(self) -> bytes:
        return b"".join(self.pieces())


def read(data: bytes) -> Part:
    """The VCALENDAR that `data` is."""
    try:
        component = contentlines.read(data)
    except Malformed as error:
        raise Violated("valid-calendar-data", error.public) from None
    if component.name != "VCALENDAR":
        raise Violated("valid-calendar-data", "A calendar object is a VCALENDAR.")
    part = _part(data, component, len(data))
    part.begin = data[: component.start] + part.begin
    return part


def _part(data: bytes, component: Component, upto: int) -> Part:
    """`upto`: where what follows it begins; empty lines belong to what stands before them."""
    found: list[Property | Component] = sorted([*component.properties, *component.components], key=_start)
    starts = [each.start for each in found[1:]] + [component.inner_end]
    items: list[Line | Part] = []
    for each, end in zip(found, starts, strict=True) if found else ():
        if isinstance(each, Component):
            items.append(_part(data, each, end))
        else:
            items.append(Line(_ended(data[each.start : end]), each))
    first = found[0].start if found else component.inner_end
    return Part(component.name, data[component.start : first], _ended(data[component.inner_end : upto]), items)


def _start(each: Property | Component) -> int:
    return each.start


def _spans(text: str) -> tuple[list[tuple[str, int, int]], int]:
    """The parameters of an unfolded line, each with its ";", and where the colon before its value stands."""
    spans: list[tuple[str, int, int]] = []
    position, size = 0, len(text)
    while position < size and text[position] not in ";:":
        position += 1
    while position < size and text[position] == ";":
        start = position
        position += 1
        while position < size and text[position] not in "=;:":
            position += 1
        name = text[start + 1 : position].upper()
        while position < size and text[position] in "=,":
            position += 1
            if text.startswith('"', position):
                # As the reader has it: the quote that ends it stands before what may follow a value.
                position += 1
                while position < size and not (text[position] == '"' and text[position + 1 : position + 2] in _AFTER):
                    position += 1
                position += 1
                continue
            while position < size and text[position] not in ",;:":
                position += 1
        spans.append((name, start, position))
    return spans, position


_AFTER = frozenset(",;:")


def _ended(raw: bytes) -> bytes:
    return raw if raw.endswith(b"\n") else raw + b"\r\n"


def _written(value: str) -> str:
    value = value.replace("^", "^^").replace("\r\n", "\n").replace("\n", "^n").replace('"', "^'")
    return f'"{value}"' if _QUOTED.search(value) else value
