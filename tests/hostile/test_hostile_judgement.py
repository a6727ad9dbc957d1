"""Messages that are made to keep the filter busy, or to deceive it: bounded time and memory, others served, the right
verdict.
"""

from __future__ import annotations

import base64
import io
import time
import zipfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from attachments import PE, zipped
from attachments import message as with_attachment
from dns_server import DnsServer, Lie
from mx_town import FROM, MESSAGE, ZONE, MxTown, RunningMx
from signing import TestSigner, sign
from whole_server import WholeServer
from wire import PATIENCE, SmtpWire

from gateway.policy.settings import FilterSettings
from storage.logs.trace import TraceKind

MB = 1024 * 1024
HEAD = b"From: eve@elsewhere.example\r\nTo: bob@one.test\r\nSubject: hostile\r\nMIME-Version: 1.0\r\n"

pytestmark = pytest.mark.slow

_networks = count(1)


@pytest.fixture
def stranger(server: WholeServer) -> Iterator[SmtpWire]:
    with SmtpWire(server.ports["mx"], source=f"127.81.{next(_networks)}.1") as smtp:
        assert smtp.command(b"EHLO stranger.example")[0] == 250
        yield smtp


def signatures(number: int) -> bytes:
    value = base64.b64encode(bytes(256)).decode()
    return b"".join(
        f"DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d=d{n}.example; s=s; h=from:from:subject:to;\r\n"
        f"\tbh={base64.b64encode(bytes(32)).decode()};\r\n\tb={value}\r\n".encode()
        for n in range(number)
    )


def seals(number: int) -> bytes:
    return b"".join(
        f"ARC-Seal: i={n}; a=rsa-sha256; cv=pass; d=d.example; s=s; b=AAAA\r\n"
        f"ARC-Message-Signature: i={n}; a=rsa-sha256; d=d.example; s=s; h=from; bh=AAAA; b=AAAA\r\n"
        f"ARC-Authentication-Results: i={n}; d.example; dmarc=pass\r\n".encode()
        for n in range(1, number + 1)
    )


def nested(depth: int) -> bytes:
    """Multiparts within one another."""
    opening = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level) for level in range(depth)
    )
    return HEAD + opening + b"\r\ninnermost\r\n"


def many_parts(number: int) -> bytes:
    part = b"--b\r\nContent-Type: application/x-a; name=a.txt\r\nContent-Disposition: attachment\r\n\r\nx\r\n"
    return HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + part * number + b"--b--\r\n"


def bomb(size: int, depth: int = 1) -> bytes:
    """An archive that unpacks to so many octets, in so many archives around it."""
    content, name = bytes(size), "zeros"
    for _ in range(depth):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            archive.writestr(name, content)
        content, name = out.getvalue(), "inner.zip"
    return with_attachment(("bomb.zip", content), head=HEAD)


def page(text: bytes) -> bytes:
    return HEAD + b"Content-Type: text/html\r\n\r\n" + text


MESSAGES: dict[str, Callable[[], bytes]] = {  # some take a second to make
    "a thousand signatures": lambda: signatures(1000) + HEAD + b"\r\nx\r\n",
    "five hundred seals": lambda: seals(500) + HEAD + b"\r\nx\r\n",
    "multiparts within one another": lambda: nested(20_000),
    "parts": lambda: many_parts(30_000),
    "an archive of 400 MB": lambda: bomb(400 * MB),
    "archives within one another": lambda: bomb(200 * MB, depth=8),
    "many archives": lambda: with_attachment(*((f"{n}.zip", zipped({"a": bytes(MB)})) for n in range(300)), head=HEAD),
    "authors": lambda: b"From: " + b"a@b.example, " * 100_000 + b"\r\n\r\nx\r\n",
    "results": lambda: b"Authentication-Results: ((((\\(" * 50 + b"(" * 200_000 + b"\r\n" + HEAD + b"\r\nx\r\n",
    "tags": lambda: page(b"<div><a href='http://x.example/'>" * 60_000),
    "an open tag": lambda: page(b"<a href=" + b"x" * 2_000_000),
    "comments": lambda: page(b"<!--" * 300_000),
    "words": lambda: HEAD + b"\r\n" + b"=?utf-8?q?=41?= " * 100_000 + b"\r\n",
}


@pytest.fixture
def hostile(name: str) -> bytes:
    """Made before `stranger` connects, whom the server would not wait for."""
    return MESSAGES[name]()


@pytest.mark.parametrize("name", MESSAGES)
def test_what_is_made_to_keep_us_busy(meanwhile: Any, hostile: bytes, stranger: SmtpWire, name: str) -> None:
    with meanwhile("smtp", growth=256 * MB):
        begun = time.monotonic()
        code, said = stranger.submit("eve@elsewhere.example", ["bob@one.test"], hostile)
        assert code in (250, 550, 552, 554), said
        assert time.monotonic() - begun < PATIENCE and b"rror" not in said
        assert stranger.command(b"NOOP")[0] == 250


def test_a_program_deep_in_archives_is_found(server: WholeServer, stranger: SmtpWire) -> None:
    content = zipped({"invoice.exe": PE})
    for level in range(3):
        content = zipped({f"{level}.zip": content})
    code, said = stranger.submit(
        "eve@elsewhere.example", ["bob@one.test"], with_attachment(("a.zip", content), head=HEAD)
    )
    assert code == 250
    shown = server.cleanmail("quarantine", "list", "--json")
    assert said.split()[-1].decode() in shown.stdout


# DNS


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as dns_server:
        yield dns_server


@pytest.fixture
def mx(tmp_path: Path, dns: DnsServer) -> Iterator[RunningMx]:
    town = MxTown(tmp_path)
    running = RunningMx(town, dns, filtering=FilterSettings(time_limit=3.0), dns_timeout=60.0)
    yield running
    running.stop()
    town.close()


LIES = {
    "endless": Lie(endless=True),
    "silent": Lie(silent=True),
    "truncated": Lie(only_truncated=True),
    "garbage": Lie(garbage=True),
    "other question": Lie(other_question=True),
    "scrambled": Lie(scrambled=True),
}


@pytest.mark.parametrize("lie", LIES)
def test_dns_that_lies_about_everything(mx: RunningMx, dns: DnsServer, lie: str) -> None:
    """Nobody gets a pass out of it, and nobody is refused for it."""
    dns.lie("*", LIES[lie])
    signed = sign(MESSAGE, TestSigner("far.test"))
    begun = time.monotonic()
    assert mx.send("alice@example.test", message=signed)[0] == 250
    assert time.monotonic() - begun < 30  # far less than the DNS timeout
    [message] = mx.town.inbox("alice")
    head = message.partition(b"\r\nDKIM-Signature:")[0]
    assert b"=pass" not in head
    [verdict] = [event for event in mx.town.traced() if event.kind is TraceKind.VERDICT]
    assert verdict.details["verdict"] == "deliver"


def test_a_thousand_signatures_cost_few_questions(mx: RunningMx, dns: DnsServer) -> None:
    signer = TestSigner("far.test")
    dns.put(signer.name, TXT=signer.record)
    message = MESSAGE
    for number in range(200):
        message = sign(message, signer, s=f"s{number}")
    before = dns.questions.total()
    assert mx.send("alice@example.test", message=message)[0] == 250
    assert dns.questions.total() - before < 60
    [stored] = mx.town.inbox("alice")
    assert b"more signatures were not looked at" in stored
    assert mx.send("bob@example.test", sender=FROM)[0] == 250
