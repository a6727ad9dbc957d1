"""dnspython's sockets for asyncio, with one difference: a UDP socket is connected to the name server it asks.

A connected socket hears at once that nobody listens there (ICMP), and takes datagrams of no other host or port.
"""

from __future__ import annotations

from typing import Any

import dns.asyncbackend


class ConnectedBackend:
    def __init__(self) -> None:
        self._asyncio: Any = dns.asyncbackend.get_backend("asyncio")

    def name(self) -> str:
        return "asyncio"

    def datagram_connection_required(self) -> bool:
        return True

    async def make_socket(
        self,
        af: int,
        socktype: int,
        proto: int = 0,
        source: Any = None,
        destination: Any = None,
        timeout: float | None = None,
        ssl_context: Any = None,
        server_hostname: str | None = None,
    ) -> Any:
        return await self._asyncio.make_socket(
            af, socktype, proto, source, destination, timeout, ssl_context, server_hostname
        )

    async def sleep(self, interval: float) -> None:
        await self._asyncio.sleep(interval)

    async def wait_for(self, awaitable: Any, timeout: float | None) -> Any:
        return await self._asyncio.wait_for(awaitable, timeout)

    def get_transport_class(self) -> Any:
        return self._asyncio.get_transport_class()
