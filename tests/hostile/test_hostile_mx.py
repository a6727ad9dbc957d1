"""Bad input from strangers to a running MX: a clear reply or a disconnect in time, flat memory, others served."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any

import pytest
from whole_server import WholeServer
from wire import PATIENCE, Closed, SmtpWire, Wire

MB = 1024 * 1024
SENDER = b"MAIL FROM:<eve@elsewhere.example>"
HEAD = b"From: eve@elsewhere.example\r\nSubject: hostile\r\n"

pytestmark = pytest.mark.slow

_networks = count(1)


@pytest.fixture
def source() -> str:
    return f"127.79.{next(_networks)}.1"


@pytest.fixture
def stranger(server: WholeServer, source: str) -> Iterator[SmtpWire]:
    with connect(server, source) as smtp:
        assert smtp.command(b"EHLO stranger.example")[0] == 250
        yield smtp


def connect(server: WholeServer, source: str, **options: Any) -> SmtpWire:
    return SmtpWire(server.ports["mx"], source=source, **options)


def codes(smtp: SmtpWire, *lines: bytes) -> list[int]:
    return [smtp.command(line)[0] for line in lines]


def begin(smtp: SmtpWire, *recipients: bytes) -> None:
    lines = [b"RCPT TO:<%s>" % recipient for recipient in recipients or (b"bob@one.test",)]
    assert set(codes(smtp, SENDER, *lines)) == {250}


def begin_data(smtp: SmtpWire) -> None:
    begin(smtp)
    assert smtp.command(b"DATA")[0] == 354


def flood(wire: Wire, piece: bytes, total: int) -> None:
    try:
        for _ in range(total // len(piece)):
            wire.send(piece)
    except Closed:
        pass


def ends(wire: Wire, within: float = PATIENCE) -> bytes:
    begun = time.monotonic()
    wire.socket.settimeout(within)
    said = wire.rest()
    assert time.monotonic() - begun < within
    return said


def inbox(server: WholeServer, what: bytes) -> bool:
    """Whether bob has a message that a search finds."""
    with server.imap("bob@one.test", source="127.0.0.9") as imap:
        assert imap.command(b"SELECT INBOX").ok
        return re.search(rb"\* SEARCH \d", imap.command(b"SEARCH " + what).text) is not None


# Memory


def test_a_command_line_without_end(server: WholeServer, meanwhile: Any, source: str) -> None:
    with meanwhile("smtp"), connect(server, source) as smtp:
        flood(smtp, b"x" * 65536, 48 * MB)


def test_a_gigabyte_without_line_ends(meanwhile: Any, stranger: SmtpWire) -> None:
    with meanwhile("smtp"):
        begin_data(stranger)
        flood(stranger, b"x" * MB, 1024 * MB)
        assert stranger.command(b"\r\n.")[0] == 552
        assert stranger.command(b"NOOP")[0] == 250


def test_a_quarter_of_it_in_one_chunk(meanwhile: Any, stranger: SmtpWire) -> None:
    with meanwhile("smtp"):
        begin(stranger)
        stranger.send(b"BDAT %d\r\n" % (256 * MB))
        flood(stranger, b"\r\n" * (MB // 2), 256 * MB)
        assert stranger.reply()[0] == 552
        assert codes(stranger, b"NOOP", b"BDAT 0 LAST", SENDER) == [250, 503, 250]


def test_a_chunk_that_is_announced_and_never_sent(server: WholeServer, source: str) -> None:
    with connect(server, source) as smtp:
        assert smtp.command(b"EHLO x")[0] == 250
        smtp.send(b"BDAT 99999999999999999999\r\nQUIT\r\n")
        assert ends(smtp).startswith(b"421")


def test_a_hundred_thousand_recipients(meanwhile: Any, stranger: SmtpWire) -> None:
    with meanwhile("smtp"):
        assert stranger.command(SENDER)[0] == 250
        stranger.socket.settimeout(60)
        flood(stranger, b"RCPT TO:<bob@one.test>\r\n" * 1000, 24 * 100_000)
        said = ends(stranger)
        assert said.count(b"250 ") <= 1000 and said.count(b"\r\n") < 3100
        assert said.rstrip().rpartition(b"\r\n")[2].startswith(b"421 4.7.0")


def test_addresses_are_not_tried_out_by_the_hundred(meanwhile: Any, stranger: SmtpWire) -> None:
    with meanwhile("smtp"):
        assert stranger.command(SENDER)[0] == 250
        stranger.send(b"".join(b"RCPT TO:<guess%d@one.test>\r\n" % n for n in range(200)))
        said = ends(stranger)
        assert 0 < said.count(b"550 5.1.1") <= 20 and b"421 4.7.0" in said


# Messages


@pytest.mark.parametrize(
    "message",
    [
        b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(100_000)) + HEAD + b"\r\nText\r\n",
        b"".join(b"Received: from x by y; Thu, 1 Jan 1970 00:00:00 +0000\r\n" for _ in range(5000)) + HEAD,
        b"Subject: " + b"=?utf-8?q?=41?= " * 100_000 + b"\r\n\r\nText\r\n",
        b"Subject:" + b"\r\n x" * 300_000 + b"\r\n\r\nText\r\n",
        b"From: " + b"(" * 100_000 + b"eve@elsewhere.example\r\n\r\nText\r\n",
        HEAD + b"\r\n" + b"\0" * 1000 + b"\r\n",
        b":" * 1_000_000 + b"\r\n",
        b"\r\n",
        b"",
    ],
    ids=["100,000 fields", "5000 Received", "words", "folds", "comments", "NULs", "colons", "no header", "nothing"],
)
@pytest.mark.parametrize("chunked", [False, True], ids=["DATA", "BDAT"])
def test_a_hostile_message_is_answered_in_bounded_time(
    meanwhile: Any, stranger: SmtpWire, message: bytes, chunked: bool
) -> None:
    with meanwhile("smtp", growth=64 * MB):
        begin(stranger)
        begun = time.monotonic()
        if chunked:
            stranger.send(b"BDAT %d LAST\r\n" % len(message) + message)
            code, said = stranger.reply()
        else:
            assert stranger.command(b"DATA")[0] == 354
            code, said = stranger.command(message + b".")
        assert code in (250, 550, 552, 554) and time.monotonic() - begun < PATIENCE, said
        assert b"rror" not in said and stranger.command(b"NOOP")[0] == 250


# Smuggling and injection

SMUGGLED = b"MAIL FROM:<eve@one.test>\r\nRCPT TO:<bob@one.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n"
FALSE_ENDS = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r\n.\r",
    b"\r.\r\n",
    b"\n.\r",
    b"\r\n.\0\r\n",
    b"\r\n\0.\r\n",
    b"\r\r\n.\r\r\n",
]


@pytest.mark.parametrize("end", FALSE_ENDS, ids=map(repr, FALSE_ENDS))
def test_no_false_end_of_a_message_lets_a_second_one_in(server: WholeServer, stranger: SmtpWire, end: bytes) -> None:
    begin_data(stranger)
    code, _ = stranger.command(HEAD + b"\r\nfirst" + end + SMUGGLED + b".")
    assert code == 554
    assert stranger.command(b"NOOP")[0] == 250  # exactly one reply was given
    begin(stranger)
    octets = HEAD + b"\r\nfirst" + end + SMUGGLED
    stranger.send(b"BDAT %d LAST\r\n" % len(octets) + octets)
    assert stranger.reply()[0] == 554
    assert stranger.command(b"NOOP")[0] == 250
    assert not inbox(server, b"SUBJECT smuggled")


def test_commands_in_chunks_that_nobody_wants(server: WholeServer, source: str) -> None:
    """Before EHLO, before MAIL, with refused recipients, after a failure: a chunk is never read as commands."""
    chunk = b"BDAT %d\r\n" % len(SMUGGLED) + SMUGGLED
    with connect(server, source) as smtp:
        smtp.send(chunk)
        assert ends(smtp).startswith(b"421")
    with connect(server, source) as smtp:
        assert smtp.command(b"EHLO x")[0] == 250
        smtp.send(chunk + SENDER + b"\r\nRCPT TO:<nobody@one.test>\r\n" + chunk + b"RCPT TO:<bob@one.test>\r\n" + chunk)
        assert [smtp.reply()[0] for _ in range(6)] == [503, 250, 550, 554, 503, 503]
        assert codes(smtp, b"RSET", b"NOOP") == [250, 250]
    assert not inbox(server, b"SUBJECT smuggled")


def test_what_is_sent_ahead_of_starttls_is_never_answered(server: WholeServer, source: str) -> None:
    with connect(server, source) as smtp:
        assert smtp.command(b"EHLO x")[0] == 250
        smtp.send(b"STARTTLS\r\nMAIL FROM:<eve@one.test>\r\n")
        assert ends(smtp).startswith(b"421")
    with connect(server, source) as smtp:
        assert codes(smtp, b"EHLO x", b"STARTTLS") == [250, 220]
        smtp.start_tls(server.client_tls)
        assert codes(smtp, b"MAIL FROM:<>", b"EHLO y", b"STARTTLS") == [503, 250, 503]


@pytest.mark.parametrize(
    "ahead",
    [
        b"HELO x\r\n" + SENDER + b"\r\n",
        b"EHLO x\r\n" + SENDER + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\n" + SENDER + b"\r\n",
    ],
)
def test_whoever_does_not_wait_is_sent_away(server: WholeServer, source: str, ahead: bytes) -> None:
    with connect(server, source) as smtp:
        smtp.send(ahead + SMUGGLED)
        assert ends(smtp).startswith(b"421 4.7.0")


def test_a_message_sent_ahead_of_354_is_not_taken(server: WholeServer, stranger: SmtpWire) -> None:
    stranger.send(SENDER + b"\r\nRCPT TO:<bob@one.test>\r\nDATA\r\nSubject: hasty\r\n\r\nx\r\n.\r\nQUIT\r\n")
    said = ends(stranger)
    assert [line[:3] for line in said.splitlines()] == [b"250", b"250", b"421"]
    assert not inbox(server, b"SUBJECT hasty")


def test_a_proxy_header_from_anybody_is_no_command(server: WholeServer, source: str) -> None:
    with connect(server, source) as smtp:
        assert smtp.command(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25")[0] == 500


def test_nobody_signs_in(stranger: SmtpWire) -> None:
    assert codes(stranger, b"AUTH PLAIN AGFsaWNlQG9uZS50ZXN0AHg=", b"AUTH LOGIN", b"AUTH X") == [500, 500, 500]
    stranger.send(b"AUTH PLAIN AGEAYg==\r\n")
    for _ in range(30):
        stranger.send(b"AUTH PLAIN AGEAYg==\r\n")
    assert b"421" in ends(stranger)


@pytest.mark.parametrize(
    "recipient",
    [
        b"<bob@elsewhere.example>",
        b"<bob%elsewhere.example@one.test>",
        b"<elsewhere.example!bob@one.test>",
        b'<"bob@elsewhere.example"@one.test>',
        b"<@one.test:bob@elsewhere.example>",
        b"<@elsewhere.example,@one.test:bob@elsewhere.example>",
        b"<bob@[127.0.0.1]>",
        b"<bob@localhost>",
        b"<bob@one.test\0.elsewhere.example>",
    ],
)
def test_no_open_relay(stranger: SmtpWire, recipient: bytes) -> None:
    assert stranger.command(SENDER)[0] == 250
    code, said = stranger.command(b"RCPT TO:" + recipient)
    assert code in (500, 501, 550), said
    assert stranger.command(b"DATA")[0] == 554


# Numbers and time


def test_connections_beyond_the_limit_are_turned_away(server: WholeServer, meanwhile: Any, source: str) -> None:
    with meanwhile("smtp"), ExitStack() as stack:
        greetings = []
        for _ in range(60):
            wire = stack.enter_context(Wire(server.ports["mx"], source=source))
            greetings.append(wire.line()[:9])
        assert greetings[:30] == [b"220 local"] * 30 and set(greetings[30:]) == {b"421 4.7.0"}
    for _ in range(100):
        with Wire(server.ports["mx"], source=source) as wire:
            if wire.line().startswith(b"220"):
                return
    raise AssertionError("nobody from that address is served any more")


def test_connections_in_a_short_time(server: WholeServer, source: str) -> None:
    said = b""
    for _ in range(700):
        with Wire(server.ports["mx"], source=source) as wire:
            said = wire.line()
        if b"short time" in said:
            break
    assert said.startswith(b"421 4.7.0")
    with connect(server, source.replace("127.79.", "127.80.")) as other:
        assert other.greeting[0] == 220


HALVES = [b"", b"EHL", b"EHLO x\r\n", b"EHLO x\r\nSTARTTLS"]


def test_half_a_command_and_then_silence(server: WholeServer, meanwhile: Any, source: str) -> None:
    with meanwhile("smtp"), ExitStack() as stack:
        halves = [stack.enter_context(connect(server, source)) for _ in HALVES]
        for wire, half in zip(halves, HALVES, strict=True):
            wire.send(half)
        data, chunk = (stack.enter_context(connect(server, source)) for _ in range(2))
        for wire in (data, chunk):
            assert wire.command(b"EHLO x")[0] == 250
        begin_data(data)
        data.send(HEAD + b"Subject: half of it\r\n\r\nText")
        begin(chunk)
        chunk.send(b"BDAT 1000 LAST\r\n" + HEAD)
        for wire in (*halves, data, chunk):
            assert b"421" in ends(wire)
    assert not inbox(server, b'SUBJECT "half of it"')


def test_pipelined_garbage_ends_the_connection(server: WholeServer, meanwhile: Any, stranger: SmtpWire) -> None:
    with meanwhile("smtp"):
        flood(stranger, b"nonsense\r\n" * 1000, 10_000 * 10)
        assert ends(stranger).count(b"\r\n") < 60
