"""What has to be said to the organizer when an attendee changes a meeting in his calendar; and what he may change.

Pure: from the object before and after to a message.

Raises: Violated (allowed-attendee-scheduling-object-change).
Standards: RFC 6638 §3.2.2, §3.2.4.4, §7; RFC 5546 §3.2.3, §3.4.3.
"""

from __future__ import annotations

from storage.collections.conditions import Violated
from storage.itip.draft import Line, Part
from storage.itip.meeting import Meeting, Own, utc_text
from storage.itip.messages import INTERNAL, LOST_MAX, REPLY, Outgoing, is_cancelled, status_of, wrapped
from storage.itip.moments import Moment
from storage.itip.users import calendar_user

# What of an attendee's component a reply says.
_REPLIED = ("UID", "SEQUENCE", "RECURRENCE-ID", "ORGANIZER", "SUMMARY", "DTSTART", "DTEND", "DUE", "DURATION")
_REPLIED_TASK = ("STATUS", "COMPLETED", "PERCENT-COMPLETE")


def of_attendee(before: Meeting | None, after: Meeting | None, own: Own, now: int) -> Outgoing | None:
    """The reply to the organizer; None: there is none to be sent.

    Raises Violated if more was changed than an attendee may change (RFC 6638 §3.2.2.1).
    """
    meeting = after or before
    assert meeting is not None
    if after is not None and before is not None:
        check_attendee(before, after, own)
    line = meeting.organizer_line
    if line is None or line.parameter("SCHEDULE-AGENT", "SERVER").upper() != "SERVER":
        return None
    if after is None:
        assert before is not None
        return _declined(before, own, now)
    forced = line.parameter("SCHEDULE-FORCE-SEND").upper() == REPLY
    changed: list[Part] = []
    for at, part in [(None, after.master), *after.overrides.items()]:
        mine = None if part is None else after.attendee(part, own)
        if part is None or mine is None:
            continue
        status = status_of(mine)
        known = _known(before, at)
        was = None if known is None or before is None else before.attendee(known, own)
        told_before = "NEEDS-ACTION" if was is None else status_of(was)
        if forced or status != told_before or (was is not None and _task(part) != _task(known)):
            changed.append(_reply(part, mine, status, now))
    if before is not None and before.master is not None and after.master is not None:
        for at in sorted(after.excluded() - before.excluded())[:LOST_MAX]:
            instance = before.overrides.get(at) or before.derived(at)
            mine = None if instance is None else before.attendee(instance, own)
            if (
                instance is not None
                and mine is not None
                and status_of(mine) != "DECLINED"
                and not is_cancelled(instance)
            ):
                changed.append(_reply(instance, mine, "DECLINED", now))
    if not changed:
        return None
    return Outgoing(REPLY, after.organizer, wrapped(after, REPLY, changed))


def check_attendee(before: Meeting, after: Meeting, own: Own) -> None:
    """Raises Violated (allowed-attendee-scheduling-object-change)."""
    if before.organizer != after.organizer:
        raise _not_an_attendees("The organizer of a meeting is not changed by its attendees.")
    if before.kind != after.kind:
        raise _not_an_attendees("What it is is not changed by its attendees.")
    if before.master is None and after.master is not None and not before.overrides:
        raise _not_an_attendees("An attendee makes no series.")
    for at, part in [(None, after.master), *after.overrides.items()]:
        if part is None:
            continue
        known = _known(before, at)
        if known is None:
            raise _not_an_attendees("An attendee invites to nothing new.")
        if _when(before, known) != _when(after, part):
            raise _not_an_attendees("When a meeting is is not changed by its attendees.")
        theirs, now = _others(known, own), _others(part, own)
        if theirs != now:
            raise _not_an_attendees("Who is invited is not changed by the attendees.")
        if after.attendee(part, own) is None and before.attendee(known, own) is not None:
            raise _not_an_attendees("An attendee declines; he does not take himself out.")
    if before.master is not None and after.master is None:
        raise _not_an_attendees("A series is not taken apart by its attendees.")
    for at, part in before.overrides.items():
        if at in after.overrides or is_cancelled(part) or (after.master is not None and at in after.excluded()):
            continue
        derived = after.derived(at)
        if derived is None or _when(before, part) != _when(after, derived):
            raise _not_an_attendees("An instance of its own is not taken away by the attendees.")


def _known(meeting: Meeting | None, at: Moment | None) -> Part | None:
    if meeting is None:
        return None
    return meeting.master if at is None else meeting.overrides.get(at) or meeting.derived(at)


def _when(meeting: Meeting, part: Part) -> list[object]:
    """Its times, however they are written."""
    when: list[object] = []
    for name in ("DTSTART", "DTEND", "DUE"):
        line = part.line(name)
        when.append(None if line is None else meeting.moments.of(line))
    when += [sorted(_rule(line.value) for line in part.lines("RRULE"))]
    when += [sorted(moment for line in part.lines("RDATE") for moment in meeting.moments.all_of(line))]
    when += [part.value("DURATION").strip()]
    return when


def _rule(value: str) -> list[str]:
    return sorted(each.strip().upper() for each in value.split(";") if each.strip())


def _others(part: Part, own: Own) -> set[str]:
    return {user for user in (calendar_user(line.value) for line in part.lines("ATTENDEE")) if not own(user)}


def _task(part: Part | None) -> list[str]:
    return [] if part is None or part.name != "VTODO" else [part.value(name).strip() for name in _REPLIED_TASK]


def _declined(before: Meeting, own: Own, now: int) -> Outgoing | None:
    """The object is removed: everything that was not declined is now."""
    parts = []
    settled = {"DECLINED"}
    for part in filter(None, (before.master, *before.overrides.values())):
        mine = before.attendee(part, own)
        if mine is not None and status_of(mine) not in settled and not is_cancelled(part):
            parts.append(_reply(part, mine, "DECLINED", now))
        elif part is before.master:  # the series was declined before: what was never answered is part of that
            settled = {"DECLINED", "NEEDS-ACTION"}
    return Outgoing(REPLY, before.organizer, wrapped(before, REPLY, parts)) if parts else None


def _reply(part: Part, mine: Line, status: str, now: int) -> Part:
    names = _REPLIED + (_REPLIED_TASK if part.name == "VTODO" else ()) + ("COMMENT",)
    lines: list[Line | Part] = [Line.of("DTSTAMP", utc_text(now))]
    lines += [line.copy() for line in part.lines(*names)]
    answer = mine.copy()
    answer.set_parameter("PARTSTAT", status)
    answer.set_parameter("RSVP", None)
    lines += [answer, Line.of("REQUEST-STATUS", "2.0;Success")]
    reply = Part.of(part.name, *lines)
    for line in reply.lines("ATTENDEE", "ORGANIZER"):
        for name in INTERNAL:
            line.set_parameter(name, None)
    return reply


def _not_an_attendees(why: str) -> Violated:
    return Violated("allowed-attendee-scheduling-object-change", why)


def same_times(before: Meeting, old: Part, after: Meeting, new: Part) -> bool:
    """Whether two forms of a component take place at the same time."""
    return _when(before, old) == _when(after, new)
