"""The objects of an .ics file, each as it may be stored, for imports and feeds: one per UID, with the zones it names.

The lines of components stay as they are; only the frame around them is made anew: VERSION, PRODID and CALSCALE of their
VCALENDAR, then the VTIMEZONEs that its components name, then all components of the UID in their order. A component
without a UID gets one made of its octets, so that a second import of the file finds it again.

Linear in what is given out; raises nothing: what is no iCalendar gives no object, what is broken is left to the check.
Standards: RFC 4791 §4.1.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

from storage.icalendar.contentlines import BOM
from storage.mime.decode import decode_unknown

_NAMESPACE = uuid.UUID("c0d3f6a4-1d5e-5b0a-9a55-7b9d0a4b6f21")  # of UIDs that are given here
_LINE = re.compile(rb"([^\n]*(?:\n[ \t][^\n]*)*+)\n?")
_FOLD = re.compile(rb"\r*\n[ \t]")
_MARK = re.compile(rb"(BEGIN|END)[ \t]*:[ \t]*([A-Za-z0-9-]+)[ \t\r]*\Z", re.IGNORECASE)
_ZONE = re.compile(rb';TZID="?([^";:]+)', re.IGNORECASE)
_FRAME = (b"VERSION", b"PRODID", b"CALSCALE")  # what an object has of its file
_FRAME_MAX = 1000  # octets of a line of these
_ZONE_MAX = 64 << 10  # octets of a definition; each object that names it gets it
_REFUSED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|\r(?!\r*\n)")


@dataclass(slots=True)
class _Component:
    lines: list[bytes] = field(default_factory=list)  # with folds and ends
    uid: bytes = b""
    zones: dict[bytes, None] = field(default_factory=dict)  # named, in their order
    line: int = 0  # of its file, where it begins


def split_calendar(data: bytes) -> Iterator[bytes]:
    """Each object of `data`, which may hold several VCALENDARs."""
    return (found for _, found in split_lines(data))


def split_lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Likewise, each with the number of the line where its first component begins."""
    frame: dict[bytes, bytes] = {}
    zones: dict[bytes, bytes] = {}  # by TZID; the last definition of a file counts
    objects: dict[bytes, list[_Component]] = {}
    frames: dict[bytes, dict[bytes, bytes]] = {}
    stack: list[bytes] = []
    current = _Component()
    for raw, line, number in _lines(_clean(data)):
        mark = _MARK.match(line)
        if mark is None:
            if len(stack) == 1:
                name = _name(line)
                if name in _FRAME and len(raw) <= _FRAME_MAX:
                    frame.setdefault(name, raw)
            elif len(stack) > 1:
                current.lines.append(raw)
                _note(current, line, stack)
            continue
        name = mark[2].upper()
        if mark[1].upper() == b"BEGIN":
            if not stack and name != b"VCALENDAR":
                continue
            stack.append(name)
            if len(stack) == 1:
                frame = {}
            elif len(stack) == 2:
                current = _Component([raw], line=number)
            else:
                current.lines.append(raw)
            continue
        if not stack or stack[-1] != name:
            continue  # an END of nothing: the check of what comes out will say so
        stack.pop()
        if stack:
            current.lines.append(raw)
        if len(stack) == 1:
            if name == b"VTIMEZONE":
                definition = b"".join(current.lines)
                if len(definition) <= _ZONE_MAX:
                    zones[current.uid] = definition
            else:
                uid = _identified(current)
                objects.setdefault(uid, []).append(current)
                frames.setdefault(uid, frame)
    for uid, components in objects.items():
        yield components[0].line, _framed(frames[uid], components, zones)


def _clean(data: bytes) -> bytes:
    """In UTF-8, without characters that no calendar may have."""
    data = data.removeprefix(BOM)
    try:
        said = data.decode("utf-8")
    except UnicodeDecodeError:
        said = decode_unknown(data)
    cleaned = _REFUSED.sub("", said)
    return cleaned.encode("utf-8", "replace")


def _lines(data: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Each line as it stands there, unfolded without its end, and its number."""
    number = following = 1
    for match in _LINE.finditer(data):
        raw = match[0]
        number, following = following, following + raw.count(b"\n")
        line = _FOLD.sub(b"", match[1]).rstrip(b"\r")
        if line:
            yield raw if raw.endswith(b"\n") else raw + b"\r\n", line, number


def _name(line: bytes) -> bytes:
    return line[: min(at for at in (line.find(b":"), line.find(b";"), len(line)) if at >= 0)].upper()


def _note(component: _Component, line: bytes, stack: list[bytes]) -> None:
    """What a line says about the component that it stands in."""
    if len(stack) == 2 and _name(line) == (b"TZID" if stack[1] == b"VTIMEZONE" else b"UID"):
        component.uid = line.partition(b":")[2].strip()
    head = line if b'"' in line else line.partition(b":")[0]
    if b";TZID=" in head.upper():
        component.zones.update((match[1], None) for match in _ZONE.finditer(head))


def _identified(component: _Component) -> bytes:
    """The UID of a component, which gets one if it has none."""
    if not component.uid:
        component.uid = str(uuid.uuid5(_NAMESPACE, b"".join(component.lines).decode("utf-8", "replace"))).encode()
        component.lines.insert(1, b"UID:%s\r\n" % component.uid)
    return component.uid


def _framed(frame: dict[bytes, bytes], components: list[_Component], zones: dict[bytes, bytes]) -> bytes:
    named = dict.fromkeys(zone for component in components for zone in component.zones)
    return b"".join(
        [
            b"BEGIN:VCALENDAR\r\n",
            frame.get(b"VERSION", b"VERSION:2.0\r\n"),  # RFC 5545 §3.6 demands both, files leave them out
            frame.get(b"PRODID", b"PRODID:-//Cleanmail//Import//EN\r\n"),
            frame.get(b"CALSCALE", b""),
            *(zones[name] for name in named if name in zones),
            *(line for component in components for line in component.lines),
            b"END:VCALENDAR\r\n",
        ]
    )
