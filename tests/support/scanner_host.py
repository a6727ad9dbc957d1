"""A clamd or Rspamd of tests on loopback, in one of many moods; and Debian's own, where they are installed."""

from __future__ import annotations

import asyncio
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CLAMD = shutil.which("clamd", path="/usr/sbin:/usr/bin")
RSPAMD = shutil.which("rspamd", path="/usr/sbin:/usr/bin")
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

Serve = Callable[["ScannerHost", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class ScannerHost:
    """async with ScannerHost(serve) as host: ... host.port; what was `received`, and how many `connections`."""

    def __init__(self, serve: Serve, path: str = "") -> None:
        self._serve = serve
        self._path = path
        self.received: list[bytes] = []
        self.connections = 0
        self.port = 0

    async def __aenter__(self) -> ScannerHost:
        if self._path:
            self._server = await asyncio.start_unix_server(self._connected, self._path)
        else:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
            self.port = self._server.sockets[0].getsockname()[1]
        self._tasks: set[asyncio.Task[None]] = set()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(self, reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort() if writer.is_closing() else writer.close()


async def read_instream(reader: asyncio.StreamReader) -> bytes:
    """What a client of clamd shows it."""
    assert await reader.readexactly(10) == b"zINSTREAM\0"
    octets = bytearray()
    while size := struct.unpack("!I", await reader.readexactly(4))[0]:
        octets += await reader.readexactly(size)
    return bytes(octets)


async def read_post(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of a request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
    )
    return head, await reader.readexactly(length)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextmanager
def real_clamd(folder: Path) -> Iterator[str]:
    """Debian's clamd, which knows one piece of malware; its address."""
    (folder / "db").mkdir()
    (folder / "db" / "test.hdb").write_text("44d88612fea8a8f36de82e1278abb02f:68:Eicar-Test\n")
    path = folder / "ctl"
    (folder / "clamd.conf").write_text(
        f"LocalSocket {path}\nDatabaseDirectory {folder / 'db'}\nForeground yes\nStreamMaxLength 1M\n"
    )
    assert CLAMD is not None
    with _running([CLAMD, "-c", str(folder / "clamd.conf")], folder, lambda: _answers(socket.AF_UNIX, str(path))):
        yield f"unix:{path}"


@contextmanager
def real_rspamd(folder: Path) -> Iterator[str]:
    """Debian's Rspamd without rules of its own; its address."""
    port = free_port()
    (folder / "tld").write_text("example\n")  # the list of all domains takes it half a minute to read
    (folder / "rspamd.conf").write_text(
        f"""
        options {{
            pidfile = "{folder}/pid"; filters = ""; disable_hyperscan = true;
            hs_cache_dir = "{folder}"; url_tld = "{folder}/tld";
            dns {{ nameserver = ["127.0.0.1:1"]; timeout = 0.1s; retransmits = 1; }}
            control_socket = "{folder}/control mode=0600";
        }}
        logging {{ type = "console"; level = "error"; }}
        worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; }}
        actions {{ reject = 15; add_header = 6; }}
        """
    )
    assert RSPAMD is not None
    command = [RSPAMD, "-f", "-i", "-c", str(folder / "rspamd.conf")]
    with _running(command, folder, lambda: _answers(socket.AF_INET, ("127.0.0.1", port))):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _running(command: list[str], folder: Path, ready: Callable[[], bool]) -> Iterator[None]:
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    (folder / "group").write_text(str(process.pid))  # of all its processes, for who stops or kills it
    try:
        end = time.monotonic() + 60
        while not ready():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((folder / "log").read_text())
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _answers(family: int, address: str | tuple[str, int]) -> bool:
    with socket.socket(family) as probe:
        return probe.connect_ex(address) == 0
