"""clamd as it should be, in bad moods, and Debian's own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from scanner_host import CLAMD, EICAR, ScannerHost, Serve, free_port, read_instream, real_clamd

from gateway.scanners import Clamd, MalwareResult
from gateway.scanners.endpoints import Endpoint, clamd_endpoint
from storage.errors import InvalidInput

MESSAGE = b"Subject: a\r\n\r\n" + b"text\r\n" * 50_000


def says(answer: bytes) -> Serve:
    async def serve(host: ScannerHost, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host.received.append(await read_instream(reader))
        writer.write(answer)
        await writer.drain()

    return serve


async def silent(host: ScannerHost, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def slow(host: ScannerHost, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    host.received.append(await read_instream(reader))
    await asyncio.Event().wait()


async def cut(host: ScannerHost, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)


async def early(host: ScannerHost, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As clamd does with a message that is too large: it answers in the middle and reads no more."""
    await reader.read(10)
    writer.write(b"INSTREAM size limit exceeded. ERROR\0")
    await writer.drain()
    await asyncio.Event().wait()


async def endless(host: ScannerHost, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"stream: OK" * 1000)
        await writer.drain()


def scan(
    serve: Serve, message: bytes | list[bytes] = MESSAGE, *, limit: float = 10.0
) -> tuple[MalwareResult, ScannerHost]:
    async def run() -> tuple[MalwareResult, ScannerHost]:
        async with ScannerHost(serve) as host:
            return await Clamd(f"127.0.0.1:{host.port}", limit).scan(message), host

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (b"stream: OK\0", MalwareResult()),
        (b"stream: Eicar-Test FOUND\0", MalwareResult("Eicar-Test")),
        (b"stream: Win.Test(abc:1) FOUND\0", MalwareResult("Win.Test(abc:1)")),
    ],
)
def test_what_it_says(answer: bytes, result: MalwareResult) -> None:
    found, host = scan(says(answer))
    assert found == result
    assert found.clean is (result.malware == "")
    assert host.received == [MESSAGE]


@pytest.mark.parametrize(
    "serve",
    [
        *(
            says(answer)
            for answer in (
                b"",
                b"\0",
                b"stream: OK",  # and then the end
                b"stream: OK and more\0",
                b"OK\0",
                b"stream: FOUND\0",
                b"stream: \x1b[31m FOUND\0",
                b"stream: " + b"x" * 300 + b" FOUND\0",
                b"stream: Can't allocate memory ERROR\0",
                b"\xff\xfe\0",
            )
        ),
        cut,
        endless,
    ],
)
def test_what_is_not_said_clearly_is_unknown(serve: Serve) -> None:
    found, _ = scan(serve)
    assert found.unknown and not found.clean and not found.malware


@pytest.mark.parametrize("serve", [silent, slow])
def test_silence_ends_with_the_time_limit(serve: Serve) -> None:
    found, _ = scan(serve, limit=0.2)
    assert found == MalwareResult(unknown="clamd did not answer in time")


def test_an_answer_in_the_middle_is_taken_and_is_no_failure() -> None:
    async def run() -> None:
        async with ScannerHost(early) as host:
            clamd = Clamd(f"127.0.0.1:{host.port}")
            found = await clamd.scan(b"x" * 20_000_000)
            assert found.unknown == "the message is larger than what clamd looks at"
            assert clamd.guard.failures == 0

    asyncio.run(run())


def test_nobody_there() -> None:
    found = asyncio.run(Clamd(f"127.0.0.1:{free_port()}").scan(MESSAGE))
    assert found.unknown == "clamd cannot be reached, or ended the connection"


def test_a_large_message_is_not_shown() -> None:
    async def run() -> None:
        async with ScannerHost(says(b"stream: OK\0")) as host:
            found = await Clamd(f"127.0.0.1:{host.port}", size=1000).scan(b"x" * 1001)
            assert "larger" in found.unknown
            assert host.connections == 0

    asyncio.run(run())


def test_a_message_in_parts_is_shown_as_one() -> None:
    _, host = scan(says(b"stream: OK\0"), [b"Received: x\r\n", b"", MESSAGE])
    assert host.received == [b"Received: x\r\n" + MESSAGE]


def test_over_a_unix_socket(tmp_path: Path) -> None:
    async def run() -> None:
        path = tmp_path / "ctl"
        async with ScannerHost(says(b"stream: OK\0"), str(path)):
            assert (await Clamd(f"unix:{path}").scan(MESSAGE)).clean

    asyncio.run(run())


def test_a_slow_scan_holds_up_no_other() -> None:
    async def first_slow(host: ScannerHost, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (slow if host.connections == 1 else says(b"stream: OK\0"))(host, reader, writer)

    async def run() -> None:
        async with ScannerHost(first_slow) as host:
            clamd = Clamd(f"127.0.0.1:{host.port}", 30.0)
            waiting = asyncio.create_task(clamd.scan(MESSAGE))
            while not host.received:
                await asyncio.sleep(0)
            assert all(result.clean for result in await asyncio.gather(*(clamd.scan(MESSAGE) for _ in range(20))))
            assert not waiting.done()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(run())


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("unix:/run/clamav/clamd.ctl", Endpoint(path="/run/clamav/clamd.ctl")),
        ("127.0.0.1:3310", Endpoint(host="127.0.0.1", port=3310)),
        ("[::1]:3310", Endpoint(host="::1", port=3310)),
        ("scanner.example:3310", Endpoint(host="scanner.example", port=3310)),
    ],
)
def test_places(text: str, endpoint: Endpoint) -> None:
    assert clamd_endpoint(text) == endpoint


@pytest.mark.parametrize(
    "text", ["", "unix:", "unix:ctl", "/run/ctl", "127.0.0.1", ":1", "a:0", "a:65536", "a b:1", "::1:3"]
)
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(InvalidInput, match="is no place of clamd"):
        clamd_endpoint(text)


@pytest.mark.skipif(CLAMD is None, reason="Debian's clamav-daemon is not installed")
def test_with_the_real_one(tmp_path: Path) -> None:
    with real_clamd(tmp_path) as address:
        clamd = Clamd(address, 60.0)

        async def run() -> list[MalwareResult]:
            return [await clamd.scan(message) for message in (MESSAGE, EICAR, b"x" * 3_000_000, MESSAGE)]

        clean, found, large, again = asyncio.run(run())
    assert clean.clean and again.clean
    assert found.malware.startswith("Eicar-Test")
    # It ends the connection amid what we send: its answer may be lost with it.
    assert large.unknown in (
        "the message is larger than what clamd looks at",
        "clamd cannot be reached, or ended the connection",
    )
