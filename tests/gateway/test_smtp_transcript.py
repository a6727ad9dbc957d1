"""The transcript of an incoming connection: envelopes, replies and times; never content, never a password."""

from __future__ import annotations

import threading
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from gateway.smtp.limits import Limits
from gateway.smtp.transcribed import transcribed
from gateway.transcript import Transcript
from storage.clock import FixedClock
from storage.logs.transcripts import Direction, TranscriptRecord

Listen = Callable[..., Any]


class Sink:
    """Keeps what is recorded."""

    def __init__(self) -> None:
        self.records: list[TranscriptRecord] = []
        self._came = threading.Condition()

    def record(self, record: TranscriptRecord) -> None:
        with self._came:
            self.records.append(record)
            self._came.notify_all()

    def only(self) -> TranscriptRecord:
        with self._came:
            assert self._came.wait_for(lambda: self.records, 10)
        [record] = self.records
        return record


@pytest.fixture
def sink() -> Sink:
    return Sink()


def test_a_whole_connection(listen: Listen, sink: Sink) -> None:
    server = listen(transcripts=sink, clock=FixedClock(1_750_000_000.0))
    client = server.connect()
    client.ehlo()
    for line in (b"MAIL FROM:<a@b.example>", b"rcpt to:<c@d.example>", b"RCPT TO:<e@d.example>", b"DATA"):
        client.say(line)
    client.say(b"Subject: secret token\r\n\r\nbody token\r\n.")
    client.say(b"QUIT")
    record = sink.only()
    assert (record.time, record.direction, record.peer) == (1_750_000_000, Direction.IN, "127.0.0.1")
    assert record.id == server.recorder.sessions[0].id
    extensions = record.text.partition("0.000 < MAIL")[0]
    assert "0.000 > 250-CHUNKING" in extensions
    assert "0.000 < MAIL" + record.text.partition("0.000 < MAIL")[2] == "\n".join(
        f"0.000 {line}"
        for line in [
            "< MAIL FROM:<a@b.example>",
            "> 250 2.1.0 Sender OK",
            "< rcpt to:<c@d.example>",
            "> 250 2.1.5 Recipient OK",
            "< RCPT TO:<e@d.example>",
            "> 250 2.1.5 Recipient OK",
            "< DATA",
            "> 354 End data with <CR><LF>.<CR><LF>",
            "* a message of 37 octets",
            "> 250 2.0.0 OK",
            "< QUIT",
            "> 221 2.0.0 Bye",
        ]
    )


def test_a_handler_names_the_messages_that_it_took(listen: Listen, sink: Sink) -> None:
    server = listen(transcripts=sink)

    def take() -> None:
        server.recorder.sessions[0].transcript.message("0123abcd", 7)

    server.recorder.on_data = take
    client = server.connect()
    client.ehlo()
    client.send(b"MAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nBDAT 9 LAST\r\ntoken\r\nx\n")
    client.reply()
    client.send(b"RSET\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nBDAT 7 LAST\r\ntoken\r\nQUIT\r\n")
    record = sink.only()
    assert (record.queue_ids, record.tenants) == (("0123abcd",), (7,))
    assert "< BDAT 9 LAST\n" in record.text
    assert "> 554 5.5.2" in record.text
    assert "token" not in record.text


SIGN_INS = [
    [b"AUTH PLAIN " + b64encode(b"\0alice@b.example\0right")],
    [b"auth plain " + b64encode(b"\0alice@b.example\0w0ng")],
    [b"AUTH PLAIN", b64encode(b"\0alice@b.example\0right")],
    [b"AUTH LOGIN", b64encode(b"alice@b.example"), b64encode(b"right")],
    [b"AUTH LOGIN " + b64encode(b"alice@b.example"), b64encode(b"w0ng")],
    [b"AUTH LOGIN", b64encode(b"alice@b.example"), b"*"],
    [b"AUTH " + b64encode(b"\0alice@b.example\0right")],
    [b"AUTH CRAM-MD5", b64encode(b"alice@b.example")],  # refused; what follows is out of step
    [b64encode(b"alice@b.example"), b64encode(b"right")],
    [b"AUTHPLAIN " + b64encode(b"\0alice@b.example\0right")],
    [b"NOOP right", b"HELP right alice", b"VRFY right", b"EXPN right", b"RSET right", b"right"],
]


@pytest.mark.parametrize("lines", SIGN_INS)
@pytest.mark.parametrize("tls", [True, False])
def test_no_password_and_no_login(listen: Listen, sink: Sink, lines: list[bytes], tls: bool) -> None:
    client = listen(transcripts=sink, requires_auth=True).connect(tls=tls)
    client.ehlo()
    for line in lines:
        client.say(line)
    client.say(b"QUIT")
    text = sink.only().text
    for secret in (b"alice@b.example", b"right", b"w0ng", b"\0alice@b.example\0right", b"\0alice@b.example\0w0ng"):
        assert secret.decode() not in text
        assert b64encode(secret).decode() not in text
    assert ("TLSv1.3" in text) is tls
    if lines[0].upper().startswith(b"AUTH PLAIN"):
        assert "< AUTH PLAIN\n" in text
        assert "> 235 2.7.0" in text or "> 5" in text


def test_content_that_comes_where_commands_are_read(listen: Listen, sink: Sink) -> None:
    """DATA is refused, and the client sends its message nevertheless."""
    client = listen(transcripts=sink, limits=Limits(errors=100)).connect()
    client.ehlo()
    client.send(
        b"DATA\r\nFrom: token\r\nSubject: token\r\n\r\nHelp token\r\nToken\r\nMail from token\r\nQuit token\r\n"
        b"\xfftoken\r\n" + b"token" * 1000 + b"\r\nlone\ntoken\r\n.\r\nQUIT\r\n"
    )
    text = sink.only().text
    assert "token" not in text.lower()
    assert "< [no command, 11 octets]" in text
    assert text.endswith("> 221 2.0.0 Bye")


def test_starttls_and_how_it_ended(listen: Listen, sink: Sink) -> None:
    server = listen(transcripts=sink)
    client = server.connect()
    client.ehlo()
    assert client.say(b"STARTTLS") == 220
    client.start_tls()
    client.ehlo()
    client.close()
    text = sink.only().text
    assert "< STARTTLS\n" in text
    assert " * TLSv1.3 TLS_" in text
    assert text.endswith("* the connection was lost")


def test_a_handshake_that_fails(listen: Listen, sink: Sink) -> None:
    client = listen(transcripts=sink).connect()
    client.ehlo()
    assert client.say(b"STARTTLS") == 220
    client.send(b"this is no handshake\r\n")
    assert "* the TLS handshake failed" in sink.only().text


def test_who_is_turned_away_leaves_one_too(listen: Listen, sink: Sink) -> None:
    client = listen(transcripts=sink, limits=Limits(connections_per_address=0)).connect(greet=False)
    assert client.reply()[0] == 421
    assert "> 421 4.7.0" in sink.only().text


def test_a_talkative_stranger_is_cut(listen: Listen, sink: Sink) -> None:
    server = listen(transcripts=sink, limits=Limits(commands=100_000))
    client = server.connect()
    client.ehlo()
    sender = b"MAIL FROM:<" + b"a" * 60 + b"@b.example> SIZE=10\r\nRSET\r\n"
    for _ in range(20):
        client.send(sender * 200)
        for _ in range(400):
            client.reply()
    client.say(b"QUIT")
    record = sink.only()
    assert len(record.text) < 400_000
    assert "[the rest of this connection is not kept]" in record.text


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (b"EHLO client.example", b"EHLO client.example"),
        (b"MAIL FROM:<a@b.example> SIZE=1", b"MAIL FROM:<a@b.example> SIZE=1"),
        (b"MAIL  from:<>", b"MAIL  from:<>"),
        (b"MAIL my letters", b"[no command, 15 octets]"),
        (b"RCPT TO:<\xc3\xb6@b.example>", b"RCPT TO:<\xc3\xb6@b.example>"),
        (b"RCPT", b"[no command, 4 octets]"),
        (b"BDAT 10 LAST", b"BDAT 10 LAST"),
        (b"BDAT the rest of my story", b"BDAT [20 octets]"),
        (b"DATA", b"DATA"),
        (b"Data shows that", b"DATA [10 octets]"),
        (b"AUTH", b"AUTH"),
        (b"AUTH xoauth2 dG9rZW4=", b"AUTH XOAUTH2"),
        (b"AUTH dG9rZW4=", b"AUTH [a mechanism that is not known]"),
        (b"", b"[no command, 0 octets]"),
    ],
)
def test_what_is_kept_of_a_line(line: bytes, kept: bytes) -> None:
    assert transcribed(line) == kept


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (b"AUTH PLAIN AGEAYg==\r\n", "AUTH PLAIN ..."),
        (b"auth\tplain\tAGEAYg==", "auth\tplain ..."),
        (b"AUTH LOGIN", "AUTH LOGIN"),
        (b"250-AUTH PLAIN LOGIN", "250-AUTH PLAIN LOGIN"),
        (b"\xff", "\\xff"),
        (b"x" * 2000, "x" * 1024 + " [cut]"),
        (b"NOOP\n0.001 < 250 ok\rx", "NOOP\\n0.001 < 250 ok\\rx"),
    ],
)
def test_what_a_transcript_itself_lets_go(sink: Sink, line: bytes, kept: str) -> None:
    transcript = Transcript(sink, FixedClock(), Direction.OUT, "1", "192.0.2.1")
    transcript.ours(line)
    transcript.close()
    assert sink.only().text == f"0.000 > {kept}"
