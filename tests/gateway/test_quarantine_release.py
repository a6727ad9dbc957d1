"""Releases: through the same door as all mail, with what was found put before it, each copy once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from quarantine_place import (
    ALICE,
    BOB,
    ONE,
    PREFIX,
    STRANGER,
    Place,
    forwarded,
    mail,
    routed,
    to_mailbox,
)

from gateway.acceptance.targets import MailboxTarget, RemoteTarget, RoutedTarget
from gateway.mx.recipients import Recipients
from gateway.mx.srs import Rewriting
from gateway.policy.verdict import Action, Reason, Verdict
from gateway.quarantine.onward import targets_of, withheld_for
from gateway.quarantine.release import Releases
from gateway.smtp.address import ForwardPath
from storage.directory.provisioning import Provisioning
from storage.directory.resolve import Resolver
from storage.errors import Corrupt, NotFound, OverQuota, Unavailable
from storage.quarantine.values import HeldState, Query, ReleasedBy
from storage.queue.entries import Entry, RecipientState
from storage.values import AccountId, Domain, EmailAddress, TenantId

RECIPIENT, ADMINISTRATOR, REVIEW = ReleasedBy.RECIPIENT, ReleasedBy.ADMINISTRATOR, ReleasedBy.REVIEW


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


def release(place: Place, quarantine_id: str, *positions: int, by: ReleasedBy = ADMINISTRATOR) -> tuple[int, ...]:
    return place.releases.release(ONE, quarantine_id, positions or range(9), by).released


def queued(place: Place) -> list[Entry]:
    return [place.installation.queue.show(entry.queue_id) for entry in place.installation.queue.entries()]


def states(place: Place, quarantine_id: str) -> list[HeldState]:
    return [each.state for each in place.quarantine.show(ONE, quarantine_id).recipients]


@pytest.mark.parametrize("by", list(ReleasedBy))
def test_into_the_inbox(place: Place, by: ReleasedBy) -> None:
    quarantine_id = place.held("unique")
    place.clock.advance(60)
    assert release(place, quarantine_id, by=by) == (0,)
    [message] = place.inbox()
    field = f"X-Cleanmail-Released: by {by}; Sun, 15 Jun 2025 15:07:40 +0000\r\n".encode()
    assert message == b"Return-Path: <stranger@far.example>\r\n" + field + PREFIX + mail("unique")
    assert place.rows().find(Query()) == [] and place.files() == [] and queued(place) == []
    assert place.taught == [(ONE, ALICE, mail("unique"))]
    with pytest.raises(NotFound):
        release(place, quarantine_id)
    assert len(place.inbox()) == 1


def test_the_trace_tells_it(place: Place) -> None:
    quarantine_id = place.held("token", to_mailbox(), forwarded())
    release(place, quarantine_id)
    [entry] = queued(place)
    place.installation.flush_logs()
    events = list(place.installation.traces.read())
    told = {(event.id, event.kind.value, event.recipient) for event in events}
    assert (quarantine_id, "released", "alice@one.test") in told
    assert (quarantine_id, "delivered", "alice@one.test") in told
    assert (entry.queue_id, "received", "away@one.test") in told
    [leaves] = [event for event in events if event.kind == "released" and "as" in event.details]
    assert leaves.details == {"by": "administrator", "as": entry.queue_id}


def test_what_leaves_is_queued_as_it_would_have_been(place: Place) -> None:
    """To the tenant's own server, and where an alias leads, under a reverse-path of the alias's domain; no backscatter
    afterwards if there would have been none before."""
    quarantine_id = place.held(
        "unique", forwarded(rewritten=True, notify=("FAILURE",)), routed(), forwarded("b@one.test", "b@else.example")
    )
    assert release(place, quarantine_id) == (0, 1, 2)
    [entry] = queued(place)
    assert (entry.tenant_id, entry.reverse_path, entry.parameters.authentic, entry.held) == (
        ONE,
        STRANGER,
        False,
        False,
    )
    by = {str(each.address): each for each in entry.recipients}
    assert by["carol@one.test"].destination == "route:one.test"
    far = by["far@elsewhere.example"]
    assert (far.destination, far.parameters.original, far.parameters.notify) == (
        "elsewhere.example",
        "away@one.test",
        ("FAILURE",),
    )
    assert far.parameters.reverse_path.startswith("SRS0=") and far.parameters.reverse_path.endswith("@one.test")
    assert by["b@else.example"].parameters.reverse_path == ""
    assert {each.state for each in entry.recipients} == {RecipientState.QUEUED}
    content = place.installation.queue.content(entry)
    assert content.startswith(b"X-Cleanmail-Released: by administrator") and content.endswith(PREFIX + mail("unique"))
    assert place.rows().find(Query()) == [] and place.files() == []
    assert place.taught == [(ONE, None, mail("unique"))]


def test_a_bounce_that_was_withheld_has_no_path_to_rewrite(place: Place) -> None:
    release(place, place.held("token", forwarded(rewritten=True), reverse_path=None))
    [entry] = queued(place)
    assert (entry.reverse_path, entry.recipients[0].parameters.reverse_path) == (None, "")


def test_one_recipient_alone(place: Place) -> None:
    quarantine_id = place.held("token", to_mailbox(), to_mailbox(BOB), forwarded())
    assert release(place, quarantine_id, 1, by=RECIPIENT) == (1,)
    assert (len(place.inbox()), len(place.inbox(BOB))) == (0, 1)
    assert states(place, quarantine_id) == [HeldState.HELD, HeldState.RELEASED, HeldState.HELD]
    assert release(place, quarantine_id, 1) == ()
    assert release(place, quarantine_id) == (0, 2)
    assert (len(place.inbox()), len(place.inbox(BOB)), len(queued(place))) == (1, 1, 1)


def test_who_asked_to_hear_of_a_delivery_hears_of_it(place: Place) -> None:
    """RFC 3461 §4.1: the report is the queue's."""
    quarantine_id = place.held("token", to_mailbox(notify=("SUCCESS",)))
    assert release(place, quarantine_id) == (0,)
    [entry] = queued(place)
    assert [(each.account_id, each.parameters.notify) for each in entry.recipients] == [(ALICE, ("SUCCESS",))]


def test_a_full_mailbox_holds_it_again(place: Place) -> None:
    quarantine_id = place.held("token", to_mailbox(), to_mailbox(BOB))
    Provisioning(place.installation).set_quota(ONE, ALICE, quota_bytes=0, quota_messages=1)
    release(place, place.held("first"))
    result = place.releases.release(ONE, quarantine_id, [0, 1], ADMINISTRATOR)
    assert result.released == (1,) and isinstance(result.failed[0], OverQuota)
    assert states(place, quarantine_id) == [HeldState.HELD, HeldState.RELEASED]
    assert [account_id for _, account_id, _ in place.taught] == [ALICE, BOB], "nothing is learned of what stays"
    Provisioning(place.installation).set_quota(ONE, ALICE, quota_bytes=0, quota_messages=0)
    assert release(place, quarantine_id) == (0,)
    assert len(place.inbox()) == 2


def test_content_that_is_lost_is_no_release(place: Place) -> None:
    quarantine_id = place.held()
    for path in place.files():
        path.unlink()
    with pytest.raises(Corrupt):
        release(place, quarantine_id)
    assert states(place, quarantine_id) == [HeldState.HELD]


@pytest.mark.parametrize("fault", [Unavailable, ValueError])
def test_what_teaches_nothing_is_delivered(place: Place, fault: type[Exception]) -> None:
    def teach(tenant_id: TenantId, account_id: AccountId | None, prefix: bytes, message: bytes) -> None:
        raise fault

    quarantine_id = place.held("token", to_mailbox(), forwarded())
    assert place.make_releases(teach).release(ONE, quarantine_id, [0, 1], ADMINISTRATOR).released == (0, 1)
    assert len(place.inbox()) == 1 and [entry.held for entry in queued(place)] == [False]
    assert place.rows().find(Query()) == []
    assert place.make_releases(None).release(ONE, place.held("more"), [0], ADMINISTRATOR).released == (0,)


def test_an_interrupted_release_goes_on_in_another_process(place: Place) -> None:
    quarantine_id = place.held("token", to_mailbox(), forwarded())
    place.rows().begin_release(
        quarantine_id,
        [0, 1],
        release_id="06h18sfqh3agm3iq",
        by=RECIPIENT,
        incarnation=place.installation.incarnation.name,
    )
    assert place.releases.resume(ONE) == 0, "who began it lives"
    place.reopen()
    assert place.releases.resume(ONE) == 1
    assert b"X-Cleanmail-Released: by recipient" in place.inbox()[0]
    assert [entry.queue_id for entry in queued(place)] == ["06h18sfqh3agm3iq"]
    assert place.releases.resume(ONE) == 0 and place.files() == []


def test_a_release_that_cannot_go_on_is_held_again(place: Place) -> None:
    quarantine_id = place.held()
    place.rows().begin_release(quarantine_id, [0], release_id="x", by=RECIPIENT, incarnation="dead")
    for path in place.files():
        path.unlink()
    assert place.releases.resume(ONE) == 1
    assert states(place, quarantine_id) == [HeldState.HELD]


def test_one_release_that_breaks_keeps_back_no_other(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    class BrokenRecipients(Recipients):
        def rewriting(self, tenant_id: TenantId) -> Rewriting:
            raise ValueError("a fault of ours")

    breaks = place.held("breaks", forwarded(rewritten=True))
    other = place.held("other")
    for quarantine_id in (breaks, other):
        place.rows().begin_release(quarantine_id, [0], release_id=quarantine_id, by=RECIPIENT, incarnation="dead")
    recipients = BrokenRecipients(place.installation, Resolver(place.installation))
    assert Releases(place.installation, place.quarantine, recipients).resume(ONE) == 2
    assert len(place.inbox()) == 1 and states(place, breaks) == [HeldState.RELEASING]
    assert f"message {breaks} was not released: ValueError" in caplog.text


@pytest.mark.parametrize(
    "target",
    [
        MailboxTarget(ONE, ALICE, ForwardPath(EmailAddress.parse("x@one.test"), ("SUCCESS",), "rfc822;x")),
        RoutedTarget(
            ONE, Domain("one.test"), EmailAddress.parse("y@one.test"), ForwardPath(EmailAddress.parse("x@one.test"))
        ),
        RemoteTarget(EmailAddress.parse("z@far.example"), ForwardPath(EmailAddress.parse("x@one.test")), ONE),
        RemoteTarget(EmailAddress.parse("z@far.example"), ForwardPath(EmailAddress.parse("x@one.test")), ONE, True),
        RemoteTarget(
            EmailAddress.parse("z@far.example"),
            ForwardPath(EmailAddress.parse("x@one.test")),
            ONE,
            False,
            EmailAddress.parse("SRS0=@one.test"),
        ),
    ],
)
def test_targets_come_back(place: Place, target: MailboxTarget | RoutedTarget | RemoteTarget) -> None:
    verdict = Verdict(Action.QUARANTINE, Reason.MALWARE, "It is known malware.", "would not have passed")
    quarantine_id = place.held("token", withheld_for(target, verdict))
    message = place.quarantine.show(ONE, quarantine_id)
    assert (message.reason, message.recipients[0].sentence) == ("malware", "It is known malware.")
    to = targets_of(message.recipients, ONE, lambda recipient: EmailAddress.parse("SRS0=@one.test"))
    assert (*to.mailboxes, *to.routed, *to.remote) == (target,)


def test_operational_logs_hold_ids_only(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong."""
    caplog.set_level("DEBUG")

    def teach(tenant_id: TenantId, account_id: AccountId | None, prefix: bytes, message: bytes) -> None:
        raise Unavailable

    lost = place.held("loggedtoken", to_mailbox(), forwarded())
    for path in place.files():
        path.unlink()
    with pytest.raises(Corrupt):
        release(place, lost)
    place.rows().begin_release(lost, [0, 1], release_id="x", by=RECIPIENT, incarnation="dead")
    place.releases.resume(ONE)
    place.make_releases(teach).release(ONE, place.held("loggedtoken more"), [0], ADMINISTRATOR)
    assert lost in caplog.text and "taught nothing" in caplog.text
    for word in ("loggedtoken", "stranger", "alice", "elsewhere", "body"):
        assert word not in caplog.text
