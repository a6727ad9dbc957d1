"""Seeded fuzzer of the MIME reader: broken structures, broken fields, and octets changed at random.

    python scripts/fuzz/mime.py --seed 1 --seconds 60

What must hold of every message: nothing raises; parts lie inside the message and inside each other, in order and
without overlap; the sections that clients name are the octets of the tree; BODYSTRUCTURE and ENVELOPE are well-formed;
packing and unpacking is the identity; texts are free of NULs and lone surrogates.
The first thing that does not hold is printed with its seed, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from storage.mime.content import Derived, derive
from storage.mime.fields import LISTED, read_header
from storage.mime.message import DEPTH_MAX, PARTS_MAX, Kind, Message, Part, read_message
from storage.mime.parts import find_part, find_section, header_fields, pack_parts, unpack_parts
from storage.mime.render import body, body_of
from storage.mime.text import search_text, walk
from storage.mime.transfer import decode_transfer, is_known

BOUNDARIES = ["a", "ab", "aa", "b", "=_x", "a--", "--", "very long boundary " * 4]
TYPES = [
    "text/plain", "text/html; charset=utf-8", "TEXT/Plain; charset=iso-2022-jp", "multipart/mixed; boundary={b}",
    'multipart/alternative; boundary="{b}"', "multipart/digest; boundary={b}", "multipart/related", "message/rfc822",
    "message/global", "message/delivery-status", 'application/pdf; name="x y.pdf"', "x",
    "image/png; name*0*=utf-8''a%; name*1=b", "", ";;;", 'text/plain; charset="x\\"y', "text/plain; charset=utf-7",
    "text/plain; charset=nonsense-1",
    "text/(comment) plain (never (closed", 'multipart/mixed; boundary="{b}\r\n {b}"',
]  # fmt: skip
VALUES = [
    "a", "b@c", "<b@c>", '"q r"', '"q\\"r"', "(c)", "(c (d))", ",", ", ", " ", ";", ":", "g:", "x y", "<@r:b@c>", "<>",
    "@", ".", "a@[1.2]", "\r\n ", "\xe9", '"', "(", "<", ")", ">", "\\", "\0", "\r",
    "Re: ", "[x] ", "[fwd: ", "(fwd)", "]",
    "=?utf-8?q?=C3=A9?=", "=?utf-8?b?w6k=?=", "=?x?q??=", "=?utf-7?q?+2AA-?=", "Thu, 22 Aug 2002 18:26:25 +0700",
    "31 Feb 99",
]  # fmt: skip
NAMES = [
    "From", "To", "Cc", "Bcc", "Sender", "Reply-To", "Subject", "Date", "Message-ID", "In-Reply-To", "References",
    "Received", "X-Spam", "Content-ID",
]  # fmt: skip
ENCODINGS = ["base64", "8bit", "QUOTED-PRINTABLE", "x-unknown", '"7bit"', "base64 (really)"]
TEXTS = [
    "text\r\n",
    "\r\n",
    "> quoted\r\n",
    "<p>html &amp; <b",
    "x",
    "-- \r\n",
    "--\r\n",
    "w6k=\r\n",
    "=C3=A9=\r\n",
    "\0\n",
    "\r",
]

STRING = re.compile(rb'"(?:[^"\\\r\n\0\x80-\xff]|\\["\\])*"|\{(\d+)\}\r\n')
ATOM = re.compile(rb"NIL|\d+")


def random_header(chance: random.Random) -> str:
    """Fields of a message or part, in half of the cases broken in some way."""
    lines: list[str] = []
    if chance.random() < 0.85:
        lines.append("Content-Type: " + chance.choice(TYPES).format(b=chance.choice(BOUNDARIES)))
    if chance.random() < 0.3:
        lines.append("Content-Transfer-Encoding: " + chance.choice(ENCODINGS))
    if chance.random() < 0.2:
        lines.append(
            "Content-Disposition: " + chance.choice(["inline", "attachment;\r\n filename=x", "; a", 'x; a="b'])
        )
    for _ in range(chance.randrange(4)):
        value = "".join(chance.choices(VALUES, k=chance.randrange(6)))
        lines.append(chance.choice(NAMES) + chance.choice([": ", ":", " : ", " "]) + value)
    if chance.random() < 0.1:
        lines.append(chance.choice(["junk", " folded first", ":", "Content-Language: en, de", "Content-MD5:"]))
    chance.shuffle(lines)
    return "".join(line + chance.choice(["\r\n"] * 9 + ["\n"]) for line in lines) + (
        "\r\n" if chance.random() < 0.85 else ""
    )


def random_message(chance: random.Random) -> bytes:
    """A message whose structure is likely to go wrong."""
    pieces = [random_header(chance)]
    for _ in range(chance.randrange(15)):
        what = chance.random()
        if what < 0.45:
            pieces.append(f"--{chance.choice(BOUNDARIES)}{chance.choice(['', '', '--', 'x', ' '])}\r\n")
        elif what < 0.75:
            pieces.append(random_header(chance))
        else:
            pieces.append("".join(chance.choices(TEXTS, k=chance.randrange(4))))
    data = "".join(pieces).encode("latin-1")
    if chance.random() < 0.3:
        data = _damaged(data, chance)
    return data


def _damaged(data: bytes, chance: random.Random) -> bytes:
    """With some octets changed, removed or doubled."""
    octets = bytearray(data)
    for _ in range(chance.randrange(8)):
        if octets:
            at = chance.randrange(len(octets))
            octets[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
    return bytes(octets)


def check(data: bytes) -> None:
    """Asserts all that must hold of a message."""
    message = read_message(data)
    derived = derive(message)
    _check_tree(message)
    _check_sections(message)
    _check_packing(message, derived)
    _check_expression(derived.envelope)
    _check_expression(derived.body_structure)
    assert body_of(derived.body_structure) == body(message.root)
    _check_texts(message, derived)
    header = data[: message.header_end]
    assert header_fields(derived.listed, LISTED) == header_fields(header, LISTED)
    again = read_header(derived.listed)
    assert [field.name for field in again.fields] == [f.name for f in message.header.fields if f.name in LISTED]


def _check_tree(message: Message) -> None:
    root, size = message.root, len(message.data)
    assert (root.start, root.end) == (0, size)
    parts = list(walk(root))
    assert len(parts) <= PARTS_MAX
    assert _depth(root) <= DEPTH_MAX
    for part in parts:
        assert 0 <= part.start <= part.body_start <= part.end <= size
        assert part.lines in (0, message.data.count(b"\n", part.body_start, part.end))
        below = [part.embedded] if part.embedded is not None else part.children
        position = part.body_start
        for one in below:
            assert position <= one.start and one.end <= part.end
            position = one.end
        assert bool(part.children) <= (part.kind is Kind.MULTIPART)
        assert (part.embedded is not None) == (part.kind is Kind.MESSAGE)


def _depth(root: Part) -> int:
    level, depth = [root], 0
    while level:
        depth += 1
        level = [one for part in level for one in ([part.embedded] if part.embedded else part.children)]
    return depth


def _check_sections(message: Message) -> None:
    data, root = message.data, message.root
    header, text = find_section(root, (), "HEADER"), find_section(root, (), "TEXT")
    assert header is not None and text is not None
    assert header.of(data) + text.of(data) == data
    todo: list[tuple[tuple[int, ...], Part]] = [((), root)]
    while todo:
        numbers, part = todo.pop()
        for index, child in enumerate(part.children, start=1):
            assert find_part(root, (*numbers, index)) is child
            assert find_section(root, (*numbers, index), "") == child.body
            assert find_section(root, (*numbers, index), "MIME") == child.header
            inner = child.embedded
            if inner is not None:
                assert find_section(root, (*numbers, index), "HEADER") == inner.header
                assert find_section(root, (*numbers, index), "TEXT") == inner.body
            todo.append(((*numbers, index), inner if inner is not None else child))
        assert (
            find_part(root, (*numbers, len(part.children) + 1, 1, 1, 1, 1)) is None or part.kind is not Kind.MULTIPART
        )
        if is_known(part.encoding):
            decode_transfer(part.body.of(data), part.encoding)


def _check_packing(message: Message, derived: Derived) -> None:
    again = unpack_parts(derived.parts)
    assert pack_parts(again) == derived.parts
    for one, other in zip(walk(message.root), walk(again), strict=True):
        for name in ("start", "body_start", "end", "kind", "encoding", "lines"):
            assert getattr(one, name) == getattr(other, name), name


def _check_expression(text: bytes) -> None:
    """One parenthesised list of strings, literals, numbers, NIL and lists, and nothing after it (RFC 9051 §9)."""
    depth = position = 0
    while True:
        octet = text[position : position + 1]
        if octet == b"(":
            depth += 1
            position += 1
        elif octet == b")":
            depth -= 1
            position += 1
        elif octet == b" ":
            position += 1
        else:
            match = STRING.match(text, position) or ATOM.match(text, position)
            assert match is not None, text[position : position + 40]
            position = match.end()
            if match.lastindex:
                length = int(match[1])
                assert b"\0" not in text[position : position + length]
                position += length
        if depth == 0:
            break
    assert position == len(text)


def _check_texts(message: Message, derived: Derived) -> None:
    searched = search_text(message)
    for text in (
        derived.subject, derived.base_subject, derived.from_, derived.to_, derived.cc, derived.bcc, derived.sort_from,
        derived.sort_to, derived.sort_cc, derived.preview, derived.references, derived.message_id_field,
        searched.subject, searched.headers, searched.body,
    ):  # fmt: skip
        text.encode("utf-8")
        assert "\0" not in text
    assert len(derived.preview) <= 200


def run(seed: int, count: int | None = None, seconds: float | None = None) -> int:
    """Checks `count` messages, or as many as fit into `seconds`; how many they were."""
    end = None if seconds is None else time.monotonic() + seconds
    number = 0
    while (count is None or number < count) and (end is None or time.monotonic() < end):
        data = random_message(random.Random(f"{seed}.{number}"))
        try:
            check(data)
        except Exception:
            print(f"seed {seed}.{number}: {data!r}")
            raise
        number += 1
    return number


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    try:
        number = run(options.seed, seconds=options.seconds)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        print(f"does not hold: {error!r}")
        return 1
    print(f"{number} messages, seed {options.seed}: everything held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
