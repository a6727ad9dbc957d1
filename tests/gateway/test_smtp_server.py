"""The SMTP server on real sockets: dialogues, pipelining, TLS, AUTH, limits, smuggling (RFC 5321, 2920, 3207, 4954)."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import smtplib
import ssl
import struct
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from certificates import write_certificate

from gateway.smtp.limits import Limits
from gateway.smtp.replies import STOPPING, SmtpReply
from gateway.smtp.tls import ServerCertificate
from storage.errors import Corrupt, InvalidInput, OverQuota, StorageFull, Unavailable

MESSAGE = b"From: a@b.example\r\nSubject: x\r\n\r\n..dot\r\n"
Listen = Callable[..., Any]


def open_transaction(client: Any, recipients: int = 1) -> None:
    client.ehlo()
    assert client.say(b"MAIL FROM:<a@b.example>") == 250
    for number in range(recipients):
        assert client.say(b"RCPT TO:<r%d@c.example>" % number) == 250


def test_a_message(listen: Listen) -> None:
    server = listen()
    client = server.connect()
    extensions = client.ehlo()
    assert extensions == [
        b"mail.example.test",
        b"SIZE 1000000",
        b"8BITMIME",
        b"SMTPUTF8",
        b"PIPELINING",
        b"CHUNKING",
        b"ENHANCEDSTATUSCODES",
        b"LIMITS RCPTMAX=1000",
        b"DSN",
        b"STARTTLS",
    ]
    open_transaction(client)
    assert client.say(b"DATA") == 354
    assert client.say(MESSAGE + b".") == 250
    assert client.say(b"QUIT") == 221
    assert client.reply() == (0, [])
    [(transaction, octets)] = server.recorder.messages
    assert str(transaction.reverse_path.address) == "a@b.example"
    assert [str(path.address) for path in transaction.recipients] == ["r0@c.example"]
    assert octets == MESSAGE.replace(b"..dot", b".dot")


def test_pipelined_replies_leave_together(listen: Listen) -> None:
    client = listen().connect()
    client.ehlo()
    client.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nRCPT TO:<bad>\r\nDATA\r\n")
    first = client.sock.recv(4096)
    assert [line[:3] for line in first.splitlines()] == [b"250", b"250", b"501", b"354"]
    client.send(b"a\r\n.\r\nNOOP\r\nQUIT\r\n")
    assert [client.reply()[0] for _ in range(3)] == [250, 250, 221]


def test_every_reply_has_its_status_code(listen: Listen) -> None:
    client = listen().connect()
    client.ehlo()
    for line in (b"NOOP", b"RSET", b"RSET x", b"VRFY a", b"EXPN a", b"HELP", b"BOGUS", b"DATA", b"AUTH PLAIN", b"QUIT"):
        client.send(line + b"\r\n")
        code, texts = client.reply()
        assert texts[-1].startswith(b"%d." % (code // 100)), line


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([b"MAIL FROM:<a@b.example>"], 503),
        ([b"EHLO x", b"RCPT TO:<a@b.example>"], 503),
        ([b"EHLO x", b"DATA"], 503),
        ([b"EHLO x", b"MAIL FROM:<a@b.example>", b"DATA"], 554),
        ([b"EHLO x", b"MAIL FROM:<a@b.example>", b"MAIL FROM:<a@b.example>"], 503),
        ([b"EHLO x", b"MAIL FROM:<a@b.example>", b"STARTTLS"], 503),
        ([b"EHLO x", b"MAIL FROM:<a@b.example> SIZE=1000001"], 552),
        ([b"EHLO x", b"MAIL FROM:<a@b.example>", b"EHLO x", b"RCPT TO:<a@b.example>"], 503),
        ([b"EHLO"], 501),
        ([b"HELO x", b"MAIL FROM:<a@b.example> SIZE=1"], 555),
        ([b"HELO x", b"MAIL FROM:<a@b.example>"], 250),
        ([b"EHLO x", b"mail from: <a@b.example>  "], 250),
        ([b"\xff\xfe"], 500),
        ([b""], 500),
        ([b"EHLO x\ry"], 500),
        ([b"EHLO x\0"], 500),
    ],
)
def test_order_and_syntax(listen: Listen, lines: list[bytes], code: int) -> None:
    client = listen().connect()
    assert [client.say(line) for line in lines][-1] == code


def test_command_lines_end_with_crlf(listen: Listen) -> None:
    client = listen().connect()
    client.send(b"EHLO x\nNOOP\r\n")
    assert [client.reply()[0] for _ in range(2)] == [500, 250]


@pytest.mark.parametrize(
    "false_end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\r\n.\0\r\n"]
)
def test_nothing_is_smuggled(listen: Listen, false_end: bytes) -> None:
    server = listen()
    client = server.connect()
    open_transaction(client)
    assert client.say(b"DATA") == 354
    client.send(b"Subject: a\r\n\r\nfirst" + false_end + b"MAIL FROM:<evil@b.example>\r\n.\r\nNOOP\r\n")
    code, texts = client.reply()
    assert code == 554
    assert texts[0].startswith(b"5.")
    assert client.reply()[0] == 250
    assert server.recorder.messages == []


def test_large_message_goes_through_the_file(listen: Listen) -> None:
    server = listen()
    body = b"".join(b"%06d %s\r\n" % (number, b"x" * 70) for number in range(8000))
    client = server.connect()
    open_transaction(client)
    assert client.say(b"DATA") == 354
    client.send(body + b".\r\n")
    assert client.reply()[0] == 250
    assert server.recorder.messages[0][1] == body


def test_line_without_end_is_refused_at_its_end(listen: Listen) -> None:
    server = listen()
    client = server.connect()
    open_transaction(client)
    assert client.say(b"DATA") == 354
    for _ in range(40):
        client.send(b"x" * 65536)
    client.send(b"\r\n.\r\n")
    assert client.reply()[0] == 552
    assert client.say(b"NOOP") == 250
    assert server.recorder.messages == []


def test_long_command_line_is_skipped(listen: Listen) -> None:
    client = listen().connect()
    client.send(b"NOOP " + b"x" * 1_000_000 + b"\r\nNOOP\r\n")
    assert [client.reply()[0] for _ in range(2)] == [500, 250]


# TLS


def test_starttls_forgets_and_discards(listen: Listen) -> None:
    client = listen().connect()
    client.ehlo()
    client.send(b"STARTTLS\r\nNOOP injected\r\n")
    code, _ = client.reply()
    assert code == 220
    client.start_tls()
    assert client.say(b"MAIL FROM:<a@b.example>") == 503  # EHLO is forgotten, the injected NOOP never answered
    extensions = client.ehlo()
    assert b"STARTTLS" not in extensions
    assert b"AUTH PLAIN LOGIN" in extensions
    assert client.say(b"STARTTLS") == 503


def test_failed_handshake_ends_the_connection(listen: Listen) -> None:
    server = listen()
    client = server.connect()
    client.ehlo()
    assert client.say(b"STARTTLS") == 220
    client.send(b"this is no handshake\r\n")
    assert client.sock.recv(4096)[:1] in {b"", b"\x15"}  # nothing, or a TLS alert
    assert server.connect().say(b"NOOP") == 250


def test_smtplib_over_both_kinds_of_tls(listen: Listen) -> None:
    server = listen(requires_auth=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP_SSL("127.0.0.1", server.tls_port, context=context) as client:
        client.login("alice", "right")
        client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
    with smtplib.SMTP("127.0.0.1", server.port) as client:
        client.starttls(context=context)
        client.login("alice", "right")
        client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
    assert len(server.recorder.messages) == 2
    assert [session.principal for session in server.recorder.sessions] == ["alice", "alice"]
    assert [session.protocol for session in server.recorder.sessions] == ["ESMTPSA", "ESMTPSA"]


def test_new_certificate_without_a_restart(listen: Listen, tmp_path: Path) -> None:
    paths = write_certificate(tmp_path / "tls", "localhost")
    certificate = ServerCertificate(*paths)
    server = listen(tls=certificate.context)

    def presented() -> bytes | None:
        presented = server.connect(tls=True).sock.getpeercert(binary_form=True)
        assert presented is None or isinstance(presented, bytes)
        return presented

    first = presented()
    write_certificate(tmp_path / "tls", "localhost")
    assert presented() == first
    certificate.reload()
    second = presented()
    assert second != first
    paths[1].write_text("no key")
    with pytest.raises(InvalidInput):
        certificate.reload()
    assert presented() == second


# AUTH


def plain(login: bytes, password: bytes, authorization: bytes = b"") -> bytes:
    return b64encode(authorization + b"\0" + login + b"\0" + password)


def test_auth_only_under_tls(listen: Listen) -> None:
    client = listen(requires_auth=True).connect()
    assert b"AUTH PLAIN LOGIN" not in client.ehlo()
    assert client.say(b"AUTH PLAIN " + plain(b"alice", b"right")) == 538
    assert client.say(b"MAIL FROM:<a@b.example>") == 530


def test_plain_mode_for_tests(listen: Listen) -> None:
    client = listen(requires_auth=True, plain_auth=True, tls=None).connect()
    assert b"AUTH PLAIN LOGIN" in client.ehlo()
    assert client.say(b"MAIL FROM:<a@b.example>") == 530
    assert client.say(b"AUTH PLAIN " + plain(b"alice", b"right")) == 235
    assert client.say(b"MAIL FROM:<a@b.example>") == 250


@pytest.mark.parametrize(
    ("dialogue", "code"),
    [
        ([b"AUTH PLAIN " + plain(b"a", b"right")], 235),
        ([b"auth plain  " + plain(b"a", b"right", b"a")], 235),  # two spaces: Windows Mail
        ([b"AUTH PLAIN", plain(b"a", b"right")], 235),
        ([b"AUTH LOGIN", b64encode(b"a"), b64encode(b"right")], 235),
        ([b"AUTH LOGIN " + b64encode(b"a"), b64encode(b"right")], 235),
        ([b"AUTH PLAIN " + plain(b"a", b"right", b"b")], 535),
        ([b"AUTH PLAIN " + plain(b"a", b"wrong")], 535),
        ([b"AUTH PLAIN =", b""], 501),
        ([b"AUTH PLAIN !!!"], 501),
        ([b"AUTH PLAIN " + b64encode(b"a")], 501),
        ([b"AUTH PLAIN", b"*"], 501),
        ([b"AUTH LOGIN", b"*"], 501),
        ([b"AUTH LOGIN", b64encode(b"a"), b"*"], 501),
        ([b"AUTH LOGIN", b64encode(b"\xff"), b64encode(b"right")], 535),
        ([b"AUTH LOGIN", b64encode(b"a"), b64encode(b"")], 535),
        ([b"AUTH CRAM-MD5"], 504),
        ([b"AUTH"], 501),
    ],
)
def test_sasl_dialogues(listen: Listen, dialogue: list[bytes], code: int) -> None:
    client = listen().connect(tls=True)
    client.ehlo()
    for line in dialogue[:-1]:
        answer = client.say(line)
        if answer != 334:
            assert answer == code
            return
    assert client.say(dialogue[-1]) == code


def test_login_challenges_are_what_clients_know(listen: Listen) -> None:
    client = listen().connect(tls=True)
    client.ehlo()
    client.send(b"AUTH LOGIN\r\n")
    assert client.reply() == (334, [b"VXNlcm5hbWU6"])
    client.send(b64encode(b"a") + b"\r\n")
    assert client.reply() == (334, [b"UGFzc3dvcmQ6"])
    assert client.say(b64encode(b"right")) == 235
    assert client.say(b"AUTH PLAIN " + plain(b"a", b"right")) == 503


def test_failed_sign_ins_are_few(listen: Listen) -> None:
    client = listen(limits=Limits(failed_sign_ins=2)).connect(tls=True)
    client.ehlo()
    assert client.say(b"AUTH PLAIN " + plain(b"a", b"wrong")) == 535
    assert client.say(b"AUTH PLAIN " + plain(b"a", b"wrong")) == 535
    assert client.reply()[0] == 421
    assert client.reply()[0] == 0


# Limits


def test_recipients(listen: Listen) -> None:
    client = listen(limits=Limits(recipients=3)).connect()
    open_transaction(client, 3)
    assert client.say(b"RCPT TO:<late@c.example>") == 452
    assert client.say(b"DATA") == 354


def test_a_hundred_thousand_recipients(listen: Listen) -> None:
    client = listen(limits=Limits(recipients=10, commands=200)).connect()
    client.ehlo()
    client.send(b"MAIL FROM:<a@b.example>\r\n" + b"RCPT TO:<r@c.example>\r\n" * 100_000)
    codes = [client.reply()[0] for _ in range(199)]
    assert codes.count(250) == 11
    assert codes[-1] == 421


def test_errors_and_connections(listen: Listen) -> None:
    server = listen(limits=Limits(errors=3, connections_per_address=2))
    client = server.connect()
    assert [client.say(b"BOGUS") for _ in range(2)] == [500, 500]
    client.send(b"BOGUS\r\n")
    assert [client.reply()[0] for _ in range(3)] == [500, 421, 0]
    server.connect()
    server.connect()
    third = server.connect(greet=False)
    assert third.reply()[0] == 421


def test_an_accepted_message_makes_up_for_errors(listen: Listen) -> None:
    client = listen(limits=Limits(errors=3)).connect()
    client.ehlo()
    for _ in range(4):
        assert [client.say(b"BOGUS") for _ in range(2)] == [500, 500]
        assert client.say(b"MAIL FROM:<a@b.example>") == 250
        assert client.say(b"RCPT TO:<c@d.example>") == 250
        assert client.say(b"DATA") == 354
        assert client.say(MESSAGE + b".") == 250


def test_silence(listen: Listen) -> None:
    server = listen(limits=Limits(command_timeout=0.2, data_timeout=0.2))
    client = server.connect()
    assert [client.reply()[0] for _ in range(2)] == [421, 0]
    client = server.connect()
    client.send(b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<a@b.example>\r\nDATA\r\nhalf a")
    assert [client.reply()[0] for _ in range(6)] == [250, 250, 250, 354, 421, 0]


def test_time_to_sign_in(listen: Listen) -> None:
    client = listen(limits=Limits(sign_in_timeout=0.2), requires_auth=True).connect()
    client.ehlo()
    assert [client.reply()[0] for _ in range(2)] == [421, 0]


def test_peer_that_reads_nothing_is_not_read(listen: Listen) -> None:
    server = listen(limits=Limits(commands=10_000_000))
    client = server.connect()
    client.sock.settimeout(1.0)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 200_000_000:
            sent += client.sock.send(b"NOOP\r\n" * 10_000)
    assert sent < 50_000_000


# Errors


def test_exceptions_are_temporary_and_logs_hold_ids_only(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server = listen()

    def explode() -> None:
        raise KeyError("token-of-a-secret@example.test")

    server.recorder.on_data = explode
    client = server.connect()
    open_transaction(client)
    assert client.say(b"DATA") == 354
    client.send(MESSAGE + b".\r\n")
    code, texts = client.reply()
    assert (code, texts[0][:5]) == (451, b"4.3.0")
    assert b"token" not in b"".join(texts)
    assert client.say(b"NOOP") == 250
    assert "KeyError" in caplog.text
    for token in ("token-of-a-secret", "a@b.example", "r0@c.example", "client.example", "..dot"):
        assert token not in caplog.text


def test_what_fails_through_us_is_in_the_log(listen: Listen, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """Whoever looks for the reason of 451 and 452 at night finds it, and nothing about what is the peer's."""
    server = listen(spill_directory=str(tmp_path / "gone"))
    client = server.connect()

    def on_rcpt(error: Exception) -> Callable[[Any], SmtpReply]:
        def rcpt(path: Any) -> SmtpReply:
            raise error

        return rcpt

    open_transaction(client)
    for error in (Unavailable(detail="tenant 7"), StorageFull(detail="queue.db"), Corrupt(detail="account 8")):
        server.recorder.on_rcpt = on_rcpt(error)
        assert client.say(b"RCPT TO:<a@b.example>") in {451, 452}
    server.recorder.on_rcpt = on_rcpt(OverQuota(detail="account 9"))
    assert client.say(b"RCPT TO:<a@b.example>") == 452
    assert client.say(b"DATA") == 354
    assert client.say(b"x" * 200_000 + b"\r\n.") == 451
    for detail in ("tenant 7", "queue.db", "account 8", "spill file"):
        assert caplog.text.count(detail) == 1
    assert "account 9" not in caplog.text


def test_errors_become_replies(listen: Listen) -> None:
    server = listen()

    def full() -> None:
        raise OverQuota

    server.recorder.on_data = full
    server.recorder.on_rcpt = lambda path: SmtpReply(550, "5.1.1", "No such mailbox")
    client = server.connect()
    client.ehlo()
    assert client.say(b"MAIL FROM:<a@b.example>") == 250
    assert client.say(b"RCPT TO:<a@b.example>") == 550
    server.recorder.on_rcpt = None
    assert client.say(b"RCPT TO:<a@b.example>") == 250
    assert client.say(b"DATA") == 354
    assert client.say(MESSAGE + b".") == 452


# Stopping


def test_stop_finishes_what_is_in_flight(listen: Listen) -> None:
    server = listen()
    idle, busy = server.connect(), server.connect()
    open_transaction(busy)
    assert busy.say(b"DATA") == 354
    stopping = asyncio.run_coroutine_threadsafe(server.listener.stop(10.0), server.loop)
    assert [idle.reply()[0] for _ in range(2)] == [421, 0]
    busy.send(MESSAGE + b".\r\n")
    assert [busy.reply()[0] for _ in range(3)] == [250, 421, 0]
    stopping.result(10)
    assert len(server.recorder.messages) == 1
    with pytest.raises(OSError, match="refused"):
        server.connect()


def test_stop_does_not_wait_for_ever(listen: Listen) -> None:
    server = listen()
    client = server.connect()
    open_transaction(client)
    server.run(server.listener.stop(0.1))
    assert [client.reply()[0] for _ in range(2)] == [STOPPING.code, 0]


# PROXY

PROXIES = (ipaddress.ip_network("127.0.0.0/8"),)
V2 = b"\r\n\r\n\x00\r\nQUIT\n"


def v2(command: int, family: int, addresses: bytes) -> bytes:
    return V2 + bytes([0x20 | command, family]) + struct.pack("!H", len(addresses)) + addresses


IPV4 = ipaddress.ip_address("203.0.113.7").packed + ipaddress.ip_address("127.0.0.1").packed + struct.pack("!HH", 1, 2)


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (b"PROXY TCP4 203.0.113.7 127.0.0.1 40000 25\r\n", "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 40000 25\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (v2(1, 0x11, IPV4), "203.0.113.7"),
        (v2(1, 0x11, IPV4 + b"\x04\x00\x02ab"), "203.0.113.7"),
        (v2(0, 0x00, b""), "127.0.0.1"),
    ],
)
@pytest.mark.parametrize("tls", [False, True])
def test_client_behind_a_proxy(listen: Listen, header: bytes, address: str, tls: bool) -> None:
    server = listen(proxies=PROXIES)
    client = server.connect(tls=tls, before=header)
    assert client.say(b"NOOP") == 250
    assert [session.address for session in server.recorder.sessions] == [address]


@pytest.mark.parametrize(
    "header", [b"PROXY TCP4 nobody here\r\n", b"EHLO x\r\n", b"PROXY " + b"x" * 200, V2 + b"\x99" * 4]
)
def test_proxy_without_a_header(listen: Listen, header: bytes) -> None:
    server = listen(proxies=PROXIES)
    client = server.connect(greet=False, before=header)
    with pytest.raises(ConnectionError):
        client.sock.recv(100)
        client.send(b"x")
        client.sock.recv(100)
        raise ConnectionResetError
    assert server.recorder.sessions == []


def test_header_from_elsewhere_is_no_command(listen: Listen) -> None:
    server = listen(proxies=(ipaddress.ip_network("192.0.2.0/24"),))
    client = server.connect(before=b"PROXY TCP4 203.0.113.7 127.0.0.1 40000 25\r\n")
    assert client.reply()[0] == 500
    assert [session.address for session in server.recorder.sessions] == ["127.0.0.1"]


def test_header_and_commands_in_one_packet(listen: Listen) -> None:
    server = listen(proxies=PROXIES)
    client = server.connect(greet=False, before=b"PROXY TCP4 203.0.113.7 127.0.0.1 1 25\r\nEHLO x\r\nNOOP\r\n")
    assert [client.reply()[0] for _ in range(3)] == [220, 250, 250]
