"""Scheduling messages as they are told to others: what of a component leaves, and how a message is put together. Pure.

Standards: RFC 5546 §3, RFC 6638 §7 (parameters that stay with the server).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from storage.itip.draft import Line, Part
from storage.itip.meeting import Meeting, utc_text

PRODUCT = "-//Cleanmail//Scheduling//EN"

REQUEST, CANCEL, REPLY = "REQUEST", "CANCEL", "REPLY"

INTERNAL = frozenset({"SCHEDULE-AGENT", "SCHEDULE-STATUS", "SCHEDULE-FORCE-SEND"})  # parameters that stay here
LOST_MAX = 100  # instances that are told of one by one


@dataclass(frozen=True, slots=True)
class Outgoing:
    method: str
    recipient: str = field(repr=False)  # as `calendar_user` has it
    data: bytes = field(repr=False)
    beside: bool = False  # it says what a CANCEL says already, as all of the meeting: for calendars, not for people


def told(part: Part, now: int) -> Part:
    """A component as others are told of it: without alarms and without what is the server's."""
    copy = part.copy()
    copy.items = [item for item in copy.items if isinstance(item, Line)]
    for line in copy.lines("ATTENDEE", "ORGANIZER"):
        for name in INTERNAL:
            line.set_parameter(name, None)
    copy.set_value("DTSTAMP", utc_text(now))
    return copy


def wrapped(meeting: Meeting, method: str, parts: list[Part]) -> bytes:
    """A message of these components, with the time zones that they name."""
    wanted = {line.parameter("TZID") for part in parts for line in part.lines()}
    zones: list[Line | Part] = [
        zone.copy() for zone in meeting.calendar.parts("VTIMEZONE") if zone.value("TZID") in wanted
    ]
    scale = meeting.calendar.line("CALSCALE")
    head = [Line.of("VERSION", "2.0"), Line.of("PRODID", PRODUCT)]
    head += [] if scale is None else [scale.copy()]
    return bytes(Part.of("VCALENDAR", *head, Line.of("METHOD", method), *zones, *parts))


def status_of(line: Line) -> str:
    return line.parameter("PARTSTAT", "NEEDS-ACTION").upper()


def is_cancelled(part: Part) -> bool:
    return part.value("STATUS").strip().upper() == "CANCELLED"
