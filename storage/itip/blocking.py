"""Whether a meeting blocks the time of an attendee: not before he says yes.

An invitation that nobody answered is TRANSPARENT in its owner's calendar, as at Apple's server, so that strangers
cannot fill somebody's days. Most clients change the PARTSTAT alone when he accepts; the server makes it OPAQUE then,
unless its organizer said himself that it blocks no time.

Pure. Standards: RFC 5545 §3.8.2.7 (TRANSP), RFC 5546 §2.1.1 (it is the attendee's own).
"""

from __future__ import annotations

from collections.abc import Iterable

from storage.itip.draft import Line, Part
from storage.itip.meeting import Meeting, Own
from storage.itip.messages import status_of

FREE_ANYWAY = "X-CLEANMAIL-TRANSP"  # what the organizer says, where it is TRANSPARENT
_COMING = frozenset({"ACCEPTED", "TENTATIVE"})


def note(part: Part) -> None:
    """What the organizer says of the time, of a component as it arrives."""
    part.remove(FREE_ANYWAY)
    if _transparent(part):
        part.set_value(FREE_ANYWAY, "TRANSPARENT")


def unblock(meeting: Meeting, parts: Iterable[Part], own: Own) -> None:
    """What of these its owner has not answered blocks no time."""
    for part in parts:
        mine = meeting.attendee(part, own)
        if part.name == "VEVENT" and mine is not None and is_unanswered(mine):
            part.set_value("TRANSP", "TRANSPARENT")


def blocking(data: bytes, before: Meeting, own: Own) -> bytes:
    """`data`, which an attendee stores in place of `before`, with what he now says yes to blocking his time."""
    meeting = Meeting.read(data)
    changed = False
    for at, part in [(None, meeting.master), *meeting.overrides.items()]:
        known = before.master if at is None else before.overrides.get(at, before.master)
        if part is None or known is None or part.value(FREE_ANYWAY):
            continue
        mine, was = meeting.attendee(part, own), before.attendee(known, own)
        accepts = mine is not None and was is not None and status_of(mine) in _COMING and status_of(was) not in _COMING
        if accepts and _transparent(part) and _transparent(known):
            part.set_value("TRANSP", "OPAQUE")
            changed = True
    return bytes(meeting.calendar) if changed else data


def is_unanswered(line: Line) -> bool:
    return status_of(line) == "NEEDS-ACTION"


def _transparent(part: Part) -> bool:
    return part.value("TRANSP").strip().upper() == "TRANSPARENT"
