"""A bare IMAP connection for the benchmarks: sends octets, waits for the tagged line, keeps the raw answer."""

from __future__ import annotations

import functools
import re
import socket
import ssl
import time
import zlib
from typing import Any

import peers

_SECONDS = 1800.0


@functools.cache
def untrusting() -> ssl.SSLContext:
    """TLS towards a throwaway certificate. One for all: making it reads what the system trusts, some 20 ms."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Imap:
    """One connection, signed in."""

    def __init__(
        self,
        server: peers.Server,
        *,
        tls: bool,
        user: str = "",
        password: str = peers.PASSWORD,
        source: str = "127.0.0.1",
        patience: float = _SECONDS,
    ) -> None:
        """`source`: the loopback address that it comes from, since servers limit connections from one.

        `patience`: seconds that it waits for anything.
        """
        port = server.tls_port if tls else server.port
        self.socket: socket.socket = socket.create_connection(("127.0.0.1", port), patience, (source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = untrusting().wrap_socket(self.socket)
        self._inflate: Any = None
        self._deflate: Any = None
        self._tags = 0
        self.line()
        self.command(b"LOGIN %b %b" % ((user or server.user).encode(), password.encode()))

    def send(self, octets: bytes) -> None:
        if self._deflate is not None:
            octets = self._deflate.compress(octets) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        self.socket.sendall(octets)

    def receive(self) -> bytes:
        octets = self.socket.recv(1 << 20)
        if not octets:
            raise EOFError("The server closed the connection.")
        if self._inflate is not None:
            return bytes(self._inflate.decompress(octets))
        return octets

    def line(self) -> bytes:
        octets = b""
        while not octets.endswith(b"\r\n"):
            octets += self.receive()
        return octets

    def begin(self, command: bytes) -> bytes:
        """Sends a command and does not wait for its answer."""
        self._tags += 1
        tag = b"t%06d" % self._tags
        self.send(tag + b" " + command + b"\r\n")
        return tag

    def end(self, tag: bytes) -> bytes:
        """The answer up to its tagged line, which has to be OK."""
        parts, tail = [], b""
        last = re.compile(rb"(?:^|\r\n)" + tag + rb" (OK|NO|BAD)[^\r\n]*\r\n$")
        while True:
            octets = self.receive()
            parts.append(octets)
            tail = (tail + octets)[-2048:]
            found = last.search(tail) if tail.endswith(b"\r\n") else None
            if found is not None:
                if found[1] != b"OK":
                    raise RuntimeError(found[0].decode("latin-1").strip())
                return b"".join(parts)

    def command(self, command: bytes) -> bytes:
        return self.end(self.begin(command))

    def drain(self, tag: bytes) -> None:
        """Reads a long answer to its tagged line and keeps nothing of it; cheap, so that others can measure."""
        last = b"\r\n" + tag + b" OK"
        tail = b""
        while True:
            tail = (b"\r\n" if not tail else tail[-400:]) + self.receive()
            if tail.endswith(b"\r\n") and last in tail[-2048:]:
                return
            if tail.endswith(b"\r\n") and (b"\r\n" + tag + b" ") in tail[-2048:]:
                raise RuntimeError(tail[-200:].decode("latin-1").strip())

    def timed(self, command: bytes) -> float:
        """Seconds until its answer was there."""
        started = time.perf_counter()
        self.command(command)
        return time.perf_counter() - started

    def append(self, mailbox: bytes, messages: list[bytes]) -> None:
        """All of them in one command: where there are several, the server has to know MULTIAPPEND."""
        parts = b"".join([b" {%d+}\r\n%b" % (len(message), message) for message in messages])
        self.command(b"APPEND " + mailbox + parts)

    def compress(self) -> None:
        """Everything from here on is deflated (RFC 4978)."""
        self.command(b"COMPRESS DEFLATE")
        self._inflate, self._deflate = zlib.decompressobj(-15), zlib.compressobj(9, zlib.DEFLATED, -15)

    def idle(self) -> None:
        self.begin(b"IDLE")
        self.line()

    def close(self) -> None:
        self.socket.close()
