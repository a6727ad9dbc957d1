"""storage.icalendar.checked and content: what real clients send is taken, what two clients would read as two is not."""

from __future__ import annotations

import re

import icalendar
import pytest

from storage.collections.conditions import Violated
from storage.icalendar.checked import checked, parsed
from storage.icalendar.content import calendar_content
from storage.icalendar.instances import overlapping
from storage.icalendar.limits import CalendarLimits


def calendar(body: str, head: str = "VERSION:2.0\nPRODID:-//x//EN\n") -> bytes:
    return f"BEGIN:VCALENDAR\n{head}{body.strip()}\nEND:VCALENDAR\n".replace("\n", "\r\n").encode()


def event(lines: str, kind: str = "VEVENT") -> bytes:
    return calendar(f"BEGIN:{kind}\nUID:u\nDTSTAMP:20260101T000000Z\n{lines.strip()}\nEND:{kind}")


APPLE = """
BEGIN:VTIMEZONE
TZID:Europe/Zurich
BEGIN:DAYLIGHT
TZOFFSETFROM:+0100
RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU
DTSTART:19810329T020000
TZNAME:MESZ
TZOFFSETTO:+0200
END:DAYLIGHT
BEGIN:STANDARD
TZOFFSETFROM:+0200
RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU
DTSTART:19961027T030000
TZNAME:MEZ
TZOFFSETTO:+0100
END:STANDARD
END:VTIMEZONE
BEGIN:VEVENT
CREATED:20260101T100000Z
UID:3F2504E0-4F89-11D3-9A0C-0305E82C3301
DTEND;TZID=Europe/Zurich:20260310T110000
TRANSP:OPAQUE
X-APPLE-TRAVEL-ADVISORY-BEHAVIOR:AUTOMATIC
SUMMARY:Zahnarzt
DTSTART;TZID=Europe/Zurich:20260310T100000
DTSTAMP:20260101T100000Z
SEQUENCE:0
X-APPLE-STRUCTURED-LOCATION;VALUE=URI;X-ADDRESS="Bahnhofstrasse 1\\n8001
  Zürich";X-APPLE-RADIUS=70;X-TITLE=Praxis:geo:47.37,8.54
BEGIN:VALARM
X-WR-ALARMUID:A
UID:A
TRIGGER;VALUE=DATE-TIME:19760401T005545Z
ACTION:NONE
END:VALARM
END:VEVENT
"""
OUTLOOK = """
BEGIN:VTIMEZONE
TZID:W. Europe Standard Time
BEGIN:STANDARD
DTSTART:16010101T030000
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
RRULE:FREQ=YEARLY;INTERVAL=1;BYDAY=-1SU;BYMONTH=10
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:16010101T020000
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
RRULE:FREQ=YEARLY;INTERVAL=1;BYDAY=-1SU;BYMONTH=3
END:DAYLIGHT
END:VTIMEZONE
BEGIN:VEVENT
ATTENDEE;CN="Doe, Jane";CUTYPE=INDIVIDUAL;PARTSTAT=NEEDS-ACTION;ROLE=REQ-PARTICIPANT;RSVP=TRUE:mailto:jane@example.com
ORGANIZER;CN="Muster; Hans":MAILTO:hans@example.com
CLASS:PUBLIC
DESCRIPTION:Line\\nline\\, line\\n
DTSTART;TZID="W. Europe Standard Time":20260310T100000
DTEND;TZID="W. Europe Standard Time":20260310T110000
DTSTAMP:20260101T100000Z
LOCATION:
PRIORITY:5
RRULE:FREQ=WEEKLY;UNTIL=20261231T090000Z;BYDAY=TU;WKST=MO
SEQUENCE:2
SUMMARY;LANGUAGE=de-ch:Sitzung
UID:040000008200E00074C5B7101A82E00800000000
X-MICROSOFT-CDO-BUSYSTATUS:BUSY
END:VEVENT
BEGIN:VEVENT
UID:040000008200E00074C5B7101A82E00800000000
ORGANIZER:mailto:HANS@example.com
RECURRENCE-ID;TZID="W. Europe Standard Time":20260317T100000
DTSTART;TZID="W. Europe Standard Time":20260318T100000
DTEND;TZID="W. Europe Standard Time":20260318T110000
SEQUENCE:3
END:VEVENT
"""
GOOGLE = """
BEGIN:VEVENT
DTSTART;VALUE=DATE:20260310
DTEND;VALUE=DATE:20260312
RRULE:FREQ=YEARLY
DTSTAMP:20260101T000000Z
UID:abc@google.com
CREATED:00001231T000000Z
LAST-MODIFIED:20260101T000000Z
STATUS:CONFIRMED
SUMMARY:Ferien
END:VEVENT
"""
THUNDERBIRD = """
BEGIN:VEVENT
CREATED:20260101T000000Z
LAST-MODIFIED:20260101T000000Z
DTSTAMP:20260101T000000Z
UID:0f9a3f0e
SUMMARY:Call
RRULE:FREQ=DAILY
EXDATE:20260311T090000Z
DTSTART;TZID=/freeassociation.sourceforge.net/Europe/Zurich:20260310T100000
DURATION:PT30M
X-MOZ-LASTACK:20260310T084500Z
X-MOZ-SNOOZE-TIME-1773133200000000:20260310T090000Z
BEGIN:VALARM
ACTION:DISPLAY
TRIGGER;RELATED=START:-PT15M
DESCRIPTION:Mozilla Standardbeschreibung
END:VALARM
END:VEVENT
"""
JTX_TASK = """
BEGIN:VTODO
DTSTAMP:20260101T000000Z
UID:t1
CREATED:20260101T000000Z
SUMMARY:Paint
STATUS:IN-PROCESS
PERCENT-COMPLETE:40
RELATED-TO;RELTYPE=PARENT:t0
DTSTART;TZID=Europe/Vienna:20260310T100000
DURATION:P1D
DUE;TZID=Europe/Vienna:20260311T100000
COLOR:blue
END:VTODO
"""
JTX_JOURNAL = """
BEGIN:VJOURNAL
DTSTAMP:20260101T000000Z
UID:j1
SUMMARY:A note
DESCRIPTION:Text
CATEGORIES:a,b
ATTACH;VALUE=BINARY;ENCODING=BASE64;FMTTYPE=text/plain:aGVsbG8=
END:VJOURNAL
"""
TASKS_ORG = """
BEGIN:VTODO
DTSTAMP:20260101T000000Z
UID:t2
SUMMARY:Water the plants
PRIORITY:9
DUE;VALUE=DATE:20260310
RRULE:FREQ=WEEKLY;INTERVAL=2
X-APPLE-SORT-ORDER:1
END:VTODO
"""
EVOLUTION = """
BEGIN:VTIMEZONE
TZID:/freeassociation.sourceforge.net/America/Toronto
X-LIC-LOCATION:America/Toronto
BEGIN:STANDARD
TZNAME:EST
DTSTART:19671029T020000
TZOFFSETFROM:-0400
TZOFFSETTO:-0500
RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10
END:STANDARD
END:VTIMEZONE
BEGIN:VEVENT
UID:e1
DTSTAMP:20260101T000000Z
DTSTART;TZID=/freeassociation.sourceforge.net/America/Toronto:
 20260310T100000
DTEND;TZID=/freeassociation.sourceforge.net/America/Toronto:
 20260310T103000
SEQUENCE:2
X-EVOLUTION-CALDAV-ETAG:x
CLASS:PUBLIC
END:VEVENT
"""
AVAILABILITY = """
BEGIN:VAVAILABILITY
UID:a1
DTSTAMP:20260101T000000Z
ORGANIZER:mailto:jane@example.com
DTSTART;TZID=America/Montreal:20260101T000000
PRIORITY:1
BEGIN:AVAILABLE
UID:a2
DTSTAMP:20260101T000000Z
SUMMARY:Monday to Friday
DTSTART;TZID=America/Montreal:20260105T090000
DTEND;TZID=America/Montreal:20260105T170000
RRULE:FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR
END:AVAILABLE
END:VAVAILABILITY
"""
CLIENTS = {
    "Apple": (APPLE, "VEVENT", False),
    "Outlook": (OUTLOOK, "VEVENT", True),
    "Google": (GOOGLE, "VEVENT", False),
    "Thunderbird": (THUNDERBIRD, "VEVENT", False),
    "jtx Board, a task": (JTX_TASK, "VTODO", False),
    "jtx Board, a journal entry": (JTX_JOURNAL, "VJOURNAL", False),
    "Tasks.org": (TASKS_ORG, "VTODO", False),
    "Evolution": (EVOLUTION, "VEVENT", False),
    "an availability": (AVAILABILITY, "VAVAILABILITY", True),
}


def lower_names(data: bytes) -> bytes:
    return re.sub(rb"(?m)^[A-Z-]+(?=[:;])", lambda match: match[0].lower(), data)


FORMS = {
    "as sent": lambda data: data,
    "bare LF": lambda data: data.replace(b"\r\n", b"\n"),
    "no line end at the end": lambda data: data.rstrip(),
    "BOM": lambda data: b"\xef\xbb\xbf" + data,
    "names in lower case": lower_names,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("client", CLIENTS)
def test_what_clients_send_is_taken(client: str, form: str) -> None:
    body, component, scheduling = CLIENTS[client]
    data = FORMS[form](calendar(body))
    content = calendar_content(data)
    assert content.data == data
    assert (content.component, content.is_scheduling) == (component, scheduling)
    assert content.uid
    assert content.times is not None
    assert content.content_type == "text/calendar; charset=utf-8"


@pytest.mark.filterwarnings("ignore::UserWarning")  # of a TZID with a path
@pytest.mark.parametrize("client", CLIENTS)
def test_icalendar_reads_the_same(client: str) -> None:
    data = calendar(CLIENTS[client][0])
    theirs = icalendar.Calendar.from_ical(data)
    ours = checked(data)
    assert [str(one["UID"]) for one in theirs.subcomponents if "UID" in one] == [ours.uid] * len(ours.timed)
    for one, timed in zip((each for each in theirs.subcomponents if "UID" in each), ours.timed, strict=True):
        if "DTSTART" in one and timed.start is not None:
            start = one["DTSTART"].dt
            assert (start.year, start.month, start.day) == timed.start.local.timetuple()[:3]


def test_what_an_object_says_of_itself() -> None:
    found = checked(calendar(OUTLOOK))
    assert found.sequence == 3
    assert found.organizer is not None and found.organizer.parameter("CN") == "Muster; Hans"
    assert [one.value for one in found.attendees] == ["mailto:jane@example.com"]
    assert found.master is not None and len(found.overrides) == 1
    assert found.is_scheduling and found.method is None


REFUSED = [
    ("valid-calendar-data", b""),
    ("valid-calendar-data", b"<html>"),
    ("valid-calendar-data", b"BEGIN:VCARD\r\nEND:VCARD\r\n"),
    ("valid-calendar-data", b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\n"),
    ("valid-calendar-data", calendar(GOOGLE, "PRODID:x\n")),
    ("valid-calendar-data", calendar(GOOGLE, "PRODID:x\nVERSION:1.0\n")),
    ("valid-calendar-data", calendar(GOOGLE, "VERSION:2.0\n")),
    ("valid-calendar-data", calendar(GOOGLE, "VERSION:2.0\nVERSION:2.0\nPRODID:x\n")),
    ("supported-calendar-data", calendar(GOOGLE, "VERSION:2.0\nPRODID:x\nCALSCALE:CHINESE\n")),
    ("valid-calendar-object-resource", calendar(GOOGLE, "VERSION:2.0\nPRODID:x\nMETHOD:PUBLISH\n")),
    ("valid-calendar-object-resource", calendar("")),
    ("valid-calendar-object-resource", calendar(GOOGLE + JTX_TASK)),
    ("valid-calendar-object-resource", calendar(GOOGLE + THUNDERBIRD)),
    ("valid-calendar-object-resource", calendar(GOOGLE + GOOGLE)),
    ("valid-calendar-object-resource", calendar("BEGIN:VEVENT\nDTSTART:20260101T000000Z\nEND:VEVENT")),
    ("valid-calendar-object-resource", calendar("BEGIN:VEVENT\nUID:\nDTSTART:20260101T000000Z\nEND:VEVENT")),
    (
        "valid-calendar-object-resource",
        calendar("BEGIN:VEVENT\nUID:u\nRECURRENCE-ID:20260101T000000Z\nDTSTART:20260101T000000Z\nEND:VEVENT\n" * 2),
    ),
    ("supported-calendar-component", calendar("BEGIN:VPOLL\nUID:u\nEND:VPOLL")),
    ("valid-calendar-data", event("SUMMARY:no start")),
    ("valid-calendar-data", event("DTSTART:20260101T000000Z\nDTSTART:20260101T000000Z")),
    ("valid-calendar-data", event("DTSTART:20260101T000000Z\nUID:v")),
    ("valid-calendar-data", event("DTSTART:20261301T000000Z")),
    ("valid-calendar-data", event("DTSTART:20260229T000000Z")),
    ("valid-calendar-data", event("DTSTART:20260101T250000Z")),
    ("valid-calendar-data", event("DTSTART:yesterday")),
    ("valid-calendar-data", event("DTSTART;VALUE=DATE:20260101T000000")),
    ("valid-timezone", event("DTSTART;TZID=Nowhere/Else:20260101T000000")),
    ("valid-calendar-data", event("DTSTART:20260102T000000Z\nDTEND:20260101T000000Z")),
    ("valid-calendar-data", event("DTSTART:20260101T000000Z\nDTEND:20260101T010000Z\nDURATION:PT1H")),
    ("valid-calendar-data", event("DTSTART:20260101T000000Z\nDURATION:-PT1H")),
    ("valid-calendar-data", event("DTSTART:20260101T000000Z\nDURATION:1H")),
    ("valid-calendar-data", event("DTSTART:20260101T000000Z\nDURATION:PT")),
    ("valid-calendar-data", event("DTSTART:20260101T000000Z\nRRULE:FREQ=OFTEN")),
    ("valid-calendar-data", event("DTSTART:20260101T000000Z\nEXDATE:x")),
    ("valid-calendar-data", event("DTSTART:20260101T000000Z\nRDATE;VALUE=PERIOD:20260102T000000Z/20260101T000000Z")),
    ("valid-calendar-data", event("DTSTART:20260101T000000Z\nx.SUMMARY:a group")),
    ("valid-calendar-data", event("DTSTART:20260101T000000Z\nBEGIN:VALARM\nTRIGGER:soon\nEND:VALARM")),
    ("valid-calendar-data", event("RRULE:FREQ=DAILY", "VJOURNAL")),
    ("valid-calendar-data", event("DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY", "VFREEBUSY")),
    ("valid-calendar-data", event("COMPLETED:done", "VTODO")),
    ("valid-calendar-data", event("BEGIN:AVAILABLE\nEND:AVAILABLE", "VAVAILABILITY")),
    ("valid-calendar-data", calendar("BEGIN:VTIMEZONE\nEND:VTIMEZONE" + GOOGLE)),
    ("valid-calendar-data", calendar("BEGIN:VTIMEZONE\nTZID:x\nEND:VTIMEZONE" + GOOGLE)),
    ("supported-rscale", event("DTSTART:20260101T000000Z\nRRULE:RSCALE=CHINESE;FREQ=YEARLY")),
    (
        "same-organizer-in-all-components",
        calendar(
            "BEGIN:VEVENT\nUID:u\nDTSTART:20260101T000000Z\nORGANIZER:mailto:a@b\nEND:VEVENT\nBEGIN:VEVENT\nUID:u\n"
            "RECURRENCE-ID:20260102T000000Z\nDTSTART:20260101T000000Z\nORGANIZER:mailto:c@d\nEND:VEVENT"
        ),
    ),
    ("min-date-time", event("DTSTART:09990101T000000Z")),
    ("max-date-time", event("DTSTART:99990101T000000Z")),
    ("max-instances", event("DTSTART:20260101T000000Z\nRRULE:FREQ=SECONDLY")),
    ("max-instances", event("DTSTART:20260101T000000Z\nRRULE:FREQ=MINUTELY")),
    ("max-instances", event("DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY;COUNT=100000")),
    ("max-instances", event("DTSTART:20260101T000000Z\nRRULE:FREQ=HOURLY;INTERVAL=24;BYHOUR=3")),
    ("max-instances", event("DTSTART:20260101T000000Z\nEXDATE:" + ",".join(["20260102T000000Z"] * 50_000))),
    ("max-instances", event("DTSTART:20260101T000000Z\n" + "RDATE:20260102T000000Z\n" * 20_000)),
    ("max-attendees-per-instance", event("DTSTART:20260101T000000Z\n" + "ATTENDEE:mailto:a@b\n" * 1_001)),
]


@pytest.mark.parametrize(("condition", "data"), REFUSED, ids=[f"{i} {name}" for i, (name, _) in enumerate(REFUSED)])
def test_what_is_refused_and_how_that_is_called(condition: str, data: bytes) -> None:
    with pytest.raises(Violated) as raised:
        calendar_content(data)
    assert raised.value.condition == condition
    assert raised.value.public.endswith(".")


TAKEN = [
    "DTSTART:20260101T000000Z\nDTEND:20260101T000000Z",  # no length
    "DTSTART;VALUE=DATE:20260101\nDTEND;VALUE=DATE:20260101",
    "DTSTART:20260101",  # without VALUE=DATE
    "DTSTART;TZID=Europe/Berlin:20260101T000000Z",
    "DTSTART:16040229\nRRULE:FREQ=YEARLY",  # a birthday of Apple's without a year
    "DTSTART;TZID=Europe/Berlin:20260101T100000\nDTEND;VALUE=DATE:20260101",
    "DTSTART;VALUE=DATE:20260101\nDTEND:20260101T100000",
    "DTSTART:20260101T000000\nDTEND:20251231T235959Z",  # the same in some zone
    "DTSTART:20260101T000000Z\nDURATION:P1DT",  # Apple's
    "DTSTART:20260101T000000Z\nCREATED: 20060101T150000Z\nREQUEST-STATUS:2.0",
    "DTSTART:20260101T235960Z",  # a leap second
    "DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY;UNTIL=99991231T235959Z",
    "DTSTART:20260101T000000Z\nRRULE:FREQ=MINUTELY;UNTIL=20260101T235900Z",
    "DTSTART:20260101T000000Z\nRRULE:FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30",
    "DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY\nEXDATE;VALUE=DATE:20260103",
    "DTSTART:20260101T000000Z\nX-A;B=1,2:x\nIANA-TOKEN:x",
    "DTSTART:20260101T000000Z\nBEGIN:X-COMP\nX-A:1\nEND:X-COMP",
]


@pytest.mark.parametrize("lines", TAKEN)
def test_where_patience_is_right(lines: str) -> None:
    assert calendar_content(event(lines)).component == "VEVENT"


def test_a_task_that_recurs_without_a_date_is_one_task() -> None:
    content = calendar_content(event("RRULE:FREQ=DAILY\nSUMMARY:x", "VTODO"))
    assert content.times is not None and content.times.instances is None
    assert overlapping(checked(content.data), 0, 1) is True


def test_sizes() -> None:
    with pytest.raises(Violated) as raised:
        checked(calendar(GOOGLE), CalendarLimits(max_size=100))
    assert raised.value.condition == "max-resource-size"


def test_messages_of_scheduling_have_a_method() -> None:
    data = calendar("BEGIN:VEVENT\nUID:u\nSUMMARY:x\nEND:VEVENT", "VERSION:2.0\nPRODID:x\nMETHOD:cancel\n")
    assert parsed(data, allow_method=True).method == "CANCEL"
