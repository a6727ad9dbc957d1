"""Scheduling between accounts of a tenant: from a PUT of the one to the calendar of the other, and back.

Standards: RFC 6638 §3.2, §4; RFC 5546 §3.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from scheduling_town import ALICE, BOB, SchedulingTown, meeting, new_scheduling_town

from hosting.dav.request import DavResponse
from storage.itip.meeting import utc_text
from storage.itip.messages import PRODUCT

CARL = "carl@example.test"
SERIES = "RRULE:FREQ=DAILY;COUNT=5"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[SchedulingTown]:
    with new_scheduling_town(tmp_path) as made:
        yield made


def header(response: DavResponse, name: str) -> str | None:
    return next((value for known, value in response.headers if known == name), None)


def answer(data: bytes, partstat: str) -> bytes:
    """What a client does to say something."""
    unfolded = data.replace(b"\r\n ", b"")
    before = b"ATTENDEE;RSVP=TRUE:mailto:bob@example.test"
    assert before in unfolded
    return unfolded.replace(before, f"ATTENDEE;PARTSTAT={partstat}:mailto:bob@example.test".encode())


def test_an_invitation_and_its_answer(town: SchedulingTown) -> None:
    invited = town.put("a.ics", meeting())
    assert invited.status == 201
    assert header(invited, "ETag") is None, "the server wrote statuses into it"
    tag = header(invited, "Schedule-Tag")
    assert tag
    assert b"ATTENDEE;RSVP=TRUE;SCHEDULE-STATUS=1.2:mailto:bob@example.test" in town.only(ALICE)
    told = meeting().replace(b"DTSTAMP:20261101T000000Z", _stamp(town)).replace(b"-//x//y//EN", PRODUCT.encode())
    assert town.only(BOB) == told.replace(b"END:VEVENT", b"TRANSP:TRANSPARENT\r\nEND:VEVENT")
    [notice] = town.inbox(BOB)
    assert b"METHOD:REQUEST\r\n" in notice
    assert town.inbox(ALICE) == []

    [name] = town.objects(BOB)
    accepted = town.put(name, answer(town.only(BOB), "ACCEPTED"), BOB)
    assert accepted.status == 204
    assert b"ATTENDEE;SCHEDULE-STATUS=2.0;PARTSTAT=ACCEPTED:mailto:bob@example.test" in town.only(ALICE)
    assert b"ORGANIZER;SCHEDULE-STATUS=1.2:mailto:alice@example.test" in town.only(BOB)
    assert b"TRANSP:OPAQUE\r\n" in town.only(BOB), "who says yes is busy, whatever his client knows of it"
    [reply] = town.inbox(ALICE)
    assert b"METHOD:REPLY\r\n" in reply
    forgetful = town.only(BOB).replace(b";SCHEDULE-STATUS=1.2", b"").replace(b"END:VEVENT", b"X-A:1\r\nEND:VEVENT")
    assert town.put(name, forgetful, BOB).status == 204
    assert b"ORGANIZER;SCHEDULE-STATUS=1.2:mailto:alice@example.test" in town.only(BOB)
    # The organizer's client need not fetch it for that: its next change takes the answer over.
    changed = town.put("a.ics", meeting("LOCATION:Hall"), if_schedule_tag_match=str(tag))
    assert changed.status == 204
    assert b"PARTSTAT=ACCEPTED" in town.only(ALICE)
    assert b"LOCATION:Hall" in town.only(BOB) and b"PARTSTAT=ACCEPTED" in town.only(BOB)
    assert town.put("a.ics", meeting(), if_schedule_tag_match=str(tag)).status == 412
    assert town.queued() == []


def _stamp(town: SchedulingTown) -> bytes:
    return f"DTSTAMP:{utc_text(town.clock.now())}".encode()


def test_a_new_time_has_a_new_sequence_whatever_the_client_knows_of_it(town: SchedulingTown) -> None:
    town.put("a.ics", meeting())
    moved = town.put("a.ics", meeting(start="20261201T120000Z"))
    assert header(moved, "ETag") is None, "the server wrote it"
    assert b"SEQUENCE:1\r\n" in town.only(ALICE) and b"SEQUENCE:1\r\n" in town.only(BOB)
    town.put("a.ics", meeting("LOCATION:Hall", start="20261201T120000Z"))  # its client never saw that
    assert b"SEQUENCE:1\r\n" in town.only(ALICE)
    assert b"LOCATION:Hall" in town.only(BOB) and b"SEQUENCE:1\r\n" in town.only(BOB)


def test_a_new_time_asks_anew_and_a_new_title_does_not(town: SchedulingTown) -> None:
    town.put("a.ics", meeting())
    [name] = town.objects(BOB)
    town.put(name, answer(town.only(BOB), "ACCEPTED"), BOB)
    town.clock.advance(10)
    town.put("a.ics", town.only(ALICE).replace(b"Talk", b"Lecture"))
    assert b"SUMMARY:Lecture" in town.only(BOB) and b"PARTSTAT=ACCEPTED" in town.only(BOB)
    town.clock.advance(10)
    town.put("a.ics", meeting(start="20261201T140000Z", sequence=1))
    assert b"DTSTART:20261201T140000Z" in town.only(BOB) and b"PARTSTAT=ACCEPTED" not in town.only(BOB)


def test_who_is_uninvited_and_what_is_removed(town: SchedulingTown) -> None:
    town.put("a.ics", meeting(attendees=(BOB, CARL)))
    town.put("a.ics", meeting(attendees=(CARL,)))
    assert b"STATUS:CANCELLED" in town.only(BOB) and b"STATUS:CANCELLED" not in town.only(CARL)
    assert town.delete("a.ics").status == 204
    assert b"STATUS:CANCELLED" in town.only(CARL)
    # A cancelled meeting is removed without a word.
    [name] = town.objects(CARL)
    assert town.delete(name, CARL).status == 204
    assert town.inbox(ALICE) == []


def test_who_puts_a_meeting_back_invites_again(town: SchedulingTown) -> None:
    """A client that undoes sends what it had, with the SEQUENCE of before."""
    town.put("a.ics", meeting())
    assert town.delete("a.ics").status == 204
    assert b"STATUS:CANCELLED" in town.only(BOB) and b"SEQUENCE:1\r\n" in town.only(BOB)
    assert town.put("a.ics", meeting()).status == 201
    assert b"SEQUENCE:2\r\n" in town.only(ALICE)
    assert b"STATUS:CANCELLED" not in town.only(BOB) and b"SEQUENCE:2\r\n" in town.only(BOB)


def test_who_is_invited_again_is(town: SchedulingTown) -> None:
    town.put("a.ics", meeting(attendees=(BOB, CARL)))
    town.put("a.ics", meeting(attendees=(CARL,)))
    assert b"STATUS:CANCELLED" in town.only(BOB)
    town.clock.advance(10)
    town.put("a.ics", meeting(attendees=(BOB, CARL)))
    assert b"STATUS:CANCELLED" not in town.only(BOB)


def test_one_instance_is_deleted_and_one_is_declined(town: SchedulingTown) -> None:
    town.put("a.ics", meeting(SERIES))
    town.put("a.ics", meeting(SERIES, "EXDATE:20261203T100000Z"))
    bobs = town.only(BOB)
    assert b"RECURRENCE-ID:20261203T100000Z" in bobs and b"STATUS:CANCELLED" in bobs
    [name] = town.objects(BOB)
    declined = bobs.replace(b"SUMMARY:Talk", b"SUMMARY:Talk\r\nEXDATE:20261204T100000Z", 1)
    assert town.put(name, declined, BOB).status == 204
    alices = town.only(ALICE)
    assert b"RECURRENCE-ID:20261204T100000Z" in alices and b"PARTSTAT=DECLINED" in alices


def test_who_removes_an_invitation_declines_unless_he_says_nothing(town: SchedulingTown) -> None:
    town.put("a.ics", meeting(attendees=(BOB, CARL)))
    [bobs], [carls] = town.objects(BOB), town.objects(CARL)
    town.delete(carls, CARL, schedule_reply="F")
    assert b"DECLINED" not in town.only(ALICE)
    town.delete(bobs, BOB)
    assert town.only(ALICE).count(b"PARTSTAT=DECLINED") == 1
    # An update does not bring it back to who said no.
    town.clock.advance(10)
    town.put("a.ics", town.only(ALICE).replace(b"Talk", b"Lecture"))
    assert town.objects(BOB) == {} and len(town.objects(CARL)) == 1


@pytest.mark.parametrize(
    ("attendees", "status"),
    [
        (("nobody@example.test",), b"3.7"),
        (("ATTENDEE:urn:uuid:1",), b"3.7"),
        (("someone@far.example",), b"1.1"),
        (("mallory@other.test",), b"1.1"),
        (("ATTENDEE;SCHEDULE-AGENT=CLIENT:mailto:bob@example.test",), None),
    ],
)
def test_statuses(town: SchedulingTown, attendees: tuple[str, ...], status: bytes | None) -> None:
    assert town.put("a.ics", meeting(attendees=attendees)).status == 201
    data = town.only(ALICE)
    assert (b"SCHEDULE-STATUS=" + status in data) if status else b"SCHEDULE-STATUS" not in data


def test_what_attendees_may_not_do(town: SchedulingTown) -> None:
    town.put("a.ics", meeting())
    [name] = town.objects(BOB)
    for forbidden in (
        town.only(BOB).replace(b"T100000Z", b"T120000Z"),
        town.only(BOB).replace(b"END:VEVENT", b"ATTENDEE:mailto:carl@example.test\r\nEND:VEVENT"),
        town.only(BOB).replace(b"ORGANIZER:mailto:alice", b"ORGANIZER:mailto:bob"),
    ):
        response = town.put(name, forbidden, BOB)
        assert response.status == 403
        assert isinstance(response.body, bytes) and b"allowed-attendee-scheduling-object-change" in response.body
    # An alarm and a title of his own concern nobody.
    own = town.only(BOB).replace(
        b"END:VEVENT", b"BEGIN:VALARM\r\nACTION:DISPLAY\r\nDESCRIPTION:x\r\nTRIGGER:-PT5M\r\nEND:VALARM\r\nEND:VEVENT"
    )
    assert town.put(name, own, BOB).status == 204
    assert town.inbox(ALICE) == []


def test_what_organizers_may_not_do(town: SchedulingTown) -> None:
    town.put("a.ics", meeting())
    response = town.put("a.ics", meeting(organizer=BOB, attendees=(ALICE,)))
    assert response.status == 403
    assert isinstance(response.body, bytes) and b"allowed-organizer-scheduling-object-change" in response.body
    response = town.put("b.ics", meeting(), calendar="tasks")
    assert response.status == 403  # no events there
    town.new_calendar("other")
    response = town.put("b.ics", meeting(), calendar="other")
    assert response.status in {403, 409}
    assert isinstance(response.body, bytes) and b"unique-scheduling-object-resource" in response.body


def test_a_meeting_that_is_moved_to_another_calendar_says_nothing(town: SchedulingTown) -> None:
    town.put("a.ics", meeting())
    town.new_calendar("other")
    moved = town.ask(
        "MOVE", f"/dav/calendars/{ALICE}/calendar/a.ics", destination=f"/dav/calendars/{ALICE}/other/a.ics"
    )
    assert moved.status == 201
    assert len(town.inbox(BOB)) == 1 and b"CANCELLED" not in town.only(BOB)


def test_an_alias_organizes_and_is_invited_as_oneself(town: SchedulingTown) -> None:
    assert town.put("a.ics", meeting(organizer="sales@example.test", attendees=(ALICE, BOB))).status == 201
    assert b"ORGANIZER:mailto:sales@example.test" in town.only(BOB)
    assert town.inbox(ALICE) == []


def test_many_are_invited_in_the_background(town: SchedulingTown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hosting.scheduling.implicit.AT_ONCE", 1)
    town.put("a.ics", meeting(attendees=(BOB, CARL)))
    town.installation.background.settle()
    assert len(town.inbox(BOB)) == len(town.inbox(CARL)) == 1


def test_tasks_go_to_the_task_list(town: SchedulingTown) -> None:
    task = meeting().replace(b"VEVENT", b"VTODO").replace(b"DURATION:PT1H", b"DUE:20261201T110000Z")
    assert town.put("a.ics", task, calendar="tasks").status == 201
    assert town.objects(BOB) == {} and len(town.objects(BOB, name="tasks")) == 1


def test_an_invitation_changes_nothing_of_others(town: SchedulingTown) -> None:
    """The same UID, said by somebody who does not organize it."""
    town.put("a.ics", meeting())
    before = town.only(BOB)
    assert town.put("evil.ics", meeting(organizer=CARL, start="20261201T180000Z", sequence=9), CARL).status == 201
    assert town.only(BOB) == before


def test_many_answer_at_once(town: SchedulingTown) -> None:
    people = [f"p{number}@example.test" for number in range(7)]
    for each in people:
        town.new_account(town.tenant_id, each)
    town.put("a.ics", meeting(attendees=tuple(people)))
    answered: list[int] = []

    def accept(login: str) -> None:
        [name] = town.objects(login)
        data = town.only(login).replace(
            f"RSVP=TRUE:mailto:{login}".encode(), f"PARTSTAT=ACCEPTED:mailto:{login}".encode()
        )
        answered.append(town.put(name, data, login).status)

    threads = [Thread(target=accept, args=(each,)) for each in people]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert answered == [204] * 7 and town.only(ALICE).count(b"PARTSTAT=ACCEPTED") == 7


def test_two_invite_each_other_at_the_same_time(town: SchedulingTown) -> None:
    invited: list[int] = []

    def invite(login: str, other: str) -> None:
        for number in range(5):
            data = meeting(organizer=login, attendees=(other,), uid=f"{login}-{number}")
            invited.append(town.put(f"{number}.ics", data, login).status)

    threads = [Thread(target=invite, args=each) for each in ((ALICE, BOB), (BOB, ALICE))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert invited == [201] * 10 and len(town.objects(ALICE)) == len(town.objects(BOB)) == 10


def test_a_copy_of_a_calendar_that_goes_cancels_nothing(town: SchedulingTown) -> None:
    town.put("a.ics", meeting())
    home = f"/dav/calendars/{ALICE}"
    copied = town.ask("COPY", f"{home}/calendar/", destination=f"{home}/copy/", depth="infinity")
    assert copied.status == 201 and list(town.objects(ALICE, name="copy")) == ["a.ics"]
    assert town.ask("DELETE", f"{home}/copy/").status == 204
    assert b"CANCELLED" not in town.only(BOB)
    assert town.delete("a.ics").status == 204
    assert b"STATUS:CANCELLED" in town.only(BOB)
