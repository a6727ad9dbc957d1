"""Applies a scheduling message to what is stored: REQUEST and CANCEL on an attendee's object, REPLY on the organizer's.

Pure: from octets to octets. What is the owner's own (alarms, TRANSP, X- properties, his answer where the time is the
same) stays when the organizer's update comes. What he has not answered does not block his time, as at Apple's server:
it is TRANSPARENT until he says yes (`storage.itip.blocking`). Whether the message may do that, and whether it is newer
than what was worked on before, others have decided (`newer` says which of two is).

Standards: RFC 5546 §2.1.4, §2.1.5 (SEQUENCE and DTSTAMP), §3.2; RFC 6638 §4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from storage.collections.conditions import Violated
from storage.icalendar.limits import CALENDAR_LIMITS
from storage.itip.answering import same_times
from storage.itip.blocking import FREE_ANYWAY, is_unanswered, note, unblock
from storage.itip.draft import Line, Part
from storage.itip.meeting import Meeting, Own, sequence_of
from storage.itip.messages import is_cancelled, status_of
from storage.itip.moments import Moment
from storage.itip.users import calendar_user

_OWN_PROPERTIES = ("TRANSP", "COMPLETED", "PERCENT-COMPLETE")  # of an attendee's copy
_SERVERS = ("SCHEDULE-STATUS", "SCHEDULE-FORCE-SEND", "SCHEDULE-AGENT")
_DERIVED_MAX = 500  # instances that one message has made of a series: each is a copy of its master
_PARTSTAT = re.compile(r"[A-Z0-9-]{1,30}")
_STATUSES_MAX = 10
_STATUS = re.compile(r"[1-5](?:\.[0-9]{1,2}){1,2}")


@dataclass(frozen=True, slots=True)
class Applied:
    """`data` None: nothing changes. `rescheduled`: what it says is new to its owner, as Schedule-Tag tells."""

    data: bytes | None = field(repr=False)
    rescheduled: bool = True


NOTHING = Applied(None)


def newer(sequence: int, stamp: int, known: tuple[int, int] | None, *, again: bool = False) -> bool:
    """Whether a message of this SEQUENCE and DTSTAMP is to be worked on after that of `known`.

    `again`: also one that equals it.
    """
    return known is None or (sequence, stamp) > known or (again and (sequence, stamp) == known)


# An attendee's object


def request(stored: bytes | None, message: Meeting, own: Own) -> Applied:
    """Raises Violated where what is stored is no calendar object."""
    new = Meeting(message.calendar.copy())
    new.calendar.remove("METHOD")
    for part in new.parts:
        part.remove("VALARM")  # when a calendar rings is its owner's
        note(part)
        for line in part.lines("ATTENDEE", "ORGANIZER"):
            for name in _SERVERS:
                line.set_parameter(name, None)
    if stored is None:
        unblock(new, new.parts, own)
        return Applied(bytes(new.calendar))
    old = Meeting.read(stored)
    for part in new.parts:
        _keep_reply_status(old, part)
    if new.master is None:
        return _instances(old, new, own)
    if old.master is not None and sequence_of(new.master) < sequence_of(old.master):
        return NOTHING
    before, after = _Deriving(old), _Deriving(new)
    for at, part in [(None, new.master), *new.overrides.items()]:
        _keep_own(before.known(at), part, old, new, own)
    cancelled: set[Moment] = set()  # they stay visible as such until their owner removes them
    for at, part in old.overrides.items():  # an instance that the owner answered by itself
        if at in new.overrides:
            continue
        if is_cancelled(part) and at in new.excluded():
            shown = part.copy()
            shown.set_value("SEQUENCE", str(max(sequence_of(part), sequence_of(new.master))))
            new.add_override(at, shown)
            cancelled.add(at)
            continue
        derived = None if is_cancelled(part) else after.derived(at)
        if derived is not None:
            _keep_own(part, derived, old, new, own)
            if _differs_for_owner(derived, new.master, new, own):
                new.add_override(at, derived)
    new.include(cancelled)
    _leave_out(old, new, own)
    unblock(new, [part for part in new.parts if not is_cancelled(part)], own)
    return Applied(bytes(new.calendar))


def _leave_out(old: Meeting, new: Meeting, own: Own) -> None:
    """Instances that he declined and removed from his calendar stay away while the organizer has him as declined."""
    start = None if new.master is None else new.master.line("DTSTART")
    if new.master is None or start is None:
        return
    for at in sorted((old.excluded() & new.overrides.keys()) - new.excluded()):
        mine = new.attendee(new.overrides[at], own)
        if mine is not None and status_of(mine) == "DECLINED":
            new.exclude(at, start)


def _instances(old: Meeting, new: Meeting, own: Own) -> Applied:
    """A request for single instances."""
    changed = False
    before = _Deriving(old)
    for at, part in new.overrides.items():
        known = before.known(at)
        if known is not None and sequence_of(part) < sequence_of(known):
            continue
        _keep_own(known, part, old, new, own)
        old.add_override(at, part)
        changed = True
    unblock(old, [old.overrides[at] for at in new.overrides if at in old.overrides], own)
    old.adopt_zones(new)
    return Applied(bytes(old.calendar)) if changed else NOTHING


def cancel(stored: bytes, message: Meeting) -> Applied:
    """What is cancelled stays visible as such; its owner removes it. Raises Violated for too many instances at once."""
    old = Meeting.read(stored)
    series = _Deriving(old)
    changed = False
    if message.master is not None:
        if sequence_of(message.master) < sequence_of(old.any_part):
            return NOTHING
        for part in old.parts:
            changed |= _cancel(part, sequence_of(message.master))
    for at, part in message.overrides.items():
        known = old.overrides.get(at)
        if known is None:
            derived = series.needed(at)
            if derived is None:
                continue
            old.add_override(at, derived)
            known = derived
        if sequence_of(part) >= sequence_of(known):
            changed |= _cancel(known, sequence_of(part))
    return Applied(bytes(old.calendar)) if changed else NOTHING


def _cancel(part: Part, sequence: int) -> bool:
    if is_cancelled(part) and sequence_of(part) == sequence:
        return False
    part.set_value("STATUS", "CANCELLED")
    part.set_value("SEQUENCE", str(sequence))
    return True


def _keep_own(old: Part | None, new: Part, before: Meeting, after: Meeting, own: Own) -> None:
    """What its owner said and set for himself goes over to the organizer's update."""
    if old is None:
        return
    was = before.attendee(old, own)
    unanswered = was is not None and is_unanswered(was)  # then its TRANSP is not his
    kept: list[Line | Part] = [
        item.copy()
        for item in old.items
        if isinstance(item, Line) and item.name in _OWN_PROPERTIES and not (unanswered and item.name == "TRANSP")
    ]
    names = {line.name for line in new.lines()}
    kept += [line.copy() for line in old.lines() if line.name.startswith("X-") and line.name not in names]
    kept = [item for item in kept if item.name != FREE_ANYWAY]
    alarms = [alarm.copy() for alarm in old.parts("VALARM")]
    new.remove(*(item.name for item in kept))
    for item in kept:
        if isinstance(item, Line):
            new.add(item)
    new.items += alarms
    mine = after.attendee(new, own)
    if mine is None or was is None or not is_unanswered(mine) or unanswered:
        return
    if same_times(before, old, after, new):
        mine.set_parameter("PARTSTAT", status_of(was))
        mine.set_parameter("RSVP", None)


def _keep_reply_status(old: Meeting, part: Part) -> None:
    """What became of his last reply stands with the ORGANIZER (RFC 6638 §7.3), whatever the update says."""
    line, known = part.line("ORGANIZER"), old.organizer_line
    status = "" if known is None else known.parameter("SCHEDULE-STATUS")
    if line is not None and status:
        line.set_parameter("SCHEDULE-STATUS", status)


def _differs_for_owner(part: Part, master: Part, meeting: Meeting, own: Own) -> bool:
    mine, of_all = meeting.attendee(part, own), meeting.attendee(master, own)
    if mine is not None and of_all is not None and status_of(mine) != status_of(of_all):
        return True
    return [bytes(each) for each in part.parts("VALARM")] != [bytes(each) for each in master.parts("VALARM")]


class _Deriving:
    """The instances of a series, of which one message has a limited number made; all of them fit into an object."""

    def __init__(self, meeting: Meeting) -> None:
        self._meeting = meeting
        size = 0 if meeting.master is None else len(bytes(meeting.master))
        self._left = min(_DERIVED_MAX, CALENDAR_LIMITS.max_size // max(size, 1))

    def derived(self, at: Moment) -> Part | None:
        """None: there is no such instance, or too many were asked for."""
        if self._left <= 0:
            return None
        self._left -= 1
        return self._meeting.derived(at)

    def needed(self, at: Moment) -> Part | None:
        """None: there is no such instance. Raises Violated if too many were asked for."""
        if self._left <= 0:
            raise Violated("max-instances", "The message is about too many instances at once.")
        return self.derived(at)

    def known(self, at: Moment | None) -> Part | None:
        return self._meeting.master if at is None else self._meeting.overrides.get(at) or self.derived(at)


# The organizer's object


def reply(stored: bytes, message: Meeting) -> Applied:
    """The attendee's answer, with the status that he says, in the organizer's object.

    Raises Violated for too many instances at once.
    """
    meeting = Meeting.read(stored)
    series = _Deriving(meeting)
    answers = [(at, part, part.lines("ATTENDEE")) for at, part in _all(message)]
    users = {calendar_user(line.value) for _, _, lines in answers for line in lines}
    if len(users) != 1:
        return NOTHING  # RFC 5546 §3.2.3: exactly one
    user = users.pop()
    changed = False
    for at, answer, lines in answers:
        known = meeting.master if at is None else meeting.overrides.get(at)
        if not lines or not _PARTSTAT.fullmatch(status_of(lines[0])) or (at is None and known is None):
            continue
        if known is None:
            assert at is not None
            known = series.needed(at)
            if known is None or not any(calendar_user(line.value) == user for line in known.lines("ATTENDEE")):
                continue
            meeting.add_override(at, known)
        if _is_outdated(answer, known, message, meeting):
            continue
        codes = [line.value.partition(";")[0].strip() for line in answer.lines("REQUEST-STATUS")][:_STATUSES_MAX]
        status = ",".join(each for each in codes if _STATUS.fullmatch(each)) or "2.0"
        for line in known.lines("ATTENDEE"):
            if calendar_user(line.value) == user:
                changed |= _answer(line, status_of(lines[0]), status)
    return Applied(bytes(meeting.calendar), rescheduled=False) if changed else NOTHING


def _is_outdated(answer: Part, known: Part, message: Meeting, meeting: Meeting) -> bool:
    """Whether it answers what is not so any more (RFC 5546 §2.1.5).

    An older SEQUENCE alone does not say so: who had one instance of a series cancelled answers the series as he has it.
    """
    if sequence_of(answer) >= sequence_of(known):
        return False
    return answer.line("DTSTART") is None or message.start(answer) != meeting.start(known)


def _answer(line: Line, partstat: str, status: str) -> bool:
    changed = status_of(line) != partstat
    line.set_parameter("PARTSTAT", partstat)
    line.set_parameter("SCHEDULE-STATUS", status)
    if changed:
        line.set_parameter("RSVP", None)
    return True


def _all(meeting: Meeting) -> list[tuple[Moment | None, Part]]:
    first: list[tuple[Moment | None, Part]] = [] if meeting.master is None else [(None, meeting.master)]
    return first + list(meeting.overrides.items())
