"""storage.icalendar.splitting: .ics files as the objects that a calendar keeps."""

from __future__ import annotations

from storage.icalendar.checked import checked
from storage.icalendar.splitting import split_calendar

ZONE = b"""BEGIN:VTIMEZONE\r
TZID:%s\r
BEGIN:STANDARD\r
DTSTART:19700101T000000\r
TZOFFSETFROM:+0100\r
TZOFFSETTO:+0100\r
END:STANDARD\r
END:VTIMEZONE\r
"""


def event(uid: str, *lines: str) -> bytes:
    said = ["BEGIN:VEVENT", f"UID:{uid}" if uid else "X-NO:uid", "DTSTAMP:20240101T000000Z", *lines, "END:VEVENT", ""]
    return "\r\n".join(said).encode()


def file(*parts: bytes, head: bytes = b"VERSION:2.0\r\nPRODID:-//a//b//EN\r\n") -> bytes:
    return b"BEGIN:VCALENDAR\r\n" + head + b"".join(parts) + b"END:VCALENDAR\r\n"


START = "DTSTART;TZID=Own/Zone:20240101T100000"


def test_each_uid_is_an_object_with_its_zones() -> None:
    master = event("a", START, "RRULE:FREQ=DAILY;COUNT=3", "SUMMARY:fold\r\n ed")
    override = event("a", START, "RECURRENCE-ID;TZID=Own/Zone:20240101T100000")
    other = event("b", "DTSTART:20240101T100000Z", "BEGIN:VALARM", "UID:x", "TRIGGER:-PT5M", "END:VALARM")
    zones = ZONE % b"Own/Zone" + ZONE % b"Not/Named"
    head = b"VERSION:2.0\r\nMETHOD:PUBLISH\r\nX-WR-CALNAME:x\r\nPRODID:-//a//b//EN\r\nCALSCALE:GREGORIAN\r\n"
    found = list(split_calendar(b"\xef\xbb\xbf" + file(zones, master, other, override, head=head)))
    frame = b"VERSION:2.0\r\nPRODID:-//a//b//EN\r\nCALSCALE:GREGORIAN\r\n"
    assert found == [file(ZONE % b"Own/Zone", master, override, head=frame), file(other, head=frame)]
    assert [checked(one).uid for one in found] == ["a", "b"]


def test_several_calendars_in_one_file() -> None:
    first, second = event("a", "DTSTART:20240101T100000Z"), event("b", "DTSTART;VALUE=DATE:20240101")
    assert list(split_calendar(file(first) + b"\r\n" + file(second))) == [file(first), file(second)]


def test_what_a_file_leaves_out_is_given() -> None:
    data = file(event("", "DTSTART:20240101T100000Z"), head=b"")
    (once,), (again,) = split_calendar(data), split_calendar(data)
    assert once == again and checked(once).uid
    assert b"VERSION:2.0\r\nPRODID:" in once


def test_bare_line_feeds_other_charsets_and_rubbish() -> None:
    data = file(event("a", "DTSTART:20240101T100000Z", "SUMMARY:Caf@\x07")).replace(b"\r\n", b"\n")
    (one,) = split_calendar(data.replace(b"@", b"\xe9"))
    assert "SUMMARY:Café\n".encode() in one and checked(one).uid == "a"
    for rubbish in (b"", b"x", b"END:VCALENDAR", b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nEND:VCALENDAR\r\n"):
        assert list(split_calendar(rubbish)) == []
