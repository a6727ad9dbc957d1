"""Bad input to a running IMAP server: a clear error or a disconnect within its limits, flat memory, others served."""

from __future__ import annotations

import base64
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any

import pytest
from whole_server import WholeServer, until
from wire import PATIENCE, Closed, ImapWire, Wire

MB = 1024 * 1024
ALICE = "alice@one.test"

pytestmark = pytest.mark.slow

_networks = count(1)


@pytest.fixture
def source() -> str:
    """A client address in a network of its own, so that no test pays for another's failures."""
    return f"127.77.{next(_networks)}.1"


@pytest.fixture
def alice(server: WholeServer, source: str) -> Iterator[ImapWire]:
    with server.imap(ALICE, source=source) as imap:
        yield imap


def ends(wire: Wire, within: float = PATIENCE) -> bytes:
    """What the server said before it ended the connection, in time."""
    begun = time.monotonic()
    wire.socket.settimeout(within)
    said = wire.rest()
    assert time.monotonic() - begun < within
    return said


def flood(wire: Wire, piece: bytes, total: int) -> int:
    """Sends until the server ends the connection; how much it took."""
    sent = 0
    try:
        while sent < total:
            wire.send(piece)
            sent += len(piece)
    except Closed:
        pass
    return sent


# Sizes


def test_four_gigabytes_announced_before_sign_in(server: WholeServer, meanwhile: Any, source: str) -> None:
    with meanwhile("imap"), server.imap(None, source=source) as imap:
        for command in (b"LOGIN {4294967296}", b"LOGIN a {4294967295}", b"LOGIN {99999999999999999999}"):
            imap.send(b"a " + command + b"\r\n")
            assert imap.line().startswith(b"a NO [TOOBIG]")
        imap.send(b"a LOGIN {4294967296+}\r\n")
        assert b"* BYE" in ends(imap)


def test_four_gigabytes_announced_for_a_message(server: WholeServer, meanwhile: Any, alice: ImapWire) -> None:
    with meanwhile("imap"):
        alice.send(b"a APPEND INBOX {4294967296}\r\n")
        assert alice.line().startswith(b"a NO [TOOBIG]")
        assert alice.command(b"NOOP").ok
        alice.send(b"a APPEND INBOX {4294967296+}\r\n")
        assert b"* BYE" in ends(alice)


def test_a_literal_beyond_the_limit_is_skipped_and_the_session_goes_on(meanwhile: Any, alice: ImapWire) -> None:
    with meanwhile("imap"):
        for _ in range(5):
            assert alice.command(b"SELECT {}", b"x" * 900_000).tagged.startswith(b"NO [TOOBIG]")
        assert alice.command(b"NOOP").ok


@pytest.mark.parametrize("signed_in", [False, True])
def test_a_line_without_end(server: WholeServer, meanwhile: Any, source: str, signed_in: bool) -> None:
    with meanwhile("imap"), server.imap(ALICE if signed_in else None, source=source) as imap:
        assert flood(imap, b"x" * 65536, 64 * MB) < 8 * MB


def test_a_line_without_end_in_a_sasl_exchange(server: WholeServer, meanwhile: Any, source: str) -> None:
    with meanwhile("imap"), server.imap(None, source=source) as imap:
        imap.send(b"a AUTHENTICATE PLAIN\r\n")
        assert imap.line().startswith(b"+")
        assert flood(imap, b"A" * 65536, 64 * MB) < 8 * MB


def test_a_uid_set_of_a_million_ranges(meanwhile: Any, alice: ImapWire) -> None:
    ranges = b",".join(b"%d:%d" % (n, n + 1) for n in range(1, 3_000_000, 3))
    assert alice.command(b"SELECT INBOX").ok
    with meanwhile("imap"):
        short = ranges[:60_000].rpartition(b",")[0]
        alice.command(b"UID FETCH " + short + b" FLAGS")
        alice.command(b"UID SEARCH UID " + short)
        wide = b",".join(b"%d" % n for n in range(1, 21_000, 2))
        alice.command(b"UID FETCH " + wide + b" FLAGS")
        assert not alice.command(b"UID FETCH " + ranges[:900_000] + b" FLAGS").ok
        assert alice.command(b"NOOP").ok
        flood(alice, b"a UID FETCH " + ranges + b" FLAGS\r\n", 1)
        said = ends(alice)  # a line without end is not answered: the connection ends, though BYE may be lost with it
        assert b"a OK" not in said and (not said or b"* BYE" in said)


def test_depth_without_end(meanwhile: Any, alice: ImapWire) -> None:
    assert alice.command(b"SELECT INBOX").ok
    with meanwhile("imap"):
        for command in (
            b"SEARCH " + b"(" * 30_000,
            b"SEARCH " + b"NOT " * 15_000 + b"ALL",
            b"SEARCH " + b"OR " * 20_000 + b"ALL",
            b"FETCH 1 (" + b"FLAGS " * 10_000 + b")",
            b"FETCH 1 BODY[" + b"1." * 30_000 + b"1]",
            b"FETCH 1 BODY[HEADER.FIELDS (" + b"X " * 30_000 + b")]",
            b'LIST "" ' + b"%" * 60_000,
            b'LIST "" ' + b"*a" * 20_000 + b"b",
            b"CREATE " + b"a/" * 30_000 + b"b",
            b"CREATE " + b"x" * 60_000,
            b"STORE 1 +FLAGS (" + b" ".join(b"k%d" % n for n in range(9_000)) + b")",
            b"ENABLE " + b"X " * 30_000 + b"Y",
            b"ID (" + b'"a" "b" ' * 6_000 + b")",
        ):
            alice.command(command)
            assert alice.command(b"NOOP").ok, command[:40]


# Messages


def deep(levels: int) -> bytes:
    """A multipart in a multipart in a multipart."""
    head = b"Subject: deep\r\nMIME-Version: 1.0\r\n"
    opens = b"".join(b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n) for n in range(levels))
    closes = b"".join(b"\r\n--b%d--\r\n" % n for n in reversed(range(levels)))
    return head + opens + b"\r\nText\r\n" + closes


HOSTILE = {
    "10,000 nested multiparts": deep(10_000),
    "10,000 nested messages": b"Content-Type: message/rfc822\r\n\r\n" * 10_000 + b"Subject: in\r\n\r\nText\r\n",
    "100,000 parts": b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    + b"--b\r\n\r\nx\r\n" * 100_000
    + b"--b--\r\n",
    "100,000 header lines": b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(100_000)) + b"\r\nText\r\n",
    "100,000 lines of one field": b"Subject: s\r\n" + b" folded\r\n" * 100_000 + b"\r\nText\r\n",
    "a header line of 4 MB": b"Subject: " + b"x" * (4 * MB) + b"\r\n\r\nText\r\n",
    "100,000 addresses": b"To: " + b",\r\n ".join(b"a%d@b.test" % n for n in range(100_000)) + b"\r\n\r\nText\r\n",
    "50,000 comments": b"To: " + b"(" * 50_000 + b"a@b.test\r\n\r\nText\r\n",
    "50,000 encoded words": b"Subject: " + b"=?utf-8?q?=c3=a4?= " * 50_000 + b"\r\n\r\nText\r\n",
    "10,000 parameters": b"Content-Type: text/plain"
    + b"".join(b"; p%d*0*=x" % n for n in range(10_000))
    + b"\r\n\r\nT\r\n",
    "100,000 references": b"References: "
    + b"".join(b"<%d@x.test>\r\n " % n for n in range(100_000))
    + b"x\r\n\r\nText\r\n",
    "NULs": b"Subject: n\0u\0l\r\nContent-Type: text/\0plain\r\n\r\n" + b"\0" * 100_000 + b"\r\n",
    "invalid base64": b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + b"!?=*\r\n=A==A===" * 10_000,
    "unknown charsets": b"Subject: =?x-no-such?b?AAAA?= =?utf-7?q?+AGEAYg-?= =??b??=\r\n"
    b"Content-Type: text/plain; charset=no-such-charset\r\n\r\n\xff\xfe\x80 text\r\n",
    "unknown encoding": b"Content-Transfer-Encoding: x-zip-bomb\r\n\r\nText\r\n",
    "a boundary of 100,000 octets": b"Content-Type: multipart/mixed; boundary="
    + b"b" * 100_000
    + b"\r\n\r\n--"
    + b"b" * 100_000
    + b"\r\n\r\nx\r\n",
    "one long line": b"Subject: s\r\n\r\n" + b"y" * (5 * MB),
    "no header": b"\r\n",
    "lines without CR": b"Subject: s\n\nText\n" * 1000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_message_is_kept_and_read_in_bounded_time_and_memory(
    meanwhile: Any, alice: ImapWire, name: str
) -> None:
    message = HOSTILE[name]
    with meanwhile("imap", growth=96 * MB):  # the message itself, its encodings, a snapshot of each
        begun = time.monotonic()
        assert alice.append(b"INBOX", message).ok
        assert alice.command(b"SELECT INBOX").ok
        for items in (
            b"BODYSTRUCTURE",
            b"BODY",
            b"ENVELOPE",
            b"(FLAGS RFC822.SIZE INTERNALDATE EMAILID THREADID)",
            b"BODY.PEEK[1.1.1]",
            b"BODY.PEEK[1.MIME]",
            b"BODY.PEEK[HEADER.FIELDS (SUBJECT TO X-99999)]",
            b"BODY.PEEK[" + b"1." * 99 + b"1]",
            b"BODY.PEEK[HEADER.FIELDS.NOT (X)]<0.1000>",
        ):
            answer = alice.command(b"FETCH * " + items)
            assert answer.ok, (items, answer.tagged)
        for items in (b"BINARY.PEEK[1]", b"BINARY.SIZE[1]", b"BINARY.PEEK[1.1]"):
            answer = alice.command(b"FETCH * " + items)
            assert answer.ok or answer.tagged.startswith((b"NO [UNKNOWN-CTE]", b"NO")), answer.tagged
        whole = alice.command(b"FETCH * BODY.PEEK[]").text
        assert message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") in whole  # not an octet is lost
        for keys in (
            b"SUBJECT deep",
            b"TO a7@b.test",
            b"BODY text",
            b"TEXT nowhere",
            b"HEADER X-5 5",
            b"CHARSET UTF-8 TEXT x",
        ):
            assert alice.command(b"UID SEARCH " + keys).ok
        assert alice.command(b"UID SORT (SUBJECT TO SIZE) UTF-8 ALL").ok
        assert alice.command(b"UID THREAD REFERENCES UTF-8 ALL").ok
        assert time.monotonic() - begun < PATIENCE
    assert alice.command(b"STORE 1:* +FLAGS (\\Deleted)").ok
    assert alice.command(b"EXPUNGE").ok


def test_unknown_charsets_of_a_search_are_named(alice: ImapWire) -> None:
    assert alice.command(b"SELECT INBOX").ok
    for charset in (b"X-NO-SUCH", b"UTF-7777", b"../../etc/passwd", b"rot13", b"hex", b"zlib"):
        assert alice.command(b"SEARCH CHARSET " + charset + b" TEXT x").tagged.startswith(b"NO [BADCHARSET")
    assert not alice.command(b"SEARCH CHARSET UTF-8 TEXT {}", b"\xff\xfe\x80").text.startswith(b"NO [SERVERBUG]")


# Syntax

GARBAGE = [
    b"",
    b" ",
    b"\0",
    b"a",
    b"a ",
    b"a \0",
    b"* NOOP",
    b"+ NOOP",
    b"a NOOP\0",
    b"a N\xf8\xd8OP",
    b"a LOGIN",
    b'a LOGIN "',
    b'a LOGIN "\\',
    b"a LOGIN {",
    b"a LOGIN {-1}",
    b"a LOGIN {1",
    b"a LOGIN {a}",
    b"a LOGIN {1}x",
    b"a SELECT",
    b"a {3}",
    b'a SELECT "a\0b"',
    b"a \xff\xff",
    b"\xff" * 100,
    b"GET / HTTP/1.1",
    b"EHLO x",
    b"a LIST () ()",
    b"a APPEND",
    b"a IDLE x",
    b"a UID UID UID",
    b"a AUTHENTICATE",
    b"a AUTHENTICATE X-NO-SUCH",
    b"a AUTHENTICATE PLAIN =",
    b"a AUTHENTICATE PLAIN !!!!",
    b"a AUTHENTICATE PLAIN AAAA",
    b"a STARTTLS x",
    b"a FETCH 0 FLAGS",
    b"a FETCH 4294967296 FLAGS",
    b"a FETCH * (",
    b"a ]",
]


@pytest.mark.parametrize("signed_in", [False, True])
def test_garbage_gets_an_error_each_time_and_never_an_accident(
    server: WholeServer, meanwhile: Any, source: str, signed_in: bool
) -> None:
    with meanwhile("imap"):
        for garbage in GARBAGE:
            with server.imap(ALICE if signed_in else None, source=source) as imap:
                imap.send(garbage + b"\r\nz NOOP\r\n")
                answer = imap.line()
                if answer.startswith(b"+"):  # it waits for more: the NOOP was that, or a literal's first octets
                    continue
                assert re.match(rb"(\*|a|GET|EHLO|\xff*) (BAD|NO|BYE)\b", answer) or answer.startswith(b"z OK"), (
                    garbage,
                    answer,
                )
                assert b"SERVERBUG" not in answer, garbage


def test_pipelined_garbage_ends_the_connection(server: WholeServer, meanwhile: Any, source: str) -> None:
    with meanwhile("imap"), server.imap(None, source=source) as imap:
        flood(imap, b"x y z\r\n" * 1000, 8000 * 10)
        said = ends(imap)
        assert said.count(b"\r\n") < 60


def test_a_message_with_nul_octets_stays_itself(alice: ImapWire) -> None:
    assert alice.append(b"INBOX", b"Subject: \0\r\n\r\n\0\r\n").ok
    assert alice.command(b"SELECT INBOX").ok
    assert b"Subject: \0\r\n\r\n\0\r\n" in alice.command(b"FETCH * BODY.PEEK[]").text
    for literal in (b"\0", b"a\0b", b"INBOX\0"):
        assert not alice.command(b"SELECT {}", literal).ok
        assert not alice.command(b"CREATE {}", literal).ok


# Signing in


def test_abuse_of_authenticate_ends_or_is_slowed_down(server: WholeServer, meanwhile: Any, source: str) -> None:
    with meanwhile("imap"):
        with server.imap(None, source=source) as imap:
            for words in (
                b"*",
                b"====",
                b"A" * 5000,
                b"AAAA" * 2000,
                b"\0",
                base64.b64encode(b"a"),
                base64.b64encode(b"\0\0"),
                base64.b64encode(b"a\0b\0c\0d"),
                base64.b64encode(b"\0" + b"u" * 2000 + b"\0p"),
            ):
                imap.send(b"a AUTHENTICATE PLAIN\r\n")
                assert imap.line().startswith(b"+")
                imap.send(words + b"\r\n")
                assert re.match(rb"a (BAD|NO) ", imap.line()), words[:20]
        refused = 0
        for attempt in range(60):
            with server.imap(None, source=source) as imap:
                words = base64.b64encode(b"\0guessed@one.test\0wrong%d" % attempt)
                answer = imap.command(b"AUTHENTICATE PLAIN " + words)
                assert not answer.ok
                refused += b"[LIMIT]" in answer.tagged
        assert refused > 20
        with server.imap(None, source=source) as imap:
            assert not imap.login("nobody@one.test", "wrong").ok


# Silence


HALVES = [
    b"",
    b"a LOG",
    b"a LOGIN {5}\r\nab",
    b"a AUTHENTICATE PLAIN\r\n",
    b"a LOGIN {5+}\r\nabc",
    b"a STARTTLS\r\n\x16\x03",
]
LATER_HALVES = [b"", b"a NOO", b"a APPEND INBOX {5000000}\r\nSubject: x", b"a IDLE\r\n"]
HANDSHAKES = [b"", b"\x16\x03\x01\x02\x00\x01", b"\x16"]


def test_half_a_command_and_then_silence(server: WholeServer, meanwhile: Any, source: str) -> None:
    """All at once, so that it takes no longer than one: before sign-in, after it, within the TLS handshake."""
    with meanwhile("imap", growth=32 * MB), ExitStack() as stack:
        greedy = ask_for_much_and_read_nothing(server, stack)
        early = [stack.enter_context(server.imap(None, source=source)) for _ in HALVES]
        later = [stack.enter_context(server.imap(ALICE, source=source)) for _ in LATER_HALVES]
        shaking = [stack.enter_context(Wire(server.ports["imaps"], source=source)) for _ in HANDSHAKES]
        for imap in later:
            assert imap.command(b"SELECT INBOX").ok
        for wire, half in zip((*early, *later, *shaking), (*HALVES, *LATER_HALVES, *HANDSHAKES), strict=True):
            wire.send(half)
        for wire, half in zip((*early, *later), (*HALVES, *LATER_HALVES), strict=True):
            assert b"* BYE" in ends(wire) or b"STARTTLS" in half, half
        for wire in shaking:
            ends(wire)
        until(lambda: not still_connected(server.ports["imap"], greedy), "the end of a client that does not read", 30)


def ask_for_much_and_read_nothing(server: WholeServer, stack: ExitStack) -> str:
    """Its address. 200 MB are asked for, and what the kernel's buffers take is all that is ever sent."""
    source = "127.76.1.1"
    with server.imap(ALICE, source=source) as imap:
        assert imap.append(b"Archive", b"Subject: big\r\n\r\n" + b"z" * 76 + b"\r\n" * (2 * MB)).ok
    imap = stack.enter_context(server.imap(ALICE, source=source, receive_buffer=4096))
    assert imap.command(b"SELECT Archive").ok
    imap.send(b"a FETCH 1:* BODY.PEEK[]\r\nb NOOP\r\n" * 50)
    return source


def still_connected(port: int, source: str) -> bool:
    """Whether the server's end of a connection from that address is open, as the kernel sees it."""
    packed = bytes(int(part) for part in source.split("."))[::-1].hex().upper()
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table][1:]
    return any(row[1].endswith(f":{port:04X}") and row[2].startswith(packed) and row[3] == "01" for row in rows)


# TLS


def test_tls_to_a_plain_port(server: WholeServer, source: str) -> None:
    with Wire(server.ports["imap"], source=source, patience=PATIENCE) as wire, pytest.raises((ssl.SSLError, OSError)):
        wire.start_tls(server.client_tls)


def test_plain_to_a_tls_port(server: WholeServer, meanwhile: Any, source: str) -> None:
    with meanwhile("imap"), Wire(server.ports["imaps"], source=source) as wire:
        wire.send(b"a LOGIN x y\r\n" * 10)
        assert b"OK" not in ends(wire)


def test_what_is_sent_ahead_of_starttls_is_thrown_away(server: WholeServer, source: str) -> None:
    for ahead in (b"b NOOP\r\n", b"b LOGIN {3+}\r\nabc", b"b LOGIN alice@one.test "):
        with server.imap(None, source=source) as imap:
            imap.send(b"a STARTTLS\r\n" + ahead)
            assert imap.line().startswith(b"a OK")
            imap.start_tls(server.client_tls)
            imap.send(b"c CAPABILITY\r\n")
            assert imap.line().startswith(b"* CAPABILITY") and imap.line().startswith(b"c OK")
            assert not imap.command(b"STARTTLS").ok  # once is enough


def test_tls_begun_again_and_again_costs_nobody_else(server: WholeServer, meanwhile: Any, source: str) -> None:
    with meanwhile("imap"):
        for _ in range(25):
            with server.imap(None, source=source) as imap:
                imap.send(b"a STARTTLS\r\n")
                assert imap.line().startswith(b"a OK")
                imap.send(b"\x16\x03\x01\x00\x05garba" * 3)
                ends(imap)


# Floods


def test_connections_beyond_the_limits_are_turned_away(server: WholeServer, meanwhile: Any, source: str) -> None:
    with meanwhile("imap", growth=16 * MB), ExitStack() as stack:
        greetings = []
        for _ in range(60):
            wire = stack.enter_context(Wire(server.ports["imap"], source=source))
            greetings.append(wire.line())
        assert [greeting.startswith(b"* OK") for greeting in greetings] == [True] * 30 + [False] * 30
        assert all(greeting.startswith(b"* BYE") for greeting in greetings[30:])
    wait_until_served(server, source)


def wait_until_served(server: WholeServer, source: str) -> None:
    for _ in range(200):
        with Wire(server.ports["imap"], source=source) as wire:
            if wire.line().startswith(b"* OK"):
                return
    raise AssertionError("nobody from that address is served any more")


def test_sessions_of_one_account_are_limited_and_come_back(server: WholeServer, source: str) -> None:
    mallory = ("mallory@two.test", server.passwords["mallory@two.test"])
    with ExitStack() as stack:
        answers = []
        for _ in range(16):
            imap = stack.enter_context(server.imap(None, source=source))
            answers.append(imap.login(*mallory))
        assert [answer.ok for answer in answers] == [True] * 12 + [False] * 4
        assert all(answer.tagged.startswith(b"NO [LIMIT]") for answer in answers[12:])
    for _ in range(100):
        with server.imap(None, source=source) as imap:
            if imap.login(*mallory).ok:
                return
    raise AssertionError("the account is locked out")


def test_connections_opened_and_dropped_at_once(server: WholeServer, meanwhile: Any, source: str) -> None:
    with meanwhile("imap"):
        for _ in range(500):
            Wire(server.ports["imap"], source=source).close()
        for _ in range(100):
            Wire(server.ports["imaps"], source=source).close()
    wait_until_served(server, source)
