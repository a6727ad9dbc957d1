"""With Debian's Postfix: as next hop and as sender, in plain text and over TLS, and its smtp-sink in many moods."""

from __future__ import annotations

import email
import email.policy
import re
import smtplib
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from authorities import authority
from next_hop import NextHop
from postfix import Postfix, missing, smtp_sink
from relaying import Relaying, message

from gateway.relay.callout import Verdict
from gateway.relay.outcome import OwnServer, RelayRecipient, Result, TlsDemand
from gateway.relay.settings import RelaySettings
from storage.values import EmailAddress

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

RECIPIENTS = ("b@example.test", "c@example.test", "grüße@example.test", "a@ours.test")
ROOT = authority()


@dataclass
class Peers:
    """Postfix, and behind it a next hop of its own; the client that sends to it."""

    postfix: Postfix
    behind: NextHop
    client: Relaying

    def server(self, port: int = 0, tls: TlsDemand = TlsDemand.OPPORTUNISTIC) -> OwnServer:
        return OwnServer("localhost.test", port or self.postfix.port, tls)

    def arrived(self) -> bytes:
        """The message that came out of Postfix, without the field that it puts first."""
        self.behind.wait_for(lambda: len(self.behind.messages) == 1, 20)
        content = self.behind.messages[0].content
        return re.sub(rb"\AReceived:[^\n]*\n(?:[ \t][^\n]*\n)*", b"", content)


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    directory = tmp_path_factory.mktemp("postfix")
    certificate = ROOT.issue("localhost.test").write(directory / "postfix")
    root, _ = ROOT.write(directory / "root")
    settings = RelaySettings(ca_file=str(root))
    with (
        NextHop(certificate=certificate) as behind,
        Postfix(certificate, {"example.test": behind.port}, recipients=RECIPIENTS) as postfix,
        Relaying({"localhost.test": {"A": "127.0.0.1"}}, settings=settings) as client,
    ):
        yield Peers(postfix, behind, client)


@pytest.fixture(autouse=True)
def fresh(peers: Peers) -> None:
    peers.behind.messages.clear()
    peers.client.transcripts.clear()


@pytest.mark.parametrize("tls", TlsDemand)
def test_postfix_takes_a_message(peers: Peers, tls: TlsDemand) -> None:
    content = b"From: a@sender.test\r\nSubject: dots\r\n\r\n.\r\n..\r\n.a\r\n\r\nend\r\n"
    port = peers.postfix.port if tls is TlsDemand.OPPORTUNISTIC else peers.postfix.encrypted
    (outcome,) = peers.client.send(peers.server(port, tls), content=content)
    assert outcome.result is Result.RELAYED
    assert re.match(r"Ok: queued as \w+", outcome.reply.text)
    assert peers.arrived() == content
    assert peers.postfix.log.count("Anonymous TLS connection established from localhost") >= 1


def test_recipients_that_postfix_does_not_know(peers: Peers) -> None:
    outcomes = peers.client.send(
        peers.server(), "b@example.test", "unknown@example.test", "x@elsewhere.test", "c@example.test"
    )
    assert [(outcome.result.value, outcome.reply.status) for outcome in outcomes] == [
        ("relayed", "2.0.0"),
        ("failed", "5.1.1"),
        ("failed", "5.7.1"),
        ("relayed", "2.0.0"),
    ]
    peers.arrived()
    assert len(peers.behind.messages[0].recipients) == 2


def test_dsn_parameters_reach_the_next_hop_after_postfix(peers: Peers) -> None:
    recipient = RelayRecipient(EmailAddress.parse("b@example.test"), ("FAILURE", "DELAY"), "rfc822;first@sender.test")
    (outcome,) = peers.client.run(
        peers.client.relay.send(peers.server(), message(recipient, ret="HDRS", envid="QQ+2B1"))
    )
    assert outcome.notify_passed_on
    peers.arrived()
    taken = peers.behind.messages[0]
    assert "RET=HDRS" in taken.mail
    assert "ENVID=QQ+2B1" in taken.mail
    assert set(taken.recipients[0].split()[2:]) == {"NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;first@sender.test"}


def test_internationalised_mail(peers: Peers) -> None:
    content = "From: jürgen@sender.test\r\nSubject: Grüße\r\n\r\nhallo\r\n".encode()
    sender = EmailAddress.parse("jürgen@sender.test")
    (outcome,) = peers.client.send(
        peers.server(), "grüße@example.test", content=content, reverse_path=sender, smtputf8=True
    )
    assert outcome.result is Result.RELAYED
    assert peers.arrived() == content
    assert peers.behind.messages[0].recipients[0].startswith("RCPT TO:<grüße@example.test>")


def test_a_server_without_any_extension_gets_seven_bits(peers: Peers) -> None:
    text = "Viele Grüße aus dem schönen Süden"
    content = (
        "From: a@sender.test\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        f"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{text}\r\n"
        f"--b\r\nContent-Type: text/plain\r\n\r\n{'long ' * 300}\r\n--b--\r\n"
    ).encode()
    (outcome,) = peers.client.send(peers.server(peers.postfix.plain), content=content)
    assert outcome.result is Result.RELAYED
    arrived = peers.arrived()
    assert arrived.isascii()
    assert max(len(line) for line in arrived.split(b"\r\n")) <= 998
    parsed = email.message_from_bytes(arrived, policy=email.policy.default)
    assert [part.get_content() for part in parsed.iter_parts()] == [text, "long " * 300]


def test_a_message_that_is_too_large(peers: Peers) -> None:
    (outcome,) = peers.client.send(peers.server(), content=b"From: a@x.test\r\n\r\n" + b"x" * 70 + b"\r\n" * 2_000_000)
    assert (outcome.result, outcome.reply.status) == (Result.FAILED, "5.3.4")


def test_many_messages_and_many_recipients(peers: Peers) -> None:
    for number in range(20):
        (outcome,) = peers.client.send(peers.server(), more=number < 19)
        assert outcome.result is Result.RELAYED
    outcomes = peers.client.send(peers.server(), *["b@example.test"] * 150)
    assert {outcome.result for outcome in outcomes} == {Result.RELAYED}
    peers.behind.wait_for(lambda: len(peers.behind.messages) >= 22, 20)


def test_call_outs(peers: Peers) -> None:
    ask = peers.client.callout.check
    server = peers.server()
    assert peers.client.run(ask(server, EmailAddress.parse("b@example.test"))).verdict is Verdict.TAKEN
    refused = peers.client.run(ask(server, EmailAddress.parse("unknown@example.test")))
    assert (refused.verdict, refused.reply.code, refused.reply.status) == (Verdict.REFUSED, 550, "5.1.1")
    assert peers.behind.messages == []


def test_postfix_has_nothing_to_complain_about(peers: Peers) -> None:
    """After all that: no command ahead of its time, no lost connection."""
    log = peers.postfix.log
    assert "connect from localhost" in log
    for complaint in (r"improper command pipelining", r"lost connection after (?!CONNECT)", r"non-SMTP", r"bare <LF>"):
        assert not re.search(complaint, log)


@pytest.mark.parametrize(
    ("options", "result", "code"),
    [
        ((), Result.RELAYED, 250),
        (("-p",), Result.RELAYED, 250),  # no pipelining
        (("-e",), Result.RELAYED, 250),  # HELO only
        (("-8",), Result.RELAYED, 250),  # no 8BITMIME
        (("-r", "connect"), Result.DEFERRED, 450),
        (("-f", "connect"), Result.DEFERRED, 500),
        (("-r", "MAIL"), Result.DEFERRED, 450),
        (("-r", "RCPT"), Result.DEFERRED, 450),
        (("-r", "DATA"), Result.DEFERRED, 450),
        (("-r", "."), Result.DEFERRED, 450),
        (("-f", "MAIL"), Result.FAILED, 500),
        (("-f", "RCPT"), Result.FAILED, 500),
        (("-f", "DATA"), Result.FAILED, 500),
        (("-f", "."), Result.FAILED, 500),
        (("-q", "MAIL"), Result.DEFERRED, 0),
        (("-q", "RCPT"), Result.DEFERRED, 0),
        (("-q", "DATA"), Result.DEFERRED, 0),
        (("-q", "."), Result.DEFERRED, 0),
        (("-Q", "RCPT"), Result.DEFERRED, 421),
        (("-Q", "."), Result.DEFERRED, 421),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_smtp_sink(options: tuple[str, ...], result: Result, code: int) -> None:
    with smtp_sink(*options) as port, Relaying() as client:
        server = OwnServer("127.0.0.1", port, TlsDemand.OPPORTUNISTIC)
        content = "From: a@sender.test\r\n\r\nViele Grüße an alle Leser\r\n".encode()
        outcomes = client.send(server, "a@example.test", "b@example.test", content=content)
        assert {(outcome.result, outcome.reply.code) for outcome in outcomes} == {(result, code)}


def test_postfix_as_sender(listen: Callable[..., Any], tmp_path: Path) -> None:
    """What Postfix sends arrives at our own server, over TLS that it insists on."""
    listener = listen(hostname="mx.ours.test")
    arrived = threading.Event()
    listener.recorder.on_data = arrived.set
    certificate = ROOT.issue("localhost.test").write(tmp_path / "postfix")
    with Postfix(certificate, {"ours.test": listener.port}, outgoing="encrypt", recipients=RECIPIENTS) as postfix:
        content = "From: a@sender.test\r\nSubject: Grüße\r\n\r\n.\r\nzwölf\r\n".encode()
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with smtplib.SMTP("127.0.0.1", postfix.encrypted, timeout=20) as sender:
            sender.starttls(context=context)
            sender.sendmail("a@sender.test", ["a@ours.test"], content)
        assert arrived.wait(20)
    listener.stop()
    [(transaction, octets)] = listener.recorder.messages
    assert octets.endswith(content)
    assert str(transaction.reverse_path.address) == "a@sender.test"
    assert listener.recorder.sessions[0].tls
