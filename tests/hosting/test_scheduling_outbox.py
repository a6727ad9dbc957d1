"""POST to an outbox: who is busy when, and what is not told.

Standards: RFC 6638 §5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from scheduling_town import ALICE, BOB, MALLORY, SchedulingTown, meeting, new_scheduling_town

from storage.collections.values import Kind


@pytest.fixture
def town(tmp_path: Path) -> Iterator[SchedulingTown]:
    with new_scheduling_town(tmp_path) as made:
        yield made


def question(*attendees: str, organizer: str = ALICE, more: str = "", end: str = "20261202T000000Z") -> bytes:
    people = "".join(f"ATTENDEE:mailto:{each}\r\n" for each in attendees)
    return (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//y//EN\r\nMETHOD:REQUEST\r\nBEGIN:VFREEBUSY\r\n"
        f"UID:q1\r\nDTSTAMP:20261101T000000Z\r\nDTSTART:20261201T000000Z\r\nDTEND:{end}\r\n{more}"
        f"ORGANIZER:mailto:{organizer}\r\n{people}END:VFREEBUSY\r\nEND:VCALENDAR\r\n"
    ).encode()


def ask(town: SchedulingTown, body: bytes, login: str = ALICE, box: str = "") -> tuple[int, str]:
    response = town.ask("POST", f"/dav/calendars/{box or login}/outbox/", body, login)
    assert isinstance(response.body, bytes)
    return response.status, response.body.decode().replace("&#13;\n ", "").replace("&#13;\n", "\n")


def statuses(body: str) -> list[tuple[str, str]]:
    return re.findall(
        r"<C:recipient><D:href>mailto:([^<]*)</D:href></C:recipient><C:request-status>([\d.]+);[^<]*</C:request", body
    )


def busy(body: str) -> list[str]:
    return re.findall(r"FREEBUSY(?:;FBTYPE=[A-Z-]+)?:(.*)", body)


def test_who_is_busy_when_and_nothing_else(town: SchedulingTown) -> None:
    town.put("a.ics", meeting("CLASS:PRIVATE", "LOCATION:Clinic", organizer=BOB, attendees=(), uid="1"), BOB)
    town.put("b.ics", meeting("TRANSP:TRANSPARENT", organizer=BOB, attendees=(), start="20261201T120000Z"), BOB)
    status, body = ask(town, question(BOB))
    assert status == 200 and statuses(body) == [(BOB, "2.0")]
    assert busy(body) == ["20261201T100000Z/20261201T110000Z"]
    for secret in ("Talk", "Clinic", "UID:1", "PRIVATE"):
        assert secret not in body
    for kept in ("METHOD:REPLY", "UID:q1", f"ORGANIZER:mailto:{ALICE}", f"ATTENDEE:mailto:{BOB}"):
        assert kept in body


def test_calendars_that_do_not_count_and_meetings_that_were_declined(town: SchedulingTown) -> None:
    town.put("a.ics", meeting())
    [name] = town.objects(BOB)
    assert "FREEBUSY" not in ask(town, question(BOB))[1].replace("VFREEBUSY", ""), "who has not answered is free"
    town.put(name, town.only(BOB).replace(b"RSVP=TRUE", b"PARTSTAT=TENTATIVE"), BOB)
    assert "BUSY-TENTATIVE:20261201T100000Z" in ask(town, question(BOB))[1]
    town.put(name, town.only(BOB).replace(b"PARTSTAT=TENTATIVE", b"PARTSTAT=DECLINED"), BOB)
    assert busy(ask(town, question(BOB))[1]) == []
    assert len(busy(ask(town, question(ALICE))[1])) == 1
    masked = question(ALICE, more="X-CALENDARSERVER-MASK-UID:meeting-1\r\n")
    assert busy(ask(town, masked)[1]) == []
    with town.account() as account:
        calendar = account.collections.find(Kind.CALENDAR, "calendar")
        account.collections.update(calendar.id, transparent=True)
    assert busy(ask(town, question(ALICE))[1]) == []


def test_of_others_nobody_knows(town: SchedulingTown) -> None:
    """And whether an address of another tenant exists is not told."""
    asked = (BOB, "nobody@example.test", MALLORY, "nobody@other.test", "zoe@far.example")
    status, body = ask(town, question(*asked))
    assert status == 200
    assert statuses(body) == list(zip(asked, ("2.0", "3.7", "5.3", "5.3", "5.3"), strict=True))


@pytest.mark.parametrize(
    ("body", "condition"),
    [
        (question(BOB, organizer=BOB), "valid-organizer"),
        (question(BOB, end="20261130T000000Z"), "valid-calendar-data"),
        (question(BOB, end="20361130T000000Z"), "valid-scheduling-message"),
        (question(), "valid-scheduling-message"),
        (meeting(method="REQUEST"), "valid-scheduling-message"),
        (b"nothing", "valid-calendar-data"),
    ],
)
def test_what_is_no_question(town: SchedulingTown, body: bytes, condition: str) -> None:
    status, answer = ask(town, body)
    assert status == 403 and condition in answer


def test_that_it_takes_questions_is_told(town: SchedulingTown) -> None:
    told = dict(town.ask("OPTIONS", f"/dav/calendars/{ALICE}/outbox/").headers)
    assert "POST" in told["Allow"].split(", ") and "calendar-auto-schedule" in told["DAV"].split(", ")
    assert "POST" not in dict(town.ask("OPTIONS", f"/dav/calendars/{ALICE}/calendar/").headers)["Allow"]


def test_it_takes_calendars_only(town: SchedulingTown) -> None:
    refused = town.ask("POST", f"/dav/calendars/{ALICE}/outbox/", b"<a/>", content_type="text/xml")
    assert isinstance(refused.body, bytes)
    assert refused.status == 403 and b"supported-calendar-data" in refused.body


def test_outboxes_of_others(town: SchedulingTown) -> None:
    assert ask(town, question(BOB), box=BOB)[0] == 403
    assert ask(town, question(BOB), box=MALLORY)[0] == 404


def test_one_question_reads_a_limited_number_of_objects(town: SchedulingTown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hosting.scheduling.outbox.OBJECTS_MAX", 2)
    for number in range(2):
        town.put(f"{number}.ics", meeting(organizer=BOB, attendees=(), uid=str(number)), BOB)
    town.put("a.ics", meeting(organizer=ALICE, attendees=(), uid="of alice"))
    status, body = ask(town, question(BOB, ALICE))
    assert status == 200 and statuses(body) == [(BOB, "2.0"), (ALICE, "5.1")]
