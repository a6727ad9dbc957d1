"""The gateway's transport as an operator configures it: two workers, a validating resolver, policies of other domains.

Everything is the whole server with its command line; other servers, their DNS and their policy host are on loopback.
"""

from __future__ import annotations

import email
import email.policy
import hashlib
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from authorities import authority
from dns_server import DnsServer
from next_hop import EXTENSIONS, NextHop, Taken
from policy_host import PolicyHost, http
from whole_server import WholeServer, running, until
from wire import SmtpWire, Wire

pytestmark = pytest.mark.slow

ALICE, BOB, MALLORY = "alice@one.test", "bob@one.test", "mallory@two.test"
PROXY = "127.0.0.9"
ROOT = authority()
POLICY = "version: STSv1\nmode: enforce\nmx: {mx}\nmax_age: 86400\n"


@dataclass
class World:
    server: WholeServer
    dns: DnsServer
    far: NextHop  # without TLS
    secured: NextHop  # of dane.example and sts.example
    port: int

    def submit(self, subject: str, *recipients: str, sender: str = ALICE, mail: str = "", body: str = "Text.") -> bytes:
        """Commands as they are: `recipients` and `mail` may have parameters. The queue id."""
        with self.server.smtp(sender) as client:
            content = f"From: {sender}\r\nSubject: {subject}\r\n\r\n{body}\r\n."
            for command in (
                f"MAIL FROM:<{sender}>{mail}",
                *(f"RCPT TO:{each if each.startswith('<') else f'<{each}>'}" for each in recipients),
                "DATA",
                content,
            ):
                code, said = client.command(command.encode())
                assert code < 400, said
        return said.split()[-1]

    def arrive(
        self, *recipients: str, client: SmtpWire | None = None, message: bytes = b"Subject: x\r\n\r\nx\r\n"
    ) -> int:
        """The code that decided, at port 25."""
        with client or SmtpWire(self.server.ports["mx"]) as wire:
            wire.command(b"EHLO mx.far.example")
            return wire.submit("someone@far.example", list(recipients), message)[0]

    def queued(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.run("queue", "list", "--json"))
        return found

    def run(self, *arguments: str, status: int = 0) -> str:
        done = self.server.cleanmail(*arguments)
        assert done.returncode == status, done.stderr
        return done.stdout

    def trace(self, queue_id: bytes) -> str:
        return self.run("trace", queue_id.decode())

    def inbox(self, address: str, subject: str) -> list[bytes]:
        with self.server.imap(address) as imap:
            assert imap.command(b"SELECT INBOX").ok
            found = imap.command(b"SEARCH SUBJECT {}", subject.encode()).untagged[0].split()[2:]
            return [imap.command(b"FETCH %s BODY.PEEK[]" % number).untagged[0] for number in found]

    def report(self, about: str) -> EmailMessage:
        """The one report in alice's INBOX whose returned header has this subject."""

        def reports() -> list[bytes]:
            with self.server.imap(ALICE) as imap:
                imap.command(b"SELECT INBOX")
                found = imap.command(b"SEARCH HEADER Auto-Submitted auto BODY {}", about.encode()).untagged[0].split()
                texts = [imap.command(b"FETCH %s BODY.PEEK[]" % number).untagged[0] for number in found[2:]]
            return [text.partition(b"}\r\n")[2].rpartition(b")")[0] for text in texts]

        [octets] = until(reports, f"the report about {about}")
        return email.message_from_bytes(octets, policy=email.policy.SMTPUTF8)  # type: ignore[return-value]


def came(hop: NextHop, subject: str) -> Taken:
    def here() -> list[Taken]:
        return [taken for taken in hop.messages if f"Subject: {subject}\r\n".encode() in taken.content]

    return until(here, f"'{subject}' at the next hop")[0]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("transport")
    certificate = ROOT.issue("mx.sts.example", "mx.dane.example")
    zone = {
        "far.example": {"MX": "10 mx.far.example.", "TXT": "v=spf1 -all"},
        "mx.far.example": {"A": "127.0.0.1"},
        "no-mail.example": {"MX": "0 ."},
        "wait.example": {"A": "127.0.0.5"},  # where nobody listens
        "dane.example": {"MX": "10 mx.dane.example."},
        "mx.dane.example": {"A": "127.0.0.2"},
        "sts.example": {"MX": "10 mx.sts.example."},
        "mx.sts.example": {"A": "127.0.0.2"},
        "mta-sts.sts.example": {"A": "127.0.0.4"},
    }
    with (
        NextHop() as far,
        NextHop(EXTENSIONS, address="127.0.0.2", port=far.port, certificate=certificate.write(folder / "hop")) as hop,
        DnsServer(zone) as dns,
    ):
        dns.secure = True
        settings = (
            f'[dns]\nnameservers = ["127.0.0.1"]\nport = {dns.port}\nvalidating = true\ncache = 0\n'
            f'[relay]\nport = {far.port}\nprivate_networks = ["127.0.0.0/8"]\nca_file = "{ROOT.write(folder)[0]}"\n'
            "connections_per_destination = 2\n"
            "[mx]\nunlimited = []\n[mx.limits]\nconnections_per_address = 4\n"
        )
        server = WholeServer(folder, settings=settings, smtp_workers=2, web=False)
        config = server.data / "cleanmail.toml"
        config.write_text(config.read_text().replace("[listen]\n", f'[listen]\nproxy_protocol_from = ["{PROXY}"]\n'))
        with running(server):
            yield World(server, dns, far, hop, far.port)


class TestOtherDomainsPolicies:
    """[dns] validating and [relay] ca_file reach the queue: nothing leaves in the clear where it must not."""

    def test_dane(self, world: World) -> None:
        name = f"_{world.port}._tcp.mx.dane.example"
        world.dns.put(name, TLSA=f"3 1 1 {'00' * 32}")
        queue_id = world.submit("pinned", "x@dane.example")
        until(lambda: "deferred" in world.trace(queue_id), "an attempt that fails")
        assert world.secured.contents == []
        world.dns.put(name, TLSA=f"3 1 1 {self.digest(world)}")
        world.run("queue", "retry", queue_id.decode())
        assert came(world.secured, "pinned").tls

    def digest(self, world: World) -> str:
        """Of the public key that the server shows."""
        pem = (world.server.folder / "hop" / "chain.pem").read_bytes()
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        key = x509.load_pem_x509_certificate(pem).public_key()
        return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()

    def test_mta_sts(self, world: World, tmp_path: Path) -> None:
        try:
            socket.create_server(("127.0.0.4", 443)).close()
        except PermissionError:
            pytest.skip("port 443 is for root")
        context = ROOT.issue("mta-sts.sts.example").server_context(tmp_path)
        wrong, right = (http(POLICY.format(mx=mx).encode()) for mx in ("mx.elsewhere.example", "mx.sts.example"))
        with PolicyHost(context, wrong, address="127.0.0.4", port=443) as host:
            world.dns.put("_mta-sts.sts.example", TXT="v=STSv1; id=one")
            queue_id = world.submit("by policy", "x@sts.example")
            until(lambda: "deferred" in world.trace(queue_id), "an attempt that fails")
            assert len(host.requests) == 1
            assert not any(b"by policy" in taken.content for taken in world.secured.contents)
            host.answers = [right]
            world.dns.put("_mta-sts.sts.example", TXT="v=STSv1; id=two")
            world.run("queue", "retry", queue_id.decode())
            assert came(world.secured, "by policy").tls


def test_limits_are_those_of_both_workers(world: World) -> None:
    assert len(world.server.pids("smtp")) == 2
    with ExitStack() as stack:
        said = []
        for _ in range(16):  # the kernel gives each worker some
            wire = stack.enter_context(Wire(world.server.ports["mx"], source="127.0.0.20"))
            said.append(wire.line()[:9])
        assert [line[:3] for line in said].count(b"220") == 4
        assert set(said[4:]) == {b"421 4.7.0"}
        with SmtpWire(world.server.ports["mx"], source="127.0.1.20") as other:
            assert other.greeting[0] == 220


class Proxied(SmtpWire):
    """A connection that a proxy hands on."""

    def __init__(self, port: int, source: str, client: str) -> None:
        Wire.__init__(self, port, source=source)
        self.send(f"PROXY TCP4 {client} 127.0.0.1 40000 25\r\n".encode())
        self.greeting = self.reply()


def test_clients_behind_the_proxy_keep_their_addresses(world: World) -> None:
    port = world.server.ports["mx"]
    message = b"Subject: from behind a proxy\r\n\r\nx\r\n"
    assert world.arrive(BOB, client=Proxied(port, PROXY, "203.0.113.7"), message=message) == 250
    [octets] = world.inbox(BOB, "from behind a proxy")
    assert b"[203.0.113.7]" in octets and PROXY.encode() not in octets
    # Anybody else's header is no command.
    stranger = Proxied(port, "127.0.0.21", "203.0.113.8")
    assert stranger.greeting[0] == 220 and stranger.reply()[0] == 500
    stranger.close()


class TestReports:
    def test_what_submission_asked_for_reaches_the_next_hop(self, world: World) -> None:
        orcpt = "ORCPT=rfc822;first@x.example"
        world.submit("asked", f"<x@far.example> NOTIFY=SUCCESS,DELAY {orcpt}", mail=" RET=HDRS ENVID=env+2B1")
        taken = came(world.far, "asked")
        assert "RET=HDRS" in taken.mail and "ENVID=env+2B1" in taken.mail
        assert "NOTIFY=SUCCESS,DELAY" in taken.recipients[0] and orcpt in taken.recipients[0]

    def test_a_failure_is_told_as_it_was_asked_for(self, world: World) -> None:
        queue_id = world.submit(
            "told",
            "<nobody@no-mail.example> NOTIFY=FAILURE ORCPT=rfc822;first@x.example",
            "<silent@no-mail.example> NOTIFY=NEVER",
            mail=" RET=FULL ENVID=env+2B1",
            body="a secret body",
        )
        report = world.report("told")
        octets = report.as_bytes()
        assert report["Return-Path"] == "<>" and report.get_content_type() == "multipart/report"
        assert b"Original-Envelope-Id: env+1" in octets and b"Original-Recipient: rfc822; first@x.example" in octets
        assert b"nobody@no-mail.example" in octets and b"silent@" not in octets and b"a secret body" not in octets
        until(lambda: "5.1.10" in world.trace(queue_id), "the trace")

    def test_an_internationalised_message_is_told_in_its_own_form(self, world: World) -> None:
        world.submit("für jörg", "jörg@no-mail.example", mail=" SMTPUTF8 BODY=8BITMIME")
        report = world.report("jörg@no-mail.example")
        kinds = [part.get_content_type() for part in report.iter_parts()]
        assert kinds[1:] == ["message/global-delivery-status", "message/global-headers"]

    def test_no_stranger_gets_one_whose_address_may_be_forged(self, world: World) -> None:
        """far.example says by SPF that 127.0.0.1 does not send for it."""
        world.run("alias", "add", "gone@one.test", "x@no-mail.example")
        before = len(world.far.talks)
        assert world.arrive("gone@one.test", message=b"Subject: forged\r\n\r\nx\r\n") == 250
        trace = until(
            lambda: text if "suppressed" in (text := world.run("trace", "--to", "gone@one.test")) else "", "it"
        )
        assert "not known to be the sender's own" in trace and "to postmaster@one.test" in trace
        [notice] = until(lambda: world.inbox(ALICE, "could not be delivered"), "the notice")[-1:]
        assert b"someone@far.example" in notice and len(world.far.talks) == before

    def test_an_operator_returns_a_message_with_his_reason(self, world: World) -> None:
        queue_id = world.submit("returned", "x@wait.example").decode()
        until(lambda: "deferred" in world.run("trace", queue_id), "an attempt that fails")
        world.run("queue", "drop", queue_id, "--reason", "Nobody wants it", "--bounce")
        assert b"Nobody wants it" in world.report("returned").as_bytes()
        until(lambda: not world.queued(), "an empty queue")
        assert [path for path in world.server.data.glob("tenants/*/spool/*") if path.is_file()] == []


def test_messages_for_one_server_share_a_connection(world: World) -> None:
    for number in range(10):
        world.submit(f"shared {number}", "x@wait.example")
    with NextHop(address="127.0.0.5", port=world.port) as hop:
        world.run("queue", "retry", "--destination", "wait.example")
        hop.wait_for(lambda: len(hop.messages) == 10, 60.0)
        assert len(hop.talks) <= 4
    until(lambda: not world.queued(), "an empty queue")


def test_a_frozen_account_sends_nothing_and_its_queue_waits(world: World) -> None:
    queue_id = world.submit("while frozen", "x@wait.example", sender=BOB).decode()
    world.run("account", "freeze", BOB, "--reason", "its password is known")
    [entry] = world.queued()
    assert (entry["id"], entry["held"]) == (queue_id, True)
    with world.server.smtp(BOB) as client:
        code, said = client.command(f"MAIL FROM:<{BOB}>".encode())
        assert (code, said[:9]) == (550, b"550 5.7.1")
    with NextHop(address="127.0.0.5", port=world.port) as hop:
        world.run("queue", "retry", "--all")
        assert [entry["held"] for entry in world.queued()] == [True] and hop.talks == []
        world.run("account", "unfreeze", BOB, "--reason", "it has a new one")
        world.run("queue", "retry", "--all")
        assert came(hop, "while frozen")
    until(lambda: not world.queued(), "an empty queue")


def test_mail_of_a_suspended_tenant(world: World) -> None:
    world.run("tenant", "suspend", "two")
    try:
        assert world.arrive(MALLORY) == 250
        with world.server.smtp(None) as client:
            assert client.login(MALLORY, world.server.passwords[MALLORY])[0] == 535
        world.run("tenant", "mail", "two", "--suspended", "defer")
        assert world.arrive(MALLORY) == 450
    finally:
        world.run("tenant", "resume", "two")
    assert world.arrive(MALLORY) == 250


def test_without_any_dns(tmp_path: Path) -> None:
    """Mail for mailboxes comes in, the rest waits, and commands say what they cannot know."""
    settings = '[dns]\nnameservers = ["127.0.0.1"]\nport = 1\n'
    with running(WholeServer(tmp_path, settings=settings, web=False)) as server:
        with SmtpWire(server.ports["mx"]) as wire:
            wire.command(b"EHLO mx.far.example")
            assert wire.submit("x@far.example", [ALICE], b"Subject: without DNS\r\n\r\nx\r\n")[0] == 250
        with server.smtp() as client:
            assert client.submit(ALICE, [BOB, "x@far.example"], f"From: {ALICE}\r\n\r\nx\r\n".encode())[0] == 250
        until(lambda: "4.4.3" in server.cleanmail("trace", "--to", "x@far.example").stdout, "an attempt that fails")
        with server.imap() as imap:
            imap.command(b"SELECT INBOX")
            octets = imap.command(b"FETCH 1 BODY.PEEK[]").text
        assert b"spf=temperror" in octets and b"without DNS" in octets
        checked = server.cleanmail("dns", "check", "one.test")
        assert checked.returncode == 3 and "what is unknown may be right" in checked.stderr
        assert "no name server answers" in server.log()
