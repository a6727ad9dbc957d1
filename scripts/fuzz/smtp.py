"""Seeded fuzzer of the SMTP server's readers: MAIL and RCPT arguments, DATA in any split, whole dialogues.

    python scripts/fuzz/smtp.py --seed 1 --seconds 60

What must hold: a reader answers or refuses and raises nothing else; however octets are split, the result is the same; a
dialogue ends with well-formed replies only, and no message that was accepted has a lone CR or LF, or a NUL, in it.
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
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway.smtp.address import ForwardPath, read_mail, read_rcpt
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
    b"MAIL FROM:<j\xc3\xb6@b.example> SMTPUTF8", b"\xff\xfe", b"x" * 3000, b"BDAT 5 LAST", b"PROXY UNKNOWN", b"\0",
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


def data(rng: random.Random) -> None:
    """DATA: any split gives what one piece gives."""
    body = b"".join(rng.choice(WORDS) + rng.choice(ENDS) for _ in range(rng.randrange(12))) + b"\r\n.\r\n" + b"QUIT\r\n"
    assert read_data([body]) == read_data(split(rng, body)), body


def read_data(chunks: list[bytes]) -> tuple[bytes, bytes, bool, bool]:
    pieces: list[bytes] = []
    reader = DataReader(pieces.append)
    rest = b""
    for chunk in chunks:
        rest = rest + chunk if reader.done else reader.feed(chunk)
    return b"".join(pieces), rest, reader.bare_line_end, reader.nul


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


async def converse(chunks: list[bytes], directory: str) -> tuple[bytes, list[bytes]]:
    """What the server says to `chunks`, and the messages it took."""
    profile = Profile("mail.here.example", HERE, directory, Limits(errors=12), offers_auth=True, plain_auth=True)
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


def dialogue(rng: random.Random) -> None:
    """A whole connection: replies are well formed, and what is taken is clean."""
    ends = ENDS if rng.random() < 0.4 else [b"\r\n"]
    lines = [rng.choice(WORDS) + rng.choice(ends) for _ in range(rng.randrange(1, 30))]
    if rng.random() < 0.7:
        lines[:0] = [b"EHLO x\r\n", b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<c@d.example>\r\n", b"DATA\r\n"]
    octets = b"".join(lines)
    with tempfile.TemporaryDirectory() as directory:
        said, messages = asyncio.run(converse(split(rng, octets), directory))
    assert re.fullmatch(rb"(?:%s)+" % REPLY.pattern, said), (octets, said)
    for message in messages:
        bare = message.replace(b"\r\n", b"")
        assert not any(octet in bare for octet in (b"\r", b"\n", b"\0")), octets


def fuzz(seed: int, *, seconds: float = 0.0, rounds: int = 0) -> int:
    """Runs for `rounds`, or for `seconds`; the number of rounds. Raises AssertionError, with the seed of the round."""
    started, done = time.monotonic(), 0
    while done < rounds or time.monotonic() - started < seconds:
        for target, times in ((arguments, 50), (data, 20), (dialogue, 1)):
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
