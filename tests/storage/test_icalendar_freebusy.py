"""storage.icalendar.freebusy: when somebody is busy (RFC 4791 §7.10, RFC 7953 §5)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.icalendar.checked import CalendarObject, checked
from storage.icalendar.contentlines import Property
from storage.icalendar.freebusy import Busy, BusyType, FreeBusy, freebusy, gaps, merged, together, written_freebusy
from storage.icalendar.limits import CalendarLimits
from storage.icalendar.values import UTC, Zone, naive, unix
from storage.icalendar.zones import named

ME = "mailto:me@example.org"
BERLIN = named("Europe/Berlin")


def at(text: str) -> int:
    return unix(datetime.strptime(text.ljust(12, "0"), "%Y%m%d%H%M"))


def calendar(name: str, *lines: str) -> CalendarObject:
    said = "\r\n".join([f"BEGIN:{name}", "UID:u", *lines, f"END:{name}"])
    return checked(f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\n{said}\r\nEND:VCALENDAR\r\n".encode())


def event(*lines: str) -> CalendarObject:
    return calendar("VEVENT", *lines)


def day(
    *objects: CalendarObject, start: str = "20240610", end: str = "20240611", zone: Zone = UTC, me: Iterable[str] = ()
) -> list[str]:
    """Busy times of a day, as hours."""
    found = freebusy(objects, at(start), at(end), zone, me)
    return [f"{naive(one.start):%H%M}-{naive(one.end):%H%M} {one.type}" for one in found]


NOON = ("DTSTART:20240610T120000Z", "DTEND:20240610T130000Z")


@pytest.mark.parametrize(
    ("lines", "busy"),
    [
        ([*NOON], ["1200-1300 BUSY"]),
        ([*NOON, "TRANSP:TRANSPARENT"], []),
        ([*NOON, "TRANSP:OPAQUE", "STATUS:CONFIRMED"], ["1200-1300 BUSY"]),
        ([*NOON, "STATUS:CANCELLED"], []),
        ([*NOON, "STATUS:tentative"], ["1200-1300 BUSY-TENTATIVE"]),
        (["DTSTART:20240610T120000Z"], []),
        (["DTSTART:20240609T230000Z", "DURATION:PT2H"], ["0000-0100 BUSY"]),
        (["DTSTART;VALUE=DATE:20240610"], ["0000-0000 BUSY"]),
        (["DTSTART:20240601T120000Z", "DURATION:PT1H", "RRULE:FREQ=DAILY"], ["1200-1300 BUSY"]),
        (["DTSTART:20240601T120000Z", "DURATION:PT1H", "RRULE:FREQ=DAILY", "EXDATE:20240610T120000Z"], []),
        (["DTSTART:20240610T120000", "DURATION:PT1H"], ["1200-1300 BUSY"]),
    ],
)
def test_events(lines: list[str], busy: list[str]) -> None:
    assert day(event(*lines)) == busy


def test_all_day_is_the_day_of_who_is_asked() -> None:
    assert BERLIN is not None
    assert day(event("DTSTART;VALUE=DATE:20240610"), zone=BERLIN) == ["0000-2200 BUSY"]
    assert day(event("DTSTART;VALUE=DATE:20240611"), zone=BERLIN) == ["2200-0000 BUSY"]


@pytest.mark.parametrize(
    ("answer", "busy"),
    [
        (";PARTSTAT=ACCEPTED", "BUSY"),
        (";PARTSTAT=TENTATIVE", "BUSY-TENTATIVE"),
        (";PARTSTAT=NEEDS-ACTION", "BUSY-TENTATIVE"),
        ("", "BUSY-TENTATIVE"),
        (";PARTSTAT=DECLINED", None),
        (";PARTSTAT=DELEGATED", None),
    ],
)
def test_answers_to_invitations(answer: str, busy: str | None) -> None:
    invited = event(*NOON, "ORGANIZER:mailto:boss@example.org", f"ATTENDEE{answer}:MAILTO:Me@example.org")
    assert day(invited, me=[ME]) == ([f"1200-1300 {busy}"] if busy else [])
    assert day(invited) == ["1200-1300 BUSY"]
    own = event(*NOON, f"ORGANIZER:{ME}", f"ATTENDEE{answer}:{ME}", "ATTENDEE;PARTSTAT=DECLINED:mailto:b@example.org")
    assert day(own, me=[ME]) == (["1200-1300 BUSY"] if busy else [])


def test_an_answer_for_one_instance() -> None:
    data = (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\n"
        "BEGIN:VEVENT\r\nUID:u\r\nDTSTART:20240609T120000Z\r\nDURATION:PT1H\r\nRRULE:FREQ=DAILY\r\n"
        f"ORGANIZER:mailto:b@example.org\r\nATTENDEE;PARTSTAT=ACCEPTED:{ME}\r\nEND:VEVENT\r\n"
        "BEGIN:VEVENT\r\nUID:u\r\nRECURRENCE-ID:20240610T120000Z\r\nDTSTART:20240610T120000Z\r\nDURATION:PT1H\r\n"
        f"ORGANIZER:mailto:b@example.org\r\nATTENDEE;PARTSTAT=DECLINED:{ME}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    found = freebusy([checked(data.encode())], at("20240609"), at("20240612"), UTC, [ME])
    assert [f"{naive(one.start):%d}" for one in found] == ["09", "11"]


def test_periods_are_merged_by_their_type() -> None:
    objects = [
        event(*NOON),
        event("DTSTART:20240610T123000Z", "DURATION:PT1H"),
        event("DTSTART:20240610T133000Z", "DURATION:PT30M"),
        event("DTSTART:20240610T123000Z", "DURATION:PT3H", "STATUS:TENTATIVE"),
        calendar("VTODO", "DTSTART:20240610T080000Z", "DURATION:PT1H"),
        calendar("VJOURNAL", "DTSTART:20240610T080000Z"),
    ]
    assert day(*objects) == ["1200-1400 BUSY", "1230-1530 BUSY-TENTATIVE"]


def test_what_somebody_else_found_out() -> None:
    found = calendar(
        "VFREEBUSY",
        "FREEBUSY:20240610T080000Z/PT1H,20240609T080000Z/PT1H",
        "FREEBUSY;FBTYPE=BUSY-UNAVAILABLE:20240610T100000Z/20240610T110000Z",
        "FREEBUSY;FBTYPE=FREE:20240610T120000Z/PT1H",
        "FREEBUSY;FBTYPE=X-OTHER:20240610T140000Z/PT1H",
    )
    assert day(found) == ["0800-0900 BUSY", "1000-1100 BUSY-UNAVAILABLE", "1400-1500 BUSY"]


def availability(*lines: str, hours: str = "0900/1700", rule: str = "FREQ=DAILY") -> CalendarObject:
    start, _, end = hours.partition("/")
    return calendar(
        "VAVAILABILITY",
        *lines,
        "BEGIN:AVAILABLE",
        "UID:a",
        f"DTSTART:20240603T{start}00Z",
        f"DTEND:20240603T{end}00Z",
        f"RRULE:{rule}",
        "END:AVAILABLE",
    )


@pytest.mark.parametrize(
    ("objects", "busy"),
    [
        ([availability()], ["0000-0900 BUSY-UNAVAILABLE", "1700-0000 BUSY-UNAVAILABLE"]),
        ([availability("BUSYTYPE:BUSY-TENTATIVE")], ["0000-0900 BUSY-TENTATIVE", "1700-0000 BUSY-TENTATIVE"]),
        ([availability("DTSTART:20240610T060000Z", "DTEND:20240610T200000Z")],
         ["0600-0900 BUSY-UNAVAILABLE", "1700-2000 BUSY-UNAVAILABLE"]),
        ([availability("DTSTART:20240610T060000Z", "DURATION:PT4H")], ["0600-0900 BUSY-UNAVAILABLE"]),
        ([availability("DTSTART:20240701T000000Z")], []),
        ([availability(rule="FREQ=WEEKLY;BYDAY=TU")], ["0000-0000 BUSY-UNAVAILABLE"]),
        ([availability(), event(*NOON)],
         ["0000-0900 BUSY-UNAVAILABLE", "1200-1300 BUSY", "1700-0000 BUSY-UNAVAILABLE"]),
        # a higher priority covers a lower one for as long as it lasts, and no longer
        ([availability("PRIORITY:1", "DTSTART:20240610T080000Z", "DTEND:20240610T120000Z", hours="1000/1100"),
          availability("PRIORITY:5")],
         ["0000-1000 BUSY-UNAVAILABLE", "1100-1200 BUSY-UNAVAILABLE", "1700-0000 BUSY-UNAVAILABLE"]),
        ([availability("DTSTART:20240610T080000Z", "DTEND:20240610T120000Z", hours="1000/1100"),
          availability("PRIORITY:9")],
         ["0000-0900 BUSY-UNAVAILABLE", "1700-0000 BUSY-UNAVAILABLE"]),
    ],
)  # fmt: skip
def test_availability(objects: list[CalendarObject], busy: list[str]) -> None:
    assert day(*objects) == busy


def test_what_recurs_without_sense_counts_as_busy() -> None:
    dense = event("DTSTART:19700101T000000Z", "RRULE:FREQ=MINUTELY", "DURATION:PT1S")
    dense = checked(dense.data, CalendarLimits(max_steps=10_000))
    found = freebusy([dense], at("20200101"), at("20300101"))
    assert found == [Busy(at("20200101"), at("20300101"), BusyType.BUSY)]


def test_several_calendars_of_one_person() -> None:
    periods = [Busy(10, 20, BusyType.BUSY), Busy(5, 12, BusyType.TENTATIVE), Busy(15, 30, BusyType.BUSY)]
    assert together(periods) == [Busy(5, 12, BusyType.TENTATIVE), Busy(10, 30, BusyType.BUSY)]


def test_how_it_is_written() -> None:
    start, end = at("20240610"), at("20240611")
    periods = [Busy(at("202406101200"), at("202406101300"), BusyType.TENTATIVE), Busy(start, start + 60, BusyType.BUSY)]
    data = written_freebusy(
        periods, start, end, stamp=start, uid="u", method="REPLY",
        organizer=Property("ORGANIZER", "mailto:b@example.org"), attendee=Property("ATTENDEE", ME),
    )  # fmt: skip
    assert data.decode().split("\r\n") == [
        "BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Cleanmail//Free-busy//EN", "METHOD:REPLY", "BEGIN:VFREEBUSY",
        "DTSTAMP:20240610T000000Z", "DTSTART:20240610T000000Z", "DTEND:20240611T000000Z", "UID:u",
        "ORGANIZER:mailto:b@example.org", f"ATTENDEE:{ME}",
        "FREEBUSY;FBTYPE=BUSY:20240610T000000Z/20240610T000100Z",
        "FREEBUSY;FBTYPE=BUSY-TENTATIVE:20240610T120000Z/20240610T130000Z",
        "END:VFREEBUSY", "END:VCALENDAR", "",
    ]  # fmt: skip
    again = FreeBusy(start, end)
    again.add(checked(written_freebusy(periods, start, end, stamp=start, uid="u")))
    assert again.periods() == sorted(periods)


spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12)


@given(spans, st.integers(0, 30), st.integers(30, 60))
def test_merged_spans_and_their_gaps_are_the_same_time(found: list[tuple[int, int]], low: int, high: int) -> None:
    covered = {minute for start, end in found for minute in range(start, end)}
    result = merged(found)
    assert {minute for start, end in result for minute in range(start, end)} == covered
    assert all(one[1] < other[0] for one, other in pairwise(result))
    free = {minute for start, end in gaps(result, low, high) for minute in range(start, end)}
    assert free == set(range(low, high)) - covered
