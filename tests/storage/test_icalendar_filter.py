"""storage.icalendar.filter: calendar-query as RFC 4791 §9.7 and §9.9 have it."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.collections.conditions import Violated
from storage.icalendar.checked import CalendarObject, checked
from storage.icalendar.filter import (
    Candidates,
    Filter,
    ParamFilter,
    PropFilter,
    TimeRange,
    certain,
    matches,
    may_match,
    prefilter,
    validated,
)
from storage.icalendar.instances import times_of
from storage.icalendar.textmatch import Collation, TextMatch
from storage.icalendar.values import UTC, naive, unix
from storage.icalendar.zones import named

BERLIN, TOKYO = named("Europe/Berlin"), named("Asia/Tokyo")


def at(text: str) -> int:
    return unix(datetime.strptime(text.ljust(12, "0"), "%Y%m%d%H%M"))


def within(start: str | None, end: str | None) -> TimeRange:
    return TimeRange(None if start is None else at(start), None if end is None else at(end))


def calendar(*components: str) -> CalendarObject:
    inner = "\r\n".join("\r\n".join(one.strip().split("\n")) for one in components)
    return checked(f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\n{inner}\r\nEND:VCALENDAR\r\n".encode())


def component(name: str, *lines: str) -> str:
    return "\n".join([f"BEGIN:{name}", "UID:u", *lines, f"END:{name}"])


def event(*lines: str) -> str:
    return component("VEVENT", *lines)


def asks(name: str, **more: object) -> Filter:
    return Filter("VCALENDAR", components=(Filter(name, **more),))  # type: ignore[arg-type]


NOON = "DTSTART:20240610T120000Z"
TIMES = [  # lines of a component, what of the day is asked, whether it overlaps: the tables of RFC 4791 §9.9
    ("VEVENT", [NOON, "DTEND:20240610T130000Z"], "202406101200", "202406101300", True),
    ("VEVENT", [NOON, "DTEND:20240610T130000Z"], "202406101259", "202406101400", True),
    ("VEVENT", [NOON, "DTEND:20240610T130000Z"], "202406101300", "202406101400", False),
    ("VEVENT", [NOON, "DTEND:20240610T130000Z"], "202406101100", "202406101200", False),
    ("VEVENT", [NOON, "DTEND:20240610T130000Z"], None, "202406101201", True),
    ("VEVENT", [NOON, "DTEND:20240610T130000Z"], "202406101300", None, False),
    ("VEVENT", [NOON, "DURATION:PT1H"], "202406101259", None, True),
    ("VEVENT", [NOON, "DURATION:PT0S"], "202406101200", "202406101300", True),
    ("VEVENT", [NOON], "202406101200", "202406101300", True),
    ("VEVENT", [NOON], "202406101201", "202406101300", False),
    ("VEVENT", [NOON], "202406101100", "202406101200", False),
    ("VEVENT", ["DTSTART;VALUE=DATE:20240610"], "202406102300", "20240612", True),
    ("VEVENT", ["DTSTART;VALUE=DATE:20240610"], "20240611", "20240612", False),
    ("VTODO", [NOON, "DURATION:PT1H"], "202406101300", "202406101400", True),
    ("VTODO", [NOON, "DUE:20240610T130000Z"], "202406101300", "202406101400", False),
    ("VTODO", [NOON, "DUE:20240610T130000Z"], "202406101100", "202406101200", False),
    ("VTODO", [NOON], "202406101200", "202406101300", True),
    ("VTODO", ["DUE:20240610T120000Z"], "202406101100", "202406101200", True),
    ("VTODO", ["DUE:20240610T120000Z"], "202406101200", "202406101300", False),
    ("VTODO", ["COMPLETED:20240610T120000Z", "CREATED:20240601T120000Z"], "20240605", "20240606", True),
    ("VTODO", ["COMPLETED:20240610T120000Z"], "202406101200", "202406101300", True),
    ("VTODO", ["COMPLETED:20240610T120000Z"], "20240611", "20240612", False),
    ("VTODO", ["CREATED:20240610T120000Z"], "20240611", "20240612", True),
    ("VTODO", ["CREATED:20240610T120000Z"], "20240601", "20240602", False),
    ("VTODO", ["SUMMARY:whenever"], "20240601", "20240602", True),
    ("VJOURNAL", [NOON], "202406101200", "202406101300", True),
    ("VJOURNAL", [NOON], "202406101201", "202406101300", False),
    ("VJOURNAL", ["DTSTART;VALUE=DATE:20240610"], "202406101201", "202406101300", True),
    ("VJOURNAL", ["SUMMARY:no date"], "19700101", None, False),
    ("VFREEBUSY", ["FREEBUSY:20240610T120000Z/PT1H"], "202406101230", "202406101300", True),
    ("VFREEBUSY", ["FREEBUSY:20240610T120000Z/PT1H"], "202406101300", "202406101400", False),
    ("VFREEBUSY", ["SUMMARY:nothing"], "202406101300", "202406101400", False),
    ("VAVAILABILITY", ["SUMMARY:always"], "202406101300", "202406101400", True),
    ("VAVAILABILITY", ["DTSTART:20240701T000000Z"], "202406101300", "202406101400", False),
]


@pytest.mark.parametrize(("name", "lines", "start", "end", "answer"), TIMES)
def test_time_ranges_of_components(name: str, lines: list[str], start: str, end: str, answer: bool) -> None:
    found, wanted = calendar(component(name, *lines)), asks(name, time_range=within(start, end))
    assert matches(found, wanted) is answer
    asked = prefilter(wanted)
    assert asked is not None and asked.alone
    times = times_of(found)
    assert certain(times, asked) in (answer, None)
    if answer and times.first < times.last:  # the index must not lose it
        assert times.first < (asked.end if asked.end is not None else 1 << 62)
        assert times.last > (asked.start if asked.start is not None else -(1 << 62))


@pytest.mark.parametrize(
    ("lines", "zone", "start", "end", "answer"),
    [
        (["DTSTART;VALUE=DATE:20240610"], UTC, "202406092200", "202406092300", False),
        (["DTSTART;VALUE=DATE:20240610"], BERLIN, "202406092200", "202406092300", True),
        (["DTSTART;VALUE=DATE:20240610"], TOKYO, "202406091500", "202406091501", True),
        (["DTSTART:20240610T120000", "DURATION:PT1H"], BERLIN, "202406101000", "202406101001", True),
        (["DTSTART:20240610T120000", "DURATION:PT1H"], UTC, "202406101000", "202406101001", False),
        (["DTSTART;TZID=Asia/Tokyo:20240610T120000", "DURATION:PT1H"], BERLIN, "202406100300", "202406100301", True),
    ],
)
def test_what_has_no_zone_has_that_of_who_asks(
    lines: list[str], zone: object, start: str, end: str, answer: bool
) -> None:
    found, wanted = calendar(event(*lines)), asks("VEVENT", time_range=within(start, end))
    assert matches(found, wanted, zone) is answer  # type: ignore[arg-type]
    asked = prefilter(wanted)
    assert asked is not None
    assert certain(times_of(found), asked, zone) in (answer, None)  # type: ignore[arg-type]


SERIES = event("DTSTART:20240101T100000Z", "DURATION:PT1H", "RRULE:FREQ=DAILY;COUNT=10", "SUMMARY:all")
MOVED = event("DTSTART:20240202T100000Z", "DURATION:PT1H", "RECURRENCE-ID:20240103T100000Z", "SUMMARY:moved")


def summary(text: str) -> PropFilter:
    return PropFilter("SUMMARY", text=TextMatch(text))


@pytest.mark.parametrize(
    ("text", "start", "end", "answer"),
    [
        ("all", "20240104", "20240105", True),
        ("all", "20240103", "20240104", False),  # moved away from here
        ("moved", "20240202", "20240203", True),
        ("all", "20240202", "20240203", False),  # both conditions hold, but of no one component
        ("moved", "20240104", "20240105", False),
    ],
)
def test_conditions_are_asked_of_one_component(text: str, start: str, end: str, answer: bool) -> None:
    wanted = asks("VEVENT", time_range=within(start, end), props=(summary(text),))
    assert matches(calendar(SERIES, MOVED), wanted) is answer


def alarm(trigger: str, *lines: str) -> str:
    return "\n".join(["BEGIN:VALARM", "ACTION:DISPLAY", "DESCRIPTION:x", trigger, *lines, "END:VALARM"])


@pytest.mark.parametrize(
    ("trigger", "start", "end", "answer"),
    [
        (["TRIGGER:-PT15M"], "202406101145", "202406101146", True),
        (["TRIGGER:-PT15M"], "202406101146", "202406101200", False),
        (["TRIGGER:-PT15M"], "202406111145", "202406111146", True),  # the next day's
        (["TRIGGER;RELATED=END:PT5M"], "202406101305", "202406101306", True),
        (["TRIGGER:-P2W"], "202405271200", "202405271201", True),
        (["TRIGGER:-P2W"], "202406101200", "202406101201", False),
        (["TRIGGER;VALUE=DATE-TIME:20240501T080000Z"], "202405010800", "202405010801", True),
        (["TRIGGER;VALUE=DATE-TIME:20240501T080000Z"], "202406101145", "202406101146", False),
        (["TRIGGER:-PT15M", "REPEAT:2", "DURATION:PT10M"], "202406101205", "202406101206", True),
        (["TRIGGER:-PT15M", "REPEAT:1", "DURATION:PT10M"], "202406101205", "202406101206", False),
        (["X-NONE:1"], "20240101", "20250101", False),
    ],
)
def test_alarms(trigger: list[str], start: str, end: str, answer: bool) -> None:
    found = calendar(event(NOON, "DURATION:PT1H", "RRULE:FREQ=DAILY;COUNT=3", alarm(*trigger)))
    wanted = asks("VEVENT", components=(Filter("VALARM", time_range=within(start, end)),))
    assert matches(found, wanted) is answer
    assert prefilter(wanted) == Candidates("VEVENT", None, None, False)


FULL = event(
    NOON,
    "DTSTAMP:20240101T000000Z",
    "SUMMARY:Budget\\, Über",
    "ATTENDEE;PARTSTAT=NEEDS-ACTION;CN=\"A, B\":mailto:a@example.org",
    "ATTENDEE;PARTSTAT=ACCEPTED:mailto:b@example.org",
    "LAST-MODIFIED:20240301T000000Z",
    "X-DATE;VALUE=DATE:20240401",
    "LOCATION:",
)  # fmt: skip


@pytest.mark.parametrize(
    ("prop", "answer"),
    [
        (PropFilter("SUMMARY"), True),
        (PropFilter("LOCATION"), True),
        (PropFilter("GEO"), False),
        (PropFilter("GEO", is_not_defined=True), True),
        (PropFilter("SUMMARY", is_not_defined=True), False),
        (PropFilter("SUMMARY", text=TextMatch("budget, ")), True),
        (PropFilter("SUMMARY", text=TextMatch("über")), False),
        (PropFilter("SUMMARY", text=TextMatch("ÜBER", Collation.UNICODE)), True),
        (PropFilter("SUMMARY", text=TextMatch("other", negate=True)), True),
        (PropFilter("GEO", text=TextMatch("other", negate=True)), False),
        (PropFilter("ATTENDEE", text=TextMatch("A@EXAMPLE")), True),
        (PropFilter("ATTENDEE", params=(ParamFilter("PARTSTAT", TextMatch("needs-action")),)), True),
        (PropFilter("ATTENDEE", text=TextMatch("b@"), params=(ParamFilter("PARTSTAT", TextMatch("NEEDS")),)), False),
        (PropFilter("ATTENDEE", params=(ParamFilter("CN", TextMatch("A, B")),)), True),
        (PropFilter("ATTENDEE", params=(ParamFilter("ROLE"),)), False),
        (PropFilter("ATTENDEE", params=(ParamFilter("ROLE", is_not_defined=True),)), True),
        (PropFilter("ATTENDEE", params=(ParamFilter("CN", is_not_defined=True),)), True),
        (PropFilter("SUMMARY", params=(ParamFilter("CN", TextMatch("x", negate=True)),)), False),
        (PropFilter("LAST-MODIFIED", time_range=within("20240301", "20240302")), True),
        (PropFilter("LAST-MODIFIED", time_range=within("20240229", "20240301")), False),
        (PropFilter("LAST-MODIFIED", time_range=within("202403010001", None)), False),
        (PropFilter("X-DATE", time_range=within("202404012300", "20240402")), True),
        (PropFilter("X-DATE", time_range=within("20240402", "20240403")), False),
        (PropFilter("SUMMARY", time_range=within("20240402", "20240403")), False),
    ],
)
def test_property_filters(prop: PropFilter, answer: bool) -> None:
    found, wanted = calendar(FULL), asks("VEVENT", props=(prop,))
    assert matches(found, wanted) is answer
    assert may_match(found.data, wanted) or not answer


@pytest.mark.parametrize(
    ("line", "wanted", "answer"),
    [
        ("SUMMARY:Budget", "budget", True),
        ("SUMMARY:Bud\n get", "BUDGET", True),
        ("SUMMARY:B\\udget", "budget", True),
        ("SUMMARY:other", "budget", False),
        ("SUMMARY:a\\, b", "a, b", True),
        ("SUMMARY:Ü", "ü", True),
        ("SUMMARY:a ﬁle", "file", True),
    ],
)
def test_octets_rule_out_what_cannot_match(line: str, wanted: str, answer: bool) -> None:
    found = calendar(event(NOON, line))
    asked = asks("VEVENT", props=(PropFilter("SUMMARY", text=TextMatch(wanted, Collation.UNICODE)),))
    assert matches(found, asked) is answer
    assert may_match(found.data, asked) is answer
    assert not may_match(found.data, asks("VTODO"))
    assert not may_match(found.data, asks("VEVENT", components=(Filter("VALARM"),)))
    assert may_match(found.data, asks("VEVENT", components=(Filter("VALARM", is_not_defined=True),)))


def test_components_that_are_there_and_those_that_are_not() -> None:
    found = calendar(event(NOON, alarm("TRIGGER:-PT15M")))
    assert matches(found, Filter("VCALENDAR"))
    assert matches(found, asks("VEVENT")) and not matches(found, asks("VTODO"))
    assert matches(found, asks("VTODO", is_not_defined=True)) and not matches(
        found, asks("VEVENT", is_not_defined=True)
    )
    assert matches(found, asks("VEVENT", components=(Filter("VALARM"),)))
    assert not matches(found, asks("VEVENT", components=(Filter("VALARM", is_not_defined=True),)))
    assert not matches(found, Filter("VEVENT"))
    version = PropFilter("VERSION", text=TextMatch("2.0"))
    assert matches(found, Filter("VCALENDAR", props=(version,), components=(Filter("VEVENT"),)))
    both = Filter("VCALENDAR", components=(Filter("VEVENT"), Filter("VTODO")))
    assert not matches(found, both)


def test_one_condition_of_several_is_enough_where_that_is_asked() -> None:
    found = calendar(event(NOON, "SUMMARY:one", "ATTENDEE;CN=a:mailto:a@example.org"))
    span, other = within("20240610", "20240611"), within("20250610", "20250611")
    either = Filter("VCALENDAR", components=(Filter("VEVENT", time_range=other), Filter("VTODO")), any_of=True)
    assert not matches(found, either) and prefilter(either) is None
    either = Filter("VCALENDAR", components=(Filter("VEVENT", time_range=span), Filter("VTODO")), any_of=True)
    assert matches(found, either) and may_match(found.data, either)
    texts = (summary("one"), summary("two"))
    assert matches(found, asks("VEVENT", props=texts, any_of=True)) and not matches(found, asks("VEVENT", props=texts))
    assert may_match(found.data, asks("VEVENT", props=texts, any_of=True))
    assert not may_match(found.data, asks("VEVENT", props=(summary("two"),), any_of=True))
    assert not matches(found, asks("VEVENT", props=texts, time_range=other, any_of=True))  # it holds in any case
    assert matches(found, asks("VEVENT", any_of=True))
    for any_of in (True, False):
        prop = PropFilter("ATTENDEE", text=TextMatch("b@"), params=(ParamFilter("CN", TextMatch("a")),), any_of=any_of)
        assert matches(found, asks("VEVENT", props=(prop,))) is any_of


def test_available_times_of_an_availability() -> None:
    found = calendar(
        component(
            "VAVAILABILITY",
            "BEGIN:AVAILABLE",
            "UID:a",
            "DTSTART:20240610T080000Z",
            "DTEND:20240610T170000Z",
            "RRULE:FREQ=DAILY",
            "END:AVAILABLE",
        )
    )
    for start, answer in (("202507010900", True), ("202507011800", False)):
        wanted = Filter("AVAILABLE", time_range=TimeRange(at(start), at(start) + 60))
        assert matches(found, asks("VAVAILABILITY", components=(wanted,))) is answer


def test_what_the_index_is_asked() -> None:
    span = within("20240601", "20240701")
    alone = asks("VEVENT", time_range=span)
    assert prefilter(alone) == Candidates("VEVENT", span.start, span.end, True)
    assert prefilter(asks("VEVENT")) == Candidates("VEVENT", None, None, True)
    assert prefilter(asks("VEVENT", time_range=span, props=(summary("x"),))) == Candidates(
        "VEVENT", span.start, span.end, False
    )
    assert prefilter(asks("VTODO", is_not_defined=True)) is None
    assert prefilter(Filter("VCALENDAR")) is None
    two = Filter("VCALENDAR", components=(Filter("VTIMEZONE"), Filter("VEVENT", time_range=span)))
    assert prefilter(two) == Candidates("VEVENT", span.start, span.end, False)
    assert certain(None, Candidates("VEVENT", None, None, True)) is True
    assert certain(None, Candidates("VEVENT", 1, 2, True)) is None
    assert certain(times_of(calendar(event(NOON))), Candidates("VEVENT", 1, 2, False)) is None


def test_plain_events_need_no_reading() -> None:
    asked = Candidates("VEVENT", at("20240601"), at("20240701"), True)
    for lines in ([NOON, "DURATION:PT1H"], [NOON], ["DTSTART;VALUE=DATE:20240610"], [NOON, "RRULE:FREQ=DAILY"]):
        assert certain(times_of(calendar(event(*lines))), asked, BERLIN) is True


@pytest.mark.parametrize(
    "wrong",
    [
        Filter("VEVENT"),
        asks("VTIMEZONE", time_range=within("20240601", None)),
        asks("VEVENT", time_range=TimeRange()),
        asks("VEVENT", time_range=within("20240602", "20240601")),
        asks("VEVENT", is_not_defined=True, props=(summary("x"),)),
        asks("VEVENT", props=(PropFilter("SUMMARY", time_range=within("20240601", None)),)),
        asks("VEVENT", props=(PropFilter("SUMMARY", is_not_defined=True, text=TextMatch("x")),)),
    ],
)
def test_filters_that_mean_nothing(wrong: Filter) -> None:
    with pytest.raises(Violated) as raised:
        validated(wrong)
    assert raised.value.condition == "valid-filter"


def test_filters_that_mean_something() -> None:
    for one in (Filter("VCALENDAR"), asks("VEVENT", time_range=within("20240601", None), props=(summary("x"),))):
        assert validated(one) is one


hours = st.integers(0, 24 * 40)


@settings(max_examples=80, deadline=None)
@given(
    start=hours,
    long=st.integers(0, 30),
    form=st.sampled_from(["Z", "", ";TZID=Europe/Berlin", "DATE"]),
    rule=st.sampled_from(
        ["", "FREQ=DAILY", "FREQ=DAILY;COUNT=5", "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE", "FREQ=HOURLY;COUNT=7"]
    ),
    asked=st.tuples(hours, st.integers(1, 50)),
    zone=st.sampled_from([UTC, BERLIN, TOKYO]),
)  # fmt: skip
def test_the_index_says_what_the_object_says(
    start: int, long: int, form: str, rule: str, asked: tuple[int, int], zone: object
) -> None:
    moment = naive(at("20240315") + start * 3600)
    if form == "DATE":
        lines = [f"DTSTART;VALUE=DATE:{moment:%Y%m%d}"]
        rule = "" if "HOURLY" in rule else rule
    else:
        lines = [f"DTSTART{form if form != 'Z' else ''}:{moment:%Y%m%dT%H%M%S}{'Z' if form == 'Z' else ''}"]
        lines.append(f"DURATION:PT{long}H")
    found = calendar(event(*lines, *([f"RRULE:{rule}"] if rule else [])))
    low = at("20240315") + asked[0] * 3600
    wanted = asks("VEVENT", time_range=TimeRange(low, low + asked[1] * 1800))
    candidates = prefilter(wanted)
    assert candidates is not None
    answer = matches(found, wanted, zone)  # type: ignore[arg-type]
    times = times_of(found)
    assert certain(times, candidates, zone) in (answer, None)  # type: ignore[arg-type]
    if answer:
        assert times.first < low + asked[1] * 1800 and times.last > low
