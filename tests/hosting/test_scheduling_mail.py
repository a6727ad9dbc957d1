"""Scheduling by mail: what leaves and under which rules, what arrives and who may put something into a calendar.

Standards: RFC 6047; RFC 6638 §3.2.9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scheduling_town import ALICE, BOB, HOST, MALLORY, SchedulingTown, meeting, new_scheduling_town
from sqlalchemy import text

from gateway.acceptance.local import return_path
from gateway.dsn.report import About, Action, Sending, Told, report
from gateway.mx.header import Client, authentication_results, received
from hosting.scheduling.carrying import Carrying
from hosting.scheduling.imip import Written, message_of
from hosting.scheduling.incoming import Incoming
from hosting.scheduling.inviting import Outcome
from hosting.scheduling.mailing import Mailing
from hosting.scheduling_round import SchedulingRound
from storage.collections.values import CollectionId, ObjectId
from storage.delivery import Delivery, deliver
from storage.itip.meeting import Meeting, utc_text
from storage.itip.messages import Outgoing
from storage.itip.store import CLAIM, Scheduling, Trust
from storage.queue.entries import RecipientState, Reply, new_queue_id
from storage.sending_limits import SendingLimits
from storage.values import Domain, EmailAddress, UidSet

ZOE = "zoe@far.example"
PASSED = "dmarc=pass header.from=far.example"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[SchedulingTown]:
    with new_scheduling_town(tmp_path) as made:
        yield made


# Out


def test_who_is_elsewhere_is_invited_by_mail(town: SchedulingTown) -> None:
    assert town.put("a.ics", meeting("LOCATION:Hall\\, 2nd floor", attendees=(ZOE, BOB))).status == 201
    [(entry, mail)] = town.queued()
    assert [(str(each.address), each.state) for each in entry.recipients] == [(ZOE, RecipientState.QUEUED)]
    assert str(entry.reverse_path) == ALICE and entry.account_id == town.accounts[ALICE][1]
    assert (mail["From"], mail["To"], mail["Subject"]) == (ALICE, ZOE, "Invitation: Talk")
    assert str(mail["Received"]).startswith(f"by {HOST} with HTTPS id {entry.queue_id};")
    text, program = (
        mail.get_body(("plain",)),
        mail.get_body(("calendar",))
        or next(part for part in mail.walk() if part.get_content_type() == "text/calendar"),
    )
    assert text is not None
    for fact in ("When: 2026-12-01 10:00 UTC", "Where: Hall, 2nd floor", "Organizer: alice@example.test"):
        assert fact in text.get_content()
    assert program.get_param("method") == "REQUEST"
    [file] = [part for part in mail.walk() if part.get_filename() == "invite.ics"]
    assert b"METHOD:REQUEST" in file.get_payload(decode=True)  # type: ignore[operator]
    assert waiting(town) == 0


def waiting(town: SchedulingTown, login: str = ALICE) -> int:
    with town.account(login) as account:
        return Scheduling(account, town.clock).count()


def test_limits_of_sending_let_it_wait_and_the_round_takes_it_up(tmp_path: Path) -> None:
    with new_scheduling_town(tmp_path, SendingLimits(1, 0, 0, 0, 0, 1)) as town:
        town.put("a.ics", meeting(attendees=(ZOE, "yan@far.example")))
        assert len(town.queued()) == 1 and waiting(town) == 1
        round_ = scheduling_round(town)
        round_.work(*town.accounts[ALICE])
        assert waiting(town) == 1, "not before its time"
        round_.again()
        assert counted(town) == {"sent": 1, "put_off": 1, "waiting": 1}
        town.clock.advance(2 * 3600)
        round_.again()
        assert waiting(town) == 0 and len(town.queued()) == 2
        assert counted(town) == {"sent": 2, "put_off": 1, "waiting": 0}


def counted(town: SchedulingTown) -> dict[str, float]:
    """What operators see: attempts by result, and how many messages wait."""
    registry = town.metrics.registry
    [messages] = [each for each in registry.collect() if each.name == "cleanmail_scheduling_messages"]
    results = {each.labels["result"]: each.value for each in messages.samples if each.name.endswith("_total")}
    return results | {"waiting": registry.get_sample_value("cleanmail_scheduling_waiting") or 0}


def test_a_frozen_account_invites_nobody(town: SchedulingTown) -> None:
    tenant_id, account_id = town.accounts[ALICE]
    town.installation.tenant(tenant_id).frozen.freeze(account_id, "masses")
    assert town.put("a.ics", meeting(attendees=(ZOE,))).status == 201
    assert town.queued() == [] and waiting(town) == 0
    assert b"SCHEDULE-STATUS=5.1:mailto:zoe@far.example" in town.only(ALICE)
    assert counted(town)["failed"] == 1


def scheduling_round(town: SchedulingTown) -> SchedulingRound:
    config: Any = SimpleNamespace(server=SimpleNamespace(name=HOST))
    return SchedulingRound(town.installation, config, town.scheduling, town.metrics)


@pytest.mark.parametrize("step", ["committed", "queued", "marked", "released"])
def test_a_crash_loses_no_message_and_sends_none_twice(
    town: SchedulingTown, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The process dies after the step; whoever comes later finds what it left."""

    class Died(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Died

    def dies_after(owner: type, name: str) -> Callable[..., None]:
        do = getattr(owner, name)

        def then_die(*arguments: Any, **named: Any) -> None:
            do(*arguments, **named)
            raise Died

        return then_die

    with monkeypatch.context() as patch:
        if step == "committed":
            patch.setattr(Carrying, "carry", die)
        elif step == "queued":
            patch.setattr(Mailing, "_queue", dies_after(Mailing, "_queue"))
        elif step == "marked":
            patch.setattr(Scheduling, "queued", dies_after(Scheduling, "queued"))
        else:
            patch.setattr(Mailing, "send", dies_after(Mailing, "send"))
        with pytest.raises(Died):
            town.put("a.ics", meeting(attendees=(ZOE,)))
    assert waiting(town) == 1
    if step == "released":  # and it has left meanwhile
        for entry, _ in town.queued():
            town.installation.queue.withdraw(entry.queue_id)
    town.clock.advance(CLAIM + 1)
    scheduling_round(town).work(*town.accounts[ALICE])
    assert waiting(town) == 0
    states = [each.state for entry, _ in town.queued() for each in entry.recipients]
    assert states == ([] if step == "released" else [RecipientState.QUEUED])


def test_a_crash_before_a_calendar_here_was_reached(town: SchedulingTown, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Carrying, "carry", lambda *_: None)
        town.put("a.ics", meeting())
    assert town.objects(BOB) == {}
    town.clock.advance(CLAIM + 1)
    round_ = scheduling_round(town)
    round_.work(*town.accounts[ALICE])
    round_.work(*town.accounts[ALICE])
    assert len(town.objects(BOB)) == len(town.inbox(BOB)) == 1


def test_a_message_is_claimed_by_one(town: SchedulingTown) -> None:
    with town.account() as account:
        rows = Scheduling(account, town.clock)
        message = Outgoing("REQUEST", f"mailto:{ZOE}", meeting(method="REQUEST"))
        account.database.write(lambda t: rows.add(t, CollectionId(1), ObjectId(0), [message]))
        assert rows.due(9) == []
        town.clock.advance(CLAIM)
        [due] = rows.due(9)
        assert due.data == message.data
        assert [rows.claim(due), rows.claim(due)] == [True, False]


# In


class Post:
    """Mail from elsewhere, as the MX delivers it."""

    def __init__(self, town: SchedulingTown) -> None:
        self.town = town
        self.look()  # nothing that was there before counts

    def look(self, login: str = ALICE) -> dict[Outcome, int]:
        return self.town.incoming.look(*self.town.accounts[login])

    def deliver(
        self, data: bytes, sender: str = ZOE, results: str = PASSED, mailbox: str = "INBOX", to: str = ALICE
    ) -> None:
        town = self.town
        author, recipient = EmailAddress.parse(sender), EmailAddress.parse(to)
        mail = message_of(Meeting.read(data), data, Written(author, "", recipient, "m", town.clock.now()))
        number = new_queue_id(town.clock)
        client = Client("192.0.2.7", "mx.far.example", "mx.far.example", "ESMTPS")
        prefix = return_path(author) + received(client, HOST, number, 0, None)
        prefix += authentication_results(HOST, results)
        tenant_id, account_id = town.accounts[to]
        [outcome] = deliver(town.installation, tenant_id, [Delivery(account_id, mailbox)], mail, prefix, number)
        assert outcome.delivered

    def knows(self, address: str, login: str = ALICE) -> None:
        tenant_id, account_id = self.town.accounts[login]
        correspondents = self.town.installation.tenant(tenant_id).correspondents
        correspondents.record(account_id, [EmailAddress.parse(address)])
        correspondents.flush()


@pytest.fixture
def post(town: SchedulingTown) -> Post:
    return Post(town)


def from_zoe(*lines: str, method: str = "REQUEST", **more: Any) -> bytes:
    return meeting(*lines, organizer=ZOE, attendees=(ALICE,), method=method, **more)


def test_an_invitation_of_somebody_known_is_in_the_calendar_once(town: SchedulingTown, post: Post) -> None:
    post.knows(ZOE)
    post.deliver(from_zoe())
    assert post.look() == {Outcome.APPLIED: 1}
    assert b"SUMMARY:Talk" in town.only(ALICE) and b"METHOD" not in town.only(ALICE)
    assert len(town.inbox(ALICE)) == 1 and len(town.mail_of(ALICE)) == 1
    assert post.look() == {}
    post.deliver(from_zoe())  # the same again
    assert post.look() == {Outcome.OLD: 1}
    # What its owner removed does not come back by it.
    [name] = town.objects(ALICE)
    town.delete(name)
    post.deliver(from_zoe())
    assert post.look() == {Outcome.OLD: 1} and town.objects(ALICE) == {}


def test_the_answer_leaves_by_mail(town: SchedulingTown, post: Post) -> None:
    post.knows(ZOE)
    post.deliver(from_zoe())
    post.look()
    [name] = town.objects(ALICE)
    accepted = town.only(ALICE).replace(b"RSVP=TRUE", b"PARTSTAT=ACCEPTED")
    assert town.put(name, accepted).status == 204
    assert b"ORGANIZER;SCHEDULE-STATUS=1.1:mailto:zoe@far.example" in town.only(ALICE)
    [(entry, mail)] = town.queued()
    assert (mail["Subject"], mail["To"], mail["Auto-Submitted"]) == ("Accepted: Talk", ZOE, "auto-replied")
    assert [str(each.address) for each in entry.recipients] == [ZOE]


@pytest.mark.parametrize(
    ("results", "sender", "mailbox"),
    [
        ("dmarc=fail header.from=far.example", ZOE, "INBOX"),
        ("dmarc=none header.from=far.example", ZOE, "INBOX"),
        ("spf=pass smtp.mailfrom=far.example", ZOE, "INBOX"),
        ('dkim=pass reason="dmarc=pass header.from=far.example"', ZOE, "INBOX"),
        ("dmarc=pass header.from=other.example", "someone@other.example", "INBOX"),  # not the organizer
        ("dmarc=pass header.from=other.example", ZOE, "INBOX"),
        (PASSED, ZOE, "Junk"),
    ],
)
def test_what_does_not_get_into_the_calendar(
    town: SchedulingTown, post: Post, results: str, sender: str, mailbox: str
) -> None:
    post.knows(ZOE)
    post.deliver(from_zoe(), sender, results, mailbox)
    assert post.look().get(Outcome.APPLIED, 0) == 0
    assert town.objects(ALICE) == {} and town.inbox(ALICE) == []


def test_results_in_the_message_itself_and_appended_mail_count_nothing(town: SchedulingTown, post: Post) -> None:
    post.knows(ZOE)
    data = from_zoe()
    written = Written(EmailAddress.parse(ZOE), "", EmailAddress.parse(ALICE), "m", town.clock.now())
    forged = authentication_results(HOST, PASSED) + message_of(Meeting.read(data), data, written)
    with town.account() as account:
        account.messages.append(account.mailboxes.find("INBOX").id, forged)
    assert post.look() == {} and town.objects(ALICE) == {}


def test_whom_the_account_trusts(town: SchedulingTown, post: Post) -> None:
    def trust(whom: Trust) -> None:
        with town.account() as account:
            Scheduling(account, town.clock).trust = whom

    post.deliver(from_zoe(uid="1"))
    assert post.look() == {Outcome.NOT_FOR_HIM: 1}, "a stranger"
    trust(Trust.EVERYBODY)
    post.deliver(from_zoe(uid="2"))
    assert post.look() == {Outcome.APPLIED: 1}
    trust(Trust.NOBODY)
    post.knows(ZOE)
    post.deliver(from_zoe(uid="3"))
    assert post.look() == {Outcome.NOT_FOR_HIM: 1}
    # What is in the calendar already its organizer may change and cancel.
    post.deliver(from_zoe(uid="2", start="20261201T150000Z", sequence=1))
    assert post.look() == {Outcome.APPLIED: 1} and b"T150000Z" in town.only(ALICE)
    post.deliver(from_zoe("STATUS:CANCELLED", uid="2", sequence=2, method="CANCEL"))
    assert post.look() == {Outcome.APPLIED: 1} and b"STATUS:CANCELLED" in town.only(ALICE)


def test_who_did_not_organize_it_changes_nothing(town: SchedulingTown, post: Post) -> None:
    post.knows(ZOE)
    town.put("a.ics", meeting())
    before = town.only(ALICE)
    post.deliver(from_zoe("STATUS:CANCELLED", sequence=9, method="CANCEL"))  # the UID of alice's own meeting
    post.deliver(from_zoe(sequence=9))
    assert post.look() == {Outcome.NOT_FOR_HIM: 2} and town.only(ALICE) == before


def reply_of(user: str, partstat: str, sequence: int = 0, stamp: str = "20261102T000000Z") -> bytes:
    line = f"ATTENDEE;PARTSTAT={partstat}:mailto:{user}"
    return meeting(attendees=(line,), method="REPLY", sequence=sequence, stamp=stamp)


def test_an_answer_by_mail_counts_in_its_order(town: SchedulingTown, post: Post) -> None:
    town.put("a.ics", meeting(attendees=(ZOE,)))
    post.deliver(reply_of(ZOE, "TENTATIVE", stamp="20261103T000000Z"))
    assert post.look() == {Outcome.APPLIED: 1} and b"PARTSTAT=TENTATIVE" in town.only(ALICE)
    post.deliver(reply_of(ZOE, "ACCEPTED", stamp="20261102T000000Z"))  # overtaken
    assert post.look() == {Outcome.OLD: 1} and b"PARTSTAT=TENTATIVE" in town.only(ALICE)
    other = "someone@far.example"
    post.deliver(reply_of(other, "DECLINED"), other)  # was not invited
    post.deliver(reply_of(ZOE, "DECLINED", stamp="20261104T000000Z"), other)  # speaks for another
    assert post.look() == {Outcome.NOT_FOR_HIM: 2} and b"DECLINED" not in town.only(ALICE)


def test_one_sender_may_not_fill_a_calendar(town: SchedulingTown, post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hosting.scheduling.incoming.OF_SENDER_AND_DAY", 2)
    post.knows(ZOE)
    for number in range(4):
        post.deliver(from_zoe(uid=f"u{number}"))
    assert post.look() == {Outcome.APPLIED: 2, Outcome.OLD: 2}
    town.clock.advance(86_400)
    post.deliver(from_zoe(uid="u5"))
    assert post.look() == {Outcome.APPLIED: 1}


@pytest.mark.parametrize("data", [meeting(method="REQUEST").replace(b"END:VEVENT\r\n", b""), b"BEGIN:VCALENDAR\r\n"])
def test_broken_calendars_are_mail_and_no_more(town: SchedulingTown, post: Post, data: bytes) -> None:
    post.knows(ZOE)
    good = from_zoe()
    post.deliver(good)
    with town.account() as account:
        inbox = account.mailboxes.find("INBOX")
        account.messages.expunge(inbox.id, UidSet.of([1]), only_deleted=False)
    tenant_id, account_id = town.accounts[ALICE]
    mail = b"From: zoe@far.example\r\nMIME-Version: 1.0\r\nContent-Type: text/calendar; method=REQUEST\r\n\r\n" + data
    number = new_queue_id(town.clock)
    prefix = authentication_results(HOST, PASSED)
    deliver(town.installation, tenant_id, [Delivery(account_id)], mail, prefix, number)
    assert post.look() == {} and town.objects(ALICE) == {}


def test_an_account_of_another_tenant_is_invited_by_mail_and_decides_itself(town: SchedulingTown) -> None:
    mallory = Post(town)
    mallory.look(MALLORY)
    town.put("a.ics", meeting(attendees=(MALLORY,)))
    assert town.queued() == [] and len(town.mail_of(MALLORY)) == 1
    assert mallory.look(MALLORY) == {Outcome.NOT_FOR_HIM: 1} and town.objects(MALLORY) == {}
    mallory.knows(ALICE, MALLORY)
    town.clock.advance(10)
    town.put("a.ics", meeting("LOCATION:Hall", attendees=(MALLORY,), sequence=1))
    assert mallory.look(MALLORY) == {Outcome.APPLIED: 1}
    [name] = town.objects(MALLORY)
    accepted = town.only(MALLORY).replace(b"RSVP=TRUE", b"PARTSTAT=ACCEPTED")
    assert town.put(name, accepted, MALLORY).status == 204
    assert town.incoming.look(*town.accounts[ALICE]) == {Outcome.APPLIED: 1}
    assert b"PARTSTAT=ACCEPTED" in town.only(ALICE)


def test_what_could_not_be_delivered_stands_in_the_meeting(town: SchedulingTown, post: Post) -> None:
    town.put("a.ics", meeting(attendees=(ZOE, "yan@far.example")))
    entry = next(each for each, mail in town.queued() if mail["To"] == ZOE)
    told = Told(Action.FAILED, ZOE, "", "5.1.1", Reply(550, "5.1.1", "No such user"))
    header = b"Subject: Invitation\r\n"
    about = About(entry.queue_id, entry.arrived, entry.parameters.envid, smtputf8=False, header=header)
    written = Sending(new_queue_id(town.clock), HOST, town.clock.now(), EmailAddress.parse(ALICE))
    report_ = report(written, about, [told])

    def delivered(prefix: bytes) -> None:
        tenant_id, account_id = town.accounts[ALICE]
        [outcome] = deliver(
            town.installation, tenant_id, [Delivery(account_id)], report_, prefix, new_queue_id(town.clock)
        )
        assert outcome.delivered
        assert post.look() == {}

    client = Client("192.0.2.7", "mx.far.example", "mx.far.example", "ESMTPS")
    delivered(received(client, HOST, "q", 0, None) + authentication_results(HOST, PASSED))
    assert b"5.1" not in town.only(ALICE), "a report from elsewhere is not believed"
    delivered(return_path(None))
    assert b"SCHEDULE-STATUS=5.1:mailto:zoe@far.example" in town.only(ALICE)
    assert b"SCHEDULE-STATUS=1.1:mailto:yan@far.example" in town.only(ALICE)


def test_a_domain_is_compared_as_it_is_written_in_dns(town: SchedulingTown, post: Post) -> None:
    assert Domain.parse("Far.Example").name == "far.example"
    post.knows(ZOE)
    post.deliver(from_zoe(), "zoe@FAR.example")
    assert post.look() == {Outcome.APPLIED: 1}


def test_the_first_mail_of_a_new_account_counts(town: SchedulingTown) -> None:
    """Nothing has looked at its mailbox before."""
    town.new_account(town.tenant_id, "dora@example.test")
    first = Post(town)
    first.knows(ZOE, "dora@example.test")
    invitation = meeting(organizer=ZOE, attendees=("dora@example.test",), method="REQUEST")
    first.deliver(invitation, to="dora@example.test")
    assert first.look("dora@example.test") == {Outcome.APPLIED: 1}
    assert first.look("dora@example.test") == {}


def test_what_was_there_before_calendars_is_left_alone(town: SchedulingTown) -> None:
    town.new_account(town.tenant_id, "dora@example.test")
    early = Post(town)
    early.knows(ZOE, "dora@example.test")
    invitation = meeting(organizer=ZOE, attendees=("dora@example.test",), method="REQUEST")
    early.deliver(invitation, to="dora@example.test")
    with town.account("dora@example.test") as account:
        later = text("UPDATE collection SET created = created + 60")
        account.database.write(lambda transaction: transaction.execute(later))
    assert early.look("dora@example.test") == {}


def test_an_answer_that_says_nothing_of_an_instance_stops_nothing(town: SchedulingTown, post: Post) -> None:
    town.put("a.ics", meeting("RRULE:FREQ=DAILY", attendees=(ZOE,)))
    answer = reply_of(ZOE, "ACCEPTED")
    instance = meeting("RECURRENCE-ID:20261202T100000Z", attendees=())
    event = instance[instance.index(b"BEGIN:VEVENT") : instance.index(b"END:VCALENDAR")]
    post.deliver(answer.replace(b"END:VCALENDAR", event + b"END:VCALENDAR"))
    assert post.look() == {Outcome.APPLIED: 1} and b"PARTSTAT=ACCEPTED" in town.only(ALICE)


def test_what_nobody_thought_of_stops_no_other_mail(
    town: SchedulingTown, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    post.knows(ZOE)
    post.deliver(from_zoe(uid="u1"))
    post.deliver(from_zoe(uid="u2"))
    read = Incoming._take

    def take(self: Incoming, account: Any, rows: Any, sender: Any, method: str, octets: bytes, number: Any) -> Outcome:
        if b"UID:u1" in octets:
            raise IndexError
        return read(self, account, rows, sender, method, octets, number)

    monkeypatch.setattr(Incoming, "_take", take)
    assert post.look() == {Outcome.APPLIED: 1} and b"UID:u2" in town.only(ALICE)


def test_who_is_not_taken_out_of_a_meeting_keeps_it(town: SchedulingTown, post: Post) -> None:
    """RFC 5546 §3.2.5: a CANCEL names who is uninvited, and some organizers send it to all."""
    post.knows(ZOE)
    post.deliver(from_zoe())
    post.look()
    post.deliver(meeting(organizer=ZOE, attendees=("carl@example.test",), sequence=1, method="CANCEL"))
    assert post.look() == {Outcome.NOT_FOR_HIM: 1} and b"CANCELLED" not in town.only(ALICE)
    post.deliver(from_zoe(sequence=2, method="CANCEL"))
    assert post.look() == {Outcome.APPLIED: 1} and b"STATUS:CANCELLED" in town.only(ALICE)


def test_nobody_gets_mail_about_what_was_over_long_ago(town: SchedulingTown) -> None:
    """Who moves in with a calendar, and who tidies up last year's, writes to nobody; calendars here are told."""
    long_ago = day(town, -10)
    town.put("old.ics", meeting(attendees=(ZOE, BOB), start=long_ago))
    assert b"SCHEDULE-STATUS=1.2:mailto:bob" in town.only(ALICE) and b"SCHEDULE-STATUS=1.1" not in town.only(ALICE)
    answered = f"ATTENDEE;PARTSTAT=ACCEPTED:mailto:{ALICE}"
    town.put("theirs.ics", meeting(attendees=(answered,), organizer=ZOE, start=long_ago, uid="theirs"))
    town.delete("old.ics")
    town.delete("theirs.ics")
    assert town.queued() == [] and waiting(town) == 0


@pytest.mark.parametrize(
    ("days", "lines", "attendee"),
    [
        (-6, (), f"ATTENDEE:mailto:{ZOE}"),
        (-900, ("RRULE:FREQ=WEEKLY",), f"ATTENDEE:mailto:{ZOE}"),
        (-10, (), f"ATTENDEE;SCHEDULE-FORCE-SEND=REQUEST:mailto:{ZOE}"),
    ],
)
def test_what_is_not_over_long_ago_is_told(
    town: SchedulingTown, days: int, lines: tuple[str, ...], attendee: str
) -> None:
    town.put("a.ics", meeting(*lines, attendees=(attendee,), start=day(town, days)))
    assert len(town.queued()) == 1


def test_what_is_moved_to_a_time_long_ago_is_told(town: SchedulingTown) -> None:
    town.put("a.ics", meeting(attendees=(ZOE,), start=day(town, 3)))
    town.put("a.ics", meeting(attendees=(ZOE,), start=day(town, -30), sequence=1))
    assert len(town.queued()) == 2


def day(town: SchedulingTown, days: int) -> str:
    return utc_text(town.clock.now() + days * 86_400)


def test_what_another_process_left_is_taken_up_once_it_is_told_of_a_change(
    town: SchedulingTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    round_ = scheduling_round(town)
    with monkeypatch.context() as patch:
        patch.setattr(Carrying, "carry", lambda *_: None)
        town.put("a.ics", meeting())
    round_.again()
    assert waiting(town) == 1
    round_.changed(*town.accounts[ALICE])
    round_.again()
    town.clock.advance(CLAIM + 1)
    round_.again()
    assert waiting(town) == 0 and len(town.objects(BOB)) == 1
