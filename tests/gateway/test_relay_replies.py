"""Replies of strangers: read as RFC 5321 §4.2 has them, bounded, and harmless whatever they are."""

from __future__ import annotations

import random

import pytest
from aiosmtplib.response import SMTPResponse
from hypothesis import given
from hypothesis import strategies as st

from gateway.relay.capabilities import Capabilities
from gateway.relay.replies import LINE_MAX, LINES_MAX, TEXT_MAX, Garbled, read_reply, reply_of


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"250 ok\r\n", (250, "ok", 8)),
        (b"250 ok\n", (250, "ok", 7)),
        (b"250\r\n", (250, "", 5)),
        (b"250 \r\n", (250, "", 6)),
        (b"250-a\r\n250-b\r\n250 c\r\n", (250, "a\nb\nc", 21)),
        (b"250 ok\r\n550 next\r\n", (250, "ok", 8)),
        (b"220 gr\xc3\xbc\xff\r\n", (220, "grü�", 11)),
        (b"", None),
        (b"2", None),
        (b"250 ok", None),
        (b"250-a\r\n", None),
        (b"250-a\r\n250", None),
    ],
)
def test_replies(octets: bytes, expected: tuple[int, str, int] | None) -> None:
    found = read_reply(octets)
    assert (None if found is None else (found[0].code, found[0].message, found[1])) == expected


@pytest.mark.parametrize(
    "octets",
    [
        b"what?\r\n",
        b"\r\n",
        b"25 ok\r\n",
        b"2500 ok\r\n",
        b"150 no such class\r\n",
        b"+50 ok\r\n",
        b"650 ok\r\n",
        b"250-a\r\n251 b\r\n",
        b"250_a\r\n",
        b"250 " + b"x" * LINE_MAX,
        b"x" * (LINE_MAX + 1),
        b"250-a\r\n" * (LINES_MAX + 1),
    ],
)
def test_what_is_no_reply(octets: bytes) -> None:
    with pytest.raises(Garbled):
        read_reply(octets)


@pytest.mark.parametrize(
    ("code", "message", "status", "text"),
    [
        (250, "2.1.5 ok", "2.1.5", "ok"),
        (550, "5.1.1 <b@x.test> unknown", "5.1.1", "<b@x.test> unknown"),
        (550, "unknown", "5.0.0", "unknown"),
        (550, "4.2.1 confused", "5.2.1", "confused"),
        (451, "4.7.1 first line\n4.7.1 second line", "4.7.1", "first line second line"),
        (451, "4.7.1", "4.7.1", ""),
        (554, "5.7.1234 no status", "5.0.0", "5.7.1234 no status"),
        (554, "bell\x07 and \x1b[31m and \x9b", "5.0.0", "bell  and  [31m and"),
    ],
)
def test_what_the_queue_keeps(code: int, message: str, status: str, text: str) -> None:
    reply = reply_of(SMTPResponse(code, message), "mx.test")
    assert (reply.code, reply.status, reply.text, reply.mta) == (code, status, text, "mx.test")


def test_text_is_cut() -> None:
    assert len(reply_of(SMTPResponse(550, "x" * 100_000), "").text) == TEXT_MAX


@given(st.lists(st.tuples(st.sampled_from([220, 250, 354, 451, 550]), st.lists(st.text("ab -.\x00ü5", max_size=9)))))
def test_replies_are_read_whatever_the_pieces(replies: list[tuple[int, list[str]]]) -> None:
    """Octet by octet or at once: the same replies."""
    octets = b""
    for code, lines in replies:
        texts = lines or [""]
        for number, line in enumerate(texts):
            octets += f"{code}{' ' if number == len(texts) - 1 else '-'}{line}\r\n".encode()
    buffer, found = bytearray(), []
    for octet in octets:
        buffer.append(octet)
        while (reply := read_reply(buffer)) is not None:
            found.append((reply[0].code, reply[0].message))
            del buffer[: reply[1]]
    assert not buffer
    assert found == [(code, "\n".join(lines or [""])) for code, lines in replies]


def test_fuzz() -> None:
    chance = random.Random(5321)
    pieces = [b"250", b"-", b" ", b"ok", b"\r\n", b"\n", b"\r", b"\xff", b"\0", b"5.1.1", b"4.7.0 ", b"999", b"x" * 700]
    for _ in range(5000):
        octets = b"".join(chance.choices(pieces, k=chance.randrange(12)))
        try:
            found = read_reply(octets)
        except Garbled:
            continue
        if found is not None:
            reply = reply_of(found[0], "mx.test")
            assert 0 < found[1] <= len(octets)
            assert reply.status[0] == str(reply.code)[0]
            assert reply.text.isprintable() or "�" in reply.text
            Capabilities.read(found[0].message)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("hop.test", Capabilities()),
        ("hop.test\nSIZE", Capabilities(size=0)),
        ("hop.test\nSIZE 1000\n8BITMIME\npipelining\nStartTLS", Capabilities(1000, True, True, starttls=True)),
        ("hop.test\nSIZE lots\nSMTPUTF8\nDSN", Capabilities(size=0, smtputf8=True, dsn=True)),
        ("hop.test\nLIMITS RCPTMAX=5 MAILMAX=7 RCPTDOMAINMAX=1 X=y", Capabilities(None, *[False] * 5, 7, 5, 1)),
        ("hop.test\nLIMITS rcptmax=x MAILMAX=-1 =5 ===", Capabilities()),
        ("hop.test\nLIMITS RCPTMAX=" + "9" * 50, Capabilities()),
        ("hop.test\nAUTH=LOGIN PLAIN\n\n  \nVRFY", Capabilities()),
    ],
)
def test_what_a_server_offers(message: str, expected: Capabilities) -> None:
    assert Capabilities.read(message) == expected
