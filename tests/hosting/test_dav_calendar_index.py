"""What the index of times finds for a calendar-query is what looking into every object finds; long answers, limits."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from dav_house import NAMESPACES, Answer, House, all_below, house

from hosting.dav.assembly import make_handler
from hosting.dav.calendars import extension as calendars
from hosting.dav.services import DavLimits, DavServices
from storage.collections.values import Kind
from storage.icalendar.checked import parsed
from storage.icalendar.content import calendar_content
from storage.icalendar.filter import Filter, TimeRange, matches
from storage.icalendar.zones import named

CALENDAR = "calendars/ada@acme.test/calendar/"
ZONES = ("", "Europe/Zurich", "America/New_York", "Australia/Lord_Howe")
RULES = (
    "FREQ=DAILY;INTERVAL=3;COUNT=20",
    "FREQ=WEEKLY;BYDAY=MO,TH",
    "FREQ=MONTHLY;BYDAY=-1FR;UNTIL=20270101T000000Z",
    "FREQ=MONTHLY;BYMONTHDAY=31",
    "FREQ=YEARLY",
    "FREQ=HOURLY;INTERVAL=7;COUNT=100",
)
FORM = "%Y%m%dT%H%M%S"


def event(number: int, chance: random.Random) -> str:
    """Of any kind: all day, floating, in a zone, in UTC; once or again and again, with exceptions."""
    start = datetime(2026, 1, 1) + timedelta(minutes=15 * chance.randrange(35_000))
    kind = chance.choice(("date", "floating", "utc", "zone"))
    length = timedelta(minutes=15 * chance.choice((0, 1, 4, 30, 200)))
    rule = chance.choice(RULES) if chance.random() < 0.5 else ""
    if kind == "date":
        lines = [f"DTSTART;VALUE=DATE:{start:%Y%m%d}"]
        rule = rule.replace("T000000Z", "").replace("HOURLY;INTERVAL=7", "DAILY;INTERVAL=2")
    else:
        zone = chance.choice(ZONES[1:])
        tail, head = ("Z", "") if kind == "utc" else ("", f";TZID={zone}" if kind == "zone" else "")
        lines = [f"DTSTART{head}:{start.strftime(FORM)}{tail}", f"DTEND{head}:{(start + length).strftime(FORM)}{tail}"]
        if rule and chance.random() < 0.4:
            lines.append(f"EXDATE{head}:{start.strftime(FORM)}{tail}")
    if rule:
        lines.append(f"RRULE:{rule}")
    inner = "\r\n".join(["BEGIN:VEVENT", f"UID:e{number}", *lines, "END:VEVENT"])
    return f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\n{inner}\r\nEND:VCALENDAR\r\n"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    chance = random.Random(4791)
    for found in house(tmp_path_factory.mktemp("index")):
        ada = found.principals["ada"]
        with found.installation.account(ada.tenant_id, ada.account_id) as account:
            calendar = account.collections.find(Kind.CALENDAR, "calendar")
            bodies = [(f"{n}.ics", calendar_content(event(n, chance).encode())) for n in range(250)]
            account.objects.put_many(calendar.id, bodies)
        yield found


def query(start: datetime, end: datetime, zone: str = "", prop: str = "<D:getetag/>") -> str:
    named_ = f"<C:timezone-id>{zone}</C:timezone-id>" if zone else ""
    return (
        f"<C:calendar-query {NAMESPACES}><D:prop>{prop}</D:prop><C:filter>"
        '<C:comp-filter name="VCALENDAR"><C:comp-filter name="VEVENT">'
        f'<C:time-range start="{start.strftime(FORM)}Z" end="{end.strftime(FORM)}Z"/>'
        f"</C:comp-filter></C:comp-filter></C:filter>{named_}</C:calendar-query>"
    )


def test_the_index_finds_what_reading_everything_finds(filled: House) -> None:
    chance = random.Random(5545)
    ada = filled.principals["ada"]
    with filled.installation.account(ada.tenant_id, ada.account_id) as account:
        calendar = account.collections.find(Kind.CALENDAR, "calendar")
        read = account.objects.read_many(account.objects.list(calendar.id))
        objects = {stored.name: parsed(data) for stored, data in read}
    for number in range(40):
        start = datetime(2026, 1, 1) + timedelta(minutes=15 * chance.randrange(60_000))
        end = start + timedelta(minutes=15 * chance.choice((1, 8, 96, 700, 3000)))
        name = ZONES[number % len(ZONES)]
        asked = TimeRange(*(int((each - datetime(1970, 1, 1)).total_seconds()) for each in (start, end)))
        filter_ = Filter("VCALENDAR", components=(Filter("VEVENT", time_range=asked),))
        zone = named(name or "UTC")
        assert zone is not None
        found = set(filled.ask("REPORT", CALENDAR, query(start, end, name), depth="1").hrefs)
        assert found == {each for each, object_ in objects.items() if matches(object_, filter_, zone)}


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        ('<C:prop-filter name="UID"><C:text-match>E24</C:text-match></C:prop-filter>', {24, *range(240, 250)}),
        ('<C:prop-filter name="UID"><C:text-match collation="i;octet">E24</C:text-match></C:prop-filter>', set()),
        ('<C:prop-filter name="UID"><C:text-match collation="i;octet">e7</C:text-match></C:prop-filter>',
         {7, *range(70, 80)}),
        ('<C:prop-filter name="UID"><C:text-match negate-condition="yes">e</C:text-match></C:prop-filter>', set()),
        ('<C:prop-filter name="UID"><C:text-match>%_</C:text-match></C:prop-filter>', set()),
        ('<C:prop-filter name="UID"><C:text-match>e1</C:text-match></C:prop-filter>'
         '<C:prop-filter name="UID"><C:text-match>99</C:text-match></C:prop-filter>', {199}),
    ],
)  # fmt: skip
def test_a_uid_is_looked_for_in_the_rows(filled: House, conditions: str, found: set[int]) -> None:
    inner = f'<C:comp-filter name="VEVENT">{conditions}</C:comp-filter>'
    assert names_of(filled, inner) == {f"{number}.ics" for number in found}


def test_one_of_several_conditions_is_enough_beside_a_uid_too(filled: House) -> None:
    either = (
        '<C:prop-filter name="UID"><C:text-match>e199</C:text-match></C:prop-filter><C:prop-filter name="DTSTART"/>'
    )
    inner = f'<C:comp-filter name="VEVENT" test="anyof">{either}</C:comp-filter>'
    assert len(names_of(filled, inner)) == len(names_of(filled, "")) == 250


def names_of(at: House, inner: str) -> set[str]:
    body = f'<C:filter><C:comp-filter name="VCALENDAR">{inner}</C:comp-filter></C:filter>'
    asked = f"<C:calendar-query {NAMESPACES}><D:prop><D:getetag/></D:prop>{body}</C:calendar-query>"
    return set(at.ask("REPORT", CALENDAR, asked, depth="1").hrefs)


def test_a_long_answer_is_streamed_whole(filled: House) -> None:
    wide = query(datetime(2026, 1, 1), datetime(2030, 1, 1), prop="<D:getetag/><C:calendar-data/>")
    answer = filled.ask("REPORT", CALENDAR, wide, depth="1")
    assert "content-length" not in answer.headers
    assert len(all_below(answer.xml, "C:calendar-data")) == len(answer.hrefs) > 240  # some have no instance left
    hrefs = "".join(f"<D:href>/dav/{CALENDAR}{n}.ics</D:href>" for n in range(300))
    many = f"<C:calendar-multiget {NAMESPACES}><D:prop><C:calendar-data/></D:prop>{hrefs}</C:calendar-multiget>"
    statuses = list(filled.ask("REPORT", CALENDAR, many).statuses.values())
    assert (statuses.count(200), statuses.count(404)) == (250, 50)


def ask_within(at: House, limits: DavLimits, body: str) -> Answer:
    services = DavServices(at.installation, at.clock, limits=limits)
    before, at.handler = at.handler, make_handler(services, (calendars.register,))
    try:
        return at.ask("REPORT", CALENDAR, body)
    finally:
        at.handler = before


def test_no_more_is_expanded_than_one_answer_holds(filled: House) -> None:
    expand = '<C:calendar-data><C:expand start="20260101T000000Z" end="20300101T000000Z"/></C:calendar-data>'
    wide = query(datetime(2026, 1, 1), datetime(2030, 1, 1), prop=expand)
    statuses = list(ask_within(filled, replace(DavLimits(), expanded=50_000), wide).statuses.values())
    assert set(statuses) == {200, 507}
    assert len(statuses) > 240


def test_an_answer_has_an_end_and_says_where_it_was_cut(filled: House) -> None:
    limits = replace(DavLimits(), report_results=7)
    answer = ask_within(filled, limits, query(datetime(2026, 1, 1), datetime(2030, 1, 1)))
    assert sorted(answer.statuses.values()) == [200] * 7 + [507]
    assert answer.statuses["calendar"] == 507
    assert all_below(answer.xml, "D:number-of-matches-within-limits")
