"""The queue role in the whole server: what is submitted leaves by SMTP at once, and what fails comes back."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from dns_server import DnsServer
from next_hop import NextHop
from whole_server import WholeServer, running, until

SETTINGS = """
[relay]
port = {port}
private_networks = ["127.0.0.0/8"]
[dns]
nameservers = ["127.0.0.1"]
port = {dns}
"""


@dataclass
class World:
    server: WholeServer
    hop: NextHop


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    zone = {
        "far.example": {"MX": "10 mx.far.example."},
        "mx.far.example": {"A": "127.0.0.1"},
        "no-mail.example": {"MX": "0 ."},
    }
    with NextHop() as hop, DnsServer(zone) as dns:
        settings = SETTINGS.format(port=hop.port, dns=dns.port)
        with running(WholeServer(tmp_path_factory.mktemp("queue"), settings=settings, web=False)) as server:
            yield World(server, hop)


def send(server: WholeServer, subject: str, *recipients: str) -> None:
    client = server.smtp()
    content = f"From: alice@one.test\r\nSubject: {subject}\r\n\r\nsecret body\r\n"
    code, said = client.submit("alice@one.test", list(recipients), content.encode())
    assert code == 250, said
    client.close()


def inbox(server: WholeServer, address: str = "alice@one.test") -> bytes:
    client = server.imap(address)
    client.command(b"SELECT INBOX")
    answer = client.command(b"FETCH 1:* BODY.PEEK[]")
    client.close()
    return b"".join(answer.untagged)


def test_a_submitted_message_leaves_at_once(world: World) -> None:
    before = len(world.hop.messages)
    send(world.server, "leaves", "bob@one.test", "x@far.example")
    [taken] = until(lambda: world.hop.messages[before:], "the message at the next hop")
    assert taken.recipients[0].startswith("RCPT TO:<x@far.example>")
    assert b"Subject: leaves" in taken.content and b"secret body" in taken.content
    until(lambda: world.server.cleanmail("queue", "list", "--json").stdout.strip() in ("[]", ""), "an empty queue")


def test_what_is_refused_comes_back(world: World) -> None:
    send(world.server, "comes-back", "nobody@no-mail.example")
    found = until(
        lambda: octets if b"multipart/report" in (octets := inbox(world.server)) else b"", "the report in the mailbox"
    )
    assert b"5.1.10" in found and b"comes-back" in found


def test_a_trace_tells_the_way(world: World) -> None:
    send(world.server, "traced", "traced@far.example")
    until(
        lambda: "relayed" in world.server.cleanmail("trace", "--to", "traced@far.example").stdout,
        "the trace of the message",
    )


def test_the_queue_is_measured(world: World) -> None:
    def metrics() -> str:
        url = f"http://127.0.0.1:{world.server.ports['operations']}/metrics"
        with urllib.request.urlopen(url) as answer:
            return str(answer.read().decode())

    text = until(lambda: said if "cleanmail_queue_entries" in (said := metrics()) else "", "the gauges")
    assert "cleanmail_queue_entries{" in text and "cleanmail_queue_failing_destinations" in text
    assert 'protocol="queue"' in text
    assert "far.example" not in text


def test_the_log_names_nobody(world: World) -> None:
    log = world.server.log()
    assert "far.example" not in log and "no-mail" not in log and "alice" not in log
