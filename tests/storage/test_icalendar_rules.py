"""Recurrence rules: the examples of RFC 5545, python-dateutil beside it, and rules that never come to an end."""

from __future__ import annotations

import itertools
from datetime import date, datetime, timedelta

import pytest
from dateutil.rrule import rrulestr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from storage.icalendar.contentlines import Malformed
from storage.icalendar.occurrences import occurrences
from storage.icalendar.rules import Rule, Steps, TooMuch, Unsupported, read_rule

FAR = datetime(2999, 12, 31)
NINE = datetime(1997, 9, 2, 9)  # a Tuesday: DTSTART of most examples


def times(value: str, start: datetime = NINE, count: int = 50, last: datetime = FAR) -> list[datetime]:
    return list(itertools.islice(occurrences(read_rule(value), start, last, Steps(100_000)), count))


# RFC 5545 §3.8.5.3 as (rule, DTSTART); what they bring forth is dateutil's and the document's alike
EXAMPLES = [
    ("FREQ=DAILY;COUNT=10", NINE),
    ("FREQ=DAILY;UNTIL=19971224T000000Z", NINE),
    ("FREQ=DAILY;INTERVAL=2", NINE),
    ("FREQ=DAILY;INTERVAL=10;COUNT=5", NINE),
    ("FREQ=YEARLY;UNTIL=20000131T140000Z;BYMONTH=1;BYDAY=SU,MO,TU,WE,TH,FR,SA", datetime(1998, 1, 1, 9)),
    ("FREQ=DAILY;UNTIL=20000131T140000Z;BYMONTH=1", datetime(1998, 1, 1, 9)),
    ("FREQ=WEEKLY;COUNT=10", NINE),
    ("FREQ=WEEKLY;INTERVAL=2;WKST=SU", NINE),
    ("FREQ=WEEKLY;COUNT=10;WKST=SU;BYDAY=TU,TH", NINE),
    ("FREQ=WEEKLY;INTERVAL=2;UNTIL=19971224T000000Z;WKST=SU;BYDAY=MO,WE,FR", datetime(1997, 9, 1, 9)),
    ("FREQ=WEEKLY;INTERVAL=2;COUNT=8;WKST=SU;BYDAY=TU,TH", NINE),
    ("FREQ=MONTHLY;COUNT=10;BYDAY=1FR", datetime(1997, 9, 5, 9)),
    ("FREQ=MONTHLY;INTERVAL=2;COUNT=10;BYDAY=1SU,-1SU", datetime(1997, 9, 7, 9)),
    ("FREQ=MONTHLY;COUNT=6;BYDAY=-2MO", datetime(1997, 9, 22, 9)),
    ("FREQ=MONTHLY;BYMONTHDAY=-3", datetime(1997, 9, 28, 9)),
    ("FREQ=MONTHLY;COUNT=10;BYMONTHDAY=2,15", NINE),
    ("FREQ=MONTHLY;COUNT=10;BYMONTHDAY=1,-1", datetime(1997, 9, 30, 9)),
    ("FREQ=MONTHLY;INTERVAL=18;COUNT=10;BYMONTHDAY=10,11,12,13,14,15", datetime(1997, 9, 10, 9)),
    ("FREQ=MONTHLY;INTERVAL=2;BYDAY=TU", NINE),
    ("FREQ=YEARLY;COUNT=10;BYMONTH=6,7", datetime(1997, 6, 10, 9)),
    ("FREQ=YEARLY;INTERVAL=2;COUNT=10;BYMONTH=1,2,3", datetime(1997, 3, 10, 9)),
    ("FREQ=YEARLY;INTERVAL=3;COUNT=10;BYYEARDAY=1,100,200", datetime(1997, 1, 1, 9)),
    ("FREQ=YEARLY;BYDAY=20MO", datetime(1997, 5, 19, 9)),
    ("FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO", datetime(1997, 5, 12, 9)),
    ("FREQ=YEARLY;BYMONTH=3;BYDAY=TH", datetime(1997, 3, 13, 9)),
    ("FREQ=YEARLY;BYDAY=TH;BYMONTH=6,7,8", datetime(1997, 6, 5, 9)),
    ("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", datetime(1998, 2, 13, 9)),
    ("FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13", datetime(1997, 9, 13, 9)),
    ("FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8", datetime(1996, 11, 5, 9)),
    ("FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3", datetime(1997, 9, 4, 9)),
    ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2", datetime(1997, 9, 29, 9)),
    ("FREQ=HOURLY;INTERVAL=3;UNTIL=19970902T170000Z", NINE),
    ("FREQ=MINUTELY;INTERVAL=15;COUNT=6", NINE),
    ("FREQ=MINUTELY;INTERVAL=90;COUNT=4", NINE),
    ("FREQ=DAILY;BYHOUR=9,10,11,12,13,14,15,16;BYMINUTE=0,20,40", NINE),
    ("FREQ=MINUTELY;INTERVAL=20;BYHOUR=9,10,11,12,13,14,15,16", NINE),
    ("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO", datetime(1997, 8, 5, 9)),
    ("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU", datetime(1997, 8, 5, 9)),
    ("FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5", datetime(2007, 1, 15, 9)),
]


@pytest.mark.parametrize(("value", "start"), EXAMPLES, ids=[value for value, _ in EXAMPLES])
def test_the_examples_of_the_rfc(value: str, start: datetime) -> None:
    rule = read_rule(value)
    last = rule.until.local if rule.until else FAR
    theirs = itertools.islice(rrulestr(value, dtstart=start, ignoretz=True), 50)
    assert times(value, start, last=last) == list(theirs)


def test_what_the_document_says_in_words() -> None:
    assert [t.date() for t in times("FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3", datetime(1997, 9, 4, 9))] == [
        date(1997, 9, 4),
        date(1997, 10, 7),
        date(1997, 11, 6),
    ]
    assert [t.day for t in times("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU", datetime(1997, 8, 5, 9))] == [
        5, 17, 19, 31,
    ]  # fmt: skip


DAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]


@st.composite
def rules(draw: st.DrawFn) -> tuple[str, datetime, datetime]:
    """A rule that dateutil comes to an end with, its DTSTART, and until when to compare."""

    def some(pool: list[int], most: int) -> str:
        return ",".join(map(str, draw(st.lists(st.sampled_from(pool), min_size=1, max_size=most, unique=True))))

    def now_and_then() -> bool:
        return draw(st.integers(0, 2)) == 0

    frequency = draw(
        st.sampled_from(["YEARLY", "YEARLY", "MONTHLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY"])
    )
    by_clock = frequency in ("HOURLY", "MINUTELY")
    most = {"YEARLY": 4, "MONTHLY": 7, "WEEKLY": 5, "DAILY": 40, "HOURLY": 50, "MINUTELY": 200}[frequency]
    parts = [f"FREQ={frequency}", f"INTERVAL={draw(st.integers(1, most))}"]
    months = weeks = False
    if not by_clock:
        if months := now_and_then():
            parts.append("BYMONTH=" + some(list(range(1, 13)), 4))
        if frequency != "WEEKLY" and now_and_then():
            parts.append("BYMONTHDAY=" + some([1, 2, 5, 13, 28, 29, 30, 31, -1, -2, -10, -31], 4))
        if frequency == "YEARLY" and now_and_then():
            parts.append("BYYEARDAY=" + some([1, 59, 60, 100, 200, 365, 366, -1, -100, -366], 4))
        if frequency == "YEARLY" and now_and_then():
            parts.append("BYWEEKNO=" + some([2, 3, 20, 33, 51, -3, -20], 3))  # at the year's ends dateutil is wrong
            weeks = True
    if weeks or now_and_then():
        weekdays = draw(st.lists(st.sampled_from(DAYS), min_size=1, max_size=4, unique=True))
        if frequency in ("MONTHLY", "YEARLY") and not weeks and now_and_then():
            which = [1, 2, 4, 5, -1, -2] if frequency == "MONTHLY" or months else [1, 2, 20, 53, -1, -53]
            weekdays = [f"{draw(st.sampled_from(which))}{day}" for day in weekdays]
        parts.append("BYDAY=" + ",".join(weekdays))
    if not by_clock and now_and_then():
        parts.append("BYHOUR=" + some(list(range(24)), 3))
    if not by_clock and now_and_then():
        parts.append("BYMINUTE=" + some(list(range(60)), 3))
    if frequency != "WEEKLY" and len(parts) > 2 and now_and_then():  # dateutil cuts the first week off
        parts.append("BYSETPOS=" + some([1, 2, -1, -2], 3))
    if now_and_then():
        parts.append("WKST=" + draw(st.sampled_from(DAYS)))
    start = datetime(2000, 1, 1) + timedelta(days=draw(st.integers(0, 9000)), minutes=draw(st.integers(0, 1439)))
    days = {"YEARLY": 3000, "MONTHLY": 800, "WEEKLY": 300, "DAILY": 200, "HOURLY": 40, "MINUTELY": 3}[frequency]
    return ";".join(parts), start, start + timedelta(days=days)


@settings(max_examples=100, deadline=None)
@given(rules(), st.integers(0, 100))
def test_as_dateutil(asked: tuple[str, datetime, datetime], part: int) -> None:
    value, start, last = asked
    after = occurrences(read_rule(value), start, last + (last - start) * 5, Steps(100_000), last)
    assume(any(one > last for one in after))  # else dateutil looks until the year 9999
    until = ";UNTIL=" + last.strftime("%Y%m%dT%H%M%S")
    try:
        theirs = list(itertools.islice(rrulestr(value + until, dtstart=start), 2000))
    except ValueError:  # it can never match by the clock
        theirs = []
    if theirs[:1] != [start]:
        theirs.insert(0, start)  # DTSTART is an instance (RFC 5545 §3.8.5.3)
    ours = times(value, start, 2001, last)
    assert ours[:2000] == theirs[:2000]
    # begun in the middle, it brings forth the same
    first = start + (last - start) * part / 100
    later = list(occurrences(read_rule(value), start, last, Steps(1_000_000), first))
    if len(ours) < 2000:
        assert [one for one in later if one >= first] == [one for one in ours if one >= first]


@pytest.mark.parametrize("year", range(2000, 2030))
def test_weeks_at_the_ends_of_years_are_those_of_iso(year: int) -> None:
    for week in (1, 52, 53, -1):
        found = times(f"FREQ=YEARLY;BYWEEKNO={week};BYDAY=MO,TU,WE,TH,FR,SA,SU;COUNT=40", datetime(year, 1, 1))[1:]
        assert found
        for one in found:
            iso = one.isocalendar()
            weeks = date(iso.year, 12, 28).isocalendar().week
            assert iso.week == (week if week > 0 else weeks)


def test_a_week_alone_takes_the_weekday_of_dtstart() -> None:
    found = times("FREQ=YEARLY;BYWEEKNO=20;COUNT=3", datetime(1997, 5, 14, 9))
    assert [one.weekday() for one in found] == [2, 2, 2]


def test_dtstart_counts_also_where_the_rule_does_not_bring_it_forth() -> None:
    assert [t.day for t in times("FREQ=MONTHLY;BYMONTHDAY=15;COUNT=3", datetime(2026, 1, 10))] == [10, 15, 15]


def test_leap_days() -> None:
    assert [t.year for t in times("FREQ=YEARLY;COUNT=4", datetime(2096, 2, 29))] == [2096, 2104, 2108, 2112]
    assert [t.month for t in times("FREQ=MONTHLY;COUNT=4", datetime(2026, 1, 31))] == [1, 3, 5, 7]


@pytest.mark.parametrize(
    ("skip", "days"),
    [("OMIT", ["0131", "0331", "0531"]), ("BACKWARD", ["0131", "0228", "0331"]), ("FORWARD", ["0131", "0301", "0331"])],
)
def test_days_that_a_month_does_not_have(skip: str, days: list[str]) -> None:  # RFC 7529 §4.1
    found = times(f"RSCALE=GREGORIAN;FREQ=MONTHLY;SKIP={skip};COUNT=3", datetime(2026, 1, 31))
    assert [one.strftime("%m%d") for one in found] == days


NEVER = [
    "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=MINUTELY;INTERVAL=7;BYSECOND=3;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=HOURLY;BYMONTH=4,6;BYMONTHDAY=31",
    "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=MONTHLY;BYDAY=6MO",
    "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=31",
    "FREQ=YEARLY;BYWEEKNO=53;BYMONTH=6",
    "FREQ=YEARLY;BYYEARDAY=1;BYMONTH=2",
    "FREQ=YEARLY;INTERVAL=999999999",
    "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=366",
]


@pytest.mark.parametrize("value", NEVER)
def test_what_never_matches_ends(value: str) -> None:
    steps = Steps(100_000)
    assert list(occurrences(read_rule(value), datetime(2026, 1, 1), FAR, steps)) == [datetime(2026, 1, 1)]


@pytest.mark.parametrize(
    "value",
    [
        "FREQ=SECONDLY",
        "FREQ=SECONDLY;INTERVAL=60;BYSECOND=30",
        "FREQ=HOURLY;INTERVAL=24;BYHOUR=3",
        "FREQ=SECONDLY;BYYEARDAY=366",
        "FREQ=YEARLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYHOUR=1,2,3,4,5,6;BYMINUTE=" + ",".join(map(str, range(60))),
    ],
)
def test_what_takes_too_long_is_given_up(value: str) -> None:
    with pytest.raises(TooMuch):
        list(occurrences(read_rule(value), datetime(2025, 1, 1), FAR, Steps(20_000)))


def test_a_position_among_millions_costs_no_memory() -> None:
    value = (
        "FREQ=YEARLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYHOUR=" + ",".join(map(str, range(24)))
        + ";BYMINUTE=" + ",".join(map(str, range(60))) + ";BYSETPOS=-1;COUNT=3"
    )  # fmt: skip
    assert [one.minute for one in times(value, datetime(2026, 12, 31, 23, 59))] == [59, 59, 59]


BROKEN = [
    "",
    "DAILY",
    "FREQ=",
    "FREQ=FORTNIGHTLY",
    "COUNT=3",
    "FREQ=DAILY;FREQ=DAILY",
    "FREQ=DAILY;COUNT=0",
    "FREQ=DAILY;COUNT=x",
    "FREQ=DAILY;COUNT=-1",
    "FREQ=DAILY;COUNT=3;UNTIL=20260101",
    "FREQ=DAILY;INTERVAL=0",
    "FREQ=DAILY;UNTIL=tomorrow",
    "FREQ=DAILY;BYDAY=1MO",
    "FREQ=MONTHLY;BYDAY=0MO",
    "FREQ=MONTHLY;BYDAY=XX",
    "FREQ=YEARLY;BYWEEKNO=20;BYDAY=1MO",
    "FREQ=MONTHLY;BYWEEKNO=20",
    "FREQ=WEEKLY;BYMONTHDAY=1",
    "FREQ=DAILY;BYYEARDAY=1",
    "FREQ=YEARLY;BYMONTH=13",
    "FREQ=YEARLY;BYMONTH=-1",
    "FREQ=YEARLY;BYMONTHDAY=0",
    "FREQ=YEARLY;BYSETPOS=367",
    "FREQ=DAILY;BYHOUR=24",
    "FREQ=DAILY;WKST=XX",
    "FREQ=DAILY;BYEASTER=0",
    "FREQ=DAILY;SKIP=FORWARD",
    "FREQ=DAILY;BYHOUR=" + ",".join(["1"] * 2000 + ["x"]),
    "FREQ=DAILY;INTERVAL=99999999999999999999",
]


@pytest.mark.parametrize("value", BROKEN)
def test_broken_rules_are_refused(value: str) -> None:
    with pytest.raises(Malformed):
        read_rule(value)


def test_other_calendar_scales_are_refused_by_name() -> None:  # RFC 7529 §5
    with pytest.raises(Unsupported):
        read_rule("RSCALE=CHINESE;FREQ=YEARLY")


def test_what_clients_write_is_read() -> None:
    assert read_rule("freq=weekly;byday=mo;") == read_rule("FREQ=WEEKLY;BYDAY=MO")
    assert read_rule("FREQ=YEARLY;X-NOTE=1").frequency.name == "YEARLY"
    assert isinstance(read_rule("FREQ=MINUTELY;BYSECOND=60"), Rule)
