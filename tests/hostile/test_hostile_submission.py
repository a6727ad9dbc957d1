"""Bad input to a running submission server: a clear error or a disconnect in time, flat memory, others served."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any

import pytest
from whole_server import WholeServer
from wire import PATIENCE, Closed, SmtpWire, Wire

MB = 1024 * 1024
ALICE = "alice@one.test"
HEAD = b"From: alice@one.test\r\nSubject: hostile\r\n"

pytestmark = pytest.mark.slow

_networks = count(1)


@pytest.fixture
def source() -> str:
    return f"127.78.{next(_networks)}.1"


@pytest.fixture
def alice(server: WholeServer, source: str) -> Iterator[SmtpWire]:
    with server.smtp(ALICE, source=source) as smtp:
        yield smtp


def ends(wire: Wire, within: float = PATIENCE) -> bytes:
    begun = time.monotonic()
    wire.socket.settimeout(within)
    said = wire.rest()
    assert time.monotonic() - begun < within
    return said


def flood(wire: Wire, piece: bytes, total: int) -> int:
    sent = 0
    try:
        while sent < total:
            wire.send(piece)
            sent += len(piece)
    except Closed:
        pass
    return sent


def begin_data(smtp: SmtpWire, recipient: str = "bob@one.test") -> None:
    assert smtp.command(b"MAIL FROM:<alice@one.test>")[0] == 250
    assert smtp.command(f"RCPT TO:<{recipient}>".encode())[0] == 250
    assert smtp.command(b"DATA")[0] == 354


@pytest.mark.parametrize("signed_in", [False, True])
def test_a_command_line_without_end(server: WholeServer, meanwhile: Any, source: str, signed_in: bool) -> None:
    with meanwhile("smtp"), server.smtp(ALICE if signed_in else None, source=source) as smtp:
        flood(smtp, b"x" * 65536, 48 * MB)
        smtp.close()


def test_a_message_without_line_ends(meanwhile: Any, alice: SmtpWire) -> None:
    with meanwhile("smtp"):
        begin_data(alice)
        flood(alice, b"x" * 65536, 48 * MB)
        assert alice.command(b"\r\n.")[0] == 552
        assert alice.command(b"NOOP")[0] == 250


def test_four_gigabytes_announced(alice: SmtpWire) -> None:
    for size in (b"4294967296", b"4000001", b"99999999999999999999"):
        code, said = alice.command(b"MAIL FROM:<alice@one.test> SIZE=" + size)
        assert code in (501, 552), said


@pytest.mark.parametrize(
    "message",
    [
        b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(100_000)) + HEAD + b"\r\nText\r\n",
        b"From: " + b"(" * 100_000 + b"alice@one.test\r\n\r\nText\r\n",
        b"From: " + b",\r\n ".join([b"alice@one.test"] * 50_000) + b"\r\n\r\nText\r\n",
        b"From: " + b'"' * 99_999 + b"alice@one.test\r\n\r\nText\r\n",
        HEAD + b"\r\n" + b"\0" * 1000 + b"\r\n",
        b"\0" + HEAD + b"\r\nText\r\n",
        b"Text without a header\r\n",
        b"\r\n",
    ],
    ids=["100,000 fields", "comments", "50,000 senders", "quotes", "NULs", "a NUL first", "no header", "nothing"],
)
def test_a_hostile_message_is_answered_in_bounded_time(meanwhile: Any, alice: SmtpWire, message: bytes) -> None:
    with meanwhile("smtp", growth=64 * MB):
        begin_data(alice)
        begun = time.monotonic()
        code, said = alice.command(message + b".")
        assert code in (250, 550, 552, 554) and time.monotonic() - begun < PATIENCE, said
        assert b"rror" not in said and alice.command(b"NOOP")[0] == 250


@pytest.mark.parametrize("parts", ["multipart", "message"])
def test_10_000_nested_parts(server: WholeServer, meanwhile: Any, alice: SmtpWire, parts: str) -> None:
    if parts == "message":
        body = b"Content-Type: message/rfc822\r\n\r\n" * 10_000 + b"Text\r\n"
    else:
        body = b"".join(
            b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n) for n in range(10_000)
        )
    with meanwhile("smtp", growth=64 * MB):
        begin_data(alice)
        assert alice.command(HEAD + body + b"\r\n.")[0] == 250
    with server.imap("bob@one.test", source="127.0.0.9") as imap:
        assert imap.command(b"SELECT INBOX").ok
        assert imap.command(b"FETCH * (ENVELOPE BODYSTRUCTURE)").ok


SMUGGLED = b"MAIL FROM:<alice@one.test>\r\nRCPT TO:<bob@one.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n"
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
def test_no_false_end_of_a_message_lets_a_second_one_in(server: WholeServer, alice: SmtpWire, end: bytes) -> None:
    begin_data(alice)
    code, _ = alice.command(HEAD + b"\r\nfirst" + end + SMUGGLED + b".")
    assert code in (550, 554)
    assert alice.command(b"NOOP")[0] == 250  # exactly one reply was given
    with server.imap("bob@one.test", source="127.0.0.9") as imap:
        assert imap.command(b"SELECT INBOX").ok
        assert not re.search(rb"\* SEARCH \d", imap.command(b"SEARCH SUBJECT smuggled").text)


def test_what_is_sent_ahead_of_starttls_is_thrown_away(server: WholeServer, source: str) -> None:
    with server.smtp(None, source=source) as smtp:
        assert smtp.command(b"EHLO x")[0] == 250
        smtp.send(b"STARTTLS\r\nMAIL FROM:<eve@one.test>\r\nRSET\r\n")
        assert smtp.reply()[0] == 220
        smtp.start_tls(server.client_tls)
        code, said = smtp.command(b"EHLO y")
        assert code == 250 and b"AUTH" in said and b"STARTTLS" not in said


def test_tls_to_a_plain_port_and_plain_to_a_tls_port(server: WholeServer, meanwhile: Any, source: str) -> None:
    with meanwhile("smtp"):
        with (
            Wire(server.ports["submission"], source=source, patience=PATIENCE) as wire,
            pytest.raises((ssl.SSLError, OSError)),
        ):
            wire.start_tls(server.client_tls)
        with Wire(server.ports["submissions"], source=source) as wire:
            wire.send(b"EHLO x\r\n" * 20)
            assert b"250" not in ends(wire)


HALVES = [b"", b"EHL", b"EHLO x\r\nAUTH PLAIN\r\n", b"EHLO x\r\nSTARTTLS\r\n\x16"]
LATER_HALVES = [b"", b"MAIL FROM:<al"]
HANDSHAKES = [b"", b"\x16\x03\x01\x02\x00\x01"]


def test_half_a_command_and_then_silence(server: WholeServer, meanwhile: Any, source: str) -> None:
    """All at once: before sign-in, after it, in a message, within the TLS handshake."""
    with meanwhile("smtp"), ExitStack() as stack:
        early = [stack.enter_context(server.smtp(None, source=source)) for _ in HALVES]
        later = [stack.enter_context(server.smtp(ALICE, source=source)) for _ in (*LATER_HALVES, "data")]
        shaking = [stack.enter_context(Wire(server.ports["submissions"], source=source)) for _ in HANDSHAKES]
        begin_data(later[-1])
        later[-1].send(b"From: alice@one.test\r\nSubject: half of it\r\n\r\nText")
        for wire, half in zip((*early, *later, *shaking), (*HALVES, *LATER_HALVES, b"", *HANDSHAKES), strict=True):
            wire.send(half)
        for wire in (*early, *shaking):
            ends(wire)
        for wire in later:
            assert ends(wire).startswith(b"421")
    with server.imap("bob@one.test", source="127.0.0.9") as imap:
        assert imap.command(b"SELECT INBOX").ok
        assert not re.search(rb"\* SEARCH \d", imap.command(b'SEARCH SUBJECT "half of it"').text)


def test_pipelined_garbage_ends_the_connection(server: WholeServer, meanwhile: Any, source: str) -> None:
    with meanwhile("smtp"), server.smtp(None, source=source) as smtp:
        flood(smtp, b"nonsense\r\n" * 1000, 10_000 * 10)
        assert ends(smtp).count(b"\r\n") < 60


def test_passwords_are_not_guessed_by_the_hundred(server: WholeServer, meanwhile: Any, source: str) -> None:
    with meanwhile("smtp"):
        codes = []
        for attempt in range(40):
            with server.smtp(None, source=source) as smtp:
                codes.append(smtp.login("guessed@one.test", f"wrong{attempt}")[0])
        assert set(codes) <= {535, 454, 450, 421, 432} and codes[-1] != 535


def test_connections_beyond_the_limit_are_turned_away(server: WholeServer, meanwhile: Any, source: str) -> None:
    with meanwhile("smtp"), ExitStack() as stack:
        greetings = []
        for _ in range(60):
            wire = stack.enter_context(Wire(server.ports["submission"], source=source))
            greetings.append(wire.line()[:3])
        assert greetings[:30] == [b"220"] * 30 and set(greetings[30:]) == {b"421"}
    for _ in range(200):
        with Wire(server.ports["submission"], source=source) as wire:
            if wire.line().startswith(b"220"):
                return
    raise AssertionError("nobody from that address is served any more")


def test_recipients_without_end(meanwhile: Any, alice: SmtpWire) -> None:
    with meanwhile("smtp"):
        assert alice.command(b"MAIL FROM:<alice@one.test>")[0] == 250
        alice.send(b"".join(b"RCPT TO:<r%d@elsewhere.example>\r\n" % n for n in range(1200)))
        codes = [alice.reply()[0] for _ in range(1200)]
        assert codes.count(250) == 1000 and set(codes[1000:]) == {452}
        assert alice.command(b"RSET")[0] == 250
