"""The PROXY header that a configured proxy sends ahead of everything, TLS included: who the client really is.

Not one octet beyond it is read, so nothing of what follows (a TLS handshake, perhaps in the same packet) is lost. It is
demanded of connections from configured networks; from elsewhere it would be a forgery, and is no SMTP command.
The grammar itself, versions 1 and 2, is aiosmtpd's.

Standards: HAProxy's PROXY protocol 2.3, §2.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Sequence
from typing import Any, cast

from aiosmtpd.proxy_protocol import AF, V2_CMD, get_proxy

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_V1_MAX = 107


def is_proxy(address: str, proxies: Sequence[Network]) -> bool:
    """Whether the peer at `address` is one of the configured proxies."""
    try:
        peer = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped is not None:
        peer = peer.ipv4_mapped
    return any(peer in network for network in proxies)


class ProxyHeader(asyncio.BufferedProtocol):
    """Reads the header from a new connection; `then(transport)` goes on, and may ask `client()`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, then: Callable[[asyncio.Transport], Any]) -> None:
        self._loop = loop
        self._then = then
        self._buffer = bytearray(1)
        self._filled = 0
        self._waiting: asyncio.Future[None] | None = None
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).pause_reading()
        self._transport = cast(asyncio.Transport, transport)
        self._then(self._transport)

    async def client(self, timeout: float) -> str | None:
        """The client's address; the proxy's own for its health checks; None if there is no valid header in time."""
        try:
            async with asyncio.timeout(timeout):
                header = await get_proxy(self)
        except (TimeoutError, ConnectionError):
            return None
        if not header.valid:
            return None
        if header.family == AF.UNSPEC or (header.version == 2 and header.command == V2_CMD.LOCAL):
            peer = self._transport.get_extra_info("peername")
            return str(peer[0]) if peer else None
        return str(header.src_addr) if header.family in {AF.INET, AF.INET6} else None

    # What aiosmtpd's parser reads with

    async def readexactly(self, n: int) -> bytes:
        if self._lost:
            raise ConnectionError
        self._buffer, self._filled = bytearray(n), 0
        self._waiting = self._loop.create_future()
        self._transport.resume_reading()
        await self._waiting
        return bytes(self._buffer)

    async def read(self, n: int = 1) -> bytes:
        return await self.readexactly(n)

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        line = b""
        while not line.endswith(separator):
            if len(line) > _V1_MAX:
                raise ConnectionError
            line += await self.readexactly(1)
        return line

    # What the event loop calls

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if self._filled == len(self._buffer):
            self._transport.pause_reading()
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionError())
