"""What has to be said to whom when a meeting changes: REQUEST and CANCEL of its organizer, REPLY of an attendee.

Pure: from the object before and after to messages. Each attendee gets his own view: instances that he is not invited
to are not in it, and who is invited to single instances only gets these. What concerns only its owner (alarms,
DTSTAMP, X- properties) says nothing to anybody.

Raises: Violated, with the preconditions of RFC 6638 §3.2.4.
Standards: RFC 6638 §3.2.1, §3.2.2, §7 (SCHEDULE-AGENT, SCHEDULE-FORCE-SEND), RFC 5546 §3.2, §3.4.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from storage.collections.conditions import Violated
from storage.itip.draft import Line, Part
from storage.itip.meeting import Meeting, Own, organizer_of, sequence_of, utc_text
from storage.itip.moments import Moment
from storage.itip.users import calendar_user

PRODUCT = "-//Cleanmail//Scheduling//EN"

REQUEST, CANCEL, REPLY = "REQUEST", "CANCEL", "REPLY"

_INTERNAL = frozenset({"SCHEDULE-AGENT", "SCHEDULE-STATUS", "SCHEDULE-FORCE-SEND"})  # parameters that stay here
_INSIGNIFICANT = frozenset(
    {
        *("DTSTAMP", "LAST-MODIFIED", "CREATED", "SEQUENCE"),  # that something changed says nothing of what
        "EXDATE",  # looked at by itself
        *("TRANSP", "COMPLETED", "PERCENT-COMPLETE"),
    }
)
_LOST_MAX = 100  # instances that are cancelled one by one
_OCTETS_MAX = 256 << 20  # of all messages that one change may cause
_TIMES = ("DTSTART", "DTEND", "DUE", "DURATION", "RRULE", "RDATE")
# What of an attendee's component a reply says.
_REPLIED = ("UID", "SEQUENCE", "RECURRENCE-ID", "ORGANIZER", "SUMMARY", "DTSTART", "DTEND", "DUE", "DURATION")
_REPLIED_TASK = ("STATUS", "COMPLETED", "PERCENT-COMPLETE")


@dataclass(frozen=True, slots=True)
class Outgoing:
    method: str
    recipient: str = field(repr=False)  # as `calendar_user` has it
    data: bytes = field(repr=False)


# The organizer


def of_organizer(before: Meeting | None, after: Meeting | None, own: Own, now: int) -> list[Outgoing]:
    """Messages to the attendees that the server speaks to. `now`: DTSTAMP of the messages, Unix seconds."""
    messages: list[Outgoing] = []
    octets = 0
    telling = _Telling(now)
    people = dict.fromkeys([*(after.attendees() if after else {}), *(before.attendees() if before else {})])
    for user in people:
        if own(user) or not _is_served(user, after if after and user in after.attendees() else before):
            continue
        messages += _to_attendee(before, after, user, telling)
        octets += sum(len(each.data) for each in messages[-2:])
        if octets > _OCTETS_MAX:
            raise Violated("max-resource-size", "The meeting is too large to be told to so many.")
    return messages


def _is_served(user: str, meeting: Meeting | None) -> bool:
    line = None if meeting is None else meeting.attendees().get(user)
    return line is not None and line.parameter("SCHEDULE-AGENT", "SERVER").upper() == "SERVER"


def _to_attendee(before: Meeting | None, after: Meeting | None, user: str, telling: _Telling) -> list[Outgoing]:
    old, new = _View.of(before, user, telling), _View.of(after, user, telling)
    if new is None:
        return [] if old is None or old.is_cancelled else [old.cancel(old.everything(), gone=after is None)]
    messages = []
    lost = [] if old is None else new.lost(old)
    if old is not None and lost:
        messages.append(old.cancel(lost, sequence=new.meeting.sequence))
    if old is None or new.forced or new.differs(old):
        messages.append(new.request())
    return messages


class _Telling:
    """What is the same for all attendees, made once: of a large meeting it is most of the work."""

    def __init__(self, now: int) -> None:
        self.now = now
        self._said: dict[int, list[tuple[object, ...]]] = {}
        self._derived: dict[tuple[int, Moment], Part | None] = {}
        self._requests: dict[tuple[object, ...], bytes] = {}

    def said(self, part: Part) -> list[tuple[object, ...]]:
        found = self._said.get(id(part))
        if found is None:
            found = self._said[id(part)] = _said(part)
        return found

    def derived(self, meeting: Meeting, at: Moment) -> Part | None:
        key = (id(meeting), at)
        if key not in self._derived:
            self._derived[key] = meeting.derived(at)
        return self._derived[key]

    def request(self, view: _View) -> bytes:
        """Those who are invited to the same get the same octets."""
        parts = view.parts()
        key = (tuple(id(part) for part in parts), frozenset(view.without))
        found = self._requests.get(key)
        if found is None:
            found = self._requests[key] = view.written_request(parts)
        return found


class _View:
    """What one attendee is told of a meeting."""

    def __init__(self, meeting: Meeting, user: str, telling: _Telling) -> None:
        self.meeting = meeting
        self.user = user
        self._telling = telling
        self.master = meeting.master if meeting.master is not None and self._invited(meeting.master) else None
        self.overrides = {at: part for at, part in meeting.overrides.items() if self._invited(part)}
        self.without = set(meeting.excluded()) if self.master is not None else set()
        if self.master is not None:
            self.without |= meeting.overrides.keys() - self.overrides.keys()

    @classmethod
    def of(cls, meeting: Meeting | None, user: str, telling: _Telling) -> _View | None:
        """None: he is not invited to anything."""
        if meeting is None:
            return None
        view = cls(meeting, user, telling)
        return view if view.master is not None or view.overrides else None

    def _invited(self, part: Part) -> bool:
        return self.user in self.meeting.attendees_of(part)

    def _lines(self) -> Iterable[Line]:
        return (self.meeting.attendees_of(part)[self.user] for part in self.parts())

    def parts(self) -> list[Part]:
        return ([] if self.master is None else [self.master]) + list(self.overrides.values())

    @property
    def forced(self) -> bool:
        return any(line.parameter("SCHEDULE-FORCE-SEND").upper() == REQUEST for line in self._lines())

    @property
    def is_cancelled(self) -> bool:
        return all(part.value("STATUS").strip().upper() == "CANCELLED" for part in self.parts())

    def everything(self) -> list[tuple[Moment | None, Part]]:
        if self.master is not None:
            return [(None, self.master)]
        return list(self.overrides.items())

    def lost(self, old: _View) -> list[tuple[Moment | None, Part]]:
        """Instances that he was invited to and is not any more, while the rest goes on."""
        if self.master is None or old.master is None:
            if self.master is not None:
                return []
            return [(at, part) for at, part in old.overrides.items() if at not in self.overrides]
        if _times(self.master) != _times(old.master):
            return []  # it is another series now: the request says all of it
        lost: list[tuple[Moment | None, Part]] = []
        gone = self.without - old.without
        if len(gone) > _LOST_MAX:
            return []  # likewise
        for at in sorted(gone):
            part = old.overrides.get(at) or self._telling.derived(old.meeting, at)
            if part is not None:
                lost.append((at, part))
        return lost

    def differs(self, old: _View) -> bool:
        """Whether he is to be told of it, beside what `lost` says."""
        if (self.master is None) != (old.master is None) or old.without - self.without:
            return True
        said = self._telling.said
        if self.master is not None and old.master is not None and said(self.master) != said(old.master):
            return True
        if len(self.without - old.without) > _LOST_MAX:
            return True
        # An override that says what its master says anyway (it has an alarm of the organizer's own) tells nothing.
        for at in (self.overrides.keys() | old.overrides.keys()) - self.without:
            part, known = self._at(at), old._at(at)
            if part is not None and (known is None or said(part) != said(known)):
                return True
        return False

    def _at(self, at: Moment) -> Part | None:
        return self.overrides.get(at) or (None if self.master is None else self._telling.derived(self.meeting, at))

    def request(self) -> Outgoing:
        return Outgoing(REQUEST, self.user, self._telling.request(self))

    def written_request(self, of: list[Part]) -> bytes:
        parts = [told(part, self._telling.now) for part in of]
        if self.master is not None:
            start = self.master.line("DTSTART")
            for at in sorted(self.without - self.meeting.excluded()):
                if start is not None:
                    parts[0].add(self.meeting.moments.written("EXDATE", at, start))
        return wrapped(self.meeting, REQUEST, parts)

    def cancel(self, parts: list[tuple[Moment | None, Part]], *, gone: bool = False, sequence: int = 0) -> Outgoing:
        cancellations = []
        for at, part in parts:
            cancelled = told(part, self._telling.now)
            cancelled.remove("RRULE", "RDATE", "EXDATE", "EXRULE")
            cancelled.set_value("STATUS", "CANCELLED")
            number = max(sequence_of(part) + (1 if gone else 0), sequence)
            cancelled.set_value("SEQUENCE", str(number))
            if at is not None and cancelled.line("RECURRENCE-ID") is None:
                start = part.line("DTSTART")
                if start is not None:
                    cancelled.put(self.meeting.moments.written("RECURRENCE-ID", at, start))
            cancellations.append(cancelled)
        return Outgoing(CANCEL, self.user, wrapped(self.meeting, CANCEL, cancellations))


def told(part: Part, now: int) -> Part:
    """A component as others are told of it: without alarms and without what is the server's."""
    copy = part.copy()
    copy.items = [item for item in copy.items if isinstance(item, Line)]
    for line in copy.lines("ATTENDEE", "ORGANIZER"):
        for name in _INTERNAL:
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


def _times(part: Part) -> list[str]:
    return sorted(f"{line.name};{line.parameter('TZID')}:{line.value.strip()}" for line in part.lines(*_TIMES))


def _said(part: Part) -> list[tuple[object, ...]]:
    """What of a component concerns its attendees, in an order that does not depend on who wrote it."""
    said: list[tuple[object, ...]] = []
    for line in part.lines():
        if line.name in _INSIGNIFICANT or line.name.startswith("X-"):
            continue
        parameters = tuple(
            sorted(
                (name, values)
                for name, values in line.parameters
                if name not in _INTERNAL and name != "RSVP" and not name.startswith("X-")
            )
        )
        value = line.value.strip()
        if line.name in {"ATTENDEE", "ORGANIZER"}:
            value = calendar_user(value)
            parameters = tuple(each for each in parameters if each != ("PARTSTAT", ("NEEDS-ACTION",)))
        said.append((line.name, value, parameters))
    return sorted(said, key=repr)


# The attendee


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
        for at in sorted(after.excluded() - before.excluded())[:_LOST_MAX]:
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


def status_of(line: Line) -> str:
    return line.parameter("PARTSTAT", "NEEDS-ACTION").upper()


def is_cancelled(part: Part) -> bool:
    return part.value("STATUS").strip().upper() == "CANCELLED"


def _task(part: Part | None) -> list[str]:
    return [] if part is None or part.name != "VTODO" else [part.value(name).strip() for name in _REPLIED_TASK]


def _declined(before: Meeting, own: Own, now: int) -> Outgoing | None:
    """The object is removed: everything that was not declined is now."""
    parts = []
    for part in [before.master] if before.master is not None else list(before.overrides.values()):
        mine = before.attendee(part, own)
        if mine is not None and status_of(mine) != "DECLINED" and not is_cancelled(part):
            parts.append(_reply(part, mine, "DECLINED", now))
    if before.master is not None and not parts:
        for part in before.overrides.values():
            mine = before.attendee(part, own)
            if mine is not None and status_of(mine) not in {"DECLINED", "NEEDS-ACTION"} and not is_cancelled(part):
                parts.append(_reply(part, mine, "DECLINED", now))
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
        for name in _INTERNAL:
            line.set_parameter(name, None)
    return reply


def _not_an_attendees(why: str) -> Violated:
    return Violated("allowed-attendee-scheduling-object-change", why)


def same_organizer(meeting: Meeting) -> None:
    """Raises Violated: RFC 6638 §3.2.4.2."""
    if len({organizer_of(part) for part in meeting.parts}) > 1:
        raise Violated("same-organizer-in-all-components", "All components of a meeting have the same ORGANIZER.")


def same_times(before: Meeting, old: Part, after: Meeting, new: Part) -> bool:
    """Whether two forms of a component take place at the same time."""
    return _when(before, old) == _when(after, new)
