"""What the runner makes of each outcome: states, next attempts, reports, traces, and that content leaves the spool."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from account_ending import end_account
from runner_town import DAY, GREYLISTED, NO_CONNECTION, NO_SUCH_USER, TAKEN, RunnerTown, fields

from gateway.queue.transactions import transactions
from gateway.relay.outcome import NextHop, RecipientOutcome, RelayMessage, Result
from storage.directory.routes import Mode, Route
from storage.queue.entries import EnvelopeParameters, NewRecipient, Origin, RecipientParameters, RecipientState, Reply
from storage.values import Domain, EmailAddress


@pytest.fixture
def town(tmp_path: Path) -> Iterator[RunnerTown]:
    town = RunnerTown(tmp_path)
    yield town
    town.close()


def test_what_the_next_hop_takes_is_gone(town: RunnerTown) -> None:
    queue_id = town.submit("x@far.example", "y@far.example")
    town.run()
    [sent] = town.relay.sent
    assert sent.hop == Domain("far.example")
    assert [str(each.address) for each in sent.message.recipients] == ["x@far.example", "y@far.example"]
    assert b"secret body" in sent.message.content and str(sent.message.reverse_path) == "alice@example.test"
    assert (town.queued(), town.spooled(), town.inbox("alice")) == ([], 0, [])
    assert town.traces.kinds(queue_id) == ["relayed", "relayed"]
    assert town.relay.closed


def test_each_domain_is_a_hop_of_its_own(town: RunnerTown) -> None:
    town.submit("x@far.example", "y@other.example", "z@far.example")
    town.run()
    assert sorted((str(sent.hop), len(sent.message.recipients)) for sent in town.relay.sent) == [
        ("far.example", 2),
        ("other.example", 1),
    ]


def test_what_a_hundred_recipients_got_is_noted_before_the_next_are_tried(town: RunnerTown) -> None:
    """A crash on the way through thousands of recipients must not send the first of them a second copy."""
    queue_id = town.submit(*(f"x{number}@far.example" for number in range(250)))
    noted = []

    async def before(hop: NextHop, message: RelayMessage) -> None:
        noted.append(sum(each.state is RecipientState.RELAYED for each in town.entry(queue_id).recipients))

    town.relay.before = before
    town.run()
    assert noted == [0, 100, 200]
    assert town.relay.taken() == [f"x{number}@far.example" for number in range(250)]
    assert town.queued() == []


def test_many_transactions_are_not_as_many_copies_of_the_content(town: RunnerTown) -> None:
    content = b"Subject: large\r\n\r\n" + b"x" * 1_000_000
    aliases = [
        NewRecipient(EmailAddress.parse("x@far.example"), None, RecipientParameters(original=f"a{number}@example.test"))
        for number in range(50)
    ]
    entry = town.entry(town.submit(*aliases, content=content))
    tracemalloc.start()
    try:
        made = transactions(entry, entry.recipients, content, None)
        assert [each.message.content[: -len(content)] for each in made] == [
            f"Delivered-To: a{number}@example.test\r\n".encode() for number in range(50)
        ]
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_recipient_that_fails_for_now_is_tried_again_by_the_schedule(town: RunnerTown) -> None:
    queue_id = town.submit("x@far.example")
    start = town.clock.now()
    town.relay.behaviour = lambda *_: GREYLISTED
    times = []
    for pause in (0, 300, 600, 1200, 2400, 4800, 9600, 14400, 14400):
        town.run(later=pause - 1 if pause else 0)
        before = len(town.relay.sent)
        town.run(later=1 if pause else 0)
        times.append(town.clock.now() - start)
        assert len(town.relay.sent) == before + (1 if pause else 0)
    [recipient] = town.entry(queue_id).recipients
    assert (recipient.attempts, recipient.reply) == (9, GREYLISTED.reply)
    assert town.inbox("alice") == []
    assert set(town.traces.kinds(queue_id)) == {"deferred"}
    town.relay.behaviour = lambda *_: TAKEN
    town.run(later=14400)
    assert town.queued() == []


def test_some_are_taken_some_fail_and_some_wait(town: RunnerTown) -> None:
    queue_id = town.submit("yes@far.example", "no@far.example", "later@far.example")
    outcomes = {"yes": TAKEN, "no": NO_SUCH_USER, "later": GREYLISTED}
    town.relay.behaviour = lambda hop, message, recipient: outcomes[recipient.address.local]
    town.run()
    states = {str(each.address): each.state.value for each in town.entry(queue_id).recipients}
    assert states == {"yes@far.example": "relayed", "no@far.example": "failed", "later@far.example": "queued"}
    [report] = town.reports("alice")
    _, no = fields(report)
    assert no["Final-Recipient"] == "rfc822; no@far.example"
    town.run(later=300)
    assert len(town.relay.sent) == 2 and len(town.relay.sent[1].message.recipients) == 1


def test_a_failure_is_told_to_the_sender_once_with_the_header_only(town: RunnerTown) -> None:
    queue_id = town.submit(
        "x@far.example", "y@far.example", orcpt="rfc822;x@far.example", parameters=EnvelopeParameters(envid="id1")
    )
    town.relay.behaviour = lambda *_: NO_SUCH_USER
    town.run()
    assert (town.queued(), town.spooled()) == ([], 0)
    [report] = town.reports("alice")
    message, first, second = fields(report)
    assert message["Original-Envelope-Id"] == "id1"
    assert (first["Action"], first["Status"]) == ("failed", "5.1.1")
    assert first["Diagnostic-Code"] == "smtp; 550 5.1.1 No such user here"
    assert second["Final-Recipient"] == "rfc822; y@far.example"
    octets = town.inbox("alice")[0]
    assert f"Subject: {queue_id}".encode() in octets and b"secret body" not in octets
    assert octets.startswith(b"Return-Path: <>\r\n")
    assert town.traces.kinds(queue_id) == ["failed", "failed", "notified", "notified"]


def test_the_end_of_the_retry_time_is_told_with_the_last_reply(town: RunnerTown) -> None:
    town.submit("x@far.example")
    town.relay.behaviour = lambda *_: GREYLISTED
    town.run()
    town.run(later=5 * DAY)
    [report] = town.reports("alice")
    _, recipient = fields(report)
    assert (recipient["Action"], recipient["Status"]) == ("failed", "5.4.7")
    assert recipient["Diagnostic-Code"] == "smtp; 451 4.7.1 Try again later"
    assert town.queued() == [] and len(town.relay.sent) == 1


def test_the_end_comes_though_the_destination_is_left_alone(town: RunnerTown) -> None:
    town.submit("x@far.example")
    town.relay.behaviour = lambda *_: NO_CONNECTION
    town.run()
    never_tried = town.submit("y@far.example", expires=200)
    town.run()
    assert len(town.relay.sent) == 1
    town.run(later=201)
    assert never_tried not in town.queued()
    [report] = town.reports("alice")
    _, recipient = fields(report)
    assert recipient["Status"] == "5.4.7" and "No connection" not in recipient.get("Remote-MTA", "")
    assert "Last-Attempt-Date" not in recipient


def test_an_operator_returns_an_entry_with_his_reason(town: RunnerTown) -> None:
    queue_id = town.submit("x@far.example")
    town.queue.hold(queue_id)
    town.run()
    assert town.relay.sent == []
    town.queue.bounce(queue_id, Reply(0, "5.7.1", "It was returned by an administrator: too much."))
    town.run()
    [report] = town.reports("alice")
    assert fields(report)[1]["Status"] == "5.7.1"
    assert "returned by an administrator: too much" in " ".join(town.inbox("alice")[0].decode().split())


def test_a_hold_ends_with_the_time_of_the_queue_and_the_sender_is_told(town: RunnerTown) -> None:
    old, spared = town.submit("x@far.example"), town.submit("x@far.example", sender="mallory")
    town.queue.hold(old)
    town.queue.hold(spared)
    town.clock.advance(10 * DAY)
    new = town.submit("y@far.example")
    town.queue.hold(new)
    town.run(later=20 * DAY)
    assert len(town.queued()) == 3
    assert town.queue.end_holds(town.clock.now() - 30 * DAY + 1, {town.owner("mallory")[0]}) == 1
    town.run()
    assert town.queued() == [spared, new] and town.relay.sent == []
    [report] = town.reports("alice")
    assert (fields(report)[1]["Action"], fields(report)[1]["Status"]) == ("failed", "5.4.7")
    assert town.traces.kinds(old)[0] == "failed" and town.traces.kinds(new) == []


# Whose report it is


def test_a_message_without_reverse_path_is_never_reported_on(town: RunnerTown) -> None:
    town.submit("x@far.example", reverse_path=None)
    town.submit("y@far.example", origin=Origin.NOTICE)
    town.relay.behaviour = lambda *_: NO_SUCH_USER
    town.run()
    assert (town.queued(), town.inbox("alice"), town.inbox("bob")) == ([], [], [])


def test_a_stranger_whose_address_is_his_gets_the_report(town: RunnerTown) -> None:
    town.submit("x@far.example", reverse_path="stranger@origin.example", origin=Origin.MX)
    town.relay.behaviour = lambda hop, *_: NO_SUCH_USER if hop == Domain("far.example") else TAKEN
    town.run()
    assert [str(sent.hop) for sent in town.relay.sent] == ["far.example", "origin.example"]
    report = town.relay.sent[1].message
    assert report.reverse_path is None and b"multipart/report" in report.content
    assert report.recipients[0].notify == ("NEVER",)
    assert town.queued() == []


def test_a_stranger_whose_address_may_be_forged_gets_nothing_and_the_administrators_are_told(town: RunnerTown) -> None:
    queue_id = town.submit(
        "x@far.example",
        reverse_path="victim@origin.example",
        origin=Origin.MX,
        parameters=EnvelopeParameters(authentic=False),
    )
    town.relay.behaviour = lambda *_: NO_SUCH_USER
    town.run()
    assert [str(sent.hop) for sent in town.relay.sent] == ["far.example"]
    [notice] = town.reports("alice")  # the tenant's first account is its postmaster
    assert "victim@origin.example" in str(notice.get_body()) and b"secret body" not in town.inbox("alice")[0]
    assert notice["To"] == "postmaster@example.test"
    assert town.traces.kinds(queue_id) == ["failed", "suppressed", "notified"]
    assert town.queued() == []


def test_a_notice_that_the_own_server_refuses_too_goes_to_who_is_postmaster_here(town: RunnerTown) -> None:
    tenant_id, _ = town.accounts["alice"]
    domain = Domain("example.test")
    town.installation.tenant(tenant_id).routes.set(Route(domain, Mode.SERVER, "own.example", 25))
    here = NewRecipient(EmailAddress("x", domain), None, routed=domain)
    unproven = EnvelopeParameters(authentic=False)
    queue_id = town.submit(here, reverse_path="victim@origin.example", origin=Origin.MX, parameters=unproven)
    town.relay.behaviour = lambda *_: NO_SUCH_USER
    town.run()
    town.run()
    assert [str(sent.message.recipients[0].address) for sent in town.relay.sent] == [
        "x@example.test",
        "postmaster@example.test",
    ]
    [notice] = town.reports("alice")
    assert notice["To"] == "postmaster@example.test" and "victim@origin.example" in str(notice.get_body())
    assert town.traces.kinds(queue_id) == ["failed", "suppressed", "notified"]
    assert (town.queued(), town.spooled()) == ([], 0)


@pytest.mark.parametrize(
    ("notify", "outcome", "told"),
    [
        ((), NO_SUCH_USER, True),
        (("NEVER",), NO_SUCH_USER, False),
        (("FAILURE",), NO_SUCH_USER, True),
        (("SUCCESS",), NO_SUCH_USER, False),
        (("DELAY",), NO_SUCH_USER, False),
        ((), TAKEN, False),
        (("SUCCESS", "FAILURE"), TAKEN, True),
        (("FAILURE",), TAKEN, False),
        (("SUCCESS",), RecipientOutcome(Result.RELAYED, TAKEN.reply, notify_passed_on=True), False),
    ],
)
def test_notify_is_honoured(town: RunnerTown, notify: tuple[str, ...], outcome: RecipientOutcome, told: bool) -> None:
    town.submit("x@far.example", notify=notify)
    town.relay.behaviour = lambda *_: outcome
    town.run()
    assert len(town.reports("alice")) == told
    if told and outcome is TAKEN:
        assert fields(town.reports("alice")[0])[1]["Action"] == "relayed"


def test_a_sender_whose_address_is_gone_gets_the_report_in_his_mailbox(town: RunnerTown) -> None:
    town.submit("x@far.example", reverse_path="former@example.test")
    town.relay.behaviour = lambda *_: NO_SUCH_USER
    town.run()
    assert len(town.reports("alice")) == 1


def test_an_aliased_recipient_stays_secret(town: RunnerTown) -> None:
    secret = EmailAddress.parse("Private@far.example")
    parameters = RecipientParameters(("FAILURE",), original="sales@example.test")
    town.submit(NewRecipient(secret, None, parameters))
    reply = Reply(550, "5.1.1", "<private@FAR.example>: no such user", "mx.far.example")
    town.relay.behaviour = lambda *_: RecipientOutcome(Result.FAILED, reply)
    town.run()
    [sent] = town.relay.sent
    assert sent.message.content.startswith(b"Delivered-To: sales@example.test\r\n")
    [octets] = town.inbox("alice")
    assert b"private" not in octets.lower() and b"sales@example.test" in octets


def test_an_alias_with_several_destinations_is_expanded_once(town: RunnerTown) -> None:
    def to(address: str) -> NewRecipient:
        parameters = RecipientParameters(("SUCCESS", "FAILURE"), original="list@example.test")
        return NewRecipient(EmailAddress.parse(address), None, parameters)

    town.submit(to("a@far.example"), to("b@far.example"), to("c@other.example"))
    town.run()
    [report] = town.reports("alice")
    _, expanded = fields(report)
    assert (expanded["Action"], expanded["Final-Recipient"]) == ("expanded", "rfc822; list@example.test")
    assert all(each.notify == ("FAILURE",) for sent in town.relay.sent for each in sent.message.recipients)


# Here


def test_mailboxes_here_are_delivered_and_reported_if_asked(town: RunnerTown) -> None:
    queue_id = town.submit("bob", notify=("SUCCESS",))
    town.run(later=31)
    assert len(town.inbox("bob")) == 1 and town.queued() == []
    [report] = town.reports("alice")
    assert fields(report)[1]["Action"] == "delivered"
    assert town.traces.kinds(queue_id) == ["delivered", "notified"]


def test_a_full_mailbox_is_tried_again_and_given_up_at_the_end(town: RunnerTown) -> None:
    tenant_id, account_id = town.owner("bob")
    town.installation.tenant(tenant_id).set_quota(account_id, quota_bytes=10, quota_messages=0)
    queue_id = town.submit("bob")
    town.run(later=31)
    [recipient] = town.entry(queue_id).recipients
    assert recipient.reply is not None and recipient.reply.status == "4.2.2"
    town.run(later=5 * DAY)
    [report] = town.reports("alice")
    assert "full" in report.get_body().get_content()  # type: ignore[union-attr]
    assert fields(report)[1]["Status"] == "5.4.7"
    assert town.queued() == []


def test_a_mailbox_that_is_gone_fails_at_once(town: RunnerTown) -> None:
    queue_id = town.submit("bob")
    end_account(town.installation, *town.owner("bob"))
    town.run(later=31)
    assert queue_id not in town.queued()
    assert fields(town.reports("alice")[0])[1]["Status"] == "5.2.1"


def test_what_a_next_hop_is_told(town: RunnerTown) -> None:
    town.author = Domain("example.test")
    parameters = RecipientParameters(("NEVER",), "rfc822;x", reverse_path="srs0=x@example.test")
    town.submit(NewRecipient(EmailAddress.parse("x@far.example"), None, parameters), "y@far.example")
    town.run()
    first, second = (sent.message for sent in town.relay.sent)
    assert str(first.reverse_path) == "srs0=x@example.test" and str(second.reverse_path) == "alice@example.test"
    assert (first.recipients[0].notify, first.recipients[0].orcpt) == (("NEVER",), "rfc822;x")
    assert first.author == Domain("example.test") and first.tenants == (int(town.owner("alice")[0]),)


# Delays


def test_a_delay_is_told_once(tmp_path: Path) -> None:
    town = RunnerTown(tmp_path, delay_notice=3600)
    try:
        town.submit("x@far.example")
        town.submit("y@far.example", notify=("FAILURE",))
        town.relay.behaviour = lambda *_: GREYLISTED
        for pause in (0, 300, 600, 1200, 2400, 4800, 9600, 14400):
            town.run(later=pause)
        [report] = town.reports("alice")
        _, recipient = fields(report)
        assert (recipient["Action"], recipient["Status"]) == ("delayed", "4.7.1")
        assert recipient["Final-Recipient"] == "rfc822; x@far.example" and "Will-Retry-Until" in recipient
    finally:
        town.close()


def test_a_report_that_cannot_be_built_sends_nobody_a_second_copy(
    town: RunnerTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with us: what was taken is settled, and what failed waits until it can be told."""
    queue_id = town.submit("yes@far.example", "no@far.example", notify=("SUCCESS", "FAILURE"))
    outcomes = {"yes": TAKEN, "no": NO_SUCH_USER}
    town.relay.behaviour = lambda hop, message, recipient: outcomes[recipient.address.local]

    def broken(*_: object) -> object:
        raise ValueError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr("gateway.dsn.follow_ups.report", broken)
        for _ in range(3):
            town.run(later=1200)
    assert town.relay.taken() == ["yes@far.example"]
    assert [each.state.value for each in town.entry(queue_id).recipients] == ["relayed", "queued"]
    town.run(later=5000)
    assert town.queued() == [] and len(town.reports("alice")) == 1
