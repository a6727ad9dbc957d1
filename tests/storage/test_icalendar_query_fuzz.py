"""What calendar reports ask of objects, fuzzed for a while, and on objects that mean harm."""

from __future__ import annotations

import pytest

from scripts.fuzz.calendar_query import run
from storage.icalendar.checked import CalendarObject, checked
from storage.icalendar.filter import Filter, PropFilter, TimeRange, matches, may_match
from storage.icalendar.freebusy import freebusy
from storage.icalendar.limits import CalendarLimits
from storage.icalendar.partial import CalendarData, CompData, PropData, partial
from storage.icalendar.rules import TooMuch
from storage.icalendar.textmatch import Collation, TextMatch

YEAR = TimeRange(1_704_067_200, 1_735_689_600)  # 2024
SECOND = TimeRange(1_720_000_001, 1_720_000_002)
EVER = TimeRange(1_704_067_200, None)


ALARM = ["BEGIN:VALARM", "TRIGGER:-PT1M", "REPEAT:9999", "DURATION:PT1S", "END:VALARM"]


def calendar(*lines: str) -> CalendarObject:
    text = "\r\n".join(["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:x", *lines, "END:VCALENDAR", ""])
    return checked(text.encode(), CalendarLimits(max_steps=30_000))


def event(*lines: str) -> list[str]:
    return ["BEGIN:VEVENT", "UID:u", *lines, "END:VEVENT"]


def override(number: int) -> list[str]:
    at = f"2024{number // 672 + 1:02}{number // 24 % 28 + 1:02}T{number % 24:02}0000Z"
    return event(f"RECURRENCE-ID:{at}", "DTSTART:20240101T003000Z", *ALARM)


HOSTILE = {
    "every second, never": event("DTSTART:20240101T000000Z", "RRULE:FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30"),
    "every second": event("DTSTART:19700101T000000Z", "DURATION:PT1S", "RRULE:FREQ=SECONDLY"),
    "alarms": event("DTSTART:20240101T000000Z", "RRULE:FREQ=HOURLY", *(ALARM * 200)),
    "exceptions": event(
        "DTSTART:20200101T000000Z",
        "RRULE:FREQ=HOURLY",
        *["EXDATE:" + ",".join(f"2024{n // 28 % 12 + 1:02}{n % 28 + 1:02}T{n % 24:02}0000Z" for n in range(100))] * 90,
    ),
    "overrides": [
        *event("DTSTART:20240101T000000Z", "RRULE:FREQ=HOURLY"),
        *(
            line
            for n in range(1000)
            for line in override(n)
        ),
    ],
    "alarms that are long over": event(
        "DTSTART:20240101T000000Z",
        "RRULE:FREQ=HOURLY",
        *[line.replace("-PT1M", f"-PT{n}M") for n in range(1, 200) for line in ALARM],
    ),
    "properties": event("DTSTART:20240101T000000Z", *["X-A;B=c;D=\"e,f\":g"] * 10_000),
    "one long value": event("DTSTART:20240101T000000Z", "DESCRIPTION:" + "\\," * 100_000),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_objects_that_mean_harm_are_asked_soon(case: str) -> None:
    found = calendar(*HOSTILE[case])
    texts = tuple(PropFilter("X-A", text=TextMatch("z", collation)) for collation in Collation)
    alarm = Filter("VALARM", time_range=EVER)
    for asked in (
        Filter("VEVENT", time_range=YEAR, props=texts),
        Filter("VEVENT", time_range=EVER, components=(alarm,)),
        Filter("VEVENT", components=(Filter("VALARM", time_range=SECOND),)),
        Filter("VEVENT", props=(PropFilter("DTSTART", time_range=EVER),)),
    ):
        filter_ = Filter("VCALENDAR", components=(asked,))
        assert matches(found, filter_) in (True, False) and may_match(found.data, filter_) in (True, False)
    busy = freebusy([found], YEAR.start or 0, YEAR.end or 0)
    assert busy == sorted(busy)
    chosen = CalendarData(CompData("VCALENDAR", (), (CompData("VEVENT", (PropData("UID"),), ()),)))
    assert len(partial(found, chosen)) < len(found.data)
    assert len(partial(found, CalendarData(limit_recurrence=YEAR))) <= len(found.data)
    try:
        partial(found, CalendarData(expand=YEAR))
    except TooMuch as error:
        assert error.public


def test_the_fuzzer_for_a_while() -> None:
    number, taken = run(seed=7, count=400)
    assert number == 400 and taken > 60
