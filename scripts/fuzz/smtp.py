"""Seeded fuzzer of the SMTP server's readers: MAIL and RCPT arguments, DATA and BDAT in any split, whole dialogues.

    python scripts/fuzz/smtp.py --seed 1 --seconds 60

What must hold: a reader answers or refuses and raises nothing else; however octets are split, the result is the same,
of a reader as of a whole dialogue; a dialogue consists of well-formed replies, one for each command whatever its chunks
hold; and no message that was accepted has a lone CR or LF, or a NUL, in it.
The first thing that does not hold is printed with its seed, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway.smtp.address import ForwardPath, read_mail, read_rcpt
from gateway.smtp.chunks import ChunkReader, read_size
from gateway.smtp.content import Content
from gateway.smtp.data import DataReader
from gateway.smtp.limits import Limits
from gateway.smtp.replies import OK, RECIPIENT_OK, SENDER_OK, Refused, SmtpReply
from gateway.smtp.server import SmtpServer
from gateway.smtp.session import Profile, SmtpSession, Transaction
from gateway.smtp.wire import Wire
from storage.errors import AuthenticationFailed
from storage.values import Domain

HERE = Domain("here.example")
WORDS = [
    b"EHLO x", b"HELO x", b"MAIL FROM:<a@b.example>", b"mail from: <> SIZE=10 BODY=8BITMIME", b"RCPT TO:<c@d.example>",
    b"RCPT TO:<Postmaster> NOTIFY=NEVER", b"DATA", b"RSET", b"NOOP", b"QUIT", b"STARTTLS", b"VRFY a", b"HELP", b"EXPN",
    b"AUTH PLAIN AGEAcmlnaHQ=", b"AUTH LOGIN", b"AUTH PLAIN", b"*", b"cmlnaHQ=", b".", b"..", b"Subject: x", b"",
    b"MAIL FROM:<j\xc3\xb6@b.example> SMTPUTF8", b"\xff\xfe", b"x" * 3000, b"BDAT 5 LAST", b"BDAT 0", b"BDAT 0 LAST",
    b"BDAT 99999999999", b"BDAT x", b"BDAT", b"PROXY UNKNOWN", b"\0", b"GET / HTTP/1.1", b"ETRN x", b"AUTH X", b"HELP",
]  # fmt: skip
PIECES = [
    "FROM:", "TO:", "<", ">", "@", "a", "b.example", "xn--", "ö", '"', "\\", " ", ":", ",", ".", "..", "SIZE=",
    "9" * 25,
    "BODY=8BITMIME", "SMTPUTF8", "NOTIFY=", "NEVER", "ORCPT=rfc822;", "+40", "=", "RET=FULL", "ENVID=", "[127.0.0.1]",
    "postmaster", "\t", "\x7f", "٣", "a" * 70, "\u200d", "ß",
]  # fmt: skip
ENDS = [b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n", b"\0\r\n", b""]
REPLY = re.compile(rb"(?:\d{3}-[^\r\n]*\r\n)*\d{3} [^\r\n]*\r\n")


def arguments(rng: random.Random) -> None:
    """MAIL and RCPT: a value or Refused, quickly."""
    argument = "".join(rng.choice(PIECES) for _ in range(rng.randrange(1, 14)))
    readers: list[Callable[[str], Any]] = [
        read_mail,
        lambda text: read_rcpt(text, smtputf8=rng.random() < 0.5, postmaster=HERE),
    ]
    for reader in readers:
        try:
            reader(argument)
        except Refused as refused:
            assert 500 <= refused.reply.code < 600, argument


def split(rng: random.Random, octets: bytes) -> list[bytes]:
    cuts = sorted(rng.randrange(len(octets) + 1) for _ in range(rng.randrange(8)))
    places = [0, *cuts, len(octets)]
    return [octets[start:end] for start, end in pairwise(places)]


def body(rng: random.Random) -> bytes:
    return b"".join(rng.choice(WORDS) + rng.choice(ENDS) for _ in range(rng.randrange(12)))


def data(rng: random.Random) -> None:
    """DATA: any split gives what one piece gives."""
    octets = body(rng) + b"\r\n.\r\n" + b"QUIT\r\n"
    normalise = rng.random() < 0.5
    assert read_data([octets], normalise) == read_data(split(rng, octets), normalise), octets


def read_data(chunks: list[bytes], normalise: bool) -> tuple[bytes, bytes, bool, bool]:
    pieces: list[bytes] = []
    reader = DataReader(pieces.append, normalise=normalise)
    rest = b""
    for chunk in chunks:
        rest = rest + chunk if reader.done else reader.feed(chunk)
    message = b"".join(pieces)
    assert reader.bare_line_end or is_clean(message)
    return message, rest, reader.bare_line_end, reader.nul


def chunks(rng: random.Random) -> None:
    """BDAT: any chunks in any pieces give what one gives."""
    octets = body(rng)
    normalise = rng.random() < 0.5
    assert read_chunks([octets], normalise) == read_chunks(split(rng, octets), normalise), octets
    size = read_size("".join(rng.choice(["0", "9", "LAST", " ", "+", "x", "1", "last", "٣"]) for _ in range(6)))
    assert size is None or size.octets >= 0


def read_chunks(pieces: list[bytes], normalise: bool) -> tuple[bytes, bool, bool]:
    taken: list[bytes] = []
    reader = ChunkReader(taken.append, normalise=normalise)
    for piece in pieces:
        reader.feed(piece)
    reader.end()
    message = b"".join(taken)
    assert reader.bare_line_end or is_clean(message)
    return message, reader.bare_line_end, reader.nul


def is_clean(message: bytes) -> bool:
    """Whether every CR and LF stands in a CRLF."""
    bare = message.replace(b"\r\n", b"")
    return b"\r" not in bare and b"\n" not in bare


class MemoryTransport(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = asyncio.Event()

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed.set()

    abort = write_eof = close

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Taker:
    """Accepts everything and keeps the messages."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    async def connect(self, session: SmtpSession) -> SmtpReply | None:
        return None

    async def sign_in(self, session: SmtpSession, login: str, password: str) -> str:
        if password != "right":
            raise AuthenticationFailed
        return login

    async def mail(self, session: SmtpSession, transaction: Transaction) -> SmtpReply:
        return SENDER_OK

    async def rcpt(self, session: SmtpSession, transaction: Transaction, path: ForwardPath) -> SmtpReply:
        return RECIPIENT_OK

    async def data(self, session: SmtpSession, transaction: Transaction, content: Content) -> SmtpReply:
        self.messages.append(content.read())
        return OK

    def closed(self, session: SmtpSession) -> None: ...


async def converse(chunks: list[bytes], directory: str, **options: Any) -> tuple[bytes, list[bytes]]:
    """What the server says to `chunks`, and the messages it took."""
    limits = Limits(errors=12, message_size=20_000)
    profile = Profile("mail.here.example", HERE, directory, limits, offers_auth=True, plain_auth=True, **options)
    taker = Taker()
    transport = MemoryTransport()

    async def serve(wire: Wire) -> None:
        await SmtpServer(wire, SmtpSession("192.0.2.1", encrypted=False), taker, profile).run()

    wire = Wire(asyncio.get_running_loop(), serve)
    wire.connection_made(transport)
    for chunk in chunks:
        wire.data_received(chunk)
        await asyncio.sleep(0)
    for _ in range(200):
        await asyncio.sleep(0)
    wire.eof_received()
    await transport.closed.wait()
    wire.connection_lost(None)
    return transport.written, taker.messages


def play(pieces: list[bytes], **options: Any) -> tuple[bytes, list[bytes]]:
    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(converse(pieces, directory, **options))


def chunk(rng: random.Random, octets: bytes) -> bytes:
    """A BDAT command, mostly right about its size."""
    size = len(octets) if rng.random() < 0.95 else rng.randrange(200)
    return b"BDAT %d%s\r\n" % (size, rng.choice([b"", b"", b" LAST"])) + octets


def dialogue(rng: random.Random) -> None:
    """A whole connection: replies are well formed, what is taken is clean, and the split makes no difference."""
    ends = ENDS if rng.random() < 0.4 else [b"\r\n"]
    lines = [rng.choice(WORDS) + rng.choice(ends) for _ in range(rng.randrange(1, 30))]
    if rng.random() < 0.7:
        begun = rng.choice([b"DATA\r\n", chunk(rng, body(rng)), b""])
        lines[:0] = [b"EHLO x\r\n", b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<c@d.example>\r\n", begun]
    for _ in range(rng.randrange(4)):
        lines.insert(rng.randrange(len(lines)), chunk(rng, body(rng)))
    octets = b"".join(lines)
    options = {"normalise": (ip_network("192.0.2.0/24"),) if rng.random() < 0.3 else (), "offers_dsn": False}
    said, messages = play(split(rng, octets), **options)
    assert re.fullmatch(rb"(?:%s)+" % REPLY.pattern, said), (octets, said)
    for message in messages:
        assert is_clean(message), octets
        assert b"\0" not in message, octets
    assert (said, messages) == play(split(rng, octets), **options), octets
    strict, _ = play(split(rng, octets), waits_its_turn=True)
    assert re.fullmatch(rb"(?:%s)+" % REPLY.pattern, strict), (octets, strict)


STEPS = [b"EHLO x", b"MAIL FROM:<a@b.example>", b"RCPT TO:<c@d.example>", b"RCPT TO:<bad>", b"RSET", b"NOOP", b"VRFY a"]


def steps(rng: random.Random) -> None:
    """One reply for each command, and QUIT is understood at the end, whatever chunks hold and whoever refuses them."""
    commands = [rng.choice(STEPS) + b"\r\n" for _ in range(rng.randrange(6))] + [step + b"\r\n" for step in STEPS[:3]]
    for _ in range(rng.randrange(1, 8)):
        octets = body(rng)
        commands.append(b"BDAT %d%s\r\n" % (len(octets), rng.choice([b"", b" LAST"])) + octets)
        commands.append(rng.choice(STEPS) + b"\r\n")
    said, _ = play(split(rng, b"".join(commands) + b"QUIT\r\n"))
    codes = [int(re.findall(rb"(?m)^(\d{3}) ", reply)[0]) for reply in REPLY.findall(said)]
    if codes[-1] == 421:  # too many errors
        assert len(codes) <= len(commands) + 2
    else:
        assert codes[-1] == 221, (commands, said)
        assert len(codes) == len(commands) + 2, (commands, said)  # with the greeting


def fuzz(seed: int, *, seconds: float = 0.0, rounds: int = 0) -> int:
    """Runs for `rounds`, or for `seconds`; the number of rounds. Raises AssertionError, with the seed of the round."""
    started, done = time.monotonic(), 0
    while done < rounds or time.monotonic() - started < seconds:
        for target, times in ((arguments, 50), (data, 20), (chunks, 20), (dialogue, 1), (steps, 1)):
            for number in range(times):
                mark = f"{seed}/{done}/{target.__name__}/{number}"
                try:
                    target(random.Random(mark))
                except Exception as error:
                    raise AssertionError(f"round {mark}: {error!r}") from error
        done += 1
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    try:
        print(f"{fuzz(options.seed, seconds=options.seconds)} rounds, nothing found")
    except AssertionError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
