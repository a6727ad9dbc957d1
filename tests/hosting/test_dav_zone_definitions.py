"""Definitions of standard zones: what they say is what the list of zones says."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from hosting.dav.calendars.definitions import definition
from hosting.dav.calendars.zones import zone_id_of, zone_of_id
from hosting.dav.errors import Refused
from storage.icalendar.contentlines import read
from storage.icalendar.zones import defined

NAMES = (
    "Europe/Zurich",
    "America/New_York",
    "Australia/Lord_Howe",  # half an hour
    "America/Santiago",  # a Sunday that is no nth one
    "Africa/Casablanca",  # by the moon
    "Europe/Dublin",  # summer is standard time
    "Asia/Tokyo",
    "Asia/Kathmandu",
    "UTC",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_definition_says_what_the_list_says(name: str) -> None:
    zone = defined(read(b"BEGIN:VCALENDAR\r\n" + definition(name) + b"END:VCALENDAR\r\n").components[0])
    for seconds in range(0, 2_840_000_000, 9_999_999):  # 1970 to 2059
        clock = datetime.fromtimestamp(seconds, UTC).astimezone(ZoneInfo(name)).replace(tzinfo=None)
        assert zone.local(seconds) == clock, (seconds, clock)


def test_a_zone_that_follows_a_rule_is_short_and_goes_on() -> None:
    text = definition("Europe/Zurich").decode()
    assert "RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU" in text
    assert "DTSTART:19810329T020000" in text  # in the time before (RFC 5545 §3.6.5)
    zone = defined(read(b"BEGIN:VCALENDAR\r\n" + definition("Europe/Zurich") + b"END:VCALENDAR\r\n").components[0])
    assert zone.local(4_118_083_200) == datetime(2100, 7, 1, 2)


def test_names_that_nobody_knows() -> None:
    assert zone_id_of(zone_of_id("Europe/Zurich")) == "Europe/Zurich"
    assert zone_id_of("") is None
    with pytest.raises(Refused):
        zone_of_id("Mars/Olympus")
