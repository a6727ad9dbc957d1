"""CHUNKING on real sockets: chunks, their limits, and a dialogue that stays in step whatever is refused (RFC 3030)."""

from __future__ import annotations

import ipaddress
import resource
from collections.abc import Callable
from typing import Any

import pytest

from gateway.smtp.limits import Limits
from gateway.smtp.replies import SmtpReply
from storage.errors import OverQuota, Unavailable

MESSAGE = b"From: a@b.example\r\nSubject: x\r\n\r\n.dot\r\n.\r\nText\r\n"
ENVELOPE = b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
Listen = Callable[..., Any]


def chunk(octets: bytes, last: bytes = b"") -> bytes:
    return b"BDAT %d%s\r\n" % (len(octets), last) + octets


LAST = b" LAST"


def codes(server: Any, sent: bytes) -> list[int]:
    """What is said to `sent`, and to NOOP and QUIT behind it: it ends in step."""
    client = server.connect()
    client.send(sent + b"NOOP\r\nQUIT\r\n")
    said = []
    while (code := client.reply()[0]) != 0:
        said.append(code)
    return said


def test_a_message_in_one_chunk(listen: Listen) -> None:
    server = listen()
    assert codes(server, ENVELOPE + chunk(MESSAGE, LAST)) == [250, 250, 250, 250, 250, 221]
    assert [octets for _, octets in server.recorder.messages] == [MESSAGE]


@pytest.mark.parametrize("size", [1, 2, 7, 20])
def test_a_message_in_many_chunks(listen: Listen, size: int) -> None:
    server = listen()
    chunks = [MESSAGE[start : start + size] for start in range(0, len(MESSAGE), size)]
    sent = ENVELOPE + b"".join(map(chunk, chunks)) + chunk(b"", LAST)
    assert codes(server, sent) == [250] * (len(chunks) + 5) + [221]
    assert [octets for _, octets in server.recorder.messages] == [MESSAGE]


def test_the_reply_to_a_chunk_says_how_much_it_was(listen: Listen) -> None:
    client = listen().connect()
    client.send(ENVELOPE + chunk(b"a\r\n"))
    for _ in range(3):
        client.reply()
    assert client.reply() == (250, [b"2.0.0 3 octets received"])


def test_two_messages_one_by_data(listen: Listen) -> None:
    server = listen()
    second = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nb\r\n.\r\n"
    assert codes(server, ENVELOPE + chunk(b"a\r\n", LAST) + second) == [250] * 6 + [354, 250, 250, 221]
    assert [octets for _, octets in server.recorder.messages] == [b"a\r\n", b"b\r\n"]


# What is refused is read to its end: a command in it is never one.
EVIL = b"MAIL FROM:<evil@b.example>\r\nRSET\r\n"


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (chunk(EVIL), [503]),
        (b"EHLO x\r\n" + chunk(EVIL, LAST), [250, 503]),
        (b"EHLO x\r\nMAIL FROM:<a@b.example>\r\n" + chunk(EVIL), [250, 250, 554]),
        (b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<bad>\r\n" + chunk(EVIL, LAST), [250, 250, 501, 554]),
        # A message whose beginning was refused must not be taken without it.
        (
            b"EHLO x\r\nMAIL FROM:<a@b.example>\r\n" + chunk(EVIL) + b"RCPT TO:<c@d.example>\r\n" + chunk(EVIL, LAST),
            [250, 250, 554, 503, 503],
        ),
        (ENVELOPE + chunk(b"a\nb\r\n") + chunk(EVIL) + chunk(EVIL, LAST), [250, 250, 250, 554, 503, 503]),
        (ENVELOPE + chunk(b"a\rb\r\n", LAST) + b"MAIL FROM:<a@b.example>\r\n", [250, 250, 250, 554, 250]),
        (ENVELOPE + chunk(b"a\0b\r\n", LAST), [250, 250, 250, 554]),
        (ENVELOPE + chunk(b"a\r") + chunk(b"b\r\n", LAST), [250, 250, 250, 250, 554]),
        (ENVELOPE + chunk(b"a\r\n") + b"DATA\r\n" + chunk(b"b\r\n", LAST), [250, 250, 250, 250, 503, 250]),
        (ENVELOPE + chunk(b"a\r\n") + b"RCPT TO:<e@d.example>\r\nMAIL FROM:<>\r\n", [250] * 4 + [503, 503]),
        (ENVELOPE + chunk(b"a\r\n") + b"RSET\r\n" + chunk(EVIL), [250] * 5 + [503]),
        (ENVELOPE + chunk(b"a\r\n", LAST) + chunk(EVIL, LAST), [250] * 4 + [503]),
        (ENVELOPE + chunk(b"a\n") + b"RSET\r\n" + ENVELOPE, [250, 250, 250, 554, 250, 250, 250, 250]),
    ],
)
def test_out_of_order_and_malformed(listen: Listen, sent: bytes, said: list[int]) -> None:
    server = listen()
    assert codes(server, sent) == [*said, 250, 221]
    for _, octets in server.recorder.messages:
        assert EVIL not in octets


def test_a_reset_in_the_middle_forgets_the_chunks(listen: Listen) -> None:
    server = listen()
    sent = ENVELOPE + chunk(b"first\r\n") + b"RSET\r\n" + ENVELOPE + chunk(b"second\r\n", LAST)
    assert codes(server, sent) == [250] * 10 + [221]
    assert [octets for _, octets in server.recorder.messages] == [b"second\r\n"]


@pytest.mark.parametrize("argument", [b"", b" x", b" 99999999999999999999999", b" -1", b" 5 LASTS", b" 5 LAST 6"])
def test_a_size_that_cannot_be_read_ends_the_connection(listen: Listen, argument: bytes) -> None:
    server = listen()
    client = server.connect()
    client.send(ENVELOPE + b"BDAT" + argument + b"\r\n" + EVIL)
    assert [client.reply()[0] for _ in range(6)] == [250, 250, 250, 501, 421, 0]
    assert server.recorder.messages == []


@pytest.mark.parametrize(
    "chunks",
    [
        chunk(b"x" * 1001),
        chunk(b"x" * 600) + chunk(b"x" * 401),
        chunk(b"x" * 600) + chunk(b"x" * 401, LAST),
    ],
)
def test_too_large(listen: Listen, chunks: bytes) -> None:
    server = listen(limits=Limits(message_size=1000))
    said = codes(server, ENVELOPE + chunks)
    assert said[-3:] == [552, 250, 221]
    assert server.recorder.messages == []


def test_a_chunk_beyond_the_limit_is_swallowed_in_flat_memory(listen: Listen) -> None:
    server = listen()
    client = server.connect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    client.send(ENVELOPE + b"BDAT 67108864\r\n")
    for _ in range(64):
        client.send(b"x" * 1024 * 1024)
    assert [client.reply()[0] for _ in range(4)] == [250, 250, 250, 552]
    assert client.say(b"NOOP") == 250
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024  # KiB
    client.send(b"BDAT 18446744073709551615\r\nx")
    client.close()
    assert server.connect().say(b"NOOP") == 250


def test_large_chunks_are_no_commands(listen: Listen) -> None:
    server = listen(limits=Limits(message_size=10_000_000, commands=20))
    sent = ENVELOPE + chunk(b"x" * 4096) * 100 + chunk(b"\r\n", LAST)
    assert codes(server, sent) == [250] * 105 + [221]
    assert len(server.recorder.messages[0][1]) == 409_602
    assert codes(server, ENVELOPE + chunk(b"x") * 100)[-1] == 421


def test_chunks_sent_ahead_of_a_refusal_are_no_errors(listen: Listen) -> None:
    server = listen(limits=Limits(errors=3))
    assert codes(server, ENVELOPE + chunk(b"\n") + chunk(b"a\r\n") * 50) == [250] * 3 + [554] + [503] * 50 + [250, 221]


def test_before_signing_in_a_chunk_is_swallowed_too(listen: Listen) -> None:
    server = listen(requires_auth=True, plain_auth=True)
    assert codes(server, b"EHLO x\r\n" + chunk(EVIL, LAST)) == [250, 530, 250, 221]


@pytest.mark.parametrize(("error", "code"), [(OverQuota, 452), (Unavailable, 451), (KeyError, 451)])
def test_errors_become_replies(listen: Listen, error: type[Exception], code: int) -> None:
    server = listen()

    def fail() -> None:
        raise error

    server.recorder.on_data = fail
    assert codes(server, ENVELOPE + chunk(b"a\r\n", LAST)) == [250, 250, 250, code, 250, 221]


def test_recipients_that_are_refused(listen: Listen) -> None:
    server = listen()
    server.recorder.on_rcpt = lambda path: SmtpReply(550, "5.1.1", "No such mailbox")
    sent = ENVELOPE + b"RCPT TO:<e@d.example>\r\n" + chunk(EVIL) + chunk(EVIL, LAST)
    assert codes(server, sent) == [250, 250, 550, 550, 554, 503, 250, 221]


def test_silence_in_a_chunk(listen: Listen) -> None:
    client = listen(limits=Limits(data_timeout=0.2)).connect()
    client.send(ENVELOPE + b"BDAT 100\r\nhalf of it")
    assert [client.reply()[0] for _ in range(5)] == [250, 250, 250, 421, 0]


NORMALISED = (ipaddress.ip_network("127.0.0.0/8"),)


def test_lone_line_ends_of_listed_networks(listen: Listen) -> None:
    server = listen(normalise=NORMALISED)
    sent = ENVELOPE + chunk(b"a\nb\r") + chunk(b"\nc\rd", LAST)
    assert codes(server, sent)[-3:] == [250, 250, 221]
    assert server.recorder.messages[0][1] == b"a\r\nb\r\nc\r\nd\r\n"
