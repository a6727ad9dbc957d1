"""VTIMEZONE of a standard name, for clients that have to be told what it means (RFC 5545 §3.6.5, RFC 7809).

Made of what the list of zones says for 1970 to 2059: a rule where the last years follow one, single dates for the rest.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from storage.icalendar.contentlines import folded
from storage.icalendar.values import written

_FROM, _TO = datetime(1970, 1, 1, tzinfo=UTC), datetime(2060, 1, 1, tzinfo=UTC)
_STEP = timedelta(days=14)  # no zone changes its offset twice within
_STEADY = 2040  # what holds in each year from here on is taken for a rule
_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


@dataclass(frozen=True, slots=True)
class _Onset:
    """When an offset begins, in the local time of the one before."""

    local: datetime
    before: timedelta
    after: timedelta
    name: str
    is_daylight: bool

    @property
    def kind(self) -> tuple[bool, timedelta, timedelta, str]:
        return self.is_daylight, self.before, self.after, self.name

    @property
    def rule(self) -> tuple[int, int, int, datetime] | None:
        """Month, which of its weekdays, weekday and time of day; counted from the end in its last week."""
        is_last = self.local.day + 7 > monthrange(self.local.year, self.local.month)[1]
        nth = -1 if is_last else (self.local.day - 1) // 7 + 1
        clock = datetime(2000, 1, 1, self.local.hour, self.local.minute, self.local.second)
        return self.local.month, nth, self.local.weekday(), clock


@lru_cache(maxsize=256)
def definition(name: str) -> bytes:
    """The VTIMEZONE of a zone of the standard list."""
    zone = ZoneInfo(name)
    first = _FROM.astimezone(zone)
    offset, short = first.utcoffset() or timedelta(), first.tzname() or name
    lines = [b"BEGIN:VTIMEZONE\r\n", folded(f"TZID:{name}")]
    lines += _observance(_Onset(datetime(1970, 1, 1), offset, offset, short, bool(first.dst())), [], "")
    kinds: dict[tuple[bool, timedelta, timedelta, str], list[_Onset]] = {}
    for onset in _onsets(zone):
        kinds.setdefault(onset.kind, []).append(onset)
    for onsets in kinds.values():
        ruled = _ruled(onsets)
        if ruled:
            lines += _observance(ruled[0], [], _rrule(ruled[-1]))
        rest = onsets[: len(onsets) - len(ruled)]
        if rest:
            lines += _observance(rest[0], rest[1:], "")
    lines.append(b"END:VTIMEZONE\r\n")
    return b"".join(lines)


def _onsets(zone: ZoneInfo) -> Iterator[_Onset]:
    at, before = _FROM, _FROM.astimezone(zone).utcoffset()
    name_before = _FROM.astimezone(zone).tzname()
    while at < _TO:
        then = at + _STEP
        local = then.astimezone(zone)
        if (local.utcoffset(), local.tzname()) != (before, name_before):
            low, high = at, then
            while high - low > timedelta(seconds=1):
                middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
                seen = middle.astimezone(zone)
                if (seen.utcoffset(), seen.tzname()) == (before, name_before):
                    low = middle
                else:
                    high = middle
            seen = high.astimezone(zone)
            old, new = before or timedelta(), seen.utcoffset() or timedelta()
            local_onset = (high + old).replace(tzinfo=None)
            yield _Onset(local_onset, old, new, seen.tzname() or "", bool(seen.dst()))
            before, name_before = seen.utcoffset(), seen.tzname()
            at = high
        else:
            at = then


def _ruled(onsets: list[_Onset]) -> list[_Onset]:
    """The last of them that follow one rule each year to the end; empty: there is none."""
    years = [each.local.year for each in onsets]
    if len(onsets) < 5 or years[-1] != _TO.year - 1:
        return []
    rule, at = onsets[-1].rule, len(onsets) - 1
    month, nth, weekday, clock = rule or (0, 0, 0, datetime.min)
    if nth == 4 or any(each.rule and each.rule[1] == 4 for each in onsets[-5:]):
        nth = _fourth_or_last(onsets[-5:])
    wanted = (month, nth, weekday, clock)
    while at > 0 and years[at - 1] == years[at] - 1 and _follows(onsets[at - 1], wanted):
        at -= 1
    return onsets[at:] if years[at] <= _STEADY and _follows(onsets[-1], wanted) else []


def _fourth_or_last(onsets: list[_Onset]) -> int:
    """A fourth weekday is also the last one in most months: what holds of all is meant."""
    return -1 if all(each.rule and each.rule[1] == -1 for each in onsets) else 4


def _follows(onset: _Onset, wanted: tuple[int, int, int, datetime]) -> bool:
    month, nth, weekday, clock = wanted
    found = onset.rule
    if found is None or (found[0], found[2], found[3]) != (month, weekday, clock):
        return False
    return found[1] == nth if nth == -1 else (onset.local.day - 1) // 7 + 1 == nth


def _rrule(onset: _Onset) -> str:
    month, nth, weekday, _ = onset.rule or (1, 1, 0, None)
    return f"RRULE:FREQ=YEARLY;BYMONTH={month};BYDAY={nth}{_DAYS[weekday]}"


def _observance(first: _Onset, others: list[_Onset], rule: str) -> list[bytes]:
    kind = "DAYLIGHT" if first.is_daylight else "STANDARD"
    lines = [
        f"BEGIN:{kind}",
        f"DTSTART:{written(first.local)}",
        f"TZOFFSETFROM:{_offset(first.before)}",
        f"TZOFFSETTO:{_offset(first.after)}",
        f"TZNAME:{first.name}",
        *([rule] if rule else []),
        *([f"RDATE:{','.join(written(each.local) for each in others)}"] if others else []),
        f"END:{kind}",
    ]
    return [folded(line) for line in lines]


def _offset(offset: timedelta) -> str:
    seconds = int(offset.total_seconds())
    sign, seconds = ("-", -seconds) if seconds < 0 else ("+", seconds)
    hours, rest = divmod(seconds, 3600)
    text = f"{sign}{hours:02}{rest // 60:02}"
    return f"{text}{rest % 60:02}" if rest % 60 else text
