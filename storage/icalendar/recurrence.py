"""When a calendar object takes place: its recurrence set with RDATE, EXDATE and the overrides (RFC 5545 §3.8.5).

An instance is known by the time that the rule gives it, its RECURRENCE-ID. An override replaces it, wherever it moves
it to; one with RANGE=THISANDFUTURE moves all later ones by as much and gives them its duration (§3.8.4.4). An override
of a time that no rule brings forth is an instance as well: who is invited to one meeting of a series gets no more.
EXDATEs that are dates take out all of their day, since clients write them so.

Dates last whole days by the calendar, times as long as the first of them exactly (§3.8.5.3). What recurs in local time
is expanded in local time: a time in a gap stands for the one by the offset before it.
Raises: TooMuch if there are more instances than asked for, or finding them takes more steps than `CalendarLimits` has.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from storage.icalendar.checked import CalendarObject, Timed
from storage.icalendar.occurrences import occurrences
from storage.icalendar.rules import Rule, Steps, TooMuch
from storage.icalendar.values import DAY, UTC, Duration, Moment, Period, Zone, naive

_MARGIN = 2 * DAY  # more than zones differ
_ENDLESS = 1 << 62


class Instance(NamedTuple):
    """One time that a component takes place. `end` equals `start` where it has no length."""

    start: int  # Unix seconds
    end: int
    timed: Timed  # the component that it takes everything else from
    begins: Moment | None  # its start as the component writes it; None: a task or journal entry without a time
    recurrence_id: Moment | None  # None: its object does not recur


def instances(
    found: CalendarObject, start: int | None, end: int | None, limit: int | None = None, zone: Zone = UTC
) -> list[Instance]:
    """Instances that overlap [start, end) by RFC 4791 §9.9, earliest first; times without a zone are read in `zone`."""
    low, high = -_ENDLESS if start is None else start, _ENDLESS if end is None else end
    chosen: list[Instance] = []
    for one in _expanded(found, zone, low, high, Steps(found.limits.max_steps)):
        if overlaps(one, low, high, zone):
            chosen.append(one)
            if limit is not None and len(chosen) > limit:
                raise TooMuch(f"There are more than {limit:,} instances in this time.")
    chosen.sort(key=lambda one: (one.start, one.end))
    return chosen


def first_instances(
    found: CalendarObject, count: int, until: int, zone: Zone = UTC
) -> tuple[list[Instance], int | None]:
    """About so many instances from the beginning, those before `until`; and until when these are all (None: always)."""
    steps = Steps(found.limits.max_steps)
    chosen: list[Instance] = []
    expansion = _Expansion(found, zone, -_ENDLESS, _ENDLESS, steps)
    chosen.extend(expansion.overrides())
    for number, one in enumerate(expansion.base()):
        if number == count or (number and one.start >= until):
            # none after this one begins earlier than so
            horizon = one.start - max(0, expansion.most_shift) + min(0, expansion.least_shift)
            return sorted((each for each in chosen if each.start < horizon), key=_by_time), horizon
        chosen.append(one)
    return sorted(chosen, key=_by_time), None


def instances_in(found: CalendarObject, start: int | None, end: int | None, zone: Zone = UTC) -> Iterator[Instance]:
    """Instances that overlap [start, end) one after the other as they are found, in no order."""
    low, high = -_ENDLESS if start is None else start, _ENDLESS if end is None else end
    expansion = _expanded(found, zone, low, high, Steps(found.limits.max_steps))
    return (one for one in expansion if overlaps(one, low, high, zone))


def any_overlap(found: CalendarObject, start: int | None, end: int | None, zone: Zone = UTC) -> bool:
    """Whether there is such an instance; stops at the first."""
    low, high = -_ENDLESS if start is None else start, _ENDLESS if end is None else end
    expansion = _expanded(found, zone, low, high, Steps(found.limits.max_steps))
    return any(overlaps(one, low, high, zone) for one in expansion)


def count_instances(found: CalendarObject) -> None:
    """Holds an object against `max_instances`, as `CalendarLimits` says. Raises TooMuch."""
    limit, steps = found.limits.max_instances, Steps(found.limits.max_steps)
    master = found.master_times
    numbered = 0 if master is None else len(master.dates) + sum(rule.count or 0 for rule in master.rules)
    if max(numbered, len(found.timed)) > limit:
        raise TooMuch(f"It has more than {limit:,} instances.")
    anchor = None if master is None else master.anchor
    if master is None or anchor is None:
        return
    for rule in master.rules:
        if rule.count is None and _is_dense(rule, limit):
            start = anchor.local
            a_year = start.replace(year=start.year + 1, day=min(start.day, 28))
            last = max(start, min(a_year, _until(rule, anchor, anchor.zone or UTC)))
            for number, _ in enumerate(occurrences(rule, start, last, steps)):
                if number > limit:
                    raise TooMuch(f"It has more than {limit:,} instances in a year.")


def _is_dense(rule: Rule, limit: int) -> bool:
    """Whether a rule could bring forth more than `limit` in a year at all."""
    each_day = 1
    if rule.frequency <= 2:
        each_day = (86_400, 1440, 24)[rule.frequency] // min(rule.interval, 24) + 1
    a_day = each_day * max(1, len(rule.hours)) * max(1, len(rule.minutes)) * max(1, len(rule.seconds))
    return a_day * 366 > limit


_by_time = itemgetter(0, 1)  # start and end of an instance


def _expanded(found: CalendarObject, zone: Zone, low: int, high: int, steps: Steps) -> Iterator[Instance]:
    """All instances between, and perhaps some around, in no order."""
    expansion = _Expansion(found, zone, low, high, steps)
    yield from expansion.overrides()
    yield from expansion.base()


class _Expansion:
    """One look at an object in one zone."""

    def __init__(self, found: CalendarObject, zone: Zone, low: int, high: int, steps: Steps) -> None:
        self._zone, self._steps = zone, steps
        self._limits = found.limits
        self._master = found.master_times
        self._overrides = found.override_times
        self._low, self._high = low, high
        anchor = None if self._master is None else self._master.anchor
        self._keys: set[int] = set()  # of what overrides replace, in seconds
        self._days: set[datetime] = set()  # likewise by local day, where only the day is said
        futures: list[tuple[int, Timed]] = []
        for one in self._overrides:
            key = self._note(one.recurrence_id, anchor, self._keys, self._days)
            if one.from_here_on and one.anchor is not None:
                futures.append((key, one))
        futures.sort(key=lambda each: each[0])
        self._future_keys = [key for key, _ in futures]
        self._futures = [one for _, one in futures]
        shifts = [one.anchor.seconds(zone) - key for key, one in futures if one.anchor is not None]
        self.least_shift = min([0, *shifts])
        self.most_shift = max([0, *shifts])

    def _note(self, moment: Moment | None, anchor: Moment | None, keys: set[int], days: set[datetime]) -> int:
        """Takes a RECURRENCE-ID or EXDATE into what is left out; its key."""
        if moment is None:
            return 0
        if anchor is not None and moment.is_date != anchor.is_date:
            if moment.is_date:
                days.add(moment.local)
                return moment.seconds(anchor.zone or self._zone)
            moment = Moment(moment.local.replace(hour=0, minute=0, second=0), True)
        key = moment.seconds(self._zone)
        keys.add(key)
        return key

    def overrides(self) -> Iterator[Instance]:
        for one in self._overrides:
            yield self._plain(one, one.recurrence_id)

    def _plain(self, one: Timed, recurrence_id: Moment | None) -> Instance:
        """A component just as it stands there."""
        anchor = one.anchor
        if anchor is None:
            at = 0 if recurrence_id is None else recurrence_id.seconds(self._zone)
            return Instance(at, at, one, None, recurrence_id)
        start = anchor.seconds(self._zone)
        return Instance(start, self._end(one, anchor, start, length(one, self._zone)), one, anchor, recurrence_id)

    def _end(self, one: Timed, begins: Moment, start: int, long: Duration) -> int:
        if long.days:
            return long.after(begins, self._zone)
        return start + long.seconds

    def base(self) -> Iterator[Instance]:
        """What the master brings forth and no override replaces, in the order of RECURRENCE-IDs."""
        master = self._master
        if master is None:
            return
        anchor = master.anchor
        if anchor is None or not master.recurs:
            one = self._plain(master, None)
            if not self._overrides or (one.start not in self._keys and (anchor is None or not self._days)):
                yield one
            return
        keys, days = set(self._keys), set(self._days)
        for moment in master.exceptions:
            self._note(moment, anchor, keys, days)
        long = length(master, self._zone)
        lengths = [long.total, *(length(one, self._zone).total for one in self._futures)]
        low = self._low - max(0, *lengths) - self.most_shift - _MARGIN
        high = self._high - self.least_shift + _MARGIN
        of = anchor.zone or self._zone
        seconds_of = of.seconds
        ends = {one.start.seconds(self._zone): one.until(self._zone) for one in master.dates if isinstance(one, Period)}
        fixed = 0 if long.days else long.seconds
        is_date, zone = anchor.is_date, anchor.zone
        for local in self._locals(master, anchor, low, high):
            key = seconds_of(local)
            if key in keys or (days and local.replace(hour=0, minute=0, second=0) in days):
                continue
            begins = Moment(local, is_date, zone)
            if self._future_keys:
                index = bisect_right(self._future_keys, key)
                if index:
                    yield self._shifted(self._futures[index - 1], key, begins)
                    continue
            end = key + fixed if not long.days else long.after(begins, self._zone)
            yield Instance(key, ends.get(key, end) if ends else end, master, begins, begins)

    def _shifted(self, one: Timed, key: int, recurrence_id: Moment) -> Instance:
        """An instance after an override with RANGE=THISANDFUTURE."""
        anchor, original = one.anchor, one.recurrence_id
        assert anchor is not None and original is not None
        zone = anchor.zone or self._zone
        shift = anchor.local - zone.local(original.seconds(self._zone))
        try:
            local = zone.local(key) + shift
        except OverflowError:
            local = zone.local(key)
        if anchor.is_date:
            local = local.replace(hour=0, minute=0, second=0)
        begins = anchor.at(local)
        start = begins.seconds(self._zone)
        return Instance(start, self._end(one, begins, start, length(one, self._zone)), one, begins, recurrence_id)

    def _locals(self, master: Timed, anchor: Moment, low: int, high: int) -> Iterator[datetime]:
        """Starts in the local time of the anchor, each once, in order."""
        zone = anchor.zone or self._zone
        first = None if low <= -_ENDLESS // 2 else naive(low)
        last = min(naive(high) if high < _ENDLESS // 2 else self._limits.max_date, self._limits.max_date)
        sources: list[Iterator[datetime]] = []
        for rule in master.rules:
            ends = min(last, _until(rule, anchor, zone))
            sources.append(occurrences(rule, anchor.local, max(ends, anchor.local), self._steps, first))
        dates = {_in_form(one.start if isinstance(one, Period) else one, anchor, zone) for one in master.dates}
        if not master.rules:
            dates.add(anchor.local)
        if dates:
            sources.append(iter(sorted(dates)))
        if len(sources) == 1:
            return sources[0]
        return (local for local, _ in groupby(heapq.merge(*sources)))


def _in_form(moment: Moment, anchor: Moment, zone: Zone) -> datetime:
    """A date of RDATE as local time of the anchor."""
    if anchor.is_date:
        return moment.local.replace(hour=0, minute=0, second=0)
    if moment.is_date:  # of a series of times
        return moment.local.replace(hour=anchor.local.hour, minute=anchor.local.minute, second=anchor.local.second)
    if moment.zone is None or moment.zone is anchor.zone:
        return moment.local
    return zone.local(moment.zone.seconds(moment.local))


def _until(rule: Rule, anchor: Moment, zone: Zone) -> datetime:
    """The last local time that UNTIL allows. As a date it means all of the day."""
    until = rule.until
    if until is None or until.local.year >= 9999:  # as some say "for ever"; east of Greenwich it is beyond all time
        return datetime.max
    if until.is_date or anchor.is_date:
        return until.local.replace(hour=23, minute=59, second=59)
    if until.zone is None or anchor.zone is None:
        return until.local
    seconds = until.zone.seconds(until.local)
    local = zone.local(seconds)
    later = seconds - zone.seconds(local)  # the second of two hours with the same name
    return local + timedelta(seconds=later) if 0 < later <= DAY else local


def length(one: Timed, zone: Zone) -> Duration:
    """How long each instance of a component lasts: whole days of dates, else exact seconds, else what DURATION says."""
    start, end = one.start, one.end
    if start is None:
        return Duration()
    name = one.component.name
    if name == "VJOURNAL" and not start.is_date:
        return Duration()
    if end is not None:
        if start.is_date and end.is_date:
            days = (end.local - start.local).days
            return Duration(days if days > 0 else int(name != "VTODO"))
        return Duration(0, max(0, end.seconds(zone) - start.seconds(zone)))
    if one.duration is not None:
        if start.is_date and one.duration.total == 0 and name != "VTODO":
            return Duration(1)
        return one.duration
    return Duration(int(start.is_date and name != "VTODO"))


def overlaps(one: Instance, low: int, high: int, zone: Zone) -> bool:
    """The tables of RFC 4791 §9.9, and that of RFC 7953 §7.1 for VAVAILABILITY."""
    timed = one.timed
    name = timed.component.name
    start, end = one.start, one.end
    if name == "VEVENT":
        if one.begins is None:
            return False
        return (low < end or (low <= start and end == start)) and high > start
    if name == "VTODO":
        return _task_overlaps(one, low, high, zone)
    if name == "VJOURNAL":
        if one.begins is None:
            return False
        return (low < end if one.begins.is_date else low <= start) and high > start
    if name == "VFREEBUSY":
        if timed.start is not None and timed.end is not None:
            return low <= end and high > start
        return any(low < each.until(zone) and high > each.start.seconds(zone) for each in timed.periods)
    if name in ("VAVAILABILITY", "AVAILABLE"):
        begins = -_ENDLESS if timed.start is None else start
        stops = _ENDLESS if timed.start is None or (timed.end is None and timed.duration is None) else end
        if timed.start is None and timed.end is not None:
            stops = timed.end.seconds(zone)
        if name == "AVAILABLE" and timed.end is None and timed.duration is None:
            stops = start + (DAY if timed.start is not None and timed.start.is_date else 0)
        return low < stops and high > begins
    return False


def _task_overlaps(one: Instance, low: int, high: int, zone: Zone) -> bool:
    timed, start, end = one.timed, one.start, one.end
    if timed.start is not None:
        if timed.end is not None:
            return (low < end or low <= start) and (high > start or high >= end)
        if timed.duration is not None:
            return low <= end and (high > start or high >= end)
        return low <= start and high > start
    if timed.end is not None:
        return low < end and high >= end
    completed = None if timed.completed is None else timed.completed.seconds(zone)
    created = None if timed.created is None else timed.created.seconds(zone)
    if completed is not None and created is not None:
        return (low <= created or low <= completed) and (high >= created or high >= completed)
    if completed is not None:
        return low <= completed <= high
    return created is None or high > created
