"""Submission from the socket to the mailbox and the queue, with nothing in between replaced (RFC 6409)."""

from __future__ import annotations

import logging
import smtplib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from auth_town import CHEAP
from pending import deliver_pending
from submission_town import PASSWORD, RunningService, SubmissionTown

from gateway.smtp.limits import Limits
from storage.logs.trace import TraceKind
from storage.queue.entries import RecipientState

MESSAGE = (
    b"From: Alice <alice@example.test>\r\nTo: bob@example.test\r\nBcc: hidden@far.example\r\nSubject: hello\r\n"
    b"\r\nbody-token-1234\r\n"
)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[SubmissionTown]:
    town = SubmissionTown(tmp_path)
    yield town
    town.close()


@pytest.fixture
def running(town: SubmissionTown) -> Iterator[RunningService]:
    service = RunningService(town)
    yield service
    service.stop()


def refusal(error: pytest.ExceptionInfo[smtplib.SMTPException]) -> tuple[int, bytes]:
    value = error.value
    if isinstance(value, smtplib.SMTPRecipientsRefused):
        code, text = next(iter(value.recipients.values()))
    else:
        assert isinstance(value, smtplib.SMTPResponseException)
        code, text = value.smtp_code, value.smtp_error
    octets = text if isinstance(text, bytes) else text.encode()
    return code, octets.split()[0]


@pytest.mark.parametrize("tls", [True, False])
def test_one_mailbox(running: RunningService, tls: bool) -> None:
    with running.client(tls=tls) as client:
        client.sendmail("alice@example.test", ["bob@example.test"], MESSAGE)
    [message] = running.town.inbox("bob")
    header, _, body = message.partition(b"\r\n\r\n")
    lines = header.split(b"\r\n")
    assert lines[0] == b"Return-Path: <alice@example.test>"
    assert lines[1].startswith(b"Received: by mail.example.test with ESMTPSA id ")
    assert b"Date: " in header
    assert b"Message-ID: <" in header
    assert b"Bcc" not in header
    assert b"hidden" not in message
    assert b"127.0.0.1" not in header  # neither the client's address nor what it calls itself
    assert socket_name() not in header
    assert body == b"body-token-1234\r\n"
    assert running.town.installation.queue.entries() == []


def socket_name() -> bytes:
    return smtplib.SMTP().local_hostname.encode()


def test_one_copy_for_two_addresses(running: RunningService) -> None:
    with running.client() as client:
        client.sendmail(
            "alice@example.test", ["bob@example.test", "team@example.test", "BOB+tag@Example.Test"], MESSAGE
        )
    assert len(running.town.inbox("bob")) == 1
    assert len(running.town.inbox("alice")) == 1
    assert running.town.installation.queue.entries() == []


def test_mailboxes_and_addresses_elsewhere(running: RunningService) -> None:
    town = running.town
    with running.client() as client:
        client.sendmail(
            "alice@example.test",
            ["bob@example.test", "mallory@other.test", "x@far.example", "y@far.example"],
            MESSAGE,
            mail_options=["RET=HDRS", "ENVID=e1"],
            rcpt_options=["NOTIFY=FAILURE"],
        )
    assert len(town.inbox("bob")) == len(town.inbox("mallory")) == 1
    [summary] = town.installation.queue.entries()
    entry = town.installation.queue.show(summary.queue_id)
    assert (entry.tenant_id, entry.account_id) == town.accounts["alice"]
    assert [(str(r.address), r.state) for r in entry.recipients] == [
        ("bob@example.test", RecipientState.DELIVERED),
        ("x@far.example", RecipientState.QUEUED),
        ("y@far.example", RecipientState.QUEUED),
    ]
    assert entry.recipients[1].parameters.notify == ("FAILURE",)
    assert (entry.parameters.ret, entry.parameters.envid) == ("HDRS", "e1")
    content = town.installation.queue.content(entry)
    assert content.startswith(b"Received: by mail.example.test")
    assert b"Return-Path" not in content
    assert b"Bcc" not in content


def test_whole_octets_of_a_large_message(running: RunningService) -> None:
    body = b"".join(b"%07d %s\r\n" % (number, b"x" * 60) for number in range(40_000))
    with running.client() as client:
        client.sendmail("alice@example.test", ["bob@example.test"], MESSAGE + body)
    [message] = running.town.inbox("bob")
    assert message.endswith(b"body-token-1234\r\n" + body)


@pytest.mark.parametrize(
    ("reverse_path", "sender"),
    [
        ("alice@example.test", "alice@example.test"),
        ("ALICE+shop@example.test", "sales@example.test"),
        ("team@example.test", "alice+x@example.test"),
        ("", "alice@example.test"),  # a read receipt
    ],
)
def test_addresses_of_the_account(running: RunningService, reverse_path: str, sender: str) -> None:
    with running.client() as client:
        client.sendmail(reverse_path, ["bob@example.test"], MESSAGE.replace(b"alice@example.test", sender.encode()))
    assert running.town.inbox("bob")[0].startswith(b"Return-Path: <%s>" % reverse_path.encode())


@pytest.mark.parametrize(
    ("reverse_path", "header", "reply"),
    [
        ("bob@example.test", b"From: alice@example.test\r\n", (550, b"5.7.1")),
        ("alice@elsewhere.example", b"From: alice@example.test\r\n", (550, b"5.7.1")),
        ("mallory@other.test", b"From: alice@example.test\r\n", (550, b"5.7.1")),
        ("alice@example.test", b"From: bob@example.test\r\n", (550, b"5.7.1")),
        ("alice@example.test", b"From: alice@example.test, bob@example.test\r\n", (550, b"5.7.1")),
        ("alice@example.test", b"From: alice@example.test\r\nSender: bob@example.test\r\n", (550, b"5.7.1")),
        ("", b"From: bob@example.test\r\n", (550, b"5.7.1")),
        ("alice@example.test", b"Subject: no from\r\n", (550, b"5.6.0")),
        ("alice@example.test", b"From: alice@example.test\r\nFrom: bob@example.test\r\n", (550, b"5.6.0")),
    ],
)
def test_addresses_of_others(
    running: RunningService, reverse_path: str, header: bytes, reply: tuple[int, bytes]
) -> None:
    with running.client() as client, pytest.raises(smtplib.SMTPException) as refused:
        client.sendmail(reverse_path, ["bob@example.test", "x@far.example"], header + b"\r\nbody\r\n")
    assert refusal(refused) == reply
    assert running.town.inbox("bob") == []
    assert running.town.installation.queue.entries() == []


def test_recipients_that_are_not_there(running: RunningService) -> None:
    town = running.town
    with running.client() as client:
        for recipient, reply in (("nobody@example.test", (550, b"5.1.1")), ("mallory@other.test", (450, b"4.2.1"))):
            if "mallory" in recipient:
                town.provisioning.suspend_tenant(town.accounts["mallory"][0])
            with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
                client.sendmail("alice@example.test", [recipient], MESSAGE)
            assert refusal(refused) == reply
        client.sendmail("alice@example.test", ["postmaster@example.test"], MESSAGE)
    assert len(town.inbox("alice")) == 1


def test_wrong_password(running: RunningService) -> None:
    with pytest.raises(smtplib.SMTPAuthenticationError) as refused, running.client(password="wrong"):
        pass
    assert refusal(refused) == (535, b"5.7.8")


# Over quota


def test_over_quota_is_for_now(running: RunningService) -> None:
    town = running.town
    town.provisioning.set_quota(*town.accounts["bob"], quota_bytes=10, quota_messages=0)
    with running.client() as client:
        with pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail("alice@example.test", ["bob@example.test"], MESSAGE)
        assert refusal(refused) == (452, b"4.2.2")
        assert town.installation.queue.entries() == []
        client.sendmail("alice@example.test", ["team@example.test"], MESSAGE)  # alice has hers, bob's waits
    assert len(town.inbox("alice")) == 1
    assert town.inbox("bob") == []
    assert len(town.installation.queue.entries()) == 1
    town.provisioning.set_quota(*town.accounts["bob"], quota_bytes=0, quota_messages=0)
    assert deliver_pending(town.installation) == 0  # not due yet
    town.clock.advance(75)
    assert deliver_pending(town.installation) == 1
    assert len(town.inbox("bob")) == len(town.inbox("alice")) == 1
    assert town.installation.queue.entries() == []


# What is recorded


def test_access_events(running: RunningService) -> None:
    town = running.town
    with running.client() as client:
        client.sendmail("alice@example.test", ["bob@example.test"], MESSAGE)
        with pytest.raises(smtplib.SMTPSenderRefused):
            client.sendmail("bob@example.test", ["bob@example.test"], MESSAGE)
        client.quit()
    running.stop_sessions()
    events = [
        (event.type, event.result, event.account_id, event.address)
        for event in town.installation.access_log.read(0, town.clock.now() + 1)
    ]
    alice = town.accounts["alice"][1]
    assert events == [
        ("sign_in", "success", alice, "127.0.0.1"),
        ("submit", "success", alice, "127.0.0.1"),
        ("submit", "refused", alice, "127.0.0.1"),
        ("sign_out", "success", alice, "127.0.0.1"),
    ]


def test_log_lines_hold_ids_only(running: RunningService, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with running.client() as client:
        client.sendmail("alice@example.test", ["bob@example.test", "x@far.example"], MESSAGE)
        with pytest.raises(smtplib.SMTPException):
            client.sendmail("bob@example.test", ["x@far.example"], MESSAGE)
    for token in ("alice", "bob@", "far.example", "hello", "body-token", "127.0.0.1", PASSWORD):
        assert token not in caplog.text


# What ends a session


@pytest.mark.parametrize("change", ["password", "suspend", "tenant"])
def test_changed_credentials_end_sessions(running: RunningService, change: str) -> None:
    town = running.town
    tenant_id, account_id = town.accounts["alice"]
    with running.client() as client, running.client("mallory") as other:
        match change:
            case "password":
                town.provisioning.set_password(tenant_id, account_id, CHEAP.hash("another horse"))
            case "suspend":
                town.provisioning.suspend_account(tenant_id, account_id)
            case "tenant":
                town.provisioning.suspend_tenant(tenant_id)
        assert client.getreply() == (421, b"4.7.0 Your access has changed; sign in again")
        assert other.noop()[0] == 250


def test_other_changes_end_nothing(running: RunningService) -> None:
    town = running.town
    with running.client() as client:
        town.provisioning.set_quota(*town.accounts["alice"], quota_bytes=1, quota_messages=1)
        assert client.noop()[0] == 250
        client.sendmail("alice@example.test", ["bob@example.test"], MESSAGE)


def test_connections_of_an_account(town: SubmissionTown) -> None:
    running = RunningService(town, limits=Limits(connections_per_account=1))
    try:
        with running.client():
            with pytest.raises(smtplib.SMTPAuthenticationError) as refused, running.client():
                pass
            assert refused.value.smtp_code == 454
            with running.client("bob"):
                pass
    finally:
        running.stop()


def test_who_signs_in_before_and_after_starttls_counts_once(town: SubmissionTown) -> None:
    """RFC 3207 §4.2: the first signing in is forgotten, and so is its place."""
    running = RunningService(town, limits=Limits(connections_per_account=1), plain_text_sign_in=True)
    try:
        for _ in range(3):
            with smtplib.SMTP("127.0.0.1", running.port, timeout=20) as client:
                client.login("alice@example.test", PASSWORD)
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                client.starttls(context=context)
                client.login("alice@example.test", PASSWORD)
    finally:
        running.stop()
    results = [(event.type, event.result) for event in town.installation.access_log.read(0, town.clock.now() + 1)]
    assert sorted(results) == [("sign_in", "success")] * 6 + [("sign_out", "success")] * 6


def test_what_is_taken_and_what_is_refused_is_in_the_traces(running: RunningService) -> None:
    town = running.town
    with running.client() as client:
        client.sendmail("alice@example.test", ["bob@example.test"], MESSAGE)
        with pytest.raises(smtplib.SMTPSenderRefused):
            client.sendmail("bob@example.test", ["bob@example.test"], MESSAGE)
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("alice@example.test", ["nobody@example.test"], MESSAGE)
        with pytest.raises(smtplib.SMTPDataError):
            client.sendmail("alice@example.test", ["bob@example.test"], b"Subject: whose?\r\n\r\n")
    traces = town.installation.traces
    traces.flush()
    events = list(traces.read())
    assert [(event.kind.value, event.sender, event.recipient) for event in events] == [
        ("received", "alice@example.test", "bob@example.test"),
        ("delivered", "alice@example.test", "bob@example.test"),
        ("refused", "bob@example.test", ""),
        ("refused", "alice@example.test", "nobody@example.test"),
        ("refused", "alice@example.test", "bob@example.test"),
    ]
    assert {(event.tenant_id, event.account_id) for event in events if event.kind is not TraceKind.DELIVERED} == {
        town.accounts["alice"]
    }
