"""Calendars as clients of CalDAV meet them, by the sections of RFC 4791, 6638, 7809 and 7953."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dav_house import NAMESPACES, Answer, House, all_below, house, name

from storage.collections.values import Content, Kind
from storage.values import EmailAddress

HOME = "calendars/ada@acme.test/"
CALENDAR = HOME + "calendar/"
TASKS = HOME + "tasks/"
INBOX = HOME + "inbox/"
PRINCIPAL = "principals/ada@acme.test/"

ZONE = (
    "BEGIN:VTIMEZONE\r\nTZID:Europe/Zurich\r\nBEGIN:STANDARD\r\nDTSTART:19961027T030000\r\n"
    "RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU\r\nTZOFFSETFROM:+0200\r\nTZOFFSETTO:+0100\r\nEND:STANDARD\r\n"
    "BEGIN:DAYLIGHT\r\nDTSTART:19810329T020000\r\nRRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU\r\nTZOFFSETFROM:+0100\r\n"
    "TZOFFSETTO:+0200\r\nEND:DAYLIGHT\r\nEND:VTIMEZONE\r\n"
)


def calendar(*components: str, zone: str = "", more: str = "") -> str:
    return f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//T//T//EN\r\n{more}{zone}{''.join(components)}END:VCALENDAR\r\n"


def component(kind: str, uid: str, *lines: str) -> str:
    inner = "\r\n".join([f"BEGIN:{kind}", f"UID:{uid}", "DTSTAMP:20260101T000000Z", *lines, f"END:{kind}", ""])
    return inner.replace("UID:\r\n", "")


def event(uid: str, *lines: str, zone: str = "") -> str:
    return calendar(component("VEVENT", uid, *lines), zone=zone)


MEETING = event("m1", "DTSTART:20260105T100000Z", "DTEND:20260105T110000Z", "SUMMARY:Meeting & more <b>")
WEEKLY = calendar(
    component(
        "VEVENT",
        "w1",
        "DTSTART;TZID=Europe/Zurich:20260106T090000",
        "DURATION:PT1H",
        "RRULE:FREQ=WEEKLY;COUNT=10",
        "EXDATE;TZID=Europe/Zurich:20260113T090000",
        "SUMMARY:Weekly",
        "LOCATION:Room 1",
    ),
    component(
        "VEVENT",
        "w1",
        "RECURRENCE-ID;TZID=Europe/Zurich:20260120T090000",
        "DTSTART;TZID=Europe/Zurich:20260121T140000",
        "DURATION:PT1H",
        "SUMMARY:Moved",
    ),
    zone=ZONE,
)
FLOATING = event("f1", "DTSTART:20260201T003000", "DTEND:20260201T013000", "SUMMARY:Floating")
ALL_DAY = event("a1", "DTSTART;VALUE=DATE:20260301", "SUMMARY:All day", "TRANSP:TRANSPARENT")
ALARMED = event(
    "al1",
    "DTSTART:20260401T120000Z",
    "DURATION:PT30M",
    "ATTENDEE;PARTSTAT=NEEDS-ACTION;CN=Bob:mailto:bob@acme.test",
    "BEGIN:VALARM\r\nACTION:DISPLAY\r\nDESCRIPTION:x\r\nTRIGGER:-P1D\r\nEND:VALARM",
)
EVENTS = {"m.ics": MEETING, "w.ics": WEEKLY, "f.ics": FLOATING, "a.ics": ALL_DAY, "al.ics": ALARMED}


def put(at: House, path: str, body: str | bytes, **headers: str) -> Answer:
    headers.setdefault("content_type", "text/calendar; charset=utf-8")
    return at.ask("PUT", path, body, **headers)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Read only."""
    for found in house(tmp_path_factory.mktemp("calendars")):
        for called, text in EVENTS.items():
            assert put(found, CALENDAR + called, text).status == 201
        todo = component("VTODO", "t1", "DUE:20260110T120000Z", "SUMMARY:Task")
        assert put(found, TASKS + "t.ics", calendar(todo)).status == 201
        yield found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """For tests that leave nothing in the way of others."""
    yield from house(tmp_path_factory.mktemp("shared"))


def comp(called: str, *inner: str) -> str:
    return f'<C:comp-filter name="{called}">{"".join(inner)}</C:comp-filter>'


def between(start: str, end: str) -> str:
    return f'<C:time-range start="{start}" end="{end}"/>'


def query(*inner: str, prop: str = "<D:getetag/>", more: str = "") -> str:
    filter_ = f"<C:filter>{comp('VCALENDAR', *inner)}</C:filter>"
    return f"<C:calendar-query {NAMESPACES}><D:prop>{prop}</D:prop>{filter_}{more}</C:calendar-query>"


def text(called: str, value: str, *more: str) -> str:
    return f'<C:prop-filter name="{called}"><C:text-match>{value}</C:text-match>{"".join(more)}</C:prop-filter>'


# Queries


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ((), "m w f a al"),
        ((comp("VEVENT"),), "m w f a al"),
        ((comp("VTODO"),), ""),
        ((comp("VEVENT", "<C:is-not-defined/>"),), ""),
        ((comp("VTODO", "<C:is-not-defined/>"),), "m w f a al"),
        # RFC 4791 §9.9: overlaps, half open.
        ((comp("VEVENT", between("20260105T103000Z", "20260105T104000Z")),), "m"),
        ((comp("VEVENT", between("20260105T110000Z", "20260105T120000Z")),), ""),
        ((comp("VEVENT", between("20260105T090000Z", "20260105T100000Z")),), ""),
        # What recurs: an instance, one that is excluded, one that was moved away and to.
        ((comp("VEVENT", between("20260127T080000Z", "20260127T081000Z")),), "w"),
        ((comp("VEVENT", between("20260113T000000Z", "20260114T000000Z")),), ""),
        ((comp("VEVENT", between("20260120T000000Z", "20260121T000000Z")),), ""),
        ((comp("VEVENT", between("20260121T130000Z", "20260121T131500Z")),), "w"),
        ((comp("VEVENT", between("20260310T080000Z", "20260310T083000Z")),), "w"),  # the last one
        ((comp("VEVENT", between("20260317T000000Z", "20260331T000000Z")),), ""),
        # All day, floating.
        ((comp("VEVENT", between("20260301T060000Z", "20260301T070000Z")),), "a"),
        ((comp("VEVENT", between("20260201T004500Z", "20260201T005000Z")),), "f"),
        # Open ends.
        ((comp("VEVENT", '<C:time-range start="20260315T000000Z"/>'),), "al"),
        ((comp("VEVENT", '<C:time-range end="20260106T000000Z"/>'),), "m"),
        # More than the index knows.
        ((comp("VEVENT", text("SUMMARY", "meeting")),), "m"),
        ((comp("VEVENT", between("20260101T000000Z", "20260131T000000Z"), text("SUMMARY", "weekly")),), "w"),
        ((comp("VEVENT", text("UID", "w1")),), "w"),
        ((comp("VEVENT", '<C:prop-filter name="LOCATION"><C:is-not-defined/></C:prop-filter>'),), "m f a al w"),
        (
            (
                comp(
                    "VEVENT",
                    '<C:prop-filter name="ATTENDEE"><C:param-filter name="PARTSTAT"><C:text-match>NEEDS-ACTION'
                    "</C:text-match></C:param-filter></C:prop-filter>",
                ),
            ),
            "al",
        ),
        ((comp("VEVENT", comp("VALARM")),), "al"),
        ((comp("VEVENT", comp("VALARM", between("20260331T110000Z", "20260331T130000Z"))),), "al"),
        ((comp("VEVENT", comp("VALARM", between("20260401T110000Z", "20260401T130000Z"))),), ""),
    ],
)
def test_calendar_query(full: House, asked: tuple[str, ...], found: str) -> None:
    answer = full.ask("REPORT", CALENDAR, query(*asked), depth="1")
    assert set(answer.hrefs) == {f"{called}.ics" for called in found.split()}


def test_floating_times_are_read_in_the_zone_that_is_asked(full: House) -> None:
    """RFC 4791 §7.8, RFC 7809 §3.1.4: 00:30 in Zurich is 23:30 of the day before."""
    asked = comp("VEVENT", between("20260131T233500Z", "20260131T234000Z"))
    zone = f"<C:timezone>{calendar(zone=ZONE)}</C:timezone>"
    assert not full.ask("REPORT", CALENDAR, query(asked), depth="1").hrefs
    for more in (zone, "<C:timezone-id>Europe/Zurich</C:timezone-id>"):
        assert set(full.ask("REPORT", CALENDAR, query(asked, more=more), depth="1").hrefs) == {"f.ics"}


@pytest.mark.parametrize(
    ("body", "condition"),
    [
        (query(comp("VALARM")), "valid-filter"),
        (query(between("20260101T000000Z", "20260102T000000Z")), "valid-filter"),
        (query(comp("VEVENT", between("20260101", "20260102"))), "valid-filter"),
        (query(comp("VEVENT", between("20260101T000000", "20260102T000000"))), "valid-filter"),
        (f"<C:calendar-query {NAMESPACES}><D:prop/></C:calendar-query>", "valid-filter"),
        (f"<C:calendar-query {NAMESPACES}><D:prop/><C:filter/></C:calendar-query>", "valid-filter"),
        (query(comp("VEVENT", text("UID", "x").replace("<C:text-match>", '<C:text-match collation="i;x">'))),
         "supported-collation"),
        (query(prop='<C:calendar-data content-type="text/x"/>'), "supported-calendar-data"),
        (query(prop='<C:calendar-data version="3.0"/>'), "supported-calendar-data"),
        (query(more="<C:timezone>nonsense</C:timezone>"), "valid-calendar-data"),
        (
            query(more=f"<C:timezone>{calendar(component('VEVENT', 'x'), zone=ZONE)}</C:timezone>"),
            "valid-calendar-data",
        ),
        (query(more="<C:timezone-id>Mars/Olympus</C:timezone-id>"), "valid-timezone"),
    ],
)  # fmt: skip
def test_queries_that_mean_nothing_are_refused(full: House, body: str, condition: str) -> None:
    answer = full.ask("REPORT", CALENDAR, body, depth="1")
    assert (answer.status, answer.condition) == (403, condition)


def test_depth_decides_what_is_searched(full: House) -> None:
    every = query(comp("VEVENT"))
    assert len(full.ask("REPORT", CALENDAR, every).hrefs) == 5  # as clients mean it
    assert len(full.ask("REPORT", CALENDAR, every, depth="0").hrefs) == 5
    assert set(full.ask("REPORT", CALENDAR + "m.ics", every, depth="0").hrefs) == {"m.ics"}
    in_time = query(comp("VEVENT", between("20260101T000000Z", "20260110T000000Z")))
    assert set(full.ask("REPORT", CALENDAR + "m.ics", in_time).hrefs) == {"m.ics"}
    assert not full.ask("REPORT", CALENDAR + "al.ics", in_time).hrefs
    assert not full.ask("REPORT", HOME, every, depth="0").hrefs
    assert len(full.ask("REPORT", HOME, every, depth="1").hrefs) == 5
    assert set(full.ask("REPORT", HOME, query(), depth="infinity").hrefs) == {*EVENTS, "t.ics"}
    tasks = query(comp("VTODO", between("20260110T000000Z", "20260111T000000Z")))
    assert set(full.ask("REPORT", HOME, tasks, depth="infinity").hrefs) == {"t.ics"}


def test_a_report_on_somebody_elses_calendar_is_refused(full: House) -> None:
    assert full.ask("REPORT", CALENDAR, query(), who="bob").status == 403
    assert full.ask("REPORT", CALENDAR, query(), who="eve").status == 404


# Data


def data_of(answer: Answer) -> str:
    found = answer.property("C:calendar-data")
    assert found is not None
    return found.text


def test_data_are_the_octets_that_were_stored(full: House) -> None:
    asked = query(comp("VEVENT", text("UID", "m1")), prop="<D:getetag/><C:calendar-data/>")
    assert data_of(full.ask("REPORT", CALENDAR, asked)) == MEETING
    asked = query(comp("VEVENT", between("20260105T000000Z", "20260106T000000Z")), prop="<C:calendar-data/>")
    assert data_of(full.ask("REPORT", CALENDAR, asked)) == MEETING


def test_parts_of_data(full: House) -> None:
    """RFC 4791 §9.6.1, and the example of §7.8.1."""
    wanted = (
        '<C:calendar-data><C:comp name="VCALENDAR"><C:prop name="VERSION"/><C:comp name="VEVENT">'
        '<C:prop name="SUMMARY"/><C:prop name="UID"/><C:prop name="LOCATION" novalue="yes"/></C:comp>'
        '<C:comp name="VTIMEZONE"/></C:comp></C:calendar-data>'
    )
    found = data_of(full.ask("REPORT", CALENDAR, query(comp("VEVENT", text("UID", "w1")), prop=wanted)))
    assert ZONE in found
    assert "PRODID" not in found
    assert "RRULE:FREQ=WEEKLY" not in found
    assert "LOCATION:\r\n" in found
    assert found.count("BEGIN:VEVENT") == 2


def test_recurrences_are_expanded_and_limited(full: House) -> None:
    """RFC 4791 §9.6.5, §9.6.6."""
    span = 'start="20260112T000000Z" end="20260128T000000Z"'
    of = comp("VEVENT", text("UID", "w1"))
    expanded = data_of(
        full.ask("REPORT", CALENDAR, query(of, prop=f"<C:calendar-data><C:expand {span}/></C:calendar-data>"))
    )
    assert expanded.count("BEGIN:VEVENT") == 2
    assert "RRULE" not in expanded
    assert "BEGIN:VTIMEZONE" not in expanded
    assert "DTSTART:20260121T130000Z" in expanded
    assert "RECURRENCE-ID:20260127T080000Z" in expanded
    limited = data_of(
        full.ask(
            "REPORT",
            CALENDAR,
            query(
                of,
                prop='<C:calendar-data><C:limit-recurrence-set start="20260201T000000Z" end="20260228T000000Z"/>'
                "</C:calendar-data>",
            ),
        )
    )
    assert limited.count("BEGIN:VEVENT") == 1
    assert "RRULE" in limited


@pytest.mark.parametrize(
    "inner",
    [
        '<C:expand start="20260101T000000Z"/>',
        '<C:expand start="20260101" end="20260102"/>',
        '<C:expand start="20260101T000000Z" end="20260102T000000Z"/>'
        '<C:limit-recurrence-set start="20260101T000000Z" end="20260102T000000Z"/>',
        '<C:comp name=""/>',
        '<C:comp name="VCALENDAR">' * 9 + "</C:comp>" * 9,
    ],
)
def test_data_that_mean_nothing(full: House, inner: str) -> None:
    answer = full.ask("REPORT", CALENDAR, query(prop=f"<C:calendar-data>{inner}</C:calendar-data>"))
    assert answer.status == 400


def multiget(*hrefs: str, prop: str = "<D:getetag/><C:calendar-data/>") -> str:
    asked = "".join(f"<D:href>{href}</D:href>" for href in hrefs)
    return f"<C:calendar-multiget {NAMESPACES}><D:prop>{prop}</D:prop>{asked}</C:calendar-multiget>"


def test_multiget(full: House) -> None:
    """RFC 4791 §7.9: hrefs as anybody may write them, each object once, 404 for what is missing."""
    answer = full.ask(
        "REPORT",
        CALENDAR,
        multiget(
            "/dav/calendars/ada@acme.test/calendar/m.ics",
            "/dav/calendars/ada%40acme.test/calendar/%6D.ics",
            "http://dav.acme.test:8443/dav/calendars/ada%40acme.test/calendar/w.ics",
            "/dav/calendars/ada@acme.test/tasks/t.ics",
            "/dav/calendars/ada@acme.test/calendar/gone.ics",
            "/dav/calendars/ada@acme.test/gone/x.ics",
            "/dav/calendars/bob@acme.test/calendar/b.ics",
            "/dav/",
        ),
        depth="0",
    )
    assert answer.statuses == {
        "m.ics": 200,
        "w.ics": 200,
        "t.ics": 200,
        "gone.ics": 404,
        "x.ics": 404,
        "b.ics": 403,
        "dav": 404,
    }
    assert [each.text for each in all_below(answer.xml, "C:calendar-data")][:2] == [MEETING, WEEKLY]
    one = multiget("/dav/calendars/ada@acme.test/calendar/m.ics", "/dav/calendars/ada@acme.test/calendar/w.ics")
    assert full.ask("REPORT", CALENDAR + "m.ics", one).statuses == {"m.ics": 200, "w.ics": 404}
    only = full.ask("REPORT", CALENDAR, multiget("/dav/calendars/ada@acme.test/calendar/m.ics", prop="<D:getetag/>"))
    assert not all_below(only.xml, "C:calendar-data")
    assert only.property("D:getetag") is not None


def test_a_missing_property_beside_data(full: House) -> None:
    href = "/dav/calendars/ada@acme.test/calendar/m.ics"
    answer = full.ask("REPORT", CALENDAR, multiget(href, prop="<C:calendar-data/><I:unknown/><C:schedule-tag/>"))
    assert answer.property("C:calendar-data") is not None
    assert answer.property("I:unknown", 404) is not None
    assert answer.property("C:schedule-tag", 404) is not None


def test_zones_by_name_only(full: House) -> None:
    """RFC 7809 §3.1.2: definitions of standard zones are left out for who asks so, everywhere."""
    href = "/dav/calendars/ada@acme.test/calendar/w.ics"
    assert full.ask("GET", href).body.decode() == WEEKLY
    without = WEEKLY.replace(ZONE, "")
    assert full.ask("GET", href, caldav_timezones="F").body.decode() == without
    assert data_of(full.ask("REPORT", CALENDAR, multiget(href), caldav_timezones="F")) == without


def test_a_zone_that_is_only_named_is_defined_for_who_asks(shared: House) -> None:
    body = event("z1", "DTSTART;TZID=Europe/Zurich:20260106T090000", "DURATION:PT1H")
    assert put(shared, CALENDAR + "z.ics", body).status == 201
    assert shared.ask("GET", CALENDAR + "z.ics").body.decode() == body
    defined = shared.ask("GET", CALENDAR + "z.ics", caldav_timezones="T").body.decode()
    assert defined.count("BEGIN:VTIMEZONE\r\nTZID:Europe/Zurich") == 1
    assert defined.index("BEGIN:VTIMEZONE") < defined.index("BEGIN:VEVENT")
    assert shared.ask("DELETE", CALENDAR + "z.ics").status == 204


def test_a_calendar_is_downloaded_whole(full: House) -> None:
    answer = full.ask("GET", CALENDAR)
    assert answer.headers["content-type"] == "text/calendar; charset=utf-8"
    found = answer.body.decode()
    assert found.count("BEGIN:VCALENDAR") == 1
    assert found.count("BEGIN:VTIMEZONE") == 1
    assert found.count("BEGIN:VEVENT") == 6
    assert full.ask("GET", CALENDAR, if_none_match=answer.headers["etag"]).status == 304
    assert full.ask("GET", CALENDAR, if_modified_since=answer.headers["last-modified"]).status == 304
    told = full.ask(
        "PROPFIND", CALENDAR, f"<D:propfind {NAMESPACES}><D:prop><D:getetag/></D:prop></D:propfind>", depth="0"
    )
    assert told.property("D:getetag").text == answer.headers["etag"]
    assert full.ask("GET", HOME).status == 405


def test_an_outbox_has_nothing_to_find(full: House) -> None:
    found = full.ask("REPORT", HOME + "outbox/", query(comp("VEVENT")), depth="1")
    assert (found.status, found.property("D:getetag")) == (207, None)


# Free-busy


def free_busy(start: str, end: str) -> str:
    return f"<C:free-busy-query {NAMESPACES}>{between(start, end)}</C:free-busy-query>"


def test_free_busy_query(full: House) -> None:
    """RFC 4791 §7.10: opaque events, instances among them; transparent ones and tasks do not count."""
    answer = full.ask("REPORT", CALENDAR, free_busy("20260105T000000Z", "20260302T000000Z"), depth="1")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/calendar; charset=utf-8")
    found = answer.body.decode().replace("\r\n ", "")
    assert "BEGIN:VFREEBUSY" in found
    assert "20260105T100000Z/" in found
    assert "20260121T130000Z/" in found
    assert "20260113T080000Z/" not in found
    assert "20260301" not in found.replace("DTEND:20260302", "")


@pytest.mark.parametrize(
    "body",
    [
        f"<C:free-busy-query {NAMESPACES}/>",
        free_busy("20260105", "20260106"),
        free_busy("20260105T000000", "20260106T000000"),
        f'<C:free-busy-query {NAMESPACES}><C:time-range start="20260105T000000Z"/></C:free-busy-query>',
    ],
)
def test_free_busy_of_no_time(full: House, body: str) -> None:
    assert full.ask("REPORT", CALENDAR, body, depth="1").status == 400


# What may be put


def alarm_in(kind: str) -> str:
    return component(kind, "x", "DTSTART:20260101T000000Z")


@pytest.mark.parametrize(
    ("body", "content_type", "condition"),
    [
        ("<x/>", "text/xml; charset=utf-8", "supported-calendar-data"),
        (MEETING, "text/calendar; charset=utf-16", "valid-calendar-data"),
        (MEETING, "application/calendar+json", "supported-calendar-data"),
        ("BEGIN:VCALENDAR\r\nnonsense", "text/calendar", "valid-calendar-data"),
        (MEETING.replace("SUMMARY:", "SUMMARY:\x03"), "text/calendar", "valid-calendar-data"),
        (event("x", "DTSTART:20260105T100000Z", "RRULE:FREQ=SOMETIMES"), "text/calendar", "valid-calendar-data"),
        (event("x", "DTSTART:20260199T100000Z"), "text/calendar", "valid-calendar-data"),
        (calendar(alarm_in("VEVENT"), alarm_in("VTODO")), "text/calendar", "valid-calendar-object-resource"),
        (calendar(alarm_in("VEVENT"), more="METHOD:REQUEST\r\n"), "text/calendar", "valid-calendar-object-resource"),
        (calendar(alarm_in("VEVENT"), component("VEVENT", "y", "DTSTART:20260101T000000Z")), "text/calendar",
         "valid-calendar-object-resource"),
        (event("", "DTSTART:20260101T000000Z"), "text/calendar", "valid-calendar-object-resource"),
        (calendar(), "text/calendar", "valid-calendar-object-resource"),
        (calendar(component("VTODO", "x")), "text/calendar", "supported-calendar-component"),
        (event("x", "DTSTART:20260105T100000Z", "RRULE:FREQ=SECONDLY"), "text/calendar", "max-instances"),
        (event("x", "DTSTART:09990101T000000Z"), "text/calendar", "min-date-time"),
        (event("x", "DTSTART:30000101T000000Z"), "text/calendar", "max-date-time"),
        (event("x", "DTSTART:20260105T100000Z", *["ATTENDEE:mailto:a@b.test"] * 1001), "text/calendar",
         "max-attendees-per-instance"),
        (event("m1", "DTSTART:20260105T100000Z"), "text/calendar", "no-uid-conflict"),
    ],
)  # fmt: skip
def test_preconditions_of_put(full: House, body: str, content_type: str, condition: str) -> None:
    """RFC 4791 §5.3.2.1. Nothing is stored."""
    answer = full.ask("PUT", CALENDAR + "new.ics", body, content_type=content_type)
    assert (answer.status, answer.condition) == (403, condition)
    assert full.ask("GET", CALENDAR + "new.ics").status == 404


def test_a_uid_in_the_way_is_told_by_its_href(full: House) -> None:
    answer = put(full, CALENDAR + "new.ics", MEETING)
    assert answer.xml.children[0].content(name("D:href")) == "/dav/calendars/ada@acme.test/calendar/m.ics"
    other = put(full, CALENDAR + "m.ics", event("another", "DTSTART:20260105T100000Z"))
    assert (other.status, other.condition) == (403, "no-uid-conflict")


def test_octets_come_back_as_they_were_sent(shared: House) -> None:
    """Order, folds, quotes, LF: an ETag is told, so a GET gives the same octets (RFC 4791 §5.3.4)."""
    odd = (
        'BEGIN:VCALENDAR\nPRODID:x\nVERSION:2.0\nBEGIN:VEVENT\nSUMMARY;X-P="a,b":Gr\u00fc\n \u00dfe\n'
        "UID:odd\nDTSTART:20260101T000000Z\nX-APPLE-TRAVEL:1\nEND:VEVENT\nEND:VCALENDAR"
    ).encode()
    first = put(shared, CALENDAR + "odd.ics", odd)
    got = shared.ask("GET", CALENDAR + "odd.ics")
    assert (first.status, got.body, got.headers["etag"]) == (201, odd, first.headers["etag"])
    assert put(shared, CALENDAR + "odd.ics", odd, if_none_match="*").status == 412
    assert put(shared, CALENDAR + "odd.ics", odd + b"\n", if_match=first.headers["etag"]).status == 204
    assert put(shared, CALENDAR + "odd.ics", odd, if_match=first.headers["etag"]).status == 412
    assert shared.ask("DELETE", CALENDAR + "odd.ics").status == 204


# Making calendars


def making(inner: str) -> str:
    return f"<C:mkcalendar {NAMESPACES}><D:set><D:prop>{inner}</D:prop></D:set></C:mkcalendar>"


def found_in(at: House, path: str, *names: str) -> Answer:
    asked = "".join(f"<{each}/>" for each in names)
    return at.ask("PROPFIND", path, f"<D:propfind {NAMESPACES}><D:prop>{asked}</D:prop></D:propfind>", depth="0")


def patch(at: House, path: str, inner: str, *, remove: str = "") -> Answer:
    set_ = f"<D:set><D:prop>{inner}</D:prop></D:set>" if inner else ""
    gone = f"<D:remove><D:prop>{remove}</D:prop></D:remove>" if remove else ""
    return at.ask("PROPPATCH", path, f"<D:propertyupdate {NAMESPACES}>{set_}{gone}</D:propertyupdate>")


def test_a_calendar_is_made_with_its_properties(shared: House) -> None:
    """RFC 4791 §5.3.1, with what Apple's clients send."""
    body = making(
        "<D:displayname>Work</D:displayname><C:calendar-description>At work</C:calendar-description>"
        '<C:supported-calendar-component-set><C:comp name="VEVENT"/><C:comp name="VTODO"/>'
        f"</C:supported-calendar-component-set><C:calendar-timezone><![CDATA[{calendar(zone=ZONE)}]]>"
        "</C:calendar-timezone><I:calendar-color>#FF2968FF</I:calendar-color>"
        "<I:calendar-order>7</I:calendar-order><C:schedule-calendar-transp><C:transparent/>"
        "</C:schedule-calendar-transp><CS:refreshrate>P1D</CS:refreshrate>"
    )
    assert shared.ask("MKCALENDAR", HOME + "work/", body, content_type="text/xml").status == 201
    found = found_in(
        shared,
        HOME + "work/",
        "D:displayname", "C:calendar-description", "I:calendar-color", "I:calendar-order", "C:calendar-timezone-id",
        "CS:refreshrate", "C:schedule-calendar-transp", "C:calendar-timezone", "D:resourcetype",
        "C:supported-calendar-component-set",
    )  # fmt: skip
    values = {
        each: found.property(each).text  # type: ignore[union-attr]
        for each in ("D:displayname", "C:calendar-description", "I:calendar-color", "I:calendar-order",
                     "C:calendar-timezone-id", "CS:refreshrate")
    }  # fmt: skip
    assert list(values.values()) == ["Work", "At work", "#FF2968FF", "7", "Europe/Zurich", "P1D"]
    assert all_below(found.xml, "C:transparent")
    assert all_below(found.xml, "C:calendar")
    assert [each.attributes["name"] for each in all_below(found.xml, "C:comp")] == ["VEVENT", "VTODO"]
    assert found.property("C:calendar-timezone").text.count("BEGIN:VTIMEZONE") == 1  # type: ignore[union-attr]
    todo = calendar(component("VTODO", "both"))
    assert put(shared, HOME + "work/t.ics", todo).status == 201
    journal = put(shared, HOME + "work/j.ics", calendar(component("VJOURNAL", "j")))
    assert journal.condition == "supported-calendar-component"
    assert shared.ask("DELETE", HOME + "work/").status == 204


@pytest.mark.parametrize(
    ("path", "body", "status", "condition"),
    [
        (CALENDAR, "", 403, "resource-must-be-null"),
        (CALENDAR + "inner/", "", 403, "calendar-collection-location-ok"),
        ("addressbooks/ada@acme.test/x/", "", 403, "calendar-collection-location-ok"),
        (HOME + "x/", making("<D:getetag/>"), 403, "propstat"),
        (HOME + "x/", making("<C:calendar-timezone>nonsense</C:calendar-timezone>"), 403, "propstat"),
        (
            HOME + "x/",
            making('<C:supported-calendar-component-set><C:comp name="VPOLL"/></C:supported-calendar-component-set>'),
            403,
            "propstat",
        ),
    ],
)
def test_calendars_that_cannot_be_made(full: House, path: str, body: str, status: int, condition: str) -> None:
    answer = full.ask("MKCALENDAR", path, body)
    assert (answer.status, answer.condition) == (status, condition)
    assert full.ask("PROPFIND", HOME + "x/", depth="0").status == 404


def test_mkcalendar_is_for_ones_own_home_and_takes_xml(full: House) -> None:
    assert full.ask("MKCALENDAR", HOME + "x/", who="bob").status == 403
    assert full.ask("MKCALENDAR", HOME + "x/", "hello", content_type="text/plain").status == 415
    assert full.ask("MKCALENDAR", HOME + "x/", f"<D:mkcol {NAMESPACES}/>").status == 400


# Properties


def test_what_a_calendar_says_about_itself(full: House) -> None:
    """RFC 4791 §5.2."""
    found = found_in(
        full, CALENDAR,
        "C:supported-calendar-data", "C:max-resource-size", "C:min-date-time", "C:max-date-time", "C:max-instances",
        "C:max-attendees-per-instance", "C:supported-collation-set", "CS:getctag", "D:sync-token",
        "C:supported-calendar-component-set", "D:supported-report-set", "C:calendar-timezone", "C:calendar-data",
    )  # fmt: skip
    assert found.property("C:max-resource-size").text == "10485760"  # type: ignore[union-attr]
    assert found.property("C:min-date-time").text == "10000101T000000Z"  # type: ignore[union-attr]
    assert [each.text for each in all_below(found.xml, "C:supported-collation")] == [
        "i;ascii-casemap",
        "i;octet",
        "i;unicode-casemap",
    ]
    for report in ("C:calendar-query", "C:calendar-multiget", "C:free-busy-query"):
        assert all_below(found.xml, report)
    assert found.property("C:calendar-timezone", 404) is not None
    assert found.property("C:calendar-data", 404) is not None
    every = full.ask("PROPFIND", CALENDAR, f"<D:propfind {NAMESPACES}><D:allprop/></D:propfind>", depth="0")
    assert every.property("C:max-instances") is None  # RFC 4791 §5.2: not in allprop


@pytest.mark.parametrize(
    ("inner", "status"),
    [
        ("<C:calendar-timezone>BEGIN:VCALENDAR</C:calendar-timezone>", 403),
        ("<C:calendar-timezone-id>Mars/Olympus</C:calendar-timezone-id>", 403),
        ("<C:supported-calendar-component-set/>", 403),
        ("<C:max-resource-size>1</C:max-resource-size>", 403),
        ("<C:schedule-calendar-transp><C:both/></C:schedule-calendar-transp>", 403),
        ("<I:calendar-order>first</I:calendar-order>", 409),
        ("<I:calendar-order>99999999999</I:calendar-order>", 409),
        ("<I:calendar-color>javascript:alert(1)</I:calendar-color>", 409),
        ("<C:calendar-description><D:href/></C:calendar-description>", 409),
        (f"<C:calendar-description>{'x' * 20_000}</C:calendar-description>", 409),
    ],
)
def test_values_that_a_calendar_does_not_take(full: House, inner: str, status: int) -> None:
    """All or nothing: what stands beside it fails with it (RFC 4918 §9.2)."""
    answer = patch(full, CALENDAR, inner + "<D:displayname>Changed</D:displayname>")
    prefixed = inner.partition(">")[0].partition("/")[0].strip("<")
    assert answer.property(prefixed, status) is not None
    assert answer.property("D:displayname", 424) is not None
    assert found_in(full, CALENDAR, "D:displayname").property("D:displayname").text == "Calendar"  # type: ignore[union-attr]


def test_properties_are_set_and_removed(shared: House) -> None:
    set_ = (
        "<C:calendar-description>Mine</C:calendar-description><I:calendar-color>#00FF00</I:calendar-color>"
        "<I:calendar-order>3</I:calendar-order><C:calendar-timezone-id>America/New_York</C:calendar-timezone-id>"
        "<C:schedule-calendar-transp><C:transparent/></C:schedule-calendar-transp>"
        "<C:default-alarm-vevent-datetime>BEGIN:VALARM</C:default-alarm-vevent-datetime>"
    )
    names = ("C:calendar-description", "I:calendar-color", "I:calendar-order", "C:calendar-timezone-id",
             "C:schedule-calendar-transp", "C:default-alarm-vevent-datetime")  # fmt: skip
    assert patch(shared, TASKS, set_).status == 207
    found = found_in(shared, TASKS, *names, "C:calendar-timezone")
    assert [found.property(each) is not None for each in names] == [True] * 6
    assert "TZID:America/New_York" in found.property("C:calendar-timezone").text  # type: ignore[union-attr]
    assert patch(shared, TASKS, "", remove="".join(f"<{each}/>" for each in names)).status == 207
    found = found_in(shared, TASKS, *names, "C:calendar-timezone")
    assert [found.property(each, 404) is not None for each in names] == [True] * 4 + [False, True]
    assert all_below(found.xml, "C:opaque")


def test_the_principal_says_where_calendars_are(tmp_path: Path) -> None:
    """RFC 4791 §6.2.1, RFC 6638 §2.4: home, boxes, every address that is one's own."""
    for at in house(tmp_path):
        ada = at.principals["ada"]
        addresses = at.installation.tenant(ada.tenant_id).addresses
        addresses.add_alias(EmailAddress.parse("countess@acme.test"), [ada.account_id])
        addresses.add_alias(EmailAddress.parse("all@acme.test"), [ada.account_id, at.principals["bob"].account_id])
        names = ("C:calendar-home-set", "C:schedule-inbox-URL", "C:schedule-outbox-URL", "C:calendar-user-type",
                 "C:calendar-user-address-set", "CS:email-address-set")  # fmt: skip
        for who in ("ada", "bob"):
            asked = "".join(f"<{each}/>" for each in names)
            body = f"<D:propfind {NAMESPACES}><D:prop>{asked}</D:prop></D:propfind>"
            found = at.ask("PROPFIND", PRINCIPAL, body, who=who, depth="0")
            hrefs = {each: [href.text for href in all_below(found.property(each), "D:href")] for each in names}  # type: ignore[arg-type]
            assert hrefs["C:calendar-home-set"] == ["/dav/calendars/ada@acme.test/"]
            assert hrefs["C:schedule-inbox-URL"] == ["/dav/calendars/ada@acme.test/inbox/"]
            assert hrefs["C:schedule-outbox-URL"] == ["/dav/calendars/ada@acme.test/outbox/"]
            assert hrefs["C:calendar-user-address-set"] == [
                "mailto:ada@acme.test",
                "mailto:countess@acme.test",
                "/dav/principals/ada@acme.test/",
            ]
            emails = [each.text for each in all_below(found.xml, "CS:email-address")]
            assert emails == ["ada@acme.test", "countess@acme.test"]
        sets = found_in(at, HOME, "CS:supported-calendar-component-sets", "CS:max-collections")
        assert sets.property("CS:max-collections").text == "1000"  # type: ignore[union-attr]
        assert found_in(at, CALENDAR, "CS:max-resources").property("CS:max-resources").text == "100000"  # type: ignore[union-attr]
        assert len(all_below(sets.xml, "C:supported-calendar-component-set")) == 5


def hrefs_in(at: House, called: str) -> list[str]:
    found = found_in(at, INBOX, called).property(called)
    assert found is not None
    return [each.text for each in all_below(found, "D:href")]


def test_where_invitations_go_and_which_calendars_count(tmp_path: Path) -> None:
    """RFC 6638 §4.3, §9.2: the default calendar may be changed, and stays as long as it is one."""
    base = "/dav/calendars/ada@acme.test/"
    default, tasks = "C:schedule-default-calendar-URL", "CS:schedule-default-tasks-URL"
    for at in house(tmp_path):
        assert hrefs_in(at, default) == [base + "calendar/"]
        assert hrefs_in(at, tasks) == [base + "tasks/"]
        refused = at.ask("DELETE", CALENDAR)
        assert (refused.status, refused.condition) == (403, "default-calendar-needed")
        assert at.ask("MKCALENDAR", HOME + "second/").status == 201
        assert patch(at, INBOX, f"<{default}><D:href>{base}second/</D:href></{default}>").property(default) is not None
        assert hrefs_in(at, default) == [base + "second/"]
        assert at.ask("DELETE", CALENDAR).status == 204
        for wrong in (base + "tasks/", base + "none/", "/dav/calendars/bob@acme.test/calendar/", "nonsense"):
            answer = patch(at, INBOX, f"<{default}><D:href>{wrong}</D:href></{default}>")
            assert answer.property(default, 403) is not None
        assert hrefs_in(at, "C:calendar-free-busy-set") == [base + "second/"]
        counted = f"<D:href>{base}tasks/</D:href><D:href>{base}second</D:href>"
        patch(at, INBOX, f"<C:calendar-free-busy-set>{counted}</C:calendar-free-busy-set>")
        assert set(hrefs_in(at, "C:calendar-free-busy-set")) == {base + "second/", base + "tasks/"}


def test_availability(shared: House) -> None:
    """RFC 7953 §7.2, under Apple's name too."""
    text_ = calendar(
        "BEGIN:VAVAILABILITY\r\nUID:v\r\nDTSTAMP:20260101T000000Z\r\nBEGIN:AVAILABLE\r\nUID:w\r\n"
        "DTSTAMP:20260101T000000Z\r\nDTSTART:20260105T080000Z\r\nDTEND:20260105T170000Z\r\n"
        "RRULE:FREQ=WEEKLY\r\nEND:AVAILABLE\r\nEND:VAVAILABILITY\r\n"
    )
    for written, other in (("C", "CS"), ("CS", "C")):
        tag = f"{written}:calendar-availability"
        assert patch(shared, INBOX, f"<{tag}>{text_}</{tag}>").property(tag) is not None
        for each in (written, other):
            found = found_in(shared, INBOX, f"{each}:calendar-availability").property(f"{each}:calendar-availability")
            assert found is not None
            assert "BEGIN:AVAILABLE" in found.text
        assert patch(shared, INBOX, "", remove=f"<{tag}/>").property(tag) is not None
        assert found_in(shared, INBOX, tag).property(tag, 404) is not None
    for wrong in ("nonsense", MEETING.replace("&", "&amp;").replace("<", "&lt;")):
        answer = patch(shared, INBOX, f"<C:calendar-availability>{wrong}</C:calendar-availability>")
        assert answer.property("C:calendar-availability", 403) is not None


def test_the_server_says_what_it_can(full: House) -> None:
    classes = full.ask("OPTIONS", CALENDAR).headers["dav"].replace(" ", "").split(",")
    assert {"calendarserver-home-sync", "calendarserver-principal-search"} <= set(classes)
    assert {"1", "2", "3", "calendar-access", "addressbook", "calendar-availability"} <= set(classes)
    assert "MKCALENDAR" in full.ask("OPTIONS", HOME).headers["allow"]


@pytest.mark.parametrize("method", ["COPY", "MOVE"])
def test_preconditions_hold_for_what_is_brought_from_elsewhere(shared: House, method: str) -> None:
    """RFC 4791 §5.3.2.1: COPY and MOVE store no more than PUT does: no files, no messages with a METHOD."""
    invitation = calendar(alarm_in("VEVENT"), more="METHOD:REQUEST\r\n").encode()
    ada = shared.principals["ada"]
    with shared.installation.account(ada.tenant_id, ada.account_id) as account:
        inbox = account.collections.find(Kind.INBOX, "inbox")
        content = Content(invitation, "text/calendar; charset=utf-8", "x", "VEVENT")
        account.objects.put(inbox.id, f"{method}.ics", content, by_server=True)
    file = "files/ada@acme.test/1.xml"
    assert shared.ask("PUT", file, "<x/>", content_type="text/xml").status in (201, 204)
    destination = "/dav/calendars/ada@acme.test/calendar/brought.ics"
    for source, condition in (
        (INBOX + f"{method}.ics", "valid-calendar-object-resource"),
        (file, "supported-calendar-data"),
    ):
        answer = shared.ask(method, source, destination=destination)
        assert (answer.status, answer.condition) == (403, condition)
        assert shared.ask("GET", source).status == 200
        assert shared.ask("GET", destination).status == 404


def test_calendars_do_not_nest(full: House) -> None:
    """RFC 4791 §4.2; what a calendar is copied or moved to is a place in the home."""
    destination = "/dav/calendars/ada@acme.test/calendar/tasks/"
    for method in ("COPY", "MOVE"):
        assert full.ask(method, TASKS, destination=destination).status == 403
    assert full.ask("MKCOL", CALENDAR + "collection/").status == 403
    assert full.ask("PROPFIND", TASKS, depth="0").status == 207


def test_an_event_is_moved_and_copied_between_calendars(shared: House) -> None:
    assert shared.ask("MKCALENDAR", HOME + "other/").status == 201
    put(shared, CALENDAR + "mv.ics", event("mv", "DTSTART:20260101T000000Z"))
    to = "/dav/calendars/ada@acme.test/other/mv.ics"
    assert shared.ask("COPY", CALENDAR + "mv.ics", destination=to).status == 201
    back = "/dav/calendars/ada@acme.test/calendar/again.ics"
    refused = shared.ask("MOVE", to, destination=back)
    assert (refused.status, refused.condition) == (403, "no-uid-conflict")
    assert shared.ask("DELETE", CALENDAR + "mv.ics").status == 204
    assert shared.ask("MOVE", to, destination=back).status == 201
    assert shared.ask("GET", back).status == 200
    assert shared.ask("DELETE", back).status == 204
    assert shared.ask("DELETE", HOME + "other/").status == 204
