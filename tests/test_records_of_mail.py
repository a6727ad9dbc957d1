"""The whole server moves mail of people whose every name is a token: records find it, log lines know nothing of it.

Traces tell a message from its connection to every outcome, transcripts both directions without content and secrets;
operational log lines hold ids only, at any level. Nor does any file below the data directory know, whatever the filter
withheld, released, learned and was told.
"""

from __future__ import annotations

import json
import os
import pwd
import smtplib
from collections.abc import Iterator
from typing import Any

import pytest
from dns_server import DnsServer
from next_hop import NextHop
from whole_server import WholeServer, running, until

from gateway.classifier.features import features_of
from gateway.classifier.model import FILE
from gateway.classifier.trainer import Trainer

ALICE = "alice@one.test"
STRANGER = "token-stranger@token-far.test"
WITHHELD = "token-withheld@token-far.test"
FRIEND, GONE, SLOW = "token-friend@token-near.test", "token-gone@token-near.test", "token-slow@token-near.test"
MESSAGE = (
    b"From: Token-Name <%s>\r\nTo: token-to@token-header.test\r\nSubject: token-subject\r\n"
    b"Message-ID: <token-id@token-mid.test>\r\n\r\ntoken-body\r\n"
)
PROGRAM = (
    b"From: Token-Name <%s>\r\nSubject: token-subject %%d\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=token-boundary\r\n\r\n--token-boundary\r\n\r\ntoken-body\r\n"
    b"--token-boundary\r\nContent-Type: application/octet-stream; name=token-file.exe\r\n\r\nMZ token-program\r\n"
    b"--token-boundary--\r\n"
) % WITHHELD.encode()
# The text of a reply is somebody's too.
REPLIES = ["250 2.1.5 token-reply yes", "550 5.1.1 token-reply nobody", "450 4.2.0 token-reply not now"]
ME = pwd.getpwuid(os.getuid()).pw_name

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeServer]:
    folder = tmp_path_factory.mktemp("records")
    zone = {
        "token-near.test": {"MX": "10 token-mx.token-near.test."},
        "token-mx.token-near.test": {"A": "127.0.0.1"},
        "token-far.test": {"TXT": "v=spf1 ip4:127.0.0.1 -all"},
    }
    with DnsServer(zone) as dns, NextHop() as hop:  # type: ignore[arg-type]
        hop.script["RCPT"] = [*REPLIES, REPLIES[0]]
        settings = (
            f'[dns]\nnameservers = ["127.0.0.1"]\nport = {dns.port}\n'
            f'[relay]\nport = {hop.port}\nprivate_networks = ["127.0.0.0/8"]\n'
            f'[logs]\nlevel = "debug"\nauditors = ["{ME}"]\n[jobs]\nindex_pause = 0.2\n'
        )
        server = WholeServer(folder, settings=settings, web=False)
        trainer = Trainer()
        trainer.learn(features_of(b"Subject: spam\r\n\r\nCheap pills\r\n"), True)
        trainer.save(server.data / FILE, 0)
        model = (server.data / FILE).read_bytes()
        with running(server):
            move_mail(server)
            filter_mail(server)
            assert (server.data / FILE).read_bytes() == model  # it is everybody's, and learns from nobody's mail
            until(lambda: len(hop.messages) >= 1, "the message at the next hop")
            yield server


def move_mail(server: WholeServer) -> None:
    with smtplib.SMTP("127.0.0.1", server.ports["mx"], local_hostname="token-helo.test", timeout=30) as client:
        client.sendmail(STRANGER, [ALICE], MESSAGE % STRANGER.encode())
        client.sendmail("", [ALICE], MESSAGE % STRANGER.encode())
        for refused in ("token-nobody@one.test", "token-relay@token-elsewhere.test"):
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                client.sendmail(STRANGER, [refused], MESSAGE % STRANGER.encode())
        with pytest.raises(smtplib.SMTPDataError):  # a lone line feed
            client.mail(STRANGER)
            client.rcpt(ALICE)
            client.docmd("DATA")
            client.send(b"Subject: token-subject\r\n\r\ntoken-body\nx\r\n.\r\n")
            raise smtplib.SMTPDataError(*client.getreply())
        client.docmd("token-command token-argument")
    with (
        pytest.raises(smtplib.SMTPAuthenticationError),
        smtplib.SMTP("127.0.0.1", server.ports["submission"]) as client,
    ):
        client.login("token-login@one.test", "token-password")
    with smtplib.SMTP("127.0.0.1", server.ports["submission"], local_hostname="token-client", timeout=30) as client:
        client.login(ALICE, server.passwords[ALICE])
        client.sendmail(ALICE, [FRIEND, GONE, SLOW], MESSAGE % ALICE.encode())


def filter_mail(server: WholeServer) -> None:
    """Withheld, reported, released and allowed; denied; moved into Junk, and learned from."""
    with smtplib.SMTP("127.0.0.1", server.ports["mx"], local_hostname="token-helo.test", timeout=30) as client:
        for number in range(3):
            client.sendmail(WITHHELD, [ALICE], PROGRAM % number)
    withheld = json.loads(server.cleanmail("quarantine", "list", "--to", ALICE, "--json").stdout)
    assert [row["sender"] for row in withheld] == [WITHHELD] * 3
    for arguments in (
        ("quarantine", "search", "token-subject"),
        ("quarantine", "show", withheld[0]["id"]),
        ("quarantine", "report", withheld[0]["id"]),
        ("quarantine", "release", withheld[1]["id"]),
        ("filter", "deny", "add", "token-denied@token-far.test", "--account", ALICE),
        ("filter", "allow", "add", "@token-allowed.test", "--tenant", "one"),
    ):
        done = server.cleanmail(*arguments)
        assert done.returncode == 0, (arguments, done.stderr)
    with server.imap(ALICE) as imap:
        assert imap.command(b"SELECT INBOX").ok
        assert imap.command(b"UID MOVE 1 Junk").ok
    until(lambda: "was learned from: 1 taught" in server.log(), "a lesson")


def traces(server: WholeServer, *arguments: str) -> list[dict[str, Any]]:
    done = server.cleanmail("trace", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def kinds(trace: dict[str, Any]) -> list[tuple[str, str]]:
    return [(event["kind"], event["recipient"]) for event in trace["events"]]


def transcripts(server: WholeServer, *arguments: str) -> list[dict[str, Any]]:
    done = server.cleanmail("log", "transcripts", "--reason", "a test", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_one_trace_tells_a_message_from_its_acceptance_to_every_outcome(server: WholeServer) -> None:
    def settled() -> list[dict[str, Any]]:
        found = traces(server, "--from", ALICE, "--to", SLOW)
        return found if {"relayed", "failed", "deferred"} <= {kind for kind, _ in kinds(found[0])} else []

    [trace] = until(settled, "every recipient's outcome")
    assert kinds(trace)[0] == ("received", "")
    assert {("relayed", FRIEND), ("failed", GONE), ("deferred", SLOW)} <= set(kinds(trace))
    assert [found["id"] for found in traces(server, trace["id"])] == [trace["id"]]
    assert [found["id"] for found in traces(server, "--to", GONE, "--result", "failed")] == [trace["id"]]


def test_mail_that_came_in_is_found_by_its_stranger(server: WholeServer) -> None:
    def told() -> list[dict[str, Any]]:
        found = traces(server, "--from", STRANGER)
        return found if any(kind == "delivered" for trace in found for kind, _ in kinds(trace)) else []

    found = until(told, "the delivery in the trace")
    outcomes = {outcome for trace in found for outcome in kinds(trace)}
    assert {("delivered", ALICE), ("refused", "token-nobody@one.test")} <= outcomes
    assert traces(server, "--from", "<>", "--to", ALICE)


def test_transcripts_tell_both_directions_without_content_and_secrets(server: WholeServer) -> None:
    until(lambda: len(transcripts(server, "--address", ALICE)) >= 3, "the ends of the connections")
    found = transcripts(server, "--address", STRANGER)
    assert [each["direction"] for each in found] == ["in"] and len(found[0]["queue_ids"]) == 2
    assert f"mail from:<{STRANGER}>" in "\n".join(found[0]["lines"]).casefold()
    directions = {each["direction"] for each in transcripts(server, "--address", FRIEND)}
    assert directions == {"in", "out"}
    said = json.dumps(transcripts(server, "--limit", "0"))
    assert STRANGER in said
    for secret in ("token-subject", "token-body", "token-header", "token-password", server.passwords[ALICE]):
        assert secret not in said


def test_each_reading_of_transcripts_is_on_record(server: WholeServer) -> None:
    transcripts(server, "--queue-id", "none")
    audited = json.loads(server.cleanmail("log", "audit", "--json").stdout)
    assert (audited[-1]["action"], audited[-1]["actor"]) == ("transcripts.read", ME)
    assert audited[-1]["details"]["queue_id"] == "none"
    assert "lease auditor person=" in server.log()
    config = server.data / "cleanmail.toml"
    text = config.read_text()
    config.write_text(text.replace(f'["{ME}"]', '["somebody-else"]'))
    try:
        assert server.cleanmail("log", "transcripts", "--reason", "x").returncode == 1
    finally:
        config.write_text(text)


def test_no_log_line_and_no_file_knows_whose_mail_it_was(server: WholeServer) -> None:
    """The last: everything has happened by now."""
    said = server.log() + (server.folder / "serve.out").read_text()
    assert "lease" in said
    for token in ("token-", ALICE, "one.test", "token-near", server.passwords[ALICE]):
        assert token not in said.casefold(), next(line for line in said.splitlines() if token in line.casefold())
    for path in server.data.rglob("*"):
        if path.is_file() and path.name != "cleanmail.toml":
            try:
                octets = path.read_bytes()
            except FileNotFoundError:  # the server goes on
                continue
            assert b"token-" not in octets and b"one.test" not in octets, path
            assert "token" not in path.name
    assert list((server.data / "tenants").rglob("quarantine/*.header")), "nothing is withheld any more"
