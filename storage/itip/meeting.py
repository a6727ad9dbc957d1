"""A calendar object as scheduling sees it: a master, overridden instances, an organizer and attendees. Pure.

Nothing is copied: what is changed in its parts is changed in `calendar`.
Standards: RFC 5546 §1.1.3, §2.1.3 (instances), RFC 6638 §3.1 (scheduling objects).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta

from storage.collections.conditions import Violated
from storage.errors import LimitReached
from storage.icalendar.contentlines import Malformed
from storage.icalendar.limits import CALENDAR_LIMITS
from storage.icalendar.occurrences import occurrences
from storage.icalendar.rules import Steps, read_rule
from storage.itip.draft import Line, Part, read
from storage.itip.moments import Moment, Moments
from storage.itip.users import calendar_user

Own = Callable[[str], bool]  # whether a calendar user, as `calendar_user` has him, is the one whose calendar it is

KINDS = ("VEVENT", "VTODO", "VJOURNAL", "VFREEBUSY", "VPOLL")
_STEPS = 100_000  # that may be spent to find out whether an instance is one
_RECURRENCE = ("RRULE", "RDATE", "EXDATE", "EXRULE")


class Meeting:
    def __init__(self, calendar: Part) -> None:
        """Raises Violated if it holds nothing, or the same instance twice."""
        self.calendar = calendar
        self.moments = Moments(calendar)
        self.master: Part | None = None
        self.overrides: dict[Moment, Part] = {}
        self._excluded: frozenset[Moment] | None = None
        self._counted: dict[str, frozenset[datetime]] = {}  # all times of rules with a COUNT
        self._users: dict[int, dict[str, Line]] = {}  # attendees of a part, by its id
        for part in calendar.parts(*KINDS):
            self._enter(part)
        if not self.parts:
            raise Violated("valid-calendar-object-resource", "The calendar object holds nothing.")

    @classmethod
    def read(cls, data: bytes) -> Meeting:
        return cls(read(data))

    def _enter(self, part: Part) -> None:
        line = part.line("RECURRENCE-ID")
        moment = None if line is None else self.moments.of(line)
        if line is not None and moment is None:
            raise Violated("valid-calendar-data", "A RECURRENCE-ID is no time.")
        if moment is None:
            if self.master is not None:
                raise Violated("valid-calendar-object-resource", "The calendar object has two masters.")
            self.master = part
        elif moment in self.overrides:
            raise Violated("valid-calendar-object-resource", "An instance is there twice.")
        else:
            self.overrides[moment] = part

    # What it is

    @property
    def parts(self) -> list[Part]:
        """The master first."""
        return ([] if self.master is None else [self.master]) + list(self.overrides.values())

    @property
    def any_part(self) -> Part:
        return self.parts[0]

    @property
    def kind(self) -> str:
        return self.any_part.name

    @property
    def method(self) -> str:
        return self.calendar.value("METHOD").strip().upper()

    @property
    def uid(self) -> str:
        return self.any_part.value("UID")

    @property
    def sequence(self) -> int:
        return max(sequence_of(part) for part in self.parts)

    @property
    def stamp(self) -> int:
        """The latest DTSTAMP, Unix seconds; 0: none says one."""
        stamps = [self.moments.of(line) for part in self.parts for line in part.lines("DTSTAMP")]
        return max((int(each.at.replace(tzinfo=UTC).timestamp()) for each in stamps if each), default=0)

    @property
    def organizers(self) -> set[str]:
        """Of all parts; empty text for one that has none."""
        return {organizer_of(part) for part in self.parts}

    @property
    def organizer(self) -> str:
        """As `calendar_user` has it; empty: it has none."""
        return next((user for user in (organizer_of(part) for part in self.parts) if user), "")

    @property
    def organizer_line(self) -> Line | None:
        return next((line for part in self.parts for line in part.lines("ORGANIZER")), None)

    def attendees(self) -> dict[str, Line]:
        """Of all parts, each with the first line that names him."""
        found: dict[str, Line] = {}
        for part in self.parts:
            for user, line in self.attendees_of(part).items():
                found.setdefault(user, line)
        return found

    def attendees_of(self, part: Part) -> dict[str, Line]:
        """Of one of its parts. Read once: who changes whom a part invites makes a meeting of it anew."""
        users = self._users.get(id(part))
        if users is None:
            users = {}
            for line in part.lines("ATTENDEE"):
                users.setdefault(calendar_user(line.value), line)
            if part is self.master or any(part is each for each in self.overrides.values()):
                self._users[id(part)] = users
        return users

    def attendee(self, part: Part, whose: Own) -> Line | None:
        return next((line for user, line in self.attendees_of(part).items() if whose(user)), None)

    def is_organized_by(self, own: Own) -> bool:
        return bool(self.organizer) and own(self.organizer)

    # Recurrence

    @property
    def recurs(self) -> bool:
        return self.master is not None and bool(self.master.lines("RRULE", "RDATE"))

    def excluded(self) -> frozenset[Moment]:
        """EXDATEs of the master."""
        if self._excluded is None:
            lines = [] if self.master is None else self.master.lines("EXDATE")
            self._excluded = frozenset(moment for line in lines for moment in self.moments.all_of(line))
        return self._excluded

    def include(self, instances: Collection[Moment]) -> None:
        """Takes them out of the EXDATEs of the master."""
        if self.master is None or not instances:
            return
        for line in self.master.lines("EXDATE"):
            values, moments = line.value.split(","), self.moments.all_of(line)
            if len(values) != len(moments) or not any(moment in instances for moment in moments):
                continue
            left = [value for value, moment in zip(values, moments, strict=True) if moment not in instances]
            if left:
                line.set_value(",".join(left))
            else:
                self.master.items = [item for item in self.master.items if item is not line]
        self._excluded = None

    def exclude(self, moment: Moment, like: Line) -> None:
        """Takes an instance out of the series, with what is said of it by itself; `like` is how it is written."""
        gone = self.overrides.pop(moment, None)
        self.calendar.items = [item for item in self.calendar.items if item is not gone]
        if self.master is not None:
            self.master.add(self.moments.written("EXDATE", moment, like))
        self._excluded = None

    def start(self, part: Part) -> Moment | None:
        line = part.line("DTSTART") or part.line("DUE")
        return None if line is None else self.moments.of(line)

    def derived(self, moment: Moment) -> Part | None:
        """The instance as the master makes it; None: there is no such instance."""
        master = self.master
        if master is None or not self.recurs or moment in self.excluded() or not self._recurs_at(moment):
            return None
        start = master.line("DTSTART")
        if start is None:
            return None
        instance = master.copy()
        instance.remove(*_RECURRENCE)
        instance.put(self.moments.written("DTSTART", moment, start))
        self._move_end(master, instance)
        at = next((n for n, item in enumerate(instance.items) if item.name == "UID"), -1) + 1
        instance.items.insert(at, self.moments.written("RECURRENCE-ID", moment, start))
        return instance

    def add_override(self, moment: Moment, part: Part) -> None:
        """In place of what is there for the same instance."""
        old = self.overrides.get(moment)
        items = self.calendar.items
        if old is None:
            last = next((n for n in reversed(range(len(items))) if _is_part(items[n])), -1)
            items.insert(last + 1, part)
        else:
            items[next(n for n, item in enumerate(items) if item is old)] = part
        self.overrides[moment] = part

    def adopt_zones(self, other: Meeting) -> None:
        """The VTIMEZONEs that only the other has."""
        known = {zone.value("TZID") for zone in self.calendar.parts("VTIMEZONE")}
        new: list[Line | Part] = [zone for zone in other.calendar.parts("VTIMEZONE") if zone.value("TZID") not in known]
        at = next((n for n, item in enumerate(self.calendar.items) if isinstance(item, Part)), len(self.calendar.items))
        self.calendar.items[at:at] = new

    def _move_end(self, master: Part, instance: Part) -> None:
        """Its end lies as far behind its start, on the clocks of their zones, as the master's does."""
        old = master.line("DTSTART")
        new = instance.line("DTSTART")
        assert old is not None and new is not None
        began, begins = self.moments.clock(old), self.moments.clock(new)
        for name in ("DTEND", "DUE"):
            line = instance.line(name)
            ended = None if line is None else self.moments.clock(line)
            if line is None or ended is None or began is None or begins is None:
                continue
            ends = ended + (begins - began)
            text = ends.strftime("%Y%m%d" if len(line.value.strip()) == 8 else "%Y%m%dT%H%M%S")
            line.set_value(text + ("Z" if line.value.strip().endswith("Z") else ""))

    def _recurs_at(self, moment: Moment) -> bool:
        """Whether the master's rules and dates bring the moment forth. Too much work to say counts as no."""
        assert self.master is not None
        start = self.master.line("DTSTART")
        first = None if start is None else self.moments.clock(start)
        if start is None or first is None:
            return False
        if moment == self.moments.of(start):
            return True
        if any(moment in self.moments.all_of(line) for line in self.master.lines("RDATE")):
            return True
        wanted = self.moments.clock(self.moments.written("DTSTART", moment, start))
        if wanted is None or self.moments.of(self.moments.written("DTSTART", moment, start)) != moment:
            return False  # a date where times recur, or the other way round
        try:
            return any(self._rule_brings(line.value, first, wanted, moment) for line in self.master.lines("RRULE"))
        except (Malformed, LimitReached):
            return False

    def _rule_brings(self, value: str, first: datetime, wanted: datetime, moment: Moment) -> bool:
        rule = read_rule(value)
        until = rule.until
        if until is not None and until.local.year < 9999:  # some say so for "for ever"
            ends = until.local + timedelta(days=1) if until.is_date else until.local
            at = moment.at if until.zone is not None and not until.is_date else wanted
            if at > ends or (until.is_date and at >= ends):
                return False
        if rule.count is None:
            return wanted in occurrences(rule, first, wanted, Steps(_STEPS), wanted)
        if value not in self._counted:
            self._counted[value] = frozenset(occurrences(rule, first, CALENDAR_LIMITS.max_date, Steps(_STEPS)))
        return wanted in self._counted[value]


def _is_part(item: Line | Part) -> bool:
    return isinstance(item, Part) and item.name in KINDS


def sequence_of(part: Part) -> int:
    text = part.value("SEQUENCE", "0").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def organizer_of(part: Part) -> str:
    value = part.value("ORGANIZER")
    return calendar_user(value) if value else ""


def utc_text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%SZ")
