#!/usr/bin/env python3
"""Fuzzes gateway.content_facts: archives and documents that are nested at random and then damaged.

scripts/fuzz/attachments.py [--seed N] [--seconds 10]

Prints the seed of a message for which something does not hold; exit status 1 then.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import bz2
import gzip
import io
import lzma
import random
import struct
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import zstandard

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway.content_facts import Attachment, ContentLimits, groups
from gateway.content_facts.budget import Budget
from gateway.content_facts.examination import examine
from gateway.content_facts.names import NAME_MAX, PATH_MAX
from storage.mime.fields import read_header

LIMITS = ContentLimits(work=3_000_000, held=500_000, members=40, attachments=60, depth=4)
SLACK = 400_000  # octets that one step may cost beyond a limit, before it is noticed

NAMES = [
    "a.exe",
    "b.pdf",
    "c.zip",
    "d.docx",
    "e.tar.gz",
    "f.eml",
    "g.html",
    "h",
    "",
    "i.pdf.exe",
    "j\u202efdp.exe",
    "k.txt ",
    "../l.js",
    "m\0.exe",
    "n.rar",
    "o.7z",
    "p.svg",
    "x" * 400 + ".com",
    "q.gz",
    "[Content_Types].xml",
    "word/document.xml",
    "word/vbaProject.bin",
    "META-INF/MANIFEST.MF",
    "mimetype",
    "word/embeddings/oleObject1.bin",
]
LEAVES = [
    b"",
    b"Hello\r\n",
    b"MZ" + bytes(62),
    b"\x7fELF" + bytes(60),
    b"%PDF-1.4 /JavaScript",
    b"<html><script>x",
    b"#!/bin/sh\n",
    b"{\\rtf1 \\objdata 00}",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
    + bytes(504)
    + "Root Entry".encode("utf-16-le").ljust(64, b"\0")
    + b"\x16\0\5"
    + bytes(61),
    b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0F",
    bytes(40_000),
    bytes(0x8001) + b"CD001" + bytes(3000),
    b"Rar!\x1a\x07\x00"
    + struct.pack("<HBHH", 0, 0x73, 0, 13)
    + bytes(6)
    + struct.pack("<HBHHIIBIIBBHI", 0, 0x74, 0x8000, 37, 5, 5, 2, 0, 0, 29, 0x30, 5, 0)
    + b"a.exeHello"
    + struct.pack("<HBHH", 0, 0x7B, 0, 7),
    b"Rar!\x1a\x07\x01\x00" + bytes(4) + b"\3\1\0\0" + bytes(4) + b"\x0f\2\2\5\0\5\0\0\0\5a.exeHello",
    b"7z\xbc\xaf\x27\x1c\0\4" + bytes(4) + struct.pack("<QQI", 0, 9, 0) + b"\1\5\1\x11\3\0a\0\0",
    b"7z\xbc\xaf\x27\x1c\0\4"
    + bytes(4)
    + struct.pack("<QQI", 2, 18, 0)
    + b"ab\x17\6\0\1\x09\2\0\7\x0b\1\0\1\1\0\x0c\2\0\0",
    b"MSCF" + struct.pack("<IIIIIBBHHHHH", 0, 60, 0, 36, 0, 3, 1, 0, 1, 0, 0, 0) + bytes(16) + b"a.exe\0",
    b"\x78\x9f\x3e\x22\1\0\2" + struct.pack("<II", 0x6800F, 4) + b"MZ\0\0\0\0",
    bytes.fromhex("e4525c7b8cd8a74daeb15378d02996d3e716e3bd65261145a4c48d4d0b7a9eac")
    + struct.pack("<QIQ", 5, 0, 0)
    + b"Hello",
]
PACKERS: list[Callable[[bytes], bytes]] = [
    gzip.compress,
    bz2.compress,
    lzma.compress,
    zstandard.compress,
    lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    lambda data: gzip.compress(data[:20]) + gzip.compress(data[20:]),
]
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def random_file(chance: random.Random, depth: int = 0) -> bytes:
    """Something that may be attached, in a third of the cases damaged."""
    kind = chance.random()
    if depth > 5 or kind < 0.35:
        content = chance.choice(LEAVES)
    elif kind < 0.6:
        content = _zip(chance, depth)
    elif kind < 0.7:
        content = _tar(chance, depth)
    elif kind < 0.9:
        content = chance.choice(PACKERS)(random_file(chance, depth + 1))
    else:
        content = random_message(chance, depth + 1)
    return _damaged(content, chance) if chance.random() < 0.3 else content


def _zip(chance: random.Random, depth: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", chance.choice(METHODS)) as archive:
        for name in chance.sample(NAMES, chance.randrange(5)):
            info = zipfile.ZipInfo(name.replace("\0", "") or "empty")
            info.compress_type = chance.choice(METHODS)
            archive.writestr(info, random_file(chance, depth + 1))
    octets = bytearray(out.getvalue())
    if chance.random() < 0.2:  # names, flags and methods that differ between the two headers
        at = octets.find(chance.choice([b"PK\1\2", b"PK\3\4"]))
        if at >= 0:
            octets[at + chance.randrange(6, 50) : at + 50] = octets[at + 6 : at + 6 + chance.randrange(44)]
    return bytes(octets)


def _tar(chance: random.Random, depth: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=chance.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])) as archive:
        for _ in range(chance.randrange(4)):
            content = random_file(chance, depth + 1)
            info = tarfile.TarInfo(chance.choice(NAMES).replace("\0", ""))
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def random_message(chance: random.Random, depth: int = 0) -> bytes:
    """A message with attachments, or text with something uuencoded in it."""
    pieces = [b"From: a@example.org\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n" % depth]
    for _ in range(chance.randrange(4)):
        name = chance.choice(NAMES).replace("\0", "")
        content = random_file(chance, depth + 1)
        encoding = chance.choice([b"base64", b"base64", b"binary", b"quoted-printable", b"x-uuencode", b"odd"])
        body = {b"base64": base64.encodebytes, b"x-uuencode": _uuencoded}.get(encoding, bytes)(content)
        kind = chance.choice(
            [b"application/octet-stream", b"application/pdf", b"message/rfc822", b"text/plain", b"text/html"]
        )
        pieces.append(
            b"\r\n--b%d\r\nContent-Type: %s\r\nContent-Transfer-Encoding: %s\r\n" % (depth, kind, encoding)
            + f'Content-Disposition: attachment; filename="{name}"\r\n\r\n'.encode()
            + body
        )
    if chance.random() < 0.2:
        pieces.append(b"\r\n--b%d\r\n\r\nHello\n" % depth + _uuencoded(chance.choice(LEAVES)))
    return b"".join(pieces) + b"\r\n--b%d--\r\n" % depth


def _uuencoded(content: bytes) -> bytes:
    pieces = [content[at : at + 45] for at in range(0, min(len(content), 900), 45)]
    lines = [binascii.b2a_uu(piece).rstrip(b"\n") for piece in pieces]
    return b"begin 644 u.exe\n" + b"\n".join(lines) + b"\n`\nend\n"


def _damaged(data: bytes, chance: random.Random) -> bytes:
    """With some octets changed, removed or doubled, or cut off."""
    octets = bytearray(data)
    for _ in range(chance.randrange(6)):
        if octets:
            at = chance.randrange(len(octets))
            octets[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
    if octets and chance.random() < 0.3:
        del octets[chance.randrange(len(octets)) :]
    return bytes(octets)


def check(data: bytes, limits: ContentLimits = LIMITS) -> None:
    """Asserts all that must hold of a message."""
    budget = Budget(limits)
    facts = examine(data, read_header(data), 1_750_000_000, budget, limits)
    assert budget.held == 0
    assert budget.held_most <= limits.held
    assert budget.work <= limits.work + SLACK, budget.work
    assert len(facts.attachments) <= limits.attachments
    assert budget.attachments <= limits.attachments + limits.members + 200 or facts.incomplete is not None
    for attachment in facts.attachments:
        _check_attachment(attachment)
    again = examine(data, read_header(data), 1_750_000_000, Budget(limits), limits)
    assert again == facts


def _check_attachment(attachment: Attachment) -> None:
    assert len(attachment.name) <= NAME_MAX
    assert len(attachment.path) <= PATH_MAX
    assert "\0" not in attachment.path
    assert attachment.path.endswith(attachment.name[-PATH_MAX // 3 :])
    assert attachment.size is None or attachment.size >= 0
    if attachment.extension == "exe":
        assert "executable" in groups(attachment)
    if attachment.encrypted:
        assert "encrypted_archive" in groups(attachment)


def run(seed: int, count: int | None = None, seconds: float | None = None) -> int:
    """Checks `count` messages, or as many as fit into `seconds`; how many they were."""
    end = None if seconds is None else time.monotonic() + seconds
    number = 0
    while (count is None or number < count) and (end is None or time.monotonic() < end):
        chance = random.Random(f"{seed}.{number}")
        data = random_message(chance)
        if chance.random() < 0.3:
            data = _damaged(data, chance)
        try:
            check(data)
        except Exception:
            print(f"seed {seed}.{number}: {data[:2000]!r}")
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
