"""What has to be said to the attendees when the organizer changes a meeting: REQUEST and CANCEL.

Pure: from the object before and after to messages. Each attendee gets his own view: instances that he is not invited
to are not in it, and who is invited to single instances only gets these. What concerns only its owner (alarms,
DTSTAMP, X- properties) says nothing to anybody.

Raises: Violated, with the preconditions of RFC 6638 §3.2.4.
Standards: RFC 6638 §3.2.1, §7 (SCHEDULE-AGENT, SCHEDULE-FORCE-SEND), RFC 5546 §3.2, §3.4.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from storage.collections.conditions import Violated
from storage.itip.draft import Line, Part
from storage.itip.meeting import Meeting, Own, organizer_of, sequence_of
from storage.itip.messages import CANCEL, INTERNAL, LOST_MAX, REQUEST, Outgoing, told, wrapped
from storage.itip.moments import Moment
from storage.itip.users import calendar_user

_INSIGNIFICANT = frozenset(
    {
        *("DTSTAMP", "LAST-MODIFIED", "CREATED", "SEQUENCE"),  # that something changed says nothing of what
        "EXDATE",  # looked at by itself
        *("TRANSP", "COMPLETED", "PERCENT-COMPLETE"),
    }
)
_OCTETS_MAX = 256 << 20  # of all messages that one change may cause
_TIMES = ("DTSTART", "DTEND", "DUE", "DURATION", "RRULE", "RDATE")


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
        if old is None or old.is_cancelled:
            return []
        sequence = 0 if after is None else after.sequence
        return [old.cancel(old.everything(), gone=after is None, sequence=sequence)]
    messages = []
    lost = [] if old is None else new.lost(old)
    if old is not None and lost:
        messages.append(old.cancel(lost, sequence=new.meeting.sequence))
    if old is None or new.forced or new.differs(old):
        messages.append(new.request())
    elif new.is_left_by(at for at, _ in lost):
        messages.append(replace(new.request(), beside=True))
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
        if len(gone) > LOST_MAX:
            return []  # likewise
        for at in sorted(gone):
            part = old.overrides.get(at) or self._telling.derived(old.meeting, at)
            if part is not None:
                lost.append((at, part))
        return lost

    def is_left_by(self, lost: Iterable[Moment | None]) -> bool:
        """Whether the series itself says of these instances, which are cancelled, that they do not take place."""
        excluded = self.meeting.excluded()
        return any(self.master is not None or at in excluded for at in lost)

    def differs(self, old: _View) -> bool:
        """Whether he is to be told of it, beside what `lost` says."""
        if (self.master is None) != (old.master is None) or old.without - self.without:
            return True
        said = self._telling.said
        if self.master is not None and old.master is not None and said(self.master) != said(old.master):
            return True
        if len(self.without - old.without) > LOST_MAX:
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
                if name not in INTERNAL and name != "RSVP" and not name.startswith("X-")
            )
        )
        value = line.value.strip()
        if line.name in {"ATTENDEE", "ORGANIZER"}:
            value = calendar_user(value)
            parameters = tuple(each for each in parameters if each != ("PARTSTAT", ("NEEDS-ACTION",)))
        said.append((line.name, value, parameters))
    return sorted(said, key=repr)


def with_sequence(data: bytes, before: Meeting) -> bytes:
    """The organizer's `data` with the next SEQUENCE where it says other times than `before` and its client forgot that.

    RFC 5546 §2.1.4: else who gets the first invitation late takes it for the second. It never becomes lower, either:
    attendees would take what is new for what is old.
    """
    after = Meeting.read(data)
    next_ = max(sequence_of(part) for part in before.parts) + 1
    is_next = _moved(before, after) and max(sequence_of(part) for part in after.parts) < next_
    changed = False
    for at, part in [(None, after.master), *after.overrides.items()]:
        known = before.master if at is None else before.overrides.get(at, before.master)
        least = next_ if is_next else 0 if known is None else sequence_of(known)
        if part is not None and sequence_of(part) < least:
            part.set_value("SEQUENCE", str(least))
            changed = True
    return bytes(after.calendar) if changed else data


def after_cancellation(data: bytes, sequence: int) -> bytes:
    """The organizer's `data` of a meeting that was called off with `sequence` and is there again, so that those who
    know of its end take it for what came later."""
    meeting = Meeting.read(data)
    old = [part for part in meeting.parts if sequence_of(part) <= sequence]
    for part in old:
        part.set_value("SEQUENCE", str(sequence + 1))
    return bytes(meeting.calendar) if old else data


def _moved(before: Meeting, after: Meeting) -> bool:
    if before.master is not None and after.master is not None and _times(before.master) != _times(after.master):
        return True
    return any(
        at in before.overrides and _times(part) != _times(before.overrides[at]) for at, part in after.overrides.items()
    )


def same_organizer(meeting: Meeting) -> None:
    """Raises Violated: RFC 6638 §3.2.4.2."""
    if len({organizer_of(part) for part in meeting.parts}) > 1:
        raise Violated("same-organizer-in-all-components", "All components of a meeting have the same ORGANIZER.")
