"""What a listener offers, and who is turned away: DSN by option, bounces, greetings, turns, commands of others."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

import pytest

from gateway.smtp.replies import SmtpReply
from storage.errors import Throttled

Listen = Callable[..., Any]
MX = {"offers_auth": False, "offers_dsn": False, "one_bounce_recipient": True, "waits_its_turn": True}


def dialogue(client: Any, *lines: bytes) -> list[int]:
    return [client.say(line) for line in lines]


def test_what_an_mx_offers(listen: Listen) -> None:
    client = listen(**MX).connect()
    assert client.ehlo() == [
        b"mail.example.test",
        b"SIZE 1000000",
        b"8BITMIME",
        b"SMTPUTF8",
        b"PIPELINING",
        b"CHUNKING",
        b"ENHANCEDSTATUSCODES",
        b"LIMITS RCPTMAX=1000",
        b"STARTTLS",
    ]


@pytest.mark.parametrize(
    ("line", "with_dsn"),
    [
        (b"MAIL FROM:<a@b.example> RET=HDRS", 250),
        (b"MAIL FROM:<a@b.example> SIZE=1 ENVID=x", 250),
        (b"RCPT TO:<c@d.example> NOTIFY=NEVER", 250),
        (b"RCPT TO:<c@d.example> ORCPT=rfc822;c@d.example", 250),
    ],
)
def test_dsn_parameters_only_where_dsn_is_offered(listen: Listen, line: bytes, with_dsn: int) -> None:
    for offers_dsn, code in ((True, with_dsn), (False, 555)):
        client = listen(offers_dsn=offers_dsn).connect()
        client.ehlo()
        if line.startswith(b"RCPT"):
            assert client.say(b"MAIL FROM:<a@b.example> BODY=8BITMIME") == 250
        assert client.say(line) == code


def test_a_null_reverse_path_takes_one_recipient(listen: Listen) -> None:
    server = listen(**MX)
    client = server.connect()
    client.ehlo()
    assert dialogue(client, b"MAIL FROM:<>", b"RCPT TO:<bad>", b"RCPT TO:<a@b.example>") == [250, 501, 250]
    assert dialogue(client, b"RCPT TO:<c@b.example>", b"DATA", b"Subject: x\r\n\r\n.") == [452, 354, 250]
    assert [len(transaction.recipients) for transaction, _ in server.recorder.messages] == [1]
    assert dialogue(client, b"MAIL FROM:<a@b.example>", *[b"RCPT TO:<a@b.example>"] * 2) == [250, 250, 250]
    client = listen().connect()
    client.ehlo()
    assert dialogue(client, b"MAIL FROM:<>", *[b"RCPT TO:<a@b.example>"] * 2) == [250, 250, 250]


def test_the_banner(listen: Listen) -> None:
    assert listen().connect(greet=False).reply() == (220, [b"mail.example.test ESMTP"])
    client = listen(banner="No unsolicited mail").connect(greet=False)
    assert client.reply() == (220, [b"mail.example.test ESMTP No unsolicited mail"])


# In place of the greeting


def test_a_temporary_refusal_ends_the_connection(listen: Listen) -> None:
    server = listen()
    server.recorder.on_connect = lambda session: SmtpReply(421, "4.7.0", "Not now")
    client = server.connect(greet=False)
    assert client.reply() == (421, [b"4.7.0 Not now"])
    assert client.reply() == (0, [])


def test_after_a_final_refusal_only_quit_is_of_use(listen: Listen) -> None:
    server = listen()
    server.recorder.on_connect = lambda session: SmtpReply(554, "5.7.1", "No mail from you")
    client = server.connect(greet=False)
    assert client.reply() == (554, [b"5.7.1 No mail from you"])
    assert dialogue(client, b"EHLO x", b"MAIL FROM:<a@b.example>", b"STARTTLS", b"HELP") == [503] * 4  # RFC 5321 §3.1
    client.send(b"BDAT 6\r\nQUIT\r\n")
    assert client.reply()[0] == 503
    assert client.say(b"QUIT") == 221
    assert client.reply() == (0, [])
    assert len(server.recorder.closed_sessions) == 1


@pytest.mark.parametrize("error", [KeyError("token"), Throttled()])
def test_a_handler_that_fails_before_the_greeting(listen: Listen, error: Exception) -> None:
    server = listen()

    def fail(session: Any) -> None:
        raise error

    server.recorder.on_connect = fail
    client = server.connect(greet=False)
    code, texts = client.reply()
    assert code == 421
    assert b"token" not in texts[0]


def test_a_handler_may_end_the_connection_at_any_reply(listen: Listen) -> None:
    server = listen()
    server.recorder.on_rcpt = lambda path: SmtpReply(421, "4.7.0", "Enough")
    client = server.connect()
    client.ehlo()
    assert dialogue(client, b"MAIL FROM:<a@b.example>", b"RCPT TO:<c@d.example>") == [250, 421]
    assert client.reply() == (0, [])


# Out of turn (RFC 2920 §3.1)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"EHLO x\r\nNOOP\r\n", [421, 0]),
        (b"NOOP\r\nEHLO x\r\n", [421, 0]),
        (b"HELO x\r\nMAIL FROM:<a@b.example>\r\n", [421, 0]),
    ],
)
def test_whoever_sends_ahead_before_pipelining_is_agreed(listen: Listen, sent: bytes, said: list[int]) -> None:
    client = listen(**MX).connect()
    client.send(sent)
    assert [client.reply()[0] for _ in said] == said


def test_the_message_may_not_come_ahead_of_354(listen: Listen) -> None:
    server = listen(**MX)
    client = server.connect()
    client.ehlo()
    client.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nSubject: x\r\n\r\n.\r\nQUIT\r\n")
    assert [client.reply()[0] for _ in range(4)] == [250, 250, 421, 0]
    assert server.recorder.messages == []


def test_what_pipelining_allows_is_taken(listen: Listen) -> None:
    server = listen(**MX)
    client = server.connect()
    client.ehlo()
    envelope = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
    client.send(envelope + b"DATA\r\n")
    assert [client.reply()[0] for _ in range(3)] == [250, 250, 354]
    client.send(b"Subject: x\r\n\r\n.\r\n" + envelope + b"BDAT 3 LAST\r\na\r\nNOOP\r\nQUIT\r\n")
    assert [client.reply()[0] for _ in range(7)] == [250, 250, 250, 250, 250, 221, 0]
    assert len(server.recorder.messages) == 2


# Commands that are none


@pytest.mark.parametrize("line", [b"ETRN example.org", b"TURN", b"SEND FROM:<a@b.example>", b"XCLIENT ADDR=192.0.2.1"])
def test_known_and_not_for_us(listen: Listen, line: bytes) -> None:
    assert listen(**MX).connect().say(line) == 502


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"POST / HTTP/1.1", b"connect x:25 HTTP/1.0"])
def test_other_protocols_are_sent_away(listen: Listen, line: bytes) -> None:
    client = listen().connect()
    client.send(line + b"\r\nHost: x\r\n\r\nEHLO x\r\nMAIL FROM:<a@b.example>\r\n")
    assert [client.reply()[0] for _ in range(2)] == [421, 0]


@pytest.mark.parametrize("line", [b"VRFY postmaster", b"EXPN list", b"HELP", b"NOOP x", b"RSET"])
def test_before_ehlo(listen: Listen, line: bytes) -> None:
    assert listen(**MX).connect().say(line) == {b"V": 252, b"E": 502, b"H": 214, b"N": 250, b"R": 250}[line[:1]]


def test_auth_is_no_command_of_an_mx(listen: Listen) -> None:
    client = listen(**MX).connect(tls=True)
    client.ehlo()
    assert client.say(b"AUTH PLAIN AGEAYg==") == 500
    client.send(b"HELP\r\n")
    code, texts = client.reply()
    assert code == 214
    assert b"AUTH" not in texts[0]
    assert b"BDAT" in texts[0]


# Lone line ends


def test_listed_networks_may_end_lines_with_lf(listen: Listen) -> None:
    server = listen(normalise=(ipaddress.ip_network("127.0.0.1/32"),))
    client = server.connect()
    client.send(b"EHLO x\nMAIL FROM:<a@b.example>\nRCPT TO:<c@d.example>\nDATA\n")
    assert [client.reply()[0] for _ in range(4)] == [250, 250, 250, 354]
    client.send(b"Subject: x\n\nfirst\n.\nMAIL FROM:<evil@b.example>\r.\r\n\n..\r\n.\r\nNOOP\n")
    assert [client.reply()[0] for _ in range(2)] == [250, 250]
    [(_, octets)] = server.recorder.messages
    assert octets == b"Subject: x\r\n\r\nfirst\r\n\r\nMAIL FROM:<evil@b.example>\r\n\r\n\r\n.\r\n"
    assert client.say(b"NOOP \r x") == 500


def test_other_networks_may_not(listen: Listen) -> None:
    client = listen(normalise=(ipaddress.ip_network("127.0.0.2/32"),)).connect()
    client.send(b"EHLO x\n")
    assert client.reply()[0] == 500


@pytest.mark.parametrize("tls", [False, True])
def test_the_session_knows_its_tls(listen: Listen, tls: bool) -> None:
    server = listen()
    client = server.connect(tls=tls)
    client.ehlo()
    [session] = server.recorder.sessions
    if not tls:
        assert session.tls == ""
        assert client.say(b"STARTTLS") == 220
        client.start_tls()
        assert client.say(b"NOOP") == 250
    assert session.tls.startswith("TLSv1.3 TLS_")
