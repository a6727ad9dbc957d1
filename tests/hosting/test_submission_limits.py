"""Limits on sending, from the socket on: waiting, freezing, who is told, and what no log line says."""

from __future__ import annotations

import logging
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest
from submission_town import RunningService, SubmissionTown

from gateway.acceptance.local import deliver_here
from storage.queue.entries import Origin, RecipientState
from storage.sending import Sending
from storage.sending_limits import SendingLimits

MESSAGE = b"From: alice@example.test\r\nSubject: subject-token\r\n\r\nbody\r\n"
OFF = SendingLimits(0, 0, 0, 0, 0, 1)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[SubmissionTown]:
    town = SubmissionTown(tmp_path)
    yield town
    town.close()


def elsewhere(count: int) -> list[str]:
    return [f"victim{number}@far.example" for number in range(count)]


def send(client: smtplib.SMTP, recipients: list[str], sender: str = "alice@example.test") -> tuple[int, str]:
    """Code and text of the reply that decided."""
    try:
        client.sendmail(sender, recipients, MESSAGE.replace(b"alice@example.test", sender.encode()))
    except smtplib.SMTPResponseException as error:
        text = error.smtp_error
        return error.smtp_code, text.decode() if isinstance(text, bytes) else text
    return 250, ""


def test_too_much_for_now_has_to_wait_and_mail_here_does_not_count(town: SubmissionTown) -> None:
    running = RunningService(town, sending=SendingLimits(5, 0, 8, 0, 0, 1))
    try:
        with running.client() as alice:
            assert send(alice, elsewhere(4))[0] == 250
            assert send(alice, elsewhere(2)) == (
                450,
                "4.7.1 This account has sent as much as it may for now; try again later",
            )
            assert send(alice, elsewhere(1))[0] == 250
            assert send(alice, ["bob@example.test"])[0] == 250
            assert send(alice, elsewhere(1))[0] == 450
        with running.client("bob") as bob:
            assert send(bob, elsewhere(3), "bob@example.test")[0] == 250
            code, text = send(bob, elsewhere(1), "bob@example.test")
            assert code == 450 and text.startswith("4.7.1 Your organisation")
        town.clock.advance(2 * 3600)
        with running.client() as alice:
            assert send(alice, elsewhere(5))[0] == 250
    finally:
        running.stop()


def test_masses_freeze_the_account_hold_its_queue_and_are_told(
    town: SubmissionTown, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    running = RunningService(town, sending=SendingLimits(freeze_above=10))
    tenant_id, account_id = town.accounts["alice"]
    try:
        with running.client() as alice:
            assert send(alice, elsewhere(8))[0] == 250
            assert send(alice, elsewhere(3)) == (550, "5.7.1 Sending from this account is stopped; ask your provider")
            assert send(alice, ["bob@example.test"])[0] == 550  # nothing at all
        with running.client("bob") as bob:
            assert send(bob, elsewhere(3), "bob@example.test")[0] == 250
        assert running.service.gate.frozen == 1
    finally:
        running.stop()
    queue = town.installation.queue
    states = {entry.account_id: set(entry.states) for entry in queue.entries() if entry.origin is Origin.SUBMISSION}
    assert states == {
        account_id: {RecipientState.HELD},
        town.accounts["bob"][1]: {RecipientState.QUEUED},
    }

    # The tenant's postmaster is its first account here; the notice is in no stranger's hands.
    [notice] = [queue.show(entry.queue_id) for entry in queue.entries() if entry.origin is Origin.NOTICE]
    assert notice.reverse_path is None and notice.tenant_id == tenant_id
    deliver_here(town.installation, notice)
    [message] = town.inbox("alice")
    assert b"To: <postmaster@example.test>\r\n" in message and b"Auto-Submitted: auto-generated\r\n" in message
    assert b"cleanmail account unfreeze alice@example.test --reason TEXT\r\n" in message

    said = [record for record in caplog.records if "frozen" in record.getMessage()]
    assert [record.levelno for record in said] == [logging.WARNING]
    assert said[0].getMessage().startswith(f"account {account_id} of tenant {tenant_id} is frozen")
    for token in ("alice", "example.test", "victim", "far.example", "subject-token"):
        assert token not in caplog.text

    # Another process, or the same after a restart, knows it too; and an operator ends it.
    again = RunningService(town, sending=SendingLimits(freeze_above=10))
    try:
        with again.client() as alice:
            assert send(alice, ["bob@example.test"])[0] == 550
            assert Sending(town.installation, SendingLimits()).thaw(tenant_id, account_id) == 1
            assert send(alice, elsewhere(3))[0] == 250
        assert again.service.gate.frozen == 0
    finally:
        again.stop()


def test_a_full_disk_freezes_all_the_same(town: SubmissionTown, monkeypatch: pytest.MonkeyPatch) -> None:
    from storage.errors import StorageFull
    from storage.queue.spool import Spool

    def full(*_: object) -> str:
        raise StorageFull

    running = RunningService(town, sending=SendingLimits(freeze_above=10))
    try:
        monkeypatch.setattr(Spool, "write", full)
        with running.client() as alice:
            assert send(alice, elsewhere(11))[0] == 550
        monkeypatch.undo()
    finally:
        running.stop()
    tenant_id, account_id = town.accounts["alice"]
    assert town.installation.tenant(tenant_id).frozen.find(account_id) is not None
