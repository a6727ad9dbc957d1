"""The whole server as other mail servers see it: in by MX, to mailboxes, to a tenant's own server, outside and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dns_server import DnsServer
from next_hop import NextHop, Taken
from whole_server import PASSWORD, WholeServer, running, until
from wire import SmtpWire

pytestmark = pytest.mark.slow

TOWN: dict[str, Any] = {
    "tenants": {
        "one": {
            "domains": {"one.test": True},
            "accounts": {"alice@one.test": {"password": PASSWORD}},
            "aliases": {"away@one.test": ["friend@far.test"], "both@one.test": ["alice@one.test", "friend@far.test"]},
        },
        "two": {"domains": {"two.test": True}, "accounts": {"mallory@two.test": {"password": PASSWORD}}},
    }
}
ZONE = {
    "far.test": {"MX": "10 mx.far.test.", "TXT": "v=spf1 ip4:127.0.0.1 -all"},
    "mx.far.test": {"A": "127.0.0.1"},
}


@pytest.fixture(scope="module")
def far() -> Iterator[NextHop]:
    """The server of far.test."""
    with NextHop() as hop:
        yield hop


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, far: NextHop) -> Iterator[WholeServer]:
    with DnsServer(ZONE) as dns:
        settings = (
            f'[dns]\nnameservers = ["127.0.0.1"]\nport = {dns.port}\n'
            f'[relay]\nport = {far.port}\nprivate_networks = ["127.0.0.0/8"]\n'
        )
        with running(WholeServer(tmp_path_factory.mktemp("mx"), TOWN, settings=settings, web=False)) as server:
            yield server


def mail(subject: str) -> bytes:
    return f"From: Some One <someone@far.test>\r\nTo: you\r\nSubject: {subject}\r\n\r\nText.\r\n".encode()


def send(server: WholeServer, subject: str, *recipients: str, sender: str = "someone@far.test") -> tuple[int, bytes]:
    client = SmtpWire(server.ports["mx"])
    try:
        client.command(b"EHLO mx.far.test")
        client.command(b"STARTTLS")
        client.start_tls(server.client_tls)
        client.command(b"EHLO mx.far.test")
        return client.submit(sender, list(recipients), mail(subject))
    finally:
        client.close()


def came(hop: NextHop, subject: str) -> Taken:
    def here() -> list[Taken]:
        return [taken for taken in hop.messages if f"Subject: {subject}\r\n".encode() in taken.content]

    hop.wait_for(lambda: bool(here()), 30.0)
    [taken] = here()
    return taken


def header(taken: Taken, name: str) -> list[str]:
    lines = taken.content.split(b"\r\n\r\n")[0].decode().split("\r\n")
    return [line.partition(": ")[2] for line in lines if line.startswith(f"{name}: ")]


def test_to_a_mailbox_over_tls(server: WholeServer) -> None:
    assert send(server, "for alice", "alice@one.test")[0] == 250
    with server.imap() as imap:
        assert imap.command(b"SELECT INBOX").ok
        uid = imap.command(b'UID SEARCH SUBJECT "for alice"').number(rb"\* SEARCH (\d+)\r\n")
        fetched = imap.command(b"UID FETCH %d BODY.PEEK[HEADER]" % uid).text
    assert b"Return-Path: <someone@far.test>" in fetched
    assert b"\r\n\tby localhost with ESMTPS id " in fetched and b"spf=pass smtp.mailfrom=far.test" in fetched


def test_by_an_alias_outside_and_a_bounce_comes_back(server: WholeServer, far: NextHop) -> None:
    assert send(server, "forwarded", "both@one.test")[0] == 250
    taken = came(far, "forwarded")
    assert [each.partition("<")[2].partition(">")[0] for each in taken.recipients] == ["friend@far.test"]
    assert "<SRS0=" in taken.mail and "=far.test=someone@one.test>" in taken.mail
    assert header(taken, "Delivered-To") == ["both@one.test"]
    assert header(taken, "Return-Path") == []
    path = taken.mail.partition("<")[2].partition(">")[0]
    assert send(server, "bounced", path, sender="")[0] == 250
    bounce = came(far, "bounced")
    assert "<>" in bounce.mail
    assert "someone@far.test" in bounce.recipients[0]
    # Should it ever come here again, it was here before.
    client = SmtpWire(server.ports["mx"])
    client.command(b"EHLO mx.far.test")
    code, said = client.submit(path, ["both@one.test"], taken.content)
    client.close()
    assert (code, said[:9]) == (554, b"554 5.4.6")


def test_lines_of_any_length_are_kept_and_folded_only_where_they_leave(server: WholeServer, far: NextHop) -> None:
    """RFC 5321 §4.5.3.1.6 is what others may rely on, not what we refuse."""
    line = b"word " * 20_000
    message = mail("long lines") + line + b"\r\n"
    with SmtpWire(server.ports["mx"]) as client:
        client.command(b"EHLO mx.far.test")
        assert client.submit("someone@far.test", ["both@one.test"], message)[0] == 250
    taken = came(far, "long lines")
    assert max(map(len, taken.content.split(b"\r\n"))) <= 998
    with server.imap() as imap:
        assert imap.command(b"SELECT INBOX").ok
        uid = imap.command(b'UID SEARCH SUBJECT "long lines"').number(rb"\* SEARCH (\d+)\r\n")
        assert line in imap.command(b"UID FETCH %d BODY.PEEK[]" % uid).text


def test_to_the_tenants_own_server(server: WholeServer) -> None:
    with NextHop() as own:
        done = server.cleanmail("route", "set", "two.test", "--server", f"127.0.0.1:{own.port}")
        assert done.returncode == 0, done.stderr
        assert send(server, "for two", "mallory@two.test", "new@two.test")[0] == 250
        taken = came(own, "for two")
        assert "<someone@far.test>" in taken.mail and len(taken.recipients) == 2
        assert header(taken, "Delivered-To") == []
        own.script["RCPT"] = ["550 5.7.0 nobody you would know"]
        code, said = send(server, "for nobody", "nobody@two.test")
        assert (code, said[:9]) == (550, b"550 5.7.0")
    assert send(server, "too early", "nobody.yet@two.test")[0] == 450
    assert server.cleanmail("route", "remove", "two.test").returncode == 0
    assert send(server, "at home again", "mallory@two.test")[0] == 250
    until(lambda: server.cleanmail("queue", "list", "--json").stdout.strip() == "[]", "an empty queue")


def test_a_route_to_ourselves_is_refused(server: WholeServer) -> None:
    done = server.cleanmail("route", "set", "two.test", "--server", f"localhost:{server.ports['mx']}")
    assert done.returncode == 1 and "itself" in done.stderr


def test_what_is_in_a_trace(server: WholeServer) -> None:
    code, said = send(server, "traced", "alice@one.test")
    assert code == 250
    queue_id = said.split()[-1].decode()
    trace = until(lambda: server.cleanmail("trace", queue_id).stdout, "the trace")
    assert "received" in trace.lower() and "delivered" in trace.lower() and "someone@far.test" in trace
