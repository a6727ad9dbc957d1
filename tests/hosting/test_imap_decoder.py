"""The decoder: what arrives in any pieces becomes the same frames, and no limit can be passed.

Standards: RFC 9051 §2.2, RFC 7888, RFC 7889.
"""

from __future__ import annotations

import pytest

from hosting.imap.decoder import Decoder, Frame, Prompt, Refusal
from hosting.imap.limits import Limits

LIMITS = Limits(message=1000, literal=100, early_literal=20, line=200, swallowed=500)
Event = Frame | Prompt | Refusal


def decoder(*, signed_in: bool = True) -> Decoder:
    made = Decoder(LIMITS)
    made.signed_in = signed_in
    return made


def events(source: Decoder, *pieces: bytes) -> list[Event]:
    found: list[Event] = []
    for piece in pieces:
        source.feed(piece)
        while (event := source.next_frame()) is not None:
            found.append(event)
            if isinstance(event, Refusal) and event.close:
                return found
    return found


WHOLE: list[tuple[str, bytes, list[Event]]] = [
    ("a line", b"a NOOP\r\n", [Frame(b"a NOOP")]),
    ("a bare LF ends a line", b"a NOOP\n", [Frame(b"a NOOP")]),
    ("pipelined", b"a NOOP\r\nb NOOP\r\n", [Frame(b"a NOOP"), Frame(b"b NOOP")]),
    ("half a command", b"a NOO", []),
    ("a literal", b"a LOGIN {3}\r\nbob x\r\n", [Prompt(), Frame(b"a LOGIN {3}\r\n x", (b"bob",))]),
    ("LITERAL+", b"a LOGIN {3+}\r\nbob x\r\n", [Frame(b"a LOGIN {3+}\r\n x", (b"bob",))]),
    ("two literals", b"a X {1+}\r\na {1+}\r\nb\r\n", [Frame(b"a X {1+}\r\n {1+}\r\n", (b"a", b"b"))]),
    ("line ends inside", b"a X {4+}\r\n\r\n\r\n\r\n", [Frame(b"a X {4+}\r\n", (b"\r\n\r\n",))]),
    ("an empty literal", b"a X {0+}\r\n\r\n", [Frame(b"a X {0+}\r\n", (b"",))]),
    ("looks like a literal, quoted", b'a X "{5}"\r\n', [Frame(b'a X "{5}"')]),
    (
        "APPEND may be large",
        b"a append b {900+}\r\n" + b"x" * 900 + b"\r\n",
        [Frame(b"a append b {900+}\r\n", (b"x" * 900,))],
    ),
    (
        "so may each message of several, and of REPLACE",
        b"a append b {900+}\r\n" + b"x" * 900 + b" ~{900+}\r\n" + b"y" * 900 + b"\r\n"
        b"b uid replace 1 c {900+}\r\n" + b"z" * 900 + b"\r\nc Replace 1 d {900+}\r\n" + b"z" * 900 + b"\r\n",
        [
            Frame(b"a append b {900+}\r\n ~{900+}\r\n", (b"x" * 900, b"y" * 900)),
            Frame(b"b uid replace 1 c {900+}\r\n", (b"z" * 900,)),
            Frame(b"c Replace 1 d {900+}\r\n", (b"z" * 900,)),
        ],
    ),
]


@pytest.mark.parametrize(("octets", "expected"), [row[1:] for row in WHOLE], ids=[row[0] for row in WHOLE])
def test_frames_do_not_depend_on_how_octets_arrive(octets: bytes, expected: list[Event]) -> None:
    assert events(decoder(), octets) == expected
    assert events(decoder(), *[octets[at : at + 1] for at in range(len(octets))]) == expected
    assert events(decoder(), octets[:7], octets[7:]) == expected


TOO_MUCH: list[tuple[str, bytes, list[Event]]] = [
    (
        "4 GB announced: refused at once, the next command is found",
        b"a APPEND x {4294967296}\r\nb NOOP\r\n",
        [Refusal(b"a", b"[TOOBIG] The literal is larger than this server takes."), Frame(b"b NOOP")],
    ),
    (
        "4 GB of LITERAL+: it would come, so the connection ends",
        b"a APPEND x {4294967296+}\r\n",
        [Refusal(b"a", b"[TOOBIG] The literal is larger than this server takes.", close=True)],
    ),
    (
        "a small LITERAL+ too many is skipped (RFC 7888 §4)",
        b"a LOGIN {120+}\r\n" + b"x" * 120 + b" {10+}\r\n" + b"y" * 10 + b"\r\nb NOOP\r\n",
        [Refusal(b"a", b"[TOOBIG] The literal is larger than this server takes."), Frame(b"b NOOP")],
    ),
    (
        "a long line is skipped",
        b"a SEARCH " + b"x" * 300 + b"\r\nb NOOP\r\n",
        [Refusal(b"a", b"The line is too long."), Frame(b"b NOOP")],
    ),
    (
        "a line without end",
        b"a " + b"x" * 2000,
        [Refusal(b"a", b"The line has no end.", close=True)],
    ),
    (
        "literals together pass the limit",
        b"a X {60+}\r\n" + b"x" * 60 + b" {60}\r\nb NOOP\r\n",
        [Refusal(b"a", b"[TOOBIG] The literal is larger than this server takes."), Frame(b"b NOOP")],
    ),
    (
        "messages together pass the limit of a command",
        b"a APPEND x" + b"".join(b" {800+}\r\n" + b"x" * 800 for _ in range(2)) + b" {401}\r\nb NOOP\r\n",
        [Refusal(b"a", b"[TOOBIG] The literal is larger than this server takes."), Frame(b"b NOOP")],
    ),
    (
        "the rest of them is skipped",
        b"a APPEND x {1000+}\r\n"
        + b"x" * 1000
        + b" {1000+}\r\n"
        + b"x" * 1000
        + b" {1+}\r\ny {2+}\r\nzz\r\nb NOOP\r\n",
        [Refusal(b"a", b"[TOOBIG] The literal is larger than this server takes."), Frame(b"b NOOP")],
    ),
    (
        "what is called APPEND but is not one has the limit of all",
        b"a UID APPENDIX {101}\r\nb APPEND\tx {101}\r\n",
        [Refusal(b"a", b"[TOOBIG] The literal is larger than this server takes.")],
    ),
    (
        "lines together pass the limit",
        b"a X" + b"".join(b" " + b"y" * 60 + b" {1+}\r\nz" for _ in range(5)) + b"\r\n",
        [Refusal(b"a", b"The command is too long.")],
    ),
]


@pytest.mark.parametrize(("octets", "expected"), [row[1:] for row in TOO_MUCH], ids=[row[0] for row in TOO_MUCH])
def test_limits(octets: bytes, expected: list[Event]) -> None:
    assert events(decoder(), octets)[: len(expected)] == expected


def test_literal_minus() -> None:
    """RFC 7888 §5: 4,096 octets may come by themselves; more are BAD, and read past or the end."""
    source = Decoder(Limits(literal_minus=True, swallowed=9000))
    source.signed_in = True
    refused = Refusal(b"a", b"[TOOBIG] A literal of this size has to wait for a go-ahead.", is_bad=True)
    assert refused.word == b"BAD "
    small = b"a APPEND b {4096+}\r\n" + b"x" * 4096 + b"\r\n"
    large = b"a APPEND b ~{4097+}\r\n" + b"x" * 4097 + b" {2+}\r\nxx\r\nb NOOP\r\n"
    assert events(source, small) == [Frame(b"a APPEND b {4096+}\r\n", (b"x" * 4096,))]
    assert events(source, large) == [refused, Frame(b"b NOOP")]
    assert events(source, b"a APPEND b {4097}\r\n")[0] == Prompt()
    assert events(source, b"x" * 4097 + b"\r\na SELECT {9001+}\r\n")[1] == Refusal(b"a", refused.text, close=True)


def test_before_sign_in_literals_are_small() -> None:
    assert events(decoder(signed_in=False), b"a LOGIN {21}\r\n")[0] == Refusal(
        b"a", b"[TOOBIG] The literal is larger than this server takes."
    )


def test_memory_stays_flat_while_a_line_has_no_end() -> None:
    source = decoder()
    for _ in range(3):
        source.feed(b"x" * 150)
        assert source.next_frame() is None
        assert source.buffered <= 200


def test_discard_forgets_what_was_pipelined() -> None:
    """RFC 9051 §6.2.1: what follows STARTTLS in plain text must not be taken for protected commands."""
    source = decoder()
    source.feed(b"a STARTTLS\r\nb LOGIN x y\r\n")
    assert source.next_frame() == Frame(b"a STARTTLS")
    source.discard()
    assert source.next_frame() is None
    assert events(source, b"c NOOP\r\n") == [Frame(b"c NOOP")]


def test_single_lines() -> None:
    source = decoder()
    source.feed(b"DO")
    assert source.next_line() is None
    source.feed(b"NE\r\na NOOP\r\n")
    assert source.next_line() == b"DONE"
    assert source.next_frame() == Frame(b"a NOOP")


def test_a_single_line_without_end_closes() -> None:
    source = decoder()
    for _ in range(6):
        source.feed(b"x" * 200)
        answer = source.next_line()
        if answer is not None:
            break
    assert answer == Refusal(b"", b"The line has no end.", close=True)
