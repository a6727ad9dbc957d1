"""storage.icalendar.zones: names before definitions, definitions as zoneinfo has them, gaps and folds."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.icalendar.contentlines import Malformed, read
from storage.icalendar.limits import CalendarLimits
from storage.icalendar.rules import TooMuch
from storage.icalendar.values import UTC, naive, unix
from storage.icalendar.zones import Zones, defined, named, zone_of


def definition(tzid: str, body: str) -> str:
    return f"BEGIN:VTIMEZONE\nTZID:{tzid}\n{body.strip()}\nEND:VTIMEZONE\n"


BERLIN = """
BEGIN:DAYLIGHT
DTSTART:19810329T020000
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU
END:DAYLIGHT
BEGIN:STANDARD
DTSTART:19961027T030000
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU
END:STANDARD
"""
NEW_YORK = """
BEGIN:DAYLIGHT
DTSTART:19870405T020000
TZOFFSETFROM:-0500
TZOFFSETTO:-0400
RRULE:FREQ=YEARLY;BYDAY=1SU;BYMONTH=4;UNTIL=20060402T070000Z
END:DAYLIGHT
BEGIN:STANDARD
DTSTART:19671029T020000
TZOFFSETFROM:-0400
TZOFFSETTO:-0500
RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10;UNTIL=20061029T060000Z
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:20070311T020000
TZOFFSETFROM:-0500
TZOFFSETTO:-0400
RRULE:FREQ=YEARLY;BYDAY=2SU;BYMONTH=3
END:DAYLIGHT
BEGIN:STANDARD
DTSTART:20071104T020000
TZOFFSETFROM:-0400
TZOFFSETTO:-0500
RRULE:FREQ=YEARLY;BYDAY=1SU;BYMONTH=11
END:STANDARD
"""
MOSCOW = """
BEGIN:STANDARD
DTSTART:20101031T030000
TZOFFSETFROM:+0400
TZOFFSETTO:+0300
END:STANDARD
BEGIN:STANDARD
DTSTART:20110327T020000
TZOFFSETFROM:+0300
TZOFFSETTO:+0400
END:STANDARD
BEGIN:STANDARD
DTSTART:20141026T020000
TZOFFSETFROM:+0400
TZOFFSETTO:+0300
END:STANDARD
"""


def own(body: str) -> Zones:
    return Zones(read(f"BEGIN:VCALENDAR\n{definition('Own', body)}END:VCALENDAR\n".encode()))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(
        [("Europe/Berlin", BERLIN, 1997), ("America/New_York", NEW_YORK, 1988), ("Europe/Moscow", MOSCOW, 2011)]
    ),
    st.data(),
)
def test_a_definition_is_as_the_zone_it_describes(which: tuple[str, str, int], data: st.DataObject) -> None:
    name, body, since = which
    zone, real = own(body).find("Own"), named(name)
    assert zone is not None and real is not None
    local = data.draw(st.datetimes(datetime(since, 2, 1), datetime(2090, 1, 1))).replace(fold=0)
    around = data.draw(
        st.sampled_from([local, local.replace(month=3, day=29, hour=2), local.replace(month=11, day=1, hour=1)])
    )
    assert zone.seconds(around) == real.seconds(around)
    assert zone.local(unix(around)) == real.local(unix(around))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Africa/Casablanca"]),
    st.integers(-5_000_000_000, 20_000_000_000),
)
def test_there_and_back(name: str, seconds: int) -> None:
    zone = named(name)
    assert zone is not None
    local = zone.local(seconds)
    assert local == datetime.fromtimestamp(seconds, ZoneInfo(name)).replace(tzinfo=None)
    assert 0 <= seconds - zone.seconds(local) <= 7200  # the second of two with one name


@pytest.mark.parametrize("zone", [named("Europe/Berlin"), own(BERLIN).find("Own")])
def test_gaps_and_folds(zone: object) -> None:  # RFC 5545 §3.3.5
    assert zone is not None
    seconds = zone.seconds  # type: ignore[attr-defined]
    assert naive(seconds(datetime(2026, 3, 29, 2, 30))) == datetime(2026, 3, 29, 1, 30)  # by the offset before
    assert naive(seconds(datetime(2026, 3, 29, 3, 30))) == datetime(2026, 3, 29, 1, 30)
    assert naive(seconds(datetime(2026, 10, 25, 2, 30))) == datetime(2026, 10, 25, 0, 30)  # the first


@pytest.mark.parametrize(
    ("tzid", "name"),
    [
        ("Europe/Zurich", "Europe/Zurich"),
        ("europe/zurich", "Europe/Zurich"),
        ("/freeassociation.sourceforge.net/Europe/Zurich", "Europe/Zurich"),
        ("/mozilla.org/20050126_1/America/Argentina/Buenos_Aires", "America/Argentina/Buenos_Aires"),
        ("W. Europe Standard Time", "Europe/Berlin"),
        ("Pacific Standard Time", "America/Los_Angeles"),
        ("Pacific Standard Time (Mexico)", "America/Tijuana"),
        ("UTC", "UTC"),
        ("Etc/UTC", "UTC"),
        ("EST", "EST"),
    ],
)
def test_names_without_a_definition(tzid: str, name: str) -> None:  # RFC 7809 §3.1.1
    zone = named(tzid)
    assert zone is not None
    assert zone.name == name


@pytest.mark.parametrize(
    "tzid", ["", "Nowhere", "Europe", "../../etc/passwd", "Europe/../UTC", "\0", "x" * 10_000, "a/" * 99]
)
def test_names_that_nobody_knows(tzid: str) -> None:
    assert named(tzid) is None


def test_a_known_name_counts_for_more_than_its_definition() -> None:
    old = "BEGIN:STANDARD\nDTSTART:19700101T000000\nTZOFFSETFROM:+0500\nTZOFFSETTO:+0500\nEND:STANDARD\n"

    def found(tzid: str, more: str = "") -> int:
        data = f"BEGIN:VCALENDAR\n{definition(tzid, more + old)}END:VCALENDAR\n"
        zone = Zones(read(data.encode())).find(tzid)
        assert zone is not None
        return unix(datetime(2026, 1, 1)) - zone.seconds(datetime(2026, 1, 1))

    assert found("Europe/Berlin") == 3600
    assert found("W. Europe Standard Time") == 3600
    assert found("My zone", "X-LIC-LOCATION:Europe/Berlin\n") == 3600
    assert found("My zone") == 5 * 3600
    assert found("EST") == 5 * 3600  # an abbreviation means what is said beside it


def test_the_zone_of_a_calendar() -> None:  # RFC 4791 §5.2.2
    assert zone_of(f"BEGIN:VCALENDAR\n{definition('Europe/Berlin', BERLIN)}END:VCALENDAR\n".encode()) is named(
        "Europe/Berlin"
    )
    for broken in (
        "BEGIN:VCALENDAR\nEND:VCALENDAR\n",
        f"BEGIN:VCALENDAR\n{definition('a', BERLIN) * 2}END:VCALENDAR\n",
        definition("a", BERLIN),
        f"BEGIN:VCALENDAR\n{definition('Europe/Berlin', BERLIN.replace('+0100', 'x'))}END:VCALENDAR\n",
    ):
        with pytest.raises(Malformed):
            zone_of(broken.encode())


def test_utc_is_one() -> None:
    assert named("UTC") is UTC is named("Etc/UTC")


@pytest.mark.parametrize(
    "rule",
    [
        "RRULE:FREQ=SECONDLY",
        "RRULE:FREQ=SECONDLY;COUNT=999999999",
        "RRULE:FREQ=MINUTELY;UNTIL=20300101T000000Z",
        "RDATE:20260101T000000" + ",20260101T000000" * 50_000,
    ],
)
def test_definitions_without_sense_are_given_up(rule: str) -> None:
    part = "BEGIN:STANDARD\nDTSTART:19700101T000000\nTZOFFSETFROM:+0100\nTZOFFSETTO:+0200\n%s\nEND:STANDARD\n"
    root = read(f"BEGIN:VCALENDAR\n{definition('Own', part % rule)}END:VCALENDAR\n".encode())
    with pytest.raises(TooMuch):
        defined(root.components[0], CalendarLimits(max_steps=20_000)).seconds(datetime(2026, 1, 1))
