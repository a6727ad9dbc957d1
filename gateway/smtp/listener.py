"""Accepts SMTP connections on sockets that are bound already, and stops cleanly.

Connection limits are held here, per process and per client address. Behind a configured proxy the client's address
comes from the PROXY header, which precedes TLS.

When `stop` returns, every transaction that was in flight is settled or its time was up, and all connections are closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence

from gateway.smtp import replies
from gateway.smtp.limits import ConnectionCount
from gateway.smtp.proxy import Network, ProxyHeader, is_proxy
from gateway.smtp.replies import SmtpReply
from gateway.smtp.server import SmtpServer
from gateway.smtp.session import BoundSocket, Handler, Profile, SmtpSession
from gateway.smtp.wire import Wire

log = logging.getLogger(__name__)


class SmtpListener:
    """All SMTP connections of one process. Everything here runs on the event loop."""

    def __init__(
        self,
        profile: Profile,
        make_handler: Callable[[SmtpSession], Handler],
        *,
        proxies: Sequence[Network] = (),
    ) -> None:
        self._profile = profile
        self._make_handler = make_handler
        self._proxies = proxies
        self._count = ConnectionCount(profile.limits)
        self._open: dict[SmtpServer, asyncio.Event] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._stopping = False

    @property
    def connections(self) -> int:
        return self._count.total

    def sessions(self) -> Iterator[tuple[SmtpServer, SmtpSession]]:
        """Every open session, for whoever must end some of them."""
        for server in list(self._open):
            yield server, server.session

    async def start(self, sockets: Sequence[BoundSocket]) -> None:
        """Listens on all of `sockets`; they belong to the listener from now on."""
        for bound in sockets:
            self._servers.append(await self._listen(bound))

    async def stop(self, grace: float) -> None:
        """Takes no more connections; those at rest end at once, those in a transaction when it is settled."""
        self._stopping = True
        for server in self._servers:
            server.close()
        for task in list(self._opening):
            task.cancel()
        gone = [asyncio.ensure_future(event.wait()) for event in self._open.values()]
        for smtp in list(self._open):
            smtp.end(replies.STOPPING, after_transaction=True)
        if gone:
            _, late = await asyncio.wait(gone, timeout=grace)
            if late:
                for smtp in list(self._open):
                    smtp.end(replies.STOPPING, after_transaction=False)
                await asyncio.wait(late, timeout=5.0)
            for waiting in gone:
                waiting.cancel()

    async def _listen(self, bound: BoundSocket) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        context = self._profile.tls if bound.implicit_tls else None
        bound.sock.setblocking(False)

        async def serve(wire: Wire) -> None:
            await self._serve(wire, wire.peer_address, encrypted=bound.implicit_tls)

        if not self._proxies:
            return await loop.create_server(
                lambda: Wire(loop, serve),
                sock=bound.sock,
                ssl=context,
                ssl_handshake_timeout=self._profile.limits.handshake_timeout if context else None,
                backlog=1024,
            )
        return await loop.create_server(lambda: self._at_the_door(bound.implicit_tls), sock=bound.sock, backlog=1024)

    async def _serve(self, wire: Wire, address: str, *, encrypted: bool) -> None:
        """One connection, from its limits to its end."""
        refusal = self._refusal(address)
        if refusal is not None:
            wire.write(refusal.encode())
            wire.close()
            return
        session = SmtpSession(address, encrypted)
        server = SmtpServer(wire, session, self._make_handler(session), self._profile)
        self._count.add(address)
        self._open[server] = gone = asyncio.Event()
        try:
            await server.run()
        finally:
            self._count.remove(address)
            del self._open[server]
            gone.set()

    def _refusal(self, address: str) -> SmtpReply | None:
        if self._stopping:
            return replies.STOPPING
        if self._count.full:
            return replies.SERVER_BUSY
        return replies.TOO_MANY_CONNECTIONS if self._count.crowded(address) else None

    # Behind proxies

    def _at_the_door(self, implicit_tls: bool) -> ProxyHeader:
        loop = asyncio.get_running_loop()

        def then(transport: asyncio.Transport) -> None:
            task = loop.create_task(self._enter(header, transport, implicit_tls))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

        header = ProxyHeader(loop, then)
        return header

    async def _enter(self, header: ProxyHeader, transport: asyncio.Transport, implicit_tls: bool) -> None:
        """Reads the header if the peer is a proxy, makes the TLS handshake if it comes first, and serves."""
        limits = self._profile.limits
        peer = transport.get_extra_info("peername")
        address: str | None = str(peer[0]) if peer else ""
        try:
            if is_proxy(address or "", self._proxies):
                address = await header.client(limits.handshake_timeout)
                if address is None:
                    log.warning("A connection from a proxy came without a valid PROXY header.")
                    transport.abort()
                    return
            client = address or ""
            loop = asyncio.get_running_loop()
            wire = Wire(loop, lambda wire: self._serve(wire, client, encrypted=implicit_tls))
            await wire.enter(transport, self._profile.tls if implicit_tls else None, limits.handshake_timeout)
        except asyncio.CancelledError:
            transport.abort()
            raise
