"""What the server writes into a scheduling object that its client stored: SCHEDULE-STATUS, and SCHEDULE-FORCE-SEND out.

Pure. Only the lines that change are written anew.
Standards: RFC 6638 §3.2.9 (status codes), §7.2, §7.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from storage.itip.draft import Line, Part
from storage.itip.meeting import Meeting
from storage.itip.moments import Moment
from storage.itip.users import calendar_user


class Status(StrEnum):
    SENT = "1.1"  # to a server that says nothing of what became of it
    DELIVERED = "1.2"
    NO_SUCH_USER = "3.7"
    NOT_ALLOWED = "3.8"
    FAILED = "5.1"  # it could not be delivered
    NO_SUPPORT = "5.3"  # scheduling does not reach it


def with_statuses(data: bytes, statuses: Mapping[str, str], *, reply: bool = False) -> bytes:
    """`statuses` by calendar user. With `reply` they stand with the ORGANIZER, else with ATTENDEEs."""
    meeting = Meeting.read(data)
    changed = False
    for part in meeting.parts:
        for line in part.lines("ATTENDEE", "ORGANIZER"):
            changed |= line.set_parameter("SCHEDULE-FORCE-SEND", None)
            if (line.name == "ORGANIZER") is reply:
                changed |= _tell(line, statuses)
    return bytes(meeting.calendar) if changed else data


def _tell(line: Line, statuses: Mapping[str, str]) -> bool:
    status = statuses.get(calendar_user(line.value))
    return status is not None and line.set_parameter("SCHEDULE-STATUS", status)


def _start(meeting: Meeting, part: Part, at: Moment | None) -> str:
    """The DTSTART of a part; of the master, at a moment, that of its instance there."""
    start = part.line("DTSTART")
    if start is None or at is None or part is not meeting.master:
        return part.value("DTSTART")
    return meeting.moments.written("DTSTART", at, start).value


def with_answers(data: bytes, stored: bytes, own_address: str = "") -> bytes:
    """The organizer's `data` with what attendees answered meanwhile, where its client did not know of it.

    For a PUT whose If-Schedule-Tag-Match holds though its ETag would not (RFC 6638 §3.2.10): answers stay where the
    time is the same, and statuses with them.
    """
    new, old = Meeting.read(data), Meeting.read(stored)
    changed = False
    for at, part in [(None, new.master), *new.overrides.items()]:
        known = old.master if at is None else old.overrides.get(at, old.master)
        if part is None or known is None or part.value("DTSTART") != _start(old, known, at):
            continue
        answers = old.attendees_of(known)
        for line in part.lines("ATTENDEE"):
            answered = answers.get(calendar_user(line.value))
            if answered is None or line.parameter("SCHEDULE-FORCE-SEND") or calendar_user(line.value) == own_address:
                continue
            for name in ("PARTSTAT", "SCHEDULE-STATUS"):
                said = answered.parameter(name)
                if said and line.parameter(name) in {"", "NEEDS-ACTION"} and said != line.parameter(name):
                    changed |= line.set_parameter(name, said)
    return bytes(new.calendar) if changed else data
