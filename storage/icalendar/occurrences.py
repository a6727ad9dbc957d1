"""When recurrence rules match, in local time without a zone (RFC 5545 §3.3.10).

An own expander, since python-dateutil's runs for ever on rules that never match. Here every period that is looked at
and every time that is found costs a step, and who asks says how many there are; years, months and days that cannot
match are leapt over, and a rule without COUNT begins where it is asked about instead of at DTSTART.

DTSTART is the first time in any case and counts for COUNT, also where the rule does not bring it forth (§3.8.5.3).
BYWEEKNO alone takes the weekday from DTSTART, as §3.3.10 says for all that is missing.
Raises: TooMuch when the steps are used up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta

from storage.icalendar.rules import Frequency, Rule, Skip, Steps, TooMuch
from storage.icalendar.values import DAY

_LAST_DAY = date.max.toordinal()
_AT_ONCE = 32  # days

_Period = tuple[list[int], list[int]]  # days as ordinals, and seconds of each of them


def occurrences(
    rule: Rule, start: datetime, last: datetime, steps: Steps, first: datetime | None = None
) -> Iterator[datetime]:
    """Times in ascending order, from `start` (always the first) to `last`; those before `first` may be left out.

    UNTIL is the caller's: it needs the zone.
    """
    if first is not None and rule.count is not None:
        first = None  # they have to be counted
    if first is None or start >= first:
        if start > last:
            return
        yield start
        low, is_taken = start, True
        first = start
    else:
        low, is_taken = first, False
    left = None if rule.count is None else rule.count - 1
    if left == 0:
        return
    last_day = last.toordinal()
    periods: Iterator[_Period] = _MAKERS[rule.frequency](rule, start, first, last_day, steps)
    positions = rule.positions
    for days, seconds in periods:
        if not days or not seconds:
            continue
        times = _positioned(days, seconds, positions) if positions else _all(days, seconds)
        for one in times:
            steps.left -= 1
            if steps.left < 0:
                raise TooMuch
            if one < low or (is_taken and one == low):
                continue
            if one > last:
                return
            yield one
            low, is_taken = one, True
            if left is not None:
                left -= 1
                if left == 0:
                    return


def _all(days: list[int], seconds: list[int]) -> Iterator[datetime]:
    if len(seconds) == 1:
        passed = timedelta(seconds=seconds[0])
        for day in days:
            yield datetime.fromordinal(day) + passed
        return
    for day in days:
        midnight = datetime.fromordinal(day)
        for second in seconds:
            yield midnight + timedelta(seconds=second)


def _positioned(days: list[int], seconds: list[int], positions: tuple[int, ...]) -> Iterator[datetime]:
    """Those that BYSETPOS takes out of a period, without making the others."""
    size = len(days) * len(seconds)
    for index in sorted({at - 1 if at > 0 else size + at for at in positions}):
        if 0 <= index < size:
            day, second = divmod(index, len(seconds))
            yield datetime.fromordinal(days[day]) + timedelta(seconds=seconds[second])


def _seconds_of_day(rule: Rule, start: datetime) -> list[int]:
    """The times of a day on which something takes place: BYHOUR, BYMINUTE, BYSECOND, or DTSTART's."""
    return [
        hour * 3600 + minute * 60 + second
        for hour in rule.hours or (start.hour,)
        for minute in rule.minutes or (start.minute,)
        for second in rule.seconds or (start.second,)
    ]


def _weekday(day: int) -> int:
    return (day + 6) % 7


def _month(year: int, month: int) -> tuple[int, int]:
    """The ordinal of a month's first day, and how many days it has."""
    day = date(year, month, 1).toordinal()
    if month == 12:
        return day, 31
    return day, date(year, month + 1, 1).toordinal() - day


def _year(year: int) -> tuple[int, int]:
    day = date(year, 1, 1).toordinal()
    return day, 366 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 365


def _on_month_days(rule: Rule, first: int, length: int, numbers: tuple[int, ...]) -> set[int]:
    """Days of a month by their number; one that the month does not have goes where SKIP says."""
    found: set[int] = set()
    for number in numbers:
        index = number - 1 if number > 0 else length + number
        if 0 <= index < length:
            found.add(first + index)
        elif rule.skip is Skip.FORWARD and index >= length:
            found.add(first + length)
        elif rule.skip is Skip.BACKWARD:
            found.add(first + length - 1 if index >= length else first - 1)
        elif rule.skip is Skip.FORWARD:
            found.add(first)
    return found


def _on_weekdays(days: tuple[tuple[int, int], ...], first: int, length: int) -> set[int]:
    """Weekdays of a month or a year, every one or those of a number."""
    found: set[int] = set()
    for which, weekday in days:
        earliest = first + (weekday - _weekday(first)) % 7
        if which == 0:
            found.update(range(earliest, first + length, 7))
        elif which > 0:
            day = earliest + (which - 1) * 7
            if day < first + length:
                found.add(day)
        else:
            latest = first + length - 1
            day = latest - (_weekday(latest) - weekday) % 7 + (which + 1) * 7
            if day >= first:
                found.add(day)
    return found


def _in_month(rule: Rule, start: datetime, first: int, length: int) -> set[int]:
    """The days of one month of a monthly rule, or of a yearly one with BYMONTH."""
    if rule.month_days:
        found = _on_month_days(rule, first, length, rule.month_days)
        return found & _on_weekdays(rule.days, first, length) if rule.days else found
    if rule.days:
        return _on_weekdays(rule.days, first, length)
    return _on_month_days(rule, first, length, (start.day,))


def _first_week(year: int, week_start: int) -> int:
    """The ordinal of the day with which week 1 begins: the first week with four days in the year (§3.3.10)."""
    day = date(year, 1, 1).toordinal()
    begin = day - (_weekday(day) - week_start) % 7
    return begin if day - begin <= 3 else begin + 7


def _in_weeks(rule: Rule, start: datetime, year: int) -> set[int]:
    """Days of a calendar year that lie in one of the weeks; its first and last may lie in a neighbour's."""
    weekdays = {weekday for _, weekday in rule.days} if rule.days else None
    if weekdays is None and not rule.month_days and not rule.year_days:
        weekdays = {start.weekday()}
    first, length = _year(year)
    found: set[int] = set()
    for of in (year - 1, year, year + 1):
        if not 1 <= of < 9999:
            continue
        begin = _first_week(of, rule.week_start)
        weeks = (_first_week(of + 1, rule.week_start) - begin) // 7
        for number in rule.weeks:
            week = number if number > 0 else weeks + 1 + number
            if 1 <= week <= weeks:
                monday = begin + (week - 1) * 7
                found.update(
                    day
                    for day in range(monday, monday + 7)
                    if first <= day < first + length and (weekdays is None or _weekday(day) in weekdays)
                )
    return found


def _in_year(rule: Rule, start: datetime, year: int) -> list[int]:
    """The days of one year of a yearly rule."""
    first, length = _year(year)
    found: set[int] | None = None
    if rule.year_days:
        found = {first + (n - 1 if n > 0 else length + n) for n in rule.year_days if abs(n) <= length}
    if rule.weeks:
        weeks = _in_weeks(rule, start, year)
        found = weeks if found is None else found & weeks
    if found is None:
        if rule.months or not rule.days or rule.month_days:
            months = rule.months or (range(1, 13) if rule.month_days else (start.month,))
            found = set()
            for month in months:
                begin, days = _month(year, month)
                if rule.months or not rule.days:
                    found |= _in_month(rule, start, begin, days)
                else:  # numbers of weekdays count in the year
                    found |= _on_month_days(rule, begin, days, rule.month_days)
            if rule.days and not rule.months:
                found &= _on_weekdays(rule.days, first, length)
            return sorted(found)
        return sorted(_on_weekdays(rule.days, first, length))
    if not found:
        return []
    if rule.months or rule.month_days:
        allowed: set[int] = set()
        for month in rule.months or range(1, 13):
            begin, days = _month(year, month)
            allowed |= (
                _on_month_days(rule, begin, days, rule.month_days)
                if rule.month_days
                else set(range(begin, begin + days))
            )
        found &= allowed
    if rule.days:
        if rule.months and any(which for which, _ in rule.days):
            found &= set().union(*(_on_weekdays(rule.days, *_month(year, month)) for month in rule.months))
        else:
            found &= _on_weekdays(rule.days, first, length)
    return sorted(found)


def _yearly(rule: Rule, start: datetime, first: datetime, last_day: int, steps: Steps) -> Iterator[_Period]:
    seconds = _seconds_of_day(rule, start)
    last_year = min(date.fromordinal(last_day).year, 9998)
    year = start.year + max(0, (first.year - start.year - 1) // rule.interval) * rule.interval
    while year <= last_year:
        days = _in_year(rule, start, year)
        steps.spend(1 + len(days) // 8)
        yield days, seconds
        year += rule.interval


def _monthly(rule: Rule, start: datetime, first: datetime, last_day: int, steps: Steps) -> Iterator[_Period]:
    seconds = _seconds_of_day(rule, start)
    last = date.fromordinal(last_day)
    last_month = min(last.year, 9998) * 12 + last.month - 1
    begin = start.year * 12 + start.month - 1
    month = begin + max(0, (first.year * 12 + first.month - 2 - begin) // rule.interval) * rule.interval
    while month <= last_month:
        steps.spend()
        year, index = divmod(month, 12)
        if not rule.months or index + 1 in rule.months:
            yield sorted(_in_month(rule, start, *_month(year, index + 1))), seconds
        month += rule.interval


def _weekly(rule: Rule, start: datetime, first: datetime, last_day: int, steps: Steps) -> Iterator[_Period]:
    seconds = _seconds_of_day(rule, start)
    weekdays = sorted(
        {(weekday - rule.week_start) % 7 for _, weekday in rule.days} or {(start.weekday() - rule.week_start) % 7}
    )
    day = start.toordinal()
    begin = day - (_weekday(day) - rule.week_start) % 7
    pace = 7 * rule.interval
    week = begin + max(0, (first.toordinal() - 7 - begin) // pace) * pace
    last_day = min(last_day, _LAST_DAY - 7)
    months = rule.months
    if not (months or rule.positions):
        while week <= last_day:  # some weeks at once
            weeks = range(week, min(week + pace * _AT_ONCE, last_day + 1), pace)
            steps.spend(len(weeks))
            yield [day + weekday for day in weeks for weekday in weekdays], seconds
            week = weeks[-1] + pace
        return
    while week <= last_day:
        steps.spend()
        days = [week + weekday for weekday in weekdays]
        if months:
            days = [one for one in days if one > 0 and date.fromordinal(one).month in months]
        yield days, seconds
        week += pace


def _of_day(rule: Rule) -> Callable[[int], int]:
    """A function that says of a day whether a rule takes it: 0, or the next day that may be taken."""
    months, month_days, year_days = set(rule.months), set(rule.month_days), set(rule.year_days)
    weekdays = {weekday for _, weekday in rule.days}

    def next_day(day: int) -> int:
        if weekdays and (day + 6) % 7 not in weekdays:
            return day + 1
        if not months and not month_days and not year_days:
            return 0
        on = date.fromordinal(day)
        if months and on.month not in months:
            year, month = on.year, on.month
            while True:
                year, month = (year, month + 1) if month < 12 else (year + 1, 1)
                if year > 9998:
                    return _LAST_DAY
                if month in months:
                    return date(year, month, 1).toordinal()
        if month_days:
            begin, length = _month(on.year, on.month)
            if rule.skip is not Skip.OMIT:
                taken = day in _on_month_days(rule, begin, length, rule.month_days)
            else:
                taken = on.day in month_days or on.day - length - 1 in month_days
            if not taken:
                return day + 1
        if year_days:
            begin, length = _year(on.year)
            if day - begin + 1 not in year_days and day - begin - length not in year_days:
                return day + 1
        return 0

    return next_day


def _daily(rule: Rule, start: datetime, first: datetime, last_day: int, steps: Steps) -> Iterator[_Period]:
    seconds = _seconds_of_day(rule, start)
    begin, pace = start.toordinal(), rule.interval
    day = begin + max(0, (first.toordinal() - 1 - begin) // pace) * pace
    next_day = _of_day(rule)
    last_day = min(last_day, _LAST_DAY - 1)
    if not (rule.months or rule.month_days or rule.days or rule.positions):
        while day <= last_day:  # some days at once: the most common rule of all
            days = list(range(day, min(day + pace * _AT_ONCE, last_day + 1), pace))
            yield days, seconds
            day = days[-1] + pace
        return
    while day <= last_day:
        steps.spend()
        later = next_day(day)
        if later:
            day += -((day - later) // pace) * pace
        else:
            yield [day], seconds
            day += pace


def _by_the_clock(rule: Rule, start: datetime, first: datetime, last_day: int, steps: Steps) -> Iterator[_Period]:
    """Every so many hours, minutes or seconds."""
    unit = (1, 60, 3600)[rule.frequency]
    pace = unit * rule.interval
    begin = start.toordinal() * DAY + (start.hour * 3600 + start.minute * 60 + start.second) // unit * unit
    wanted = first.toordinal() * DAY + first.hour * 3600 + first.minute * 60 + first.second
    now = begin + max(0, (wanted - unit - begin) // pace) * pace
    end = min(last_day, _LAST_DAY - 1) * DAY + DAY
    next_day = _of_day(rule)
    within: list[int]  # seconds after the period's begin
    if rule.frequency is Frequency.HOURLY:
        within = [m * 60 + s for m in rule.minutes or (start.minute,) for s in rule.seconds or (start.second,)]
    elif rule.frequency is Frequency.MINUTELY:
        within = list(rule.seconds or (start.second,))
    else:
        within = [0]
    limits: list[tuple[int, tuple[int, ...], int]] = [(3600, rule.hours, DAY)]
    if rule.frequency <= Frequency.MINUTELY:
        limits.append((60, rule.minutes, 3600))
    if rule.frequency == Frequency.SECONDLY:
        limits.append((1, rule.seconds, 60))
    good_day = -1
    while now < end:
        steps.spend()
        day, second = divmod(now, DAY)
        later = 0
        if day != good_day:
            later = next_day(day) * DAY
            if not later:
                good_day = day
        if not later:
            for size, allowed, around in limits:
                if allowed and (second % around) // size not in allowed:
                    here = (second % around) // size
                    base = now - now % around
                    later = base + next((one * size for one in allowed if one > here), around)
                    break
        if later:
            now += -((now - later) // pace) * pace
            continue
        yield [day], [second + one for one in within]
        now += pace


_MAKERS: dict[Frequency, Callable[[Rule, datetime, datetime, int, Steps], Iterator[_Period]]] = {
    Frequency.SECONDLY: _by_the_clock,
    Frequency.MINUTELY: _by_the_clock,
    Frequency.HOURLY: _by_the_clock,
    Frequency.DAILY: _daily,
    Frequency.WEEKLY: _weekly,
    Frequency.MONTHLY: _monthly,
    Frequency.YEARLY: _yearly,
}
