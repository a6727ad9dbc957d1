"""Seeded fuzzer of the IMAP server's readers: octets in any pieces, damaged commands, mailbox names and patterns.

    python scripts/fuzz/imap.py --seed 1 --seconds 60

What must hold: a frame is parsed or refused with one printable sentence and nothing else is raised; however octets are
split, the same events come out; what is kept stays within the limits; a connection finds its next command again.
The first thing that does not hold is printed with its seed, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
import zlib
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hosting.imap import utf7
from hosting.imap.decoder import Decoder, Frame, Prompt, Refusal
from hosting.imap.grammar import BadCommand, Grammar
from hosting.imap.limits import Limits
from hosting.imap.mailboxes.patterns import Pattern
from hosting.imap.replies import printable
from hosting.imap.shell.wire import Wire
from hosting.imap.storing.append_commands import Append, Replace, Text, Url
from hosting.imap.storing.urls import BadUrl, parse, shown
from storage.errors import InvalidInput

LIMITS = Limits(message=5000, literal=500, early_literal=50, line=2000, swallowed=4000, nesting=12, ranges=50)
COMMANDS = [
    b"NOOP", b"CAPABILITY", b"LOGIN bob {3+}\r\nabc", b'ID ("name" "x")', b"AUTHENTICATE PLAIN =", b"ENABLE QRESYNC",
    b"SELECT INBOX (QRESYNC (1 2 1:5 (1 2)))", b'LIST (SUBSCRIBED) "" ("*" "%") RETURN (STATUS (MESSAGES))', b"IDLE",
    b"UID FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (From {2+}\r\nTo)]<0.5>) (CHANGEDSINCE 5 VANISHED)", b"EXPUNGE",
    b"STORE 1,3:* (UNCHANGEDSINCE 3) +FLAGS.SILENT (\\Seen $x)", b'SEARCH RETURN (MIN SAVE) OR NOT SEEN (FROM "x")',
    b'APPEND x (\\Seen) "17-Jul-1996 02:44:25 -0700" {10+}\r\n0123\r\n6789', b"UID SORT (REVERSE DATE) UTF-8 ALL",
    b"APPEND x (\\Seen) {3+}\r\nabc {3}\r\ndef ~{4+}\r\na\0b\n", b"UID REPLACE * x UTF8 (~{2+}\r\nab)",
    b'APPEND x CATENATE (URL "/x;UIDVALIDITY=1/;UID=1/;SECTION=1.MIME" TEXT {2}\r\nab UTF8 (~{1+}\r\nx)) {1+}\r\nx',
    b"REPLACE 3 x () CATENATE (URL {25+}\r\n/x/;UID=1/;SECTION=HEADER)", b"FETCH 1 (SAVEDATE PREVIEW (LAZY) UID)",
    b"SEARCH SAVEDSINCE 1-Feb-2020 OR SAVEDATESUPPORTED SAVEDON 2-Feb-2020",
    b'SETMETADATA x (/private/a {2+}\r\nab /shared/vendor/v/b ~{1+}\r\n\0 /private/c NIL)',
    b'GETMETADATA "" /shared/a /private/b', b'LIST "" * RETURN (METADATA (/shared/comment))',
    b'GETMETADATA (MAXSIZE 5 DEPTH infinity) x ("/private" {3+}\r\n/sh)',
    b"UID SORT RETURN (PARTIAL -1:-9 UPDATE) (REVERSE DISPLAYFROM) UTF-8 FUZZY (SUBJECT x)", b'CANCELUPDATE "a" "b"',
    b"ESEARCH IN (subtree-one (x y) personal) RETURN (COUNT) CHARSET KOI8-R FILTER x", b"THREAD REFS UTF-8 FILTER x",
    b"UID FETCH 1:* (UID) (PARTIAL 1:5 CHANGEDSINCE 3)", b"SEARCH RETURN (RELEVANCY ALL) FUZZY TEXT x",
    b"UID THREAD REFERENCES UTF-8 SINCE 1-Feb-1994", b"UID MOVE $ Trash", b"STATUS x (UNSEEN)", b"CREATE f&APw-r",
    b'SETACL "Other Users/bob@example.test/INBOX" {3+}\r\na@b +lrswipkxtecda', b"DELETEACL INBOX -x", b"GETACL x",
    b'LIST (SUBSCRIBED) "" ("Other Users/*" %) RETURN (MYRIGHTS STATUS (UNSEEN))', b"LISTRIGHTS INBOX anyone",
    b'RENAME x "Other Users/alice@example.test/x"', b'MYRIGHTS "Other Users/x/INBOX"', b'CREATE "Other Users/a/b/c"',
    b'NOTIFY SET STATUS (selected-delayed (MessageNew (UID BODY.PEEK[1.MIME]) MessageExpunge)) (personal NONE)',
    b'NOTIFY SET (subtree (Lists {2+}\r\na/) (MailboxName SubscriptionChange)) (mailboxes "x" NONE) (inboxes (Foo))',
    b"NOTIFY NONE", b"COMPRESS DEFLATE", b"UNAUTHENTICATE", b"SEARCH RETURN (UPDATE (UID FLAGS) COUNT) ALL",
    b"FETCH 1 BINARY.PEEK[1.2]<0.10>", b'GETQUOTAROOT "a\\"b"', b"UID EXPUNGE 4:2", b"LSUB {0}\r\n *", b"CLOSE",
    b"UIDBATCHES 500 1:2",
]  # fmt: skip
PIECES = [
    b" ", b"  ", b"(", b")", b'"', b"\\", b"{5}\r\n", b"{5+}\r\n", b"{4294967296}\r\n", b"{99999999999999999999}",
    b"{4000+}\r\n", b"~{3+}\r\n", b"*", b"%", b"1:*", b"$", b"0", b"4294967295", b"\0", b"\xff", b"\xc3\xb6", b"[",
    b"]", b"<0.0>", b"NIL", b"NOT ", b"OR ", b"BODY[", b"\r", b"&", b"&-", b"&Jjo-", b"UID ",
    b" CATENATE (", b" TEXT ", b" URL ", b"/;UID=1", b";PARTIAL=1.2", b"%C3%BC", b"UTF8 (", b"{0}\r\n", b",",
    b"x" * 300,
]  # fmt: skip
ENDS = [b"\r\n"] * 12 + [b"\n", b"\r\r\n", b"\0\r\n", b""]
Event = Frame | Prompt | Refusal


def text(rng: random.Random) -> bytes:
    """One command, often damaged."""
    command = rng.choice(COMMANDS)
    for _ in range(rng.choice([0, 0, 1, 1, 2, 6])):
        at = rng.randrange(len(command) + 1)
        if rng.random() < 0.3:
            command = command[:at] + command[at + rng.randrange(1, 6) :]
        else:
            command = command[:at] + rng.choice(PIECES) + command[at:]
    return b"t%d " % rng.randrange(100) + command + rng.choice(ENDS)


def split(rng: random.Random, octets: bytes) -> list[bytes]:
    cuts = sorted(rng.randrange(len(octets) + 1) for _ in range(rng.randrange(12)))
    return [octets[start:end] for start, end in pairwise([0, *cuts, len(octets)])]


def decode(pieces: list[bytes]) -> list[Event]:
    decoder = Decoder(LIMITS)
    decoder.signed_in = True
    found: list[Event] = []
    for piece in pieces:
        decoder.feed(piece)
        while (event := decoder.next_frame()) is not None:
            found.append(event)
            if isinstance(event, Refusal) and event.close:
                return found
        assert decoder.buffered <= LIMITS.line, "more is kept than a line"
    return found


def commands(rng: random.Random) -> None:
    octets = b"".join(text(rng) for _ in range(rng.randrange(1, 8)))
    events = decode([octets])
    assert decode(split(rng, octets)) == events, octets
    grammar = Grammar(LIMITS)
    grammar.utf8 = rng.random() < 0.5
    for event in events:
        if not isinstance(event, Frame):
            continue
        assert sum(map(len, event.literals)) <= LIMITS.command
        try:
            tag, command = grammar.parse(event)
        except BadCommand as bad:
            assert printable(bad.text).decode("ascii") == bad.text, octets
            continue
        assert tag
        assert b"\0" not in event.text, octets
        uploads = [command.message] if isinstance(command, Replace) else ()
        for upload in command.messages if isinstance(command, Append) else uploads:
            assert all(len(part.data) <= LIMITS.message for part in upload.parts if isinstance(part, Text))
            for part in upload.parts:
                url(part.octets if isinstance(part, Url) else rng.randbytes(20))
    if not (events and isinstance(events[-1], Refusal) and events[-1].close):
        resynchronises(octets)


def layers(rng: random.Random) -> None:
    """What a client compresses, however its zlib does it and wherever cut, says the same; damaged it may break."""
    octets = b"".join(text(rng) for _ in range(rng.randrange(1, 12)))
    deflate = zlib.compressobj(rng.choice((0, 1, 9)), zlib.DEFLATED, rng.choice((-9, -12, -15)))
    raw = b"".join(
        deflate.compress(piece) + deflate.flush(rng.choice((zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_NO_FLUSH)))
        for piece in split(rng, octets)
    ) + deflate.flush(zlib.Z_SYNC_FLUSH)
    assert inflate(rng, raw) == decode([octets]), octets
    at = rng.randrange(len(raw))
    inflate(rng, raw[:at] + rng.randbytes(rng.randrange(9)) + raw[at + rng.randrange(9) :])


def inflate(rng: random.Random, raw: bytes) -> list[Event]:
    wire = Wire(LIMITS)
    wire.signed_in(True)
    wire.compress()
    found: list[Event] = []
    for piece in split(rng, raw):
        wire.feed(piece)
        while (event := wire.next_frame(lambda: False)) is not None:
            found.append(event)
            if isinstance(event, Refusal) and event.close:
                return found
        if rng.random() < 0.5:
            wire.rest()
    return found


def url(octets: bytes) -> None:
    """A message of this session, or none; and what is told of it fits into a response code."""
    with contextlib.suppress(BadUrl):
        assert parse(octets, "INBOX").uid > 0
    assert shown(octets).isascii()
    assert b"]" not in shown(octets)


def resynchronises(octets: bytes) -> None:
    """Whatever came before: enough line ends later the next command is understood."""
    events = decode([octets, b"\r\n" * 6000, b"last NOOP\r\n"])
    assert isinstance(events[-1], Refusal) or events[-1] == Frame(b"last NOOP"), octets


def names(rng: random.Random) -> None:
    name = "".join(rng.choice(["a", "&", "-", "ü", "\U0001f600", "&-", "/", "&AAA-", ",", "\x7f"]) for _ in range(8))
    assert utf7.decode(utf7.encode(name)) == name, name
    with contextlib.suppress(InvalidInput):
        utf7.decode(name)
    pattern = "".join(rng.choice("ab/*%") for _ in range(rng.randrange(300)))
    Pattern(pattern).matches("".join(rng.choice("ab/") for _ in range(300)))


def fuzz(seed: int, *, rounds: int | None = None, seconds: float = 0.0) -> int:
    """Rounds done; raises what went wrong, with the seed of its round."""
    until = time.monotonic() + seconds
    done = 0
    while done < rounds if rounds is not None else time.monotonic() < until:
        rng = random.Random(f"{seed}:{done}")
        try:
            rng.choice([commands, commands, commands, names, layers])(rng)
        except Exception as error:
            error.add_note(f"seed {seed}, round {done}")
            raise
        done += 1
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30.0)
    arguments = parser.parse_args()
    print(f"{fuzz(arguments.seed, seconds=arguments.seconds)} rounds, nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
