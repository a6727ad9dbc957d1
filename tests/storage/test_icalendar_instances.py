"""storage.icalendar.recurrence and instances: the tables of RFC 4791 §9.9, series with exceptions, and the index."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import icalendar
import pytest
import recurring_ical_events

from scripts.fuzz.icalendar import run
from storage.collections.values import ENDLESS
from storage.errors import Corrupt
from storage.icalendar.checked import CalendarObject, checked
from storage.icalendar.content import calendar_content
from storage.icalendar.instances import INDEXED, Packed, alarm_times, overlapping, packed_instances, times_of
from storage.icalendar.limits import CalendarLimits
from storage.icalendar.recurrence import instances
from storage.icalendar.rules import TooMuch
from storage.icalendar.values import naive, written
from storage.icalendar.zones import named

HEAD = "BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\n"
BERLIN, TOKYO, HONOLULU = (named(name) for name in ("Europe/Berlin", "Asia/Tokyo", "Pacific/Honolulu"))
assert BERLIN is not None and TOKYO is not None and HONOLULU is not None


def calendar(*components: str, kind: str = "VEVENT") -> CalendarObject:
    body = "".join(f"BEGIN:{kind}\nUID:u\n{one.strip()}\nEND:{kind}\n" for one in components)
    return checked(f"{HEAD}{body}END:VCALENDAR\n".encode())


def at(value: str) -> int:
    form = "%Y%m%dT%H%M" if "T" in value else "%Y%m%d"
    return int(datetime.strptime(value, form).replace(tzinfo=UTC).timestamp())


def starts(found: CalendarObject, start: str, end: str, zone: object = None) -> list[str]:
    listed = instances(found, at(start), at(end), None, zone or named("UTC"))  # type: ignore[arg-type]
    return [written(naive(one.start))[:13] for one in listed]


# (component, its lines, ranges that it is in, ranges that it is not in): RFC 4791 §9.9, borders included
TABLE = [
    ("VEVENT", "DTSTART:20260310T100000Z\nDTEND:20260310T110000Z",
     ["20260310T1059 20260310T1200", "20260310T0900 20260310T1001"],
     ["20260310T1100 20260310T1200", "20260310T0900 20260310T1000"]),
    ("VEVENT", "DTSTART:20260310T100000Z\nDURATION:PT1H",
     ["20260310T1059 20260310T1200"], ["20260310T1100 20260310T1200", "20260310T0900 20260310T1000"]),
    ("VEVENT", "DTSTART:20260310T100000Z\nDURATION:PT0S",
     ["20260310T1000 20260310T1001"], ["20260310T0900 20260310T1000", "20260310T1001 20260310T1100"]),
    ("VEVENT", "DTSTART:20260310T100000Z",
     ["20260310T1000 20260310T1001"], ["20260310T0900 20260310T1000", "20260310T1001 20260310T1100"]),
    ("VEVENT", "DTSTART;VALUE=DATE:20260310",
     ["20260310T2359 20260311", "20260309 20260310T0001"], ["20260311 20260312", "20260309 20260310"]),
    ("VTODO", "DTSTART:20260310T100000Z\nDURATION:PT1H",
     ["20260310T1100 20260310T1200", "20260310T0900 20260310T1001"],
     ["20260310T1101 20260310T1200", "20260310T0900 20260310T1000"]),
    ("VTODO", "DTSTART:20260310T100000Z\nDUE:20260310T110000Z",
     ["20260310T1059 20260310T1200", "20260310T0900 20260310T1001"],
     ["20260310T1100 20260310T1200", "20260310T0900 20260310T1000"]),
    ("VTODO", "DTSTART:20260310T100000Z",
     ["20260310T1000 20260310T1100"], ["20260310T1001 20260310T1100", "20260310T0900 20260310T1000"]),
    ("VTODO", "DUE:20260310T100000Z",
     ["20260310T0900 20260310T1000", "20260310T0959 20260310T1100"],
     ["20260310T1000 20260310T1100", "20260310T0900 20260310T0959"]),
    ("VTODO", "COMPLETED:20260310T100000Z\nCREATED:20260301T100000Z",
     ["20260301 20260302", "20260305 20260306", "20260310T1000 20260311", "20260301T0900 20260301T1000"],
     ["20260310T1001 20260311", "20260301T0900 20260301T0959"]),
    ("VTODO", "COMPLETED:20260310T100000Z",
     ["20260310T1000 20260311", "20260310T0900 20260310T1000"], ["20260310T1001 20260311", "20260301 20260302"]),
    ("VTODO", "CREATED:20260310T100000Z", ["20260310T1000 20260311", "20300101 20310101"], ["20260301 20260310T1000"]),
    ("VTODO", "SUMMARY:always", ["20260310 20260311", "19700101 19700102", "25000101 25000102"], []),
    ("VJOURNAL", "DTSTART:20260310T100000Z",
     ["20260310T1000 20260310T1001"], ["20260310T1001 20260311", "20260310T0900 20260310T1000"]),
    ("VJOURNAL", "DTSTART;VALUE=DATE:20260310",
     ["20260310T2359 20260311", "20260309 20260310T0001"], ["20260311 20260312", "20260309 20260310"]),
    ("VJOURNAL", "SUMMARY:never", [], ["20260310 20260311", "19691231 19700102"]),
    ("VFREEBUSY", "DTSTART:20260310T100000Z\nDTEND:20260310T110000Z",
     ["20260310T1100 20260310T1200", "20260310T0900 20260310T1001"],
     ["20260310T1101 20260310T1200", "20260310T0900 20260310T1000"]),
    ("VFREEBUSY", "FREEBUSY:20260310T100000Z/PT1H,20260312T100000Z/20260312T110000Z",
     ["20260310T1059 20260310T1200", "20260312T1059 20260313"], ["20260310T1100 20260312T1000", "20260313 20260314"]),
    ("VFREEBUSY", "SUMMARY:never", [], ["20260310 20260311"]),
    ("VAVAILABILITY", "SUMMARY:always", ["20260310 20260311", "19000101 19000102"], []),
    ("VAVAILABILITY", "DTSTART:20260310T100000Z",
     ["20260310 20260311", "25000101 25000102"], ["20260301 20260310T1000"]),
    ("VAVAILABILITY", "DTEND:20260310T100000Z", ["20260301 20260311", "15000101 15000102"], ["20260310T1000 20260311"]),
    ("VAVAILABILITY", "DTSTART:20260310T100000Z\nDURATION:P1D", ["20260311T0959 20260312"], ["20260311T1000 20260312"]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "lines", "inside", "outside"), TABLE, ids=[f"{k} {v}" for k, v, _, _ in TABLE])
def test_time_ranges(kind: str, lines: str, inside: list[str], outside: list[str]) -> None:
    found = calendar(lines, kind=kind)
    times = times_of(found)
    for ranges, expected in ((inside, True), (outside, False)):
        for one in ranges:
            start, end = (at(each) for each in one.split())
            assert overlapping(found, start, end) is expected, one
            assert overlapping(times, start, end, component=kind) in (expected, None), one


def test_the_index_alone_answers_for_events() -> None:
    for lines in (
        "DTSTART:20260310T100000Z\nDTEND:20260310T110000Z",
        "DTSTART:20260310T100000Z",
        "DTSTART;VALUE=DATE:20260310\nDTEND;VALUE=DATE:20260320",
        "DTSTART;TZID=Europe/Berlin:20260310T100000\nDURATION:PT1H\nRRULE:FREQ=WEEKLY;COUNT=20",
    ):
        times = times_of(calendar(lines))
        for day in range(1, 60):
            start = at("20260301") + day * 86_400
            assert overlapping(times, start, start + 86_400) is overlapping(calendar(lines), start, start + 86_400)


def test_open_ranges() -> None:
    found = calendar("DTSTART:20260310T100000Z\nRRULE:FREQ=DAILY")
    for asked in (found, times_of(found)):
        assert overlapping(asked, at("20260401"), None)
        assert overlapping(asked, None, at("20260310")) is False
        assert overlapping(asked, None, at("20260311"))


def test_times_without_a_zone_are_those_of_who_asks() -> None:
    for lines in ("DTSTART:20260310T233000\nDTEND:20260311T003000", "DTSTART;VALUE=DATE:20260310"):
        found = calendar(lines)
        times = times_of(found)
        assert times.floating
        for zone in (BERLIN, TOKYO, HONOLULU):
            assert zone is not None
            for hours in range(-40, 60):
                start = at("20260310") + hours * 3600
                says = overlapping(times, start, start + 1800, zone)
                assert says is overlapping(found, start, start + 1800, zone)
                if says:
                    assert times.first < start + 1800 and times.last > start


def test_a_series_keeps_its_local_time() -> None:
    found = calendar("DTSTART;TZID=Europe/Berlin:20260325T020000\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=7")
    assert starts(found, "20260301", "20260501") == [
        "20260325T0100", "20260326T0100", "20260327T0100", "20260328T0100",
        "20260329T0100",  # 02:00 is not there: by the offset before it is 03:00
        "20260330T0000", "20260331T0000",
    ]  # fmt: skip


def test_exceptions_and_overrides() -> None:
    found = calendar(
        "DTSTART;TZID=Europe/Berlin:20260310T100000\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=6\n"
        "RDATE;TZID=Europe/Berlin:20260401T120000\nRDATE;VALUE=PERIOD:20260402T120000Z/PT3H\n"
        "EXDATE:20260311T090000Z\nEXDATE;VALUE=DATE:20260312",
        "RECURRENCE-ID:20260313T090000Z\nDTSTART:20260501T090000Z\nDTEND:20260501T120000Z",
        "RECURRENCE-ID;TZID=Europe/Berlin:20270101T100000\nDTSTART:20270102T090000Z",
    )
    assert starts(found, "20260101", "20280101") == [
        "20260310T0900", "20260314T0900", "20260315T0900", "20260401T1000", "20260402T1200", "20260501T0900",
        "20270102T0900",
    ]  # fmt: skip
    by_start = {one.start: one for one in instances(found, None, None)}
    assert by_start[at("20260402T1200")].end == at("20260402T1500")
    moved = by_start[at("20260501T0900")]
    assert moved.end == at("20260501T1200") and moved.timed.component is found.overrides[0]
    assert moved.recurrence_id is not None and moved.recurrence_id.local == datetime(2026, 3, 13, 9)


def test_this_and_future() -> None:  # RFC 5545 §3.8.4.4
    found = calendar(
        "DTSTART;TZID=Europe/Berlin:20260325T100000\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=7",
        "RECURRENCE-ID;RANGE=THISANDFUTURE;TZID=Europe/Berlin:20260328T100000\n"
        "DTSTART;TZID=Europe/Berlin:20260328T143000\nDURATION:PT2H",
        "RECURRENCE-ID;TZID=Europe/Berlin:20260330T100000\nDTSTART;TZID=Europe/Berlin:20260330T080000",
    )
    assert starts(found, "20260301", "20260501") == [
        "20260325T0900", "20260326T0900", "20260327T0900",
        "20260328T1330", "20260329T1230", "20260330T0600", "20260331T1230",
    ]  # fmt: skip
    last = instances(found, None, None)[-1]
    assert last.end - last.start == 7200
    assert last.recurrence_id is not None and last.recurrence_id.local == datetime(2026, 3, 31, 10)


def test_single_instances_without_their_series() -> None:
    found = calendar("RECURRENCE-ID:20260313T090000Z\nDTSTART:20260314T090000Z\nDURATION:PT1H")
    assert found.master is None
    assert starts(found, "20260101", "20270101") == ["20260314T0900"]


def test_ends_of_another_kind_than_the_start() -> None:
    for lines, end in (
        ("DTSTART;TZID=Europe/Berlin:20260310T100000\nDTEND;VALUE=DATE:20260311", "20260310T2300"),
        ("DTSTART:20260310T100000Z\nDTEND;VALUE=DATE:20260310", "20260310T1000"),
        ("DTSTART;VALUE=DATE:20260310\nDTEND:20260311T080000Z", "20260312"),
    ):
        assert [one.end for one in instances(calendar(lines), None, None)] == [at(end)]


def test_until_as_a_date_means_its_whole_day() -> None:
    found = calendar("DTSTART;TZID=America/New_York:20260310T200000\nRRULE:FREQ=DAILY;UNTIL=20260312")
    assert len(instances(found, None, None)) == 3


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York", "own"])
@pytest.mark.parametrize("until", ["99991231T235959Z", "99991231T235959", "99991231"])
def test_until_the_end_of_time_is_for_ever(zone: str, until: str) -> None:
    own = "BEGIN:VTIMEZONE\nTZID:own\nBEGIN:STANDARD\nDTSTART:19700101T000000\nTZOFFSETFROM:+0900\nTZOFFSETTO:+0900\n"
    event = f"BEGIN:VEVENT\nUID:u\nDTSTART;TZID={zone}:20260101T120000\nRRULE:FREQ=DAILY;UNTIL={until}\nEND:VEVENT\n"
    content = calendar_content(f"{HEAD}{own}END:STANDARD\nEND:VTIMEZONE\n{event}END:VCALENDAR\n".encode())
    assert content.times is not None and content.times.last == ENDLESS
    assert overlapping(checked(content.data), at("29990101"), at("29990102")) is True


def test_the_same_exact_time_at_both_ends_of_summer() -> None:  # §3.8.5.3: the exact duration
    found = calendar(
        "DTSTART;TZID=Europe/Berlin:20260327T230000\nDTEND;TZID=Europe/Berlin:20260328T070000\nRRULE:FREQ=DAILY;COUNT=3"
    )
    assert {one.end - one.start for one in instances(found, None, None)} == {8 * 3600}


def test_more_than_asked_for() -> None:
    found = calendar("DTSTART:20260310T100000Z\nRRULE:FREQ=DAILY")
    assert len(instances(found, at("20260310"), at("20260320"), 10)) == 10
    with pytest.raises(TooMuch):
        instances(found, at("20260310"), at("20260321"), 10)
    found.limits = CalendarLimits(max_steps=2_000)
    with pytest.raises(TooMuch):
        instances(found, at("20260310"), None)
    long = calendar("DTSTART:20260101T000000Z\nDURATION:P99999D\nRRULE:FREQ=DAILY")
    with pytest.raises(TooMuch):
        instances(long, at("25000101"), at("25000201"), 100)


def test_alarms() -> None:
    found = calendar(
        "DTSTART;TZID=Europe/Berlin:20260330T010000\nDTEND;TZID=Europe/Berlin:20260330T020000\n"
        "BEGIN:VALARM\nTRIGGER:-PT15M\nREPEAT:2\nDURATION:PT5M\nEND:VALARM\n"
        "BEGIN:VALARM\nTRIGGER;RELATED=END:PT0S\nEND:VALARM\n"
        "BEGIN:VALARM\nTRIGGER;VALUE=DATE-TIME:20260301T000000Z\nEND:VALARM\n"
        "BEGIN:VALARM\nTRIGGER:-P1D\nEND:VALARM\nBEGIN:VALARM\nACTION:AUDIO\nEND:VALARM"
    )
    one = instances(found, None, None)[0]
    assert [
        [written(naive(each))[4:13] for each in alarm_times(found, one, alarm)]
        for alarm in one.timed.component.below("VALARM")
    ] == [
        ["0329T2245", "0329T2250", "0329T2255"],
        ["0330T0000"],
        ["0301T0000"],
        ["0329T0000"],  # a day of 23 hours
        [],
    ]


def test_what_the_index_holds() -> None:
    times = times_of(calendar("DTSTART:20260310T100000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY"))
    assert len(packed_instances(times)) == INDEXED
    assert times.last == ENDLESS
    assert times.known_until == at("20260310T1000") + INDEXED * 86_400
    assert times.instances is not None and len(times.instances) < 4 * INDEXED + 40
    assert overlapping(times, times.known_until + 10, times.known_until + 20) is None  # only the object knows
    birthday = times_of(calendar("DTSTART;VALUE=DATE:16040229\nRRULE:FREQ=YEARLY"))
    assert birthday.known_until > at("20590101")
    assert birthday.instances is not None and len(birthday.instances) < 2_000


def test_packed_instances_that_are_not_whole_are_an_alarm() -> None:
    data = times_of(calendar("DTSTART:20260310T100000Z\nRRULE:FREQ=DAILY;COUNT=5")).instances
    assert data is not None
    for broken in (b"", data[:5], data[:-1], b"\x09" + data[1:]):
        with pytest.raises(Corrupt):
            Packed(broken)


def random_series(chance: random.Random) -> tuple[str, datetime]:
    """A series as recurring-ical-events reads it too."""
    form = chance.choice(["Europe/Berlin", "America/New_York", "UTC", "DATE", "Australia/Lord_Howe", "FLOATING"])
    begin = datetime(2024, 1, 1) + timedelta(days=chance.randrange(700), minutes=30 * chance.randrange(48))
    rule, pace = chance.choice([("FREQ=DAILY", 1), ("FREQ=DAILY;INTERVAL=3", 3), ("FREQ=WEEKLY", 7)])
    long = timedelta(days=chance.randint(1, 3)) if form == "DATE" else timedelta(minutes=chance.choice([0, 30, 1500]))

    def line(name: str, time: datetime) -> str:
        if form == "DATE":
            return f"{name};VALUE=DATE:{time:%Y%m%d}\n"
        zone = {"UTC": "", "FLOATING": ""}.get(form, f";TZID={form}")
        return f"{name}{zone}:{time:%Y%m%dT%H%M%S}{'Z' if form == 'UTC' else ''}\n"

    def component(lines: str, start: datetime) -> str:
        return f"BEGIN:VEVENT\nUID:u\n{lines}{line('DTSTART', start)}{line('DTEND', start + long)}END:VEVENT\n"

    first, second, third, fourth = (begin + timedelta(days=pace * k) for k in chance.sample(range(20), 4))
    hour = timedelta(hours=0 if form == "DATE" else chance.randint(-3, 3))
    body = component(f"RRULE:{rule}\n" + line("EXDATE", first), begin)
    body += component(line("RECURRENCE-ID", second), second + timedelta(days=chance.randint(-9, 9)) + hour)
    if chance.random() < 0.5:
        body += component(line("RECURRENCE-ID", third), third + hour)
    if chance.random() < 0.4:
        moved = fourth + timedelta(days=chance.randint(-2, 2)) + hour
        body += component(line("RECURRENCE-ID;RANGE=THISANDFUTURE", fourth), moved)
    return f"{HEAD}{body}END:VCALENDAR\n", begin


def test_as_recurring_ical_events() -> None:
    for seed in range(60):
        chance = random.Random(seed)
        text, begin = random_series(chance)
        start = (begin + timedelta(days=chance.randint(-10, 60), hours=chance.randint(0, 5))).replace(tzinfo=UTC)
        end = start + timedelta(days=chance.randint(1, 40))
        theirs: list[int] = []
        for one in recurring_ical_events.of(icalendar.Calendar.from_ical(text)).between(start, end):
            when = one.start if isinstance(one.start, datetime) else datetime(*one.start.timetuple()[:3])
            theirs.append(int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()))
        found = checked(text.encode())
        low, high = int(start.timestamp()), int(end.timestamp())
        assert [one.start for one in instances(found, low, high)] == sorted(theirs), seed
        assert overlapping(times_of(found), low, high) in (bool(theirs), None)


HOSTILE: dict[str, Callable[[], str]] = {
    "every day, and 9,999 exceptions": lambda: (
        "DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY\nEXDATE:" + ",".join(["20260301T000000Z"] * 9_999)
    ),
    "a February that never comes": lambda: "DTSTART:20260101T000000Z\nRRULE:FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30",
    "for ever, in the year 1000": lambda: "DTSTART:10000101T000000Z\nRRULE:FREQ=DAILY",
}


@pytest.mark.parametrize("which", HOSTILE)
def test_a_query_for_a_month_costs_few_steps(which: str) -> None:
    found = calendar(HOSTILE[which]())
    assert calendar_content(found.data).times == times_of(found)
    found.limits = CalendarLimits(max_steps=100)
    assert len(instances(found, at("25000101"), at("25000201"))) in (0, 31)


def test_fuzz() -> None:
    number, taken = run(7, count=500)
    assert number == 500
    assert taken > 100
