"""DKIM in the whole server: keys are made, published and seen while it runs; what leaves verifies at the next hop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dkim
import pytest
from dns_server import DnsServer
from next_hop import NextHop
from whole_server import WholeServer, running, until
from wire import SmtpWire

SETTINGS = """
[relay]
port = {port}
private_networks = ["127.0.0.0/8"]
[dns]
nameservers = ["127.0.0.1"]
port = {dns}
cache = 0
[filter.rules]
forged_own_forwarded = "weigh"  # it would be withheld, and we see what is signed of it
"""


@dataclass
class World:
    server: WholeServer
    hop: NextHop
    seven: NextHop  # without 8BITMIME
    dns: DnsServer

    def relayed(self, subject: str) -> bytes:
        """The message with this subject, as the next hop has it."""

        def found() -> list[bytes]:
            messages = [*self.hop.messages, *self.seven.messages]
            return [taken.content for taken in messages if f"Subject: {subject}\r\n".encode() in taken.content]

        until(lambda: bool(found()), subject)
        return found()[0]

    def signatures(self, content: bytes) -> list[bool]:
        """Whether each DKIM signature of it verifies against DNS as it is."""

        def text(name: bytes, timeout: int = 5) -> bytes | None:
            records = self.dns.zone.get(name.decode().rstrip("."), {}).get("TXT")
            return None if records is None else str(records).encode()

        message = dkim.DKIM(content)
        count = content.partition(b"\r\n\r\n")[0].count(b"DKIM-Signature:")
        return [bool(message.verify(idx=index, dnsfunc=text)) for index in range(count)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    zone = {
        "far.example": {"MX": "10 mx.far.example."},
        "mx.far.example": {"A": "127.0.0.1"},
        "seven.example": {"MX": "10 mx.seven.example."},
        "mx.seven.example": {"A": "127.0.0.2"},
    }
    folder: Path = tmp_path_factory.mktemp("dkim")
    with (
        NextHop() as hop,
        NextHop(("PIPELINING",), address="127.0.0.2", port=hop.port) as seven,
        DnsServer(zone) as dns,
    ):
        settings = SETTINGS.format(port=hop.port, dns=dns.port)
        with running(WholeServer(folder, settings=settings, web=False)) as server:
            yield World(server, hop, seven, dns)


def submit(world: World, subject: str, *, author: str = "alice@one.test", to: str = "bob@far.example") -> None:
    client = world.server.smtp()
    content = f"From: Alice <{author}>\r\nTo: {to}\r\nSubject: {subject}\r\n\r\n.dot  and\tblank \r\nmehr: ä\r\n"
    code, said = client.submit("alice@one.test", [to], content.encode())
    assert code == 250, said
    client.close()


def test_mail_is_signed_from_the_moment_its_keys_are_seen(world: World) -> None:
    made = world.server.cleanmail("dkim", "create", "one.test", "--json")
    assert made.returncode == 0, made.stderr
    submit(world, "before")
    assert world.signatures(world.relayed("before")) == []

    first, second = json.loads(made.stdout)["keys"]
    for key in (first, second):
        world.dns.put(key["name"], TXT=key["record"])
    seen = world.server.cleanmail("dkim", "activate", "one.test", first["selector"])
    assert seen.returncode == 0, seen.stderr
    seen = world.server.cleanmail("dns", "check", "one.test")  # other records are missing
    assert f"{second['selector']} was seen and signs from now on" in seen.stderr
    submit(world, "after")
    content = world.relayed("after")
    assert world.signatures(content) == [True, True]
    header = content.partition(b"\r\n\r\n")[0]
    assert b"a=rsa-sha256" in header and b"a=ed25519-sha256" in header and header.count(b"d=one.test") == 2

    # A next hop without 8BITMIME: signed are the octets that it gets.
    submit(world, "seven bits", to="bob@seven.example")
    content = world.relayed("seven bits")
    assert content.isascii() and world.signatures(content) == [True, True]


def test_mail_that_is_only_passed_on_is_not_signed(world: World) -> None:
    """From says that the tenant wrote it; whoever sent it did not sign in."""
    alias = world.server.cleanmail("alias", "add", "away@one.test", "bob@far.example")
    assert alias.returncode == 0, alias.stderr
    client = SmtpWire(world.server.ports["mx"])
    client.command(b"EHLO stranger.example")
    code, said = client.submit(
        "stranger@far.example", ["away@one.test"], b"From: alice@one.test\r\nSubject: forged\r\n\r\nx\r\n"
    )
    assert code == 250, said
    client.close()
    assert world.signatures(world.relayed("forged")) == []


def test_nothing_is_signed_with_what_is_retired(world: World) -> None:
    """The last: the keys are gone."""
    keys = json.loads(world.server.cleanmail("dkim", "list", "one.test", "--json").stdout)
    assert {key["state"] for key in keys} == {"signing"}
    for key in keys:
        retired = world.server.cleanmail("dkim", "retire", "one.test", key["selector"], "--at-once")
        assert retired.returncode == 0, retired.stderr
    submit(world, "retired")
    assert world.signatures(world.relayed("retired")) == []
    assert world.server.cleanmail("dns", "records", "one.test").stdout.count('p="') == 2
