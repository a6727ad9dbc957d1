"""Scheduling messages as tables: what a change says to whom, and what a message does to what is stored.

Standards: RFC 5546 §2.1.4, §3.2; RFC 6638 §3.2.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.collections.conditions import Violated
from storage.itip import answering, outgoing, received
from storage.itip.blocking import blocking
from storage.itip.draft import Line, read
from storage.itip.meeting import Meeting
from storage.itip.messages import Outgoing
from storage.itip.privacy import as_seen_by_others
from storage.itip.statuses import with_answers, with_statuses
from storage.itip.users import calendar_user

NOW = 1_796_000_000
ALICE, BOB, CARL = (f"mailto:{name}@example.test" for name in ("alice", "bob", "carl"))
ZONE = """\
BEGIN:VTIMEZONE
TZID:Europe/Berlin
BEGIN:STANDARD
DTSTART:19701025T030000
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
END:STANDARD
END:VTIMEZONE
"""


def event(*lines: str, attendees: tuple[str, ...] = (BOB,), start: str = "20261201T100000", sequence: int = 0) -> str:
    """One component of a meeting of alice's."""
    people = "".join(
        f"{each}\n" if each.startswith("ATTENDEE") else f'ATTENDEE;CN="X";PARTSTAT=NEEDS-ACTION:{each}\n'
        for each in attendees
    )
    end = start.replace("T10", "T11").replace("T14", "T15")
    more = "".join(f"{line}\n" for line in lines)
    return (
        f"BEGIN:VEVENT\nUID:meeting-1\nDTSTAMP:20261101T000000Z\nSEQUENCE:{sequence}\n"
        f"DTSTART;TZID=Europe/Berlin:{start}\nDTEND;TZID=Europe/Berlin:{end}\nSUMMARY:Talk\n{more}"
        f"ORGANIZER:{ALICE}\nATTENDEE;PARTSTAT=ACCEPTED:{ALICE}\n{people}END:VEVENT\n"
    )


def calendar(*events: str, method: str = "") -> bytes:
    head = f"METHOD:{method}\n" if method else ""
    text = f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//x//y//EN\n{head}{ZONE}{''.join(events)}END:VCALENDAR\n"
    return text.replace("\n", "\r\n").encode()


def is_alice(user: str) -> bool:
    return user == ALICE


def is_bob(user: str) -> bool:
    return user == BOB


def sent(before: bytes | None, after: bytes | None) -> list[Outgoing]:
    old, new = (None if data is None else Meeting.read(data) for data in (before, after))
    return outgoing.of_organizer(old, new, is_alice, NOW)


def told(before: bytes | None, after: bytes | None) -> list[tuple[str, str]]:
    return [(each.method, each.recipient) for each in sent(before, after)]


def replied(before: bytes | None, after: bytes | None) -> Outgoing | None:
    old, new = (None if data is None else Meeting.read(data) for data in (before, after))
    return answering.of_attendee(old, new, is_bob, NOW)


SERIES = "RRULE:FREQ=DAILY;COUNT=5"
ONE = calendar(event())
TWO = calendar(event(attendees=(BOB, CARL)))
DAILY = calendar(event(SERIES))
ID_3 = "RECURRENCE-ID;TZID=Europe/Berlin:20261203T100000"
EX_3 = "EXDATE;TZID=Europe/Berlin:20261203T100000"
MOVED_3 = event(ID_3, start="20261203T140000")


@pytest.mark.parametrize(
    ("before", "after", "messages"),
    [
        (None, ONE, [("REQUEST", BOB)]),
        (ONE, ONE, []),
        (ONE, None, [("CANCEL", BOB)]),
        (ONE, calendar(event(start="20261201T140000")), [("REQUEST", BOB)]),
        (ONE, ONE.replace(b"SUMMARY:Talk", b"SUMMARY:Other talk"), [("REQUEST", BOB)]),
        (ONE, ONE.replace(b"DTSTAMP:20261101", b"DTSTAMP:20261102"), []),
        (ONE, calendar(event("X-MOZ-LASTACK:1", "CREATED:20260101T000000Z")), []),
        (ONE, calendar(event("BEGIN:VALARM\nACTION:DISPLAY\nTRIGGER:-PT5M\nEND:VALARM")), []),
        (ONE, TWO, [("REQUEST", BOB), ("REQUEST", CARL)]),
        (TWO, ONE, [("REQUEST", BOB), ("CANCEL", CARL)]),
        (ONE, calendar(event(attendees=())), [("CANCEL", BOB)]),
        (DAILY, calendar(event(SERIES, EX_3)), [("CANCEL", BOB), ("REQUEST", BOB)]),
        (calendar(event(SERIES, EX_3)), DAILY, [("REQUEST", BOB)]),
        (DAILY, calendar(event(SERIES), MOVED_3), [("REQUEST", BOB)]),
        (calendar(event(SERIES), MOVED_3), calendar(event(SERIES, EX_3)), [("CANCEL", BOB), ("REQUEST", BOB)]),
        (calendar(event(SERIES), MOVED_3), DAILY, [("REQUEST", BOB)]),
        # A change of the series that also drops an instance says all in one.
        (DAILY, calendar(event("RRULE:FREQ=DAILY;COUNT=4", EX_3)), [("REQUEST", BOB)]),
        # Carl comes to one instance only, and leaves it again.
        (DAILY, calendar(event(SERIES), event(ID_3, start="20261203T100000", attendees=(BOB, CARL))),
         [("REQUEST", BOB), ("REQUEST", CARL)]),
        (calendar(event(SERIES), event(ID_3, start="20261203T100000", attendees=(BOB, CARL))), DAILY,
         [("REQUEST", BOB), ("CANCEL", CARL)]),
        # Bob is uninvited from one instance.
        (DAILY, calendar(event(SERIES), event(ID_3, start="20261203T100000", attendees=())),
         [("CANCEL", BOB), ("REQUEST", BOB)]),
        # An alarm for one instance is nobody else's.
        (DAILY, calendar(event(SERIES), event(ID_3, start="20261203T100000")), []),
        # Whom the client tells itself, or nobody tells.
        (None, calendar(event(attendees=(f"ATTENDEE;SCHEDULE-AGENT=CLIENT:{BOB}",))), []),
        (None, calendar(event(attendees=(f"ATTENDEE;SCHEDULE-AGENT=NONE:{BOB}", CARL))), [("REQUEST", CARL)]),
        (ONE, calendar(event(attendees=(f"ATTENDEE;CN=\"X\";SCHEDULE-FORCE-SEND=REQUEST:{BOB}",))), [("REQUEST", BOB)]),
        (calendar(event("STATUS:CANCELLED")), None, []),
    ],
)  # fmt: skip
def test_what_an_organizers_change_says(
    before: bytes | None, after: bytes | None, messages: list[tuple[str, str]]
) -> None:
    assert told(before, after) == messages


def test_a_request_is_what_concerns_others() -> None:
    mine = event("BEGIN:VALARM\nACTION:DISPLAY\nTRIGGER:-PT5M\nEND:VALARM", 'X-A;B="c":d')
    [message] = sent(None, with_statuses(calendar(mine), {BOB: "1.2"}))
    assert message.data.startswith(b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\n")
    assert b"METHOD:REQUEST\r\n" in message.data and b"BEGIN:VTIMEZONE\r\n" in message.data
    assert b"VALARM" not in message.data and b"SCHEDULE-STATUS" not in message.data
    assert b'X-A;B="c":d\r\n' in message.data
    assert b"DTSTAMP:20261130T" in message.data


def test_who_comes_to_one_instance_gets_that_instance() -> None:
    [to_bob, to_carl] = sent(DAILY, calendar(event(SERIES), event(ID_3, attendees=(BOB, CARL))))
    assert b"RRULE" in to_bob.data and to_bob.data.count(b"BEGIN:VEVENT") == 2
    assert b"RRULE" not in to_carl.data and to_carl.data.count(b"BEGIN:VEVENT") == 1
    assert b"RECURRENCE-ID;TZID=Europe/Berlin:20261203T100000\r\n" in to_carl.data


def test_who_is_uninvited_from_one_instance_does_not_see_it() -> None:
    other = event(ID_3, start="20261203T100000", attendees=(CARL,))
    [message] = [each for each in sent(None, calendar(event(SERIES), other)) if each.recipient == BOB]
    assert message.data.count(b"BEGIN:VEVENT") == 1 and b"EXDATE;TZID=Europe/Berlin:20261203T100000" in message.data


def test_the_cancellation_of_one_instance_names_it() -> None:
    message, beside = sent(DAILY, calendar(event(SERIES, EX_3, sequence=1)))
    assert not message.beside and beside.beside, "people are told once, calendars get the series too"
    assert b"EXDATE;TZID=Europe/Berlin:20261203T100000\r\n" in beside.data
    assert b"RECURRENCE-ID;TZID=Europe/Berlin:20261203T100000\r\n" in message.data
    assert b"RRULE" not in message.data and b"STATUS:CANCELLED" in message.data and b"SEQUENCE:1" in message.data
    assert b"DTSTART;TZID=Europe/Berlin:20261203T100000\r\nDTEND;TZID=Europe/Berlin:20261203T110000" in message.data


def test_who_is_uninvited_is_told_with_the_sequence_of_now() -> None:
    [message] = sent(ONE, calendar(event(attendees=(), sequence=1)))
    assert message.method == "CANCEL" and b"SEQUENCE:1\r\n" in message.data


def test_all_components_have_one_organizer() -> None:
    other = event(ID_3).replace(f"ORGANIZER:{ALICE}", f"ORGANIZER:{CARL}")
    with pytest.raises(Violated) as violated:
        outgoing.same_organizer(Meeting.read(calendar(event(SERIES), other)))
    assert violated.value.condition == "same-organizer-in-all-components"


# The attendee

YES = f'ATTENDEE;CN="X";PARTSTAT=ACCEPTED:{BOB}'
NO = f'ATTENDEE;CN="X";PARTSTAT=DECLINED:{BOB}'
MAYBE = f'ATTENDEE;CN="X";PARTSTAT=NEEDS-ACTION:{BOB}'


@pytest.mark.parametrize(
    ("before", "after", "answers"),
    [
        (ONE, calendar(event(attendees=(YES,))), [("ACCEPTED", "")]),
        (ONE, ONE, []),
        (ONE, calendar(event("TRANSP:TRANSPARENT", "BEGIN:VALARM\nACTION:AUDIO\nTRIGGER:-PT5M\nEND:VALARM")), []),
        (None, ONE, []),
        (None, calendar(event(attendees=(YES,))), [("ACCEPTED", "")]),
        (ONE, None, [("DECLINED", "")]),
        (calendar(event(attendees=(NO,))), None, []),
        # Who removes a series says no to what was moved in it, too.
        (calendar(event(SERIES, attendees=(YES,)), MOVED_3), None, [("DECLINED", ""), ("DECLINED", "20261203T100000")]),
        (calendar(event(SERIES, attendees=(NO,)), MOVED_3), None, []),
        (calendar(event("STATUS:CANCELLED")), None, []),
        (DAILY, calendar(event(SERIES), event(ID_3, start="20261203T100000", attendees=(NO,))),
         [("DECLINED", "20261203T100000")]),
        (DAILY, calendar(event(SERIES, EX_3)), [("DECLINED", "20261203T100000")]),
        (DAILY, calendar(event(SERIES, attendees=(YES,)), event(ID_3, start="20261203T100000", attendees=(NO,))),
         [("ACCEPTED", ""), ("DECLINED", "20261203T100000")]),
        (ONE, ONE.replace(b"ORGANIZER:", b"ORGANIZER;SCHEDULE-FORCE-SEND=REPLY:"), [("NEEDS-ACTION", "")]),
        (ONE, calendar(event(attendees=(YES,))).replace(b"ORGANIZER:", b"ORGANIZER;SCHEDULE-AGENT=CLIENT:"), []),
    ],
)  # fmt: skip
def test_what_an_attendee_answers(before: bytes | None, after: bytes | None, answers: list[tuple[str, str]]) -> None:
    message = replied(before, after)
    if message is None:
        assert answers == []
        return
    assert (message.method, message.recipient) == ("REPLY", ALICE)
    parts = read(message.data).parts("VEVENT")
    assert [[line.value for line in part.lines("ATTENDEE")] for part in parts] == [[BOB]] * len(answers)
    said = [(part.line("ATTENDEE").parameter("PARTSTAT"), part.value("RECURRENCE-ID")) for part in parts]  # type: ignore[union-attr]
    assert said == answers


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ONE, calendar(event(start="20261201T140000"))),
        (ONE, ONE.replace(b"ORGANIZER:mailto:alice", b"ORGANIZER:mailto:carl")),
        (ONE, calendar(event(SERIES))),
        (ONE, calendar(event(attendees=(BOB, CARL)))),
        (ONE, calendar(event(attendees=()))),
        (DAILY, calendar(event("RRULE:FREQ=DAILY;COUNT=6"))),
        (DAILY, calendar(event(SERIES), event(ID_3, start="20261203T140000"))),
        (DAILY, calendar(event(SERIES), event(ID_3.replace("1203", "1213"), start="20261213T100000"))),
        (DAILY, calendar(event(ID_3, start="20261203T100000"))),
        (calendar(event(SERIES), MOVED_3), DAILY),
    ],
)
def test_what_an_attendee_may_not_change(before: bytes, after: bytes) -> None:
    with pytest.raises(Violated) as violated:
        replied(before, after)
    assert violated.value.condition == "allowed-attendee-scheduling-object-change"


# What arrives


def arrives(stored: bytes | None, message: bytes) -> bytes | None:
    meeting = Meeting.read(message)
    if meeting.method == "REQUEST":
        return received.request(stored, meeting, is_bob).data
    assert stored is not None
    applied = received.cancel(stored, meeting) if meeting.method == "CANCEL" else received.reply(stored, meeting)
    return applied.data


def state(data: bytes) -> list[tuple[str, str, str]]:
    """Of each component: where it stands in the series, its STATUS, and bob's answer."""
    meeting = Meeting.read(data)
    found = []
    for part in meeting.parts:
        mine = meeting.attendee(part, is_bob)
        answer = "" if mine is None else mine.parameter("PARTSTAT")
        found.append((part.value("RECURRENCE-ID"), part.value("STATUS"), answer))
    return found


def test_an_invitation_is_stored_as_it_came_without_its_method() -> None:
    free = ONE.replace(b"END:VEVENT", b"TRANSP:TRANSPARENT\r\nEND:VEVENT")
    assert arrives(None, calendar(event(), method="REQUEST")) == free, "it blocks no time before he says yes"
    loud = event("BEGIN:VALARM\nACTION:AUDIO\nTRIGGER:-PT5M\nEND:VALARM")
    assert arrives(None, calendar(loud, method="REQUEST")) == free, "its organizer does not make it ring"


@pytest.mark.parametrize(
    ("organizers", "before", "answer", "blocks"),
    [
        ("X-A:1", MAYBE, YES, True),
        ("X-A:1", MAYBE, YES.replace("ACCEPTED", "TENTATIVE"), True),
        ("X-A:1", MAYBE, NO, False),
        ("X-A:1", NO, YES, True),
        ("X-A:1", YES, YES, False),  # he made it so himself
        ("TRANSP:TRANSPARENT", MAYBE, YES, False),  # so says its organizer
    ],
)
def test_whoever_says_yes_is_busy(organizers: str, before: str, answer: str, blocks: bool) -> None:
    stored = arrives(None, calendar(event(organizers), method="REQUEST"))
    assert stored is not None and stored.count(b"\r\nTRANSP:TRANSPARENT\r\n") == 1
    known, said = (stored.replace(MAYBE.encode(), each.encode()) for each in (before, answer))
    kept = blocking(said, Meeting.read(known), is_bob)
    assert kept == (said.replace(b"\r\nTRANSP:TRANSPARENT", b"\r\nTRANSP:OPAQUE") if blocks else said)


def test_an_update_keeps_what_became_of_the_reply() -> None:
    mine = with_statuses(calendar(event(attendees=(YES,))), {ALICE: "1.2"}, reply=True)
    renamed = arrives(mine, calendar(event(sequence=1), method="REQUEST").replace(b"Talk", b"Lecture"))
    assert renamed is not None and f"ORGANIZER;SCHEDULE-STATUS=1.2:{ALICE}".encode() in renamed
    assert b"TRANSPARENT" not in renamed


def test_what_was_declined_and_removed_stays_away() -> None:
    declined = calendar(event(SERIES, attendees=(YES,)), event(ID_3, start="20261203T100000", attendees=(NO,)))
    removed = calendar(event(SERIES, EX_3, attendees=(YES,)))
    renamed = arrives(removed, declined.replace(b"VERSION", b"METHOD:REQUEST\r\nVERSION").replace(b"Talk", b"Lecture"))
    assert renamed is not None and state(renamed) == [("", "", "ACCEPTED")]
    assert b"EXDATE;TZID=Europe/Berlin:20261203T100000\r\n" in renamed
    asked = calendar(event(SERIES, attendees=(YES,), sequence=1), event(ID_3, start="20261203T140000", sequence=1))
    again = arrives(removed, asked.replace(b"VERSION", b"METHOD:REQUEST\r\nVERSION"))
    assert again is not None and state(again)[1] == ("20261203T100000", "", "NEEDS-ACTION")


@pytest.mark.parametrize(
    ("before", "after", "sequence"),
    [
        (event(), event(start="20261201T140000"), 1),
        (event(sequence=3), event(start="20261201T140000"), 4),
        (event(), event(start="20261201T140000", sequence=2), 2),
        (event(), event("LOCATION:Hall"), 0),
        (event(sequence=2), event("LOCATION:Hall", sequence=1), 2),
        (event(SERIES), event("RRULE:FREQ=DAILY;COUNT=6"), 1),
        (event(SERIES) + MOVED_3, event(SERIES) + MOVED_3.replace("T14", "T15"), 1),
    ],
)
def test_other_times_have_another_sequence(before: str, after: str, sequence: int) -> None:
    data = calendar(after)
    told_as = outgoing.with_sequence(data, Meeting.read(calendar(before)))
    assert told_as.count(f"SEQUENCE:{sequence}\r\n".encode()) == told_as.count(b"BEGIN:VEVENT")
    assert (told_as == data) is (f"SEQUENCE:{sequence}\n" in after)


def test_a_cancelled_instance_stays_visible_when_the_series_comes_anew() -> None:
    cancelled = arrives(DAILY, calendar(event(ID_3, start="20261203T100000"), method="CANCEL"))
    other = EX_3 + ",20261204T100000"
    again = arrives(cancelled, calendar(event(SERIES, other, sequence=2), method="REQUEST"))
    assert again is not None and state(again)[1] == ("20261203T100000", "CANCELLED", "NEEDS-ACTION")
    assert again.count(b"SEQUENCE:2\r\n") == 2
    assert b"EXDATE;TZID=Europe/Berlin:20261204T100000\r\n" in again
    alone = arrives(cancelled, calendar(event(SERIES, EX_3, sequence=2), method="REQUEST"))
    assert alone is not None and b"EXDATE" not in alone


def test_an_update_leaves_what_its_owner_set() -> None:
    alarm = "BEGIN:VALARM\nACTION:AUDIO\nTRIGGER:-PT5M\nEND:VALARM"
    mine = calendar(event("TRANSP:TRANSPARENT", "X-MINE:1", alarm, attendees=(YES,)))
    renamed = arrives(mine, calendar(event(sequence=1), method="REQUEST").replace(b"Talk", b"Lecture"))
    assert renamed is not None and b"SUMMARY:Lecture" in renamed
    for kept in (b"TRANSP:TRANSPARENT\r\n", b"X-MINE:1\r\n", b"BEGIN:VALARM\r\n"):
        assert kept in renamed
    assert state(renamed) == [("", "", "ACCEPTED")]
    moved = arrives(mine, calendar(event(sequence=1, start="20261201T140000"), method="REQUEST"))
    assert moved is not None and state(moved) == [("", "", "NEEDS-ACTION")]


def test_an_old_request_changes_nothing() -> None:
    assert arrives(calendar(event(sequence=2)), calendar(event(sequence=1), method="REQUEST")) is None
    assert arrives(calendar(event(sequence=2)), calendar(event(sequence=1), method="CANCEL")) is None


def test_a_request_for_one_instance() -> None:
    both = arrives(DAILY, calendar(MOVED_3, method="REQUEST"))
    assert both is not None and [each[0] for each in state(both)] == ["", "20261203T100000"]
    alone = arrives(None, calendar(MOVED_3, method="REQUEST"))
    assert alone is not None and [each[0] for each in state(alone)] == ["20261203T100000"]


def test_cancellations() -> None:
    whole = arrives(ONE, calendar(event("STATUS:CANCELLED", sequence=1), method="CANCEL"))
    assert whole is not None and state(whole) == [("", "CANCELLED", "NEEDS-ACTION")]
    one = arrives(DAILY, calendar(event(ID_3, start="20261203T100000"), method="CANCEL"))
    assert one is not None
    assert state(one) == [("", "", "NEEDS-ACTION"), ("20261203T100000", "CANCELLED", "NEEDS-ACTION")]
    never = calendar(event(ID_3.replace("1203", "1213"), start="20261213T100000"), method="CANCEL")
    assert arrives(DAILY, never) is None


def test_replies() -> None:
    yes = arrives(
        ONE, calendar(event(attendees=(YES,)).replace(f"ATTENDEE;PARTSTAT=ACCEPTED:{ALICE}\n", ""), method="REPLY")
    )
    assert yes is not None and state(yes) == [("", "", "ACCEPTED")]
    assert f'ATTENDEE;CN="X";PARTSTAT=ACCEPTED;SCHEDULE-STATUS=2.0:{BOB}'.encode() in yes.replace(b"\r\n ", b"")
    message = replied(DAILY, calendar(event(SERIES), event(ID_3, start="20261203T100000", attendees=(NO,))))
    assert message is not None
    one = arrives(DAILY, message.data)
    assert one is not None
    assert state(one) == [("", "", "NEEDS-ACTION"), ("20261203T100000", "", "DECLINED")]
    assert arrives(calendar(event(SERIES, EX_3.replace("1203", "1202"), sequence=1)), message.data) is not None
    moved_since = calendar(event(SERIES), event(ID_3, start="20261203T140000", sequence=1))
    assert arrives(moved_since, message.data) is None, "it answers what is not so any more"
    stranger = calendar(event(attendees=(f"ATTENDEE;PARTSTAT=ACCEPTED:{CARL}",)), method="REPLY")
    assert arrives(ONE, stranger.replace(f"ATTENDEE;PARTSTAT=ACCEPTED:{ALICE}\r\n".encode(), b"")) is None


@pytest.mark.parametrize(
    ("message", "known", "again", "expected"),
    [
        ((0, 10), None, False, True),
        ((0, 10), (0, 10), False, False),
        ((0, 10), (0, 10), True, True),
        ((0, 11), (0, 10), False, True),
        ((1, 5), (0, 10), False, True),
        ((0, 99), (1, 10), True, False),
    ],
)
def test_which_message_is_newer(
    message: tuple[int, int], known: tuple[int, int] | None, again: bool, expected: bool
) -> None:
    assert received.newer(*message, known, again=again) is expected


# What the server writes, and what it leaves


def test_statuses_touch_only_their_lines() -> None:
    odd = ONE.replace(b"SUMMARY:Talk", b'SUMMARY;X="a":Ta\r\n lk').replace(b"VERSION:2.0\r\n", b"VERSION:2.0\n\n")
    told_ = with_statuses(odd, {BOB: "1.2"})
    changed = f'ATTENDEE;CN="X";PARTSTAT=NEEDS-ACTION;SCHEDULE-STATUS=1.2:{BOB}'.encode()
    assert changed in told_.replace(b"\r\n ", b"").replace(b"Ta\r\n lk", b"Talk")
    old = f'ATTENDEE;CN="X";PARTSTAT=NEEDS-ACTION:{BOB}'.encode()
    start = odd.index(old)
    assert told_.startswith(odd[:start]) and told_.endswith(odd[start + len(old) :])
    assert with_statuses(odd, {}) == odd
    assert with_statuses(told_, {BOB: "1.2"}) == told_


def test_answers_that_came_meanwhile_stay() -> None:
    answered = calendar(event(attendees=(YES,)))
    assert with_answers(ONE.replace(b"Talk", b"Other"), answered) == answered.replace(b"Talk", b"Other")
    moved = calendar(event(start="20261201T140000"))
    assert with_answers(moved, answered) == moved


def test_what_is_private_is_busy_for_others() -> None:
    assert as_seen_by_others(ONE) == ONE
    hidden = as_seen_by_others(calendar(event("CLASS:CONFIDENTIAL", "LOCATION:Clinic", SERIES), MOVED_3))
    for secret in (b"Clinic", b"Talk", b"mailto:", b"ORGANIZER"):
        assert secret not in hidden
    for kept in (
        b"RRULE",
        b"DTSTART;TZID=Europe/Berlin:20261203T140000",
        b"SUMMARY:Busy",
        b"UID:meeting-1",
        b"VTIMEZONE",
    ):
        assert kept in hidden


@pytest.mark.parametrize(
    ("value", "user"),
    [
        ("MAILTO:Bob@Example.TEST", BOB),
        ("mailto:bob%40example.test", BOB),
        ("/dav/principals/bob@example.test/", BOB),
        ("https://dav.example.test/dav/principals/bob%40example.test", BOB),
        ("urn:uuid:1", "urn:uuid:1"),
        ("mailto:nobody", "mailto:nobody"),
        ("http://[", "http://["),
    ],
)
def test_calendar_users(value: str, user: str) -> None:
    assert calendar_user(value) == user


def test_many_instances_at_once_are_told_in_one_request() -> None:
    """And not in a cancellation of each."""
    days = [
        f"EXDATE;TZID=Europe/Berlin:2027{month:02}{day:02}T100000" for month in (1, 2, 3, 4) for day in range(1, 29)
    ]
    long = "RRULE:FREQ=DAILY;COUNT=400"
    assert told(calendar(event(long)), calendar(event(long, *days))) == [("REQUEST", BOB)]


def test_who_gets_the_same_gets_the_same_octets() -> None:
    people = tuple(f"mailto:p{number}@example.test" for number in range(50))
    messages = sent(None, calendar(event(attendees=people)))
    assert len(messages) == 50 and len({id(each.data) for each in messages}) == 1


TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=90)


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=5), TEXTS)
def test_parameters_are_put_in_and_taken_out_again(parameters: list[tuple[str, str]], value: str) -> None:
    line = Line.of("ATTENDEE", value, *((f"X-{number}", text) for number, (text, _) in enumerate(parameters)))
    before = line.raw
    line.set_parameter("PARTSTAT", "ACCEPTED")
    for number, (_, text) in enumerate(parameters):
        line.set_parameter(f"X-{number}", text)
        assert line.parameter(f"X-{number}") == text
    assert (line.value, line.parameter("PARTSTAT")) == (value, "ACCEPTED")
    assert all(len(part) <= 75 for part in line.raw.removesuffix(b"\r\n").split(b"\r\n"))
    for number, (text, _) in enumerate(parameters):
        line.set_parameter(f"X-{number}", text)
    line.set_parameter("PARTSTAT", None)
    assert line.raw == before


@given(st.lists(st.sampled_from([
    b"BEGIN:VEVENT\r\n", b"END:VEVENT\r\n", b"UID:1\r\n", b"\r\n", b" folded\r\n",
    b"ATTENDEE;CN=\"a:b\":mailto:x@y.z\n",
    b"RECURRENCE-ID:20261201T100000Z\r\n", b"DTSTART:20261201\r\n", b"EXDATE:x,20261201\r\n", b"RRULE:FREQ=DAILY\r\n",
    b"ORGANIZER:mailto:alice@example.test\r\n", b"X\r\n", b";\r\n", b"METHOD:REQUEST\r\n",
]), max_size=25))  # fmt: skip
def test_whatever_comes_is_refused_or_written_back_as_it_was(lines: list[bytes]) -> None:
    data = b"BEGIN:VCALENDAR\r\n" + b"".join(lines) + b"END:VCALENDAR\r\n"
    try:
        assert bytes(read(data)) == data
        meeting = Meeting.read(data)
        received.request(data, meeting, is_bob)
        received.cancel(data, meeting)
        received.reply(data, meeting)
        outgoing.of_organizer(None, meeting, is_alice, NOW)
        as_seen_by_others(data)
    except Violated:
        return


def instances(method: str, count: int) -> Meeting:
    days = [f"20270{1 + n // 28}{1 + n % 28:02}T100000" for n in range(count)]
    who = "ATTENDEE;PARTSTAT=ACCEPTED:"
    return Meeting.read(
        calendar(
            *(
                f"BEGIN:VEVENT\nUID:meeting-1\nRECURRENCE-ID;TZID=Europe/Berlin:{day}\n"
                f"DTSTART;TZID=Europe/Berlin:{day}\nORGANIZER:{ALICE}\n{who}{BOB}\nEND:VEVENT\n"
                for day in days
            ),
            method=method,
        )
    )


@pytest.mark.parametrize("until", ["99991231", "99991231T235959Z"])
def test_a_series_until_the_end_of_time_has_instances(until: str) -> None:
    meeting = Meeting.read(calendar(event(f"RRULE:FREQ=DAILY;UNTIL={until}")))
    assert meeting.master is not None
    start = meeting.start(meeting.master)
    assert start is not None and meeting.derived(start._replace(at=start.at + timedelta(days=1))) is not None


def test_one_message_has_few_instances_of_a_series_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a copy of all that the organizer wrote."""
    monkeypatch.setattr("storage.itip.received._DERIVED_MAX", 5)
    series = calendar(event("RRULE:FREQ=DAILY"))
    assert (received.reply(series, instances("REPLY", 5)).data or b"").count(b"BEGIN:VEVENT") == 6
    with pytest.raises(Violated, match="too many"):
        received.reply(series, instances("REPLY", 6))
    with pytest.raises(Violated, match="too many"):
        received.cancel(series, instances("CANCEL", 6))
    # What the organizer says himself counts; what its owner had set for so many of them is lost.
    assert (received.request(series, instances("REQUEST", 9), is_bob).data or b"").count(b"BEGIN:VEVENT") == 10


def test_a_master_that_is_large_leaves_room_for_few_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    series = calendar(event("RRULE:FREQ=DAILY", f"DESCRIPTION:{'x' * (3 << 20)}"))
    assert received.reply(series, instances("REPLY", 3)).data
    with pytest.raises(Violated, match="too many"):
        received.reply(series, instances("REPLY", 4))


@pytest.mark.parametrize("said", ["x y", "A" * 31, "ACCEPTED^nDTSTART", ""])
def test_an_answer_that_is_no_word_is_none(said: str) -> None:
    answer = calendar(
        event(attendees=()).replace(f"ATTENDEE;PARTSTAT=ACCEPTED:{ALICE}", f'ATTENDEE;PARTSTAT="{said}":{BOB}')
    )
    assert received.reply(calendar(event()), Meeting.read(answer)).data is None


def test_a_status_that_is_none_counts_as_success() -> None:
    line = f"ATTENDEE;PARTSTAT=ACCEPTED:{ALICE}"
    answer = event('REQUEST-STATUS:2.0","x;y', attendees=()).replace(line, f"ATTENDEE;PARTSTAT=ACCEPTED:{BOB}")
    data = received.reply(calendar(event()), Meeting.read(calendar(answer))).data
    assert data is not None and b"SCHEDULE-STATUS=2.0:" in data.replace(b"\r\n ", b"")


def test_a_line_with_a_fold_that_has_two_carriage_returns_can_be_changed() -> None:
    data = calendar(event()).replace(b"mailto:bob", b"mailto:b\r\r\n ob", 1)
    told = with_statuses(data, {BOB: "1.2"})
    assert b"\r\r\n" not in told and Meeting.read(told).attendees()[BOB].parameter("SCHEDULE-STATUS") == "1.2"


def test_an_answer_to_the_series_counts_for_an_instance_that_is_new_at_its_time() -> None:
    answered = calendar(event(SERIES, attendees=(YES,)))
    in_place, moved = event(ID_3, "LOCATION:Hall", start="20261203T100000"), event(ID_3, start="20261203T140000")
    assert state(with_answers(calendar(event(SERIES), in_place), answered))[1] == ("20261203T100000", "", "ACCEPTED")
    assert state(with_answers(calendar(event(SERIES), moved), answered))[1] == ("20261203T100000", "", "NEEDS-ACTION")
