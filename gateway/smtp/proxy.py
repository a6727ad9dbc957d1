"""The PROXY header that a configured proxy sends ahead of everything, TLS included: who the client really is.

It is read from the bare socket and not one octet beyond it, so nothing of what follows (a TLS handshake, perhaps in the
same packet) is lost. It is demanded of connections from configured networks; from elsewhere it would be a forgery, and
is no SMTP command. The grammar, versions 1 and 2, is aiosmtpd's.

Standards: HAProxy's PROXY protocol 2.3, §2.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

from aiosmtpd.proxy_protocol import AF, V2_CMD, get_proxy

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_V1_MAX = 107


def is_among(address: str, networks: Sequence[Network]) -> bool:
    """Whether the peer at `address` is in one of `networks`."""
    try:
        peer = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped is not None:
        peer = peer.ipv4_mapped
    return any(peer in network for network in networks)


def is_proxy(address: str, proxies: Sequence[Network]) -> bool:
    """Whether the peer at `address` is one of the configured proxies."""
    return is_among(address, proxies)


async def read_header(sock: socket.socket, proxy: str, timeout: float) -> str | None:
    """The client's address; the proxy's own for its health checks; None if there is no valid header in time."""
    try:
        async with asyncio.timeout(timeout):
            header = await get_proxy(_Octets(sock))
    except (TimeoutError, OSError):
        return None
    if not header.valid:
        return None
    if header.family == AF.UNSPEC or (header.version == 2 and header.command == V2_CMD.LOCAL):
        return proxy
    return str(header.src_addr) if header.family in {AF.INET, AF.INET6} else None


class _Octets:
    """What aiosmtpd's parser reads with: never more than it asks for."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def readexactly(self, n: int = 1) -> bytes:
        loop = asyncio.get_running_loop()
        octets = b""
        while len(octets) < n:
            more = await loop.sock_recv(self._sock, n - len(octets))
            if not more:
                raise ConnectionError
            octets += more
        return octets

    async def read(self, n: int = 1) -> bytes:
        return await self.readexactly(n)

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        line = b""
        while not line.endswith(separator):
            if len(line) > _V1_MAX:
                raise ConnectionError
            line += await self.readexactly(1)
        return line
