"""Rspamd as it should be, in bad moods, and Debian's own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from scanner_host import GTUBE, RSPAMD, ScannerHost, Serve, read_post, real_rspamd

from gateway.scanners import Envelope, Rspamd, RspamdResult, read_password
from storage.errors import InvalidInput

MESSAGE = b"Subject: a\r\n\r\n" + b"text\r\n" * 50_000
ENVELOPE = Envelope(
    "192.0.2.1", "mail.a.example", "joe@a.example", ("ann@b.example", "bob@b.example"), "Q1", "a.example"
)
GOOD = {"action": "add header", "score": 7.5, "required_score": 15, "symbols": {"B": {"score": 1}, "A": {}}}


def http(body: bytes, status: bytes = b"200 OK", fields: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), fields, body)


def says(answer: bytes) -> Serve:
    async def serve(host: ScannerHost, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host.received += await read_post(reader)
        writer.write(answer)
        await writer.drain()

    return serve


def scan(
    serve: Serve, *, limit: float = 10.0, envelope: Envelope = ENVELOPE, password: str = ""
) -> tuple[RspamdResult, ScannerHost]:
    async def run() -> tuple[RspamdResult, ScannerHost]:
        async with ScannerHost(serve) as host:
            rspamd = Rspamd(f"http://127.0.0.1:{host.port}", limit, password=password)
            return await rspamd.scan(MESSAGE, envelope), host

    return asyncio.run(run())


def test_what_it_is_told_and_what_it_says() -> None:
    found, host = scan(says(http(json.dumps(GOOD).encode())), password="secret")
    assert found == RspamdResult("add header", 7.5, 15.0, ("A", "B"))
    head, body = host.received
    assert body == MESSAGE
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /checkv2 HTTP/1.1"
    assert set(lines) >= {
        "IP: 192.0.2.1",
        "Helo: mail.a.example",
        "Hostname: a.example",
        "From: <joe@a.example>",
        "Rcpt: <ann@b.example>",
        "Rcpt: <bob@b.example>",
        "Queue-Id: Q1",
        "Password: secret",
        "Connection: close",
    }


def test_words_that_no_field_can_hold_are_not_told() -> None:
    envelope = Envelope("192.0.2.1", "a\r\nPassword: x", "grüße@a.example", ("a\0b@c",), "  ")
    found, host = scan(says(http(json.dumps(GOOD).encode())), envelope=envelope)
    assert not found.unknown
    assert b"Password" not in host.received[0] and b"Rcpt" not in host.received[0] and b"Helo" not in host.received[0]
    assert "From: <grüße@a.example>".encode() in host.received[0]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"220 smtp.example ESMTP\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        http(b""),
        http(b"nothing"),
        http(b"[]"),
        http(b'"reject"'),
        http(b"{}"),
        http(b"\xff\xfe"),
        http(b"[" * 100_000),
        http(b"9" * 10_000),
        http(json.dumps({**GOOD, "action": 7}).encode()),
        http(json.dumps({**GOOD, "action": "x" * 500}).encode()),
        http(json.dumps({**GOOD, "score": "7"}).encode()),
        http(json.dumps({**GOOD, "score": True}).encode()),
        http(b'{"action": "reject", "score": NaN, "required_score": 15}'),
        http(b'{"action": "reject", "score": 1e999, "required_score": 15}'),
        http(json.dumps({**GOOD, "symbols": ["A"]}).encode()),
        http(json.dumps({**GOOD, "action": "no action", "is_skipped": True}).encode()),
        http(json.dumps(GOOD).encode(), b"403 Forbidden"),
        http(json.dumps(GOOD).encode(), b"500 Internal"),
        http(b"", b"302 Found", b"Location: http://127.0.0.1:1/checkv2\r\n"),
        http(b"x" * 2_000_000),
        b"HTTP/1.1 200 OK\r\n" + b"X-Fill: x\r\n" * 10_000,
    ],
)
def test_what_is_not_said_clearly_is_unknown(answer: bytes) -> None:
    found, host = scan(says(answer))
    assert found == RspamdResult(unknown=found.unknown)
    assert found.unknown
    assert host.connections == 1


def test_an_endless_answer_is_left() -> None:
    async def endless(host: ScannerHost, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b'{"a":' * 1000)
            await writer.drain()

    found, _ = scan(endless)
    assert found.unknown == "Rspamd gave an answer that is too large"


def test_silence_ends_with_the_time_limit() -> None:
    async def silent(host: ScannerHost, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    found, _ = scan(silent, limit=0.2)
    assert found == RspamdResult(unknown="Rspamd did not answer in time")


def test_symbols_are_names_and_not_too_many() -> None:
    symbols = {f"S{number:05}": {} for number in range(3000)} | {"": {}, "a\x1bb": {}, "x" * 200: {}}
    found, _ = scan(says(http(json.dumps({**GOOD, "symbols": symbols}).encode())))
    assert found.symbols == tuple(f"S{number:05}" for number in range(1000))


def test_a_forced_action_is_one_though_rules_were_skipped() -> None:
    found, _ = scan(says(http(json.dumps({**GOOD, "action": "reject", "is_skipped": True}).encode())))
    assert found.action == "reject"


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:11333", "https://127.0.0.1:11333", "http://a", "http://a:1/x", "http://u@a:1"]
)
def test_what_is_no_place(url: str) -> None:
    with pytest.raises(InvalidInput, match="is no place of Rspamd"):
        Rspamd(url)


def test_the_password_stands_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("secret\n")
    assert read_password(str(path)) == "secret"
    assert read_password("") == ""
    for wrong in ("", "\n", "a\nb", "x" * 2000):
        path.write_text(wrong)
        with pytest.raises(InvalidInput):
            read_password(str(path))
    with pytest.raises(InvalidInput):
        read_password(str(tmp_path / "none"))


@pytest.mark.skipif(RSPAMD is None, reason="Debian's rspamd is not installed")
def test_with_the_real_one(tmp_path: Path) -> None:
    with real_rspamd(tmp_path) as url:
        rspamd = Rspamd(url, 60.0)

        async def run() -> list[RspamdResult]:
            return [
                await rspamd.scan(b"From: a@b.example\r\nSubject: a\r\n\r\n" + text + b"\r\n", ENVELOPE)
                for text in (b"Hello", GTUBE)
            ]

        ham, spam = asyncio.run(run())
    assert (ham.action, ham.required_score, ham.unknown) == ("no action", 15.0, "")
    assert (spam.action, spam.unknown) == ("reject", "")
