"""storage.icalendar.partial: what a calendar-data element asks for (RFC 4791 §9.6)."""

from __future__ import annotations

from datetime import datetime

import pytest

from storage.icalendar.checked import CalendarObject, checked
from storage.icalendar.contentlines import read
from storage.icalendar.filter import TimeRange
from storage.icalendar.partial import CalendarData, CompData, PropData, partial
from storage.icalendar.rules import TooMuch
from storage.icalendar.values import UTC, Zone, unix
from storage.icalendar.zones import named

ZONE = """BEGIN:VTIMEZONE
TZID:Europe/Berlin
BEGIN:STANDARD
DTSTART:19701025T030000
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:19700329T020000
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=3
END:DAYLIGHT
END:VTIMEZONE"""

SERIES = """BEGIN:VEVENT
UID:u
DTSTAMP:20240101T000000Z
DTSTART;TZID=Europe/Berlin:20240325T100000
DTEND;TZID=Europe/Berlin:20240325T110000
RRULE:FREQ=WEEKLY;COUNT=6
EXDATE;TZID=Europe/Berlin:20240408T100000
SUMMARY:we
 ekly
BEGIN:VALARM
TRIGGER:-PT5M
ACTION:DISPLAY
END:VALARM
END:VEVENT"""

MOVED = """BEGIN:VEVENT
UID:u
DTSTAMP:20240101T000000Z
RECURRENCE-ID;TZID=Europe/Berlin:20240401T100000
DTSTART;TZID=Europe/Berlin:20240402T120000
DURATION:PT2H
SUMMARY:moved
END:VEVENT"""


def octets(*components: str) -> bytes:
    text = "\n".join(["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:x", *components, "END:VCALENDAR", ""])
    return text.replace("\n", "\r\n").encode()


def calendar(*components: str) -> CalendarObject:
    return checked(octets(*components))


def span(start: str, end: str) -> TimeRange:
    return TimeRange(*(unix(datetime.strptime(one, "%Y%m%d")) for one in (start, end)))


def lines(data: bytes) -> list[str]:
    assert data.endswith(b"END:VCALENDAR\r\n") and b"\n" not in data.replace(b"\r\n", b"")
    return data.replace(b"\r\n ", b"").decode().split("\r\n")


WHOLE = calendar(ZONE, SERIES, MOVED)


def test_what_is_asked_whole_is_as_it_is() -> None:
    assert partial(WHOLE, CalendarData()) is WHOLE.data
    assert partial(WHOLE, CalendarData(CompData("VCALENDAR"))) == WHOLE.data


def test_components_and_properties_are_chosen() -> None:
    event = CompData("VEVENT", (PropData("SUMMARY"), PropData("UID"), PropData("DTSTART", no_value=True)), ())
    data = partial(WHOLE, CalendarData(CompData("VCALENDAR", (PropData("VERSION"),), (event,))))
    assert b"SUMMARY:we\r\n ekly\r\n" in data  # as it stands there
    assert lines(data) == [
        "BEGIN:VCALENDAR", "VERSION:2.0",
        "BEGIN:VEVENT", "UID:u", "DTSTART;TZID=Europe/Berlin:", "SUMMARY:weekly", "END:VEVENT",
        "BEGIN:VEVENT", "UID:u", "DTSTART;TZID=Europe/Berlin:", "SUMMARY:moved", "END:VEVENT",
        "END:VCALENDAR", "",
    ]  # fmt: skip


def test_all_properties_and_some_components() -> None:
    asked = CompData("VCALENDAR", (), (CompData("VEVENT", None, (CompData("VALARM", (PropData("ACTION"),)),)),))
    found = read(partial(WHOLE, CalendarData(asked)))
    assert found.properties == [] and [one.name for one in found.components] == ["VEVENT", "VEVENT"]
    assert found.components[0].properties == WHOLE.timed[0].component.properties
    assert [one.name for one in found.components[0].components[0].properties] == ["ACTION"]


def expanded(found: CalendarObject, start: str, end: str, zone: Zone = UTC, **more: object) -> list[dict[str, str]]:
    """Properties of each instance, by name."""
    root = read(partial(found, CalendarData(expand=span(start, end), **more), zone))  # type: ignore[arg-type]
    return [
        {f"{one.name};DATE" if one.parameter("VALUE") == "DATE" else one.name: one.value for one in each.properties}
        for each in root.components
    ]


def test_expansion() -> None:
    found = expanded(WHOLE, "20240401", "20240416")
    assert [(one["RECURRENCE-ID"], one["DTSTART"], one["SUMMARY"]) for one in found] == [
        ("20240401T080000Z", "20240402T100000Z", "moved"),
        ("20240415T080000Z", "20240415T080000Z", "weekly"),
    ]
    assert (found[0]["DURATION"], found[1]["DTEND"]) == ("PT2H", "20240415T090000Z")
    data = partial(WHOLE, CalendarData(expand=span("20240101", "20250101")))
    for gone in (b"VTIMEZONE", b"RRULE", b"EXDATE", b"TZID"):
        assert gone not in data
    assert data.count(b"BEGIN:VEVENT") == 5 and data.count(b"BEGIN:VALARM") == 4


def test_expansion_of_single_events_dates_and_floating_times() -> None:
    single = calendar(SERIES.replace("RRULE:FREQ=WEEKLY;COUNT=6\n", "").replace("EXDATE", "X-DATE"))
    (one,) = expanded(single, "20240301", "20240401")
    assert (one["DTSTART"], one["X-DATE"]) == ("20240325T090000Z", "20240408T080000Z")
    assert "RECURRENCE-ID" not in one
    days = calendar(
        "BEGIN:VEVENT\nUID:u\nDTSTART;VALUE=DATE:20240330\nDTEND;VALUE=DATE:20240401\nRRULE:FREQ=WEEKLY;COUNT=2\nEND:VEVENT"
    )
    found = expanded(days, "20240401", "20240501", named("Europe/Berlin") or UTC)
    assert [(one["RECURRENCE-ID;DATE"], one["DTSTART;DATE"], one["DTEND;DATE"]) for one in found] == [
        ("20240406", "20240406", "20240408")
    ]
    floating = calendar("BEGIN:VEVENT\nUID:u\nDTSTART:20240330T230000\nDTEND:20240331T010000\nEND:VEVENT")
    (one,) = expanded(floating, "20240330", "20240401", named("Europe/Berlin") or UTC)
    assert (one["DTSTART"], one["DTEND"]) == ("20240330T230000", "20240331T010000")


def test_expansion_of_tasks() -> None:
    task = calendar("BEGIN:VTODO\nUID:u\nDUE;TZID=Europe/Berlin:20240325T100000\nRRULE:FREQ=DAILY;COUNT=2\nEND:VTODO")
    found = expanded(task, "20240301", "20240401")
    assert [(one["RECURRENCE-ID"], one["DUE"]) for one in found] == [
        ("20240325T090000Z", "20240325T090000Z"),
        ("20240326T090000Z", "20240326T090000Z"),
    ]
    assert "DTSTART" not in found[0]


def test_expansion_with_chosen_properties() -> None:
    event = CompData("VEVENT", (PropData("SUMMARY"), PropData("DTSTART")), ())
    found = expanded(WHOLE, "20240401", "20240416", component=CompData("VCALENDAR", (), (event,)))
    assert [sorted(one) for one in found] == [["DTSTART", "RECURRENCE-ID", "SUMMARY"]] * 2
    assert expanded(WHOLE, "20240401", "20240416", component=CompData("VCALENDAR", (), ())) == []


def test_an_expansion_has_an_end() -> None:
    many = calendar("BEGIN:VEVENT\nUID:u\nDTSTART:20240101T000000Z\nRRULE:FREQ=MINUTELY\nEND:VEVENT")
    with pytest.raises(TooMuch):
        partial(many, CalendarData(expand=span("20240101", "20250101")))
    large = calendar(
        "BEGIN:VEVENT\nUID:u\nDTSTART:20240101T000000Z\nRRULE:FREQ=HOURLY\nX-A:" + "a" * 100_000 + "\nEND:VEVENT"
    )
    with pytest.raises(TooMuch):
        partial(large, CalendarData(expand=span("20240101", "20240501")))


@pytest.mark.parametrize(
    ("start", "end", "kept"),
    [
        ("20240401", "20240402", True),  # when it would have been
        ("20240402", "20240403", True),  # when it is
        ("20240403", "20240501", False),
        ("20240301", "20240401", False),
    ],
)
def test_a_recurrence_set_is_limited(start: str, end: str, kept: bool) -> None:
    data = partial(WHOLE, CalendarData(limit_recurrence=span(start, end)))
    assert data == (WHOLE.data if kept else octets(ZONE, SERIES))


def test_an_override_for_all_later_ones_stays() -> None:
    future = MOVED.replace("RECURRENCE-ID;", "RECURRENCE-ID;RANGE=THISANDFUTURE;")
    found = calendar(ZONE, SERIES, future)
    assert partial(found, CalendarData(limit_recurrence=span("20240420", "20240430"))) == found.data
    assert partial(found, CalendarData(limit_recurrence=span("20240301", "20240330"))) == octets(ZONE, SERIES)


def test_free_busy_is_limited() -> None:
    found = calendar(
        "BEGIN:VFREEBUSY\nUID:u\nFREEBUSY;FBTYPE=BUSY:20240401T100000Z/PT1H,20240501T100000Z/20240501T110000Z\n"
        "FREEBUSY:20240601T100000Z/PT1H\nFREEBUSY:20240402T100000Z/PT1H\nEND:VFREEBUSY"
    )
    data = partial(found, CalendarData(limit_freebusy=span("20240401", "20240430")))
    assert [line for line in lines(data) if line.startswith("FREEBUSY")] == [
        "FREEBUSY;FBTYPE=BUSY:20240401T100000Z/PT1H",
        "FREEBUSY:20240402T100000Z/PT1H",
    ]


def test_zones_with_a_name_are_left_out() -> None:
    data = partial(WHOLE, CalendarData(with_zones=False))
    assert data == octets(SERIES, MOVED)
    own = calendar(ZONE.replace("Europe/Berlin", "Our time"), SERIES.replace("Europe/Berlin", "Our time"))
    assert partial(own, CalendarData(with_zones=False)) == own.data


def test_lines_of_a_client_that_ends_them_with_lf() -> None:
    found = checked(WHOLE.data.replace(b"\r\n", b"\n"))
    assert partial(found, CalendarData(expand=span("20240301", "20240501"))) == partial(
        WHOLE, CalendarData(expand=span("20240301", "20240501"))
    )
