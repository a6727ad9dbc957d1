"""storage.mime on input that means harm: everything ends, soon, with bounded memory, and holds what the fuzzer asks.

The sizes are such that quadratic time would be felt as hours.
"""

from __future__ import annotations

import tracemalloc

import pytest

from scripts.fuzz.mime import check, run
from storage.mime.message import read_message

MEGABYTE = 1 << 20
MIXED = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"


def repeated(piece: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    return before + piece * (MEGABYTE // len(piece)) + after


def nested(levels: int) -> bytes:
    return b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(levels))


HOSTILE = {
    "10,000 nested multiparts": nested(10_000),
    "10,000 nested multiparts, one boundary": repeated(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"),
    "10,000 nested messages": repeated(b"Content-Type: message/rfc822\r\n\r\n"),
    "parts without end": repeated(b"--b\r\n", MIXED),
    "deep, then lines that are nearly boundaries": repeated(b"--b\n", nested(99)),
    "deep, no boundary begins as another": repeated(
        b"--\n--z\n",
        b"".join(
            b"Content-Type: multipart/mixed; boundary=%c%d\r\n\r\n--%c%d\r\n" % (octet, octet, octet, octet)
            for octet in range(ord("A"), ord("z"))
            if chr(octet).isalpha()
        ),
    ),
    "100,000 header lines": repeated(b"a: b\r\n", after=b"\r\n"),
    "one field over and over": repeated(b"From: a@b\r\n", after=b"\r\n"),
    "one field, folded": repeated(b"\r\n b", b"Subject: a", b"\r\n\r\n"),
    "no line end": repeated(b"x"),
    "colons": repeated(b":"),
    "NUL": repeated(b"\0"),
    "bare CR": repeated(b"\r"),
    "bare LF": repeated(b"\n"),
    "addresses: open comments": repeated(b"(,", b"To: ", b"\r\n\r\n"),
    "addresses: nested comments": b"To: " + b"(" * MEGABYTE + b")" * MEGABYTE + b"\r\n\r\n",
    "addresses: routes": repeated(b"@a,", b"To: <", b"\r\n\r\n"),
    "addresses: words": repeated(b"a ", b"To: ", b"\r\n\r\n"),
    "addresses: open quotes": repeated(b'"\\",', b"To: ", b"\r\n\r\n"),
    "parameters": repeated(b";a=b", b"Content-Type: text/plain", b"\r\n\r\n"),
    "parameters: semicolons": repeated(b";", b"Content-Type: text/plain", b"\r\n\r\n"),
    "parameters: sections": b"Content-Type: a/b" + b"".join(b";a*%d=b" % n for n in range(99_999)) + b"\r\n\r\n",
    "encoded words": repeated(b"=?utf-8?q?a?= ", b"Subject: ", b"\r\n\r\n"),
    "encoded words that never end": repeated(b"=?a?q?", b"Subject: ", b"\r\n\r\n"),
    "charsets that are not there": b"Subject: " + b" ".join(b"=?x%d?q?a?=" % n for n in range(50_000)) + b"\r\n\r\n",
    "blobs": repeated(b"[a]", b"Subject: ", b"\r\n\r\n"),
    "forwards": b"Subject: " + b"[fwd:" * 100_000 + b"]" * 100_000 + b"\r\n\r\n",
    "references": repeated(b"<a@b>", b"References: ", b"\r\n\r\n"),
    "open references": repeated(b"<", b"References: ", b"\r\n\r\n"),
    "open tags": repeated(b"<style", b"Content-Type: text/html\r\n\r\n"),
    "open comments": repeated(b"<!--", b"Content-Type: text/html\r\n\r\n"),
    "base64 of nothing": repeated(b"A=", b"Content-Transfer-Encoding: base64\r\n\r\n"),
    "combining marks out of order": repeated(
        "\u0345\u0316".encode(), b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
    ),
    "shift sequences": repeated(b"+2AA-", b"Content-Type: text/plain; charset=utf-7\r\n\r\n"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_messages(name: str) -> None:
    check(HOSTILE[name])


@pytest.mark.parametrize("name", ["100,000 header lines", "parts without end", "no line end", "NUL"])
def test_reading_takes_memory_by_its_limits_not_by_the_size(name: str) -> None:
    data = HOSTILE[name] * 8
    tracemalloc.start()
    try:
        read_message(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * MEGABYTE


def test_the_fuzzer_briefly() -> None:
    assert run(seed=2, count=1500) == 1500
