"""Accepts HTTP connections on sockets that are bound already, and stops cleanly.

Connections are accepted by hand, as SMTP's are: behind a configured proxy the client's address comes from the PROXY
header, which precedes TLS, and limits are held before the handshake. uvicorn answers the requests; its own sockets,
signals and logs are not used.

When `stop` returns, requests that were under way are answered or their time was up, and all connections are closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from uvicorn.config import Config
from uvicorn.server import Server

from gateway.smtp.admission import address_key, network_key
from gateway.smtp.proxy import Network, is_proxy, read_header
from gateway.smtp.shared_limits import SharedLimits
from hosting.web.connection import HttpConnection
from hosting.web.counters import Counters
from hosting.web.limits import Limits

log = logging.getLogger("web")

_BACKLOG = 1024
_ACCEPT_PAUSE = 0.1  # seconds
_FAREWELL = 5.0  # seconds to end TLS, and for the last octets of a connection that ends
_LOOK = 0.02  # seconds between two looks at what is under way while it stops


@dataclass(frozen=True, slots=True)
class Listening:
    """A socket that is bound, and whether TLS comes first."""

    sock: socket.socket
    encrypted: bool


class HttpListener:
    """All HTTP connections of one process. Everything here runs on the event loop."""

    def __init__(
        self,
        app: Callable[..., Any],
        limits: Limits,
        counters: Counters,
        shared: SharedLimits,
        tls: ssl.SSLContext,
        proxies: Sequence[Network] = (),
    ) -> None:
        """`app` is ASGI; `tls` is the context of connections that begin with it."""
        self.limits = limits
        self.counters = counters
        self._shared = shared
        self._tls = tls
        self._proxies = proxies
        for name in (
            "uvicorn",
            "uvicorn.error",
        ):  # of what goes wrong we write ids only, and strangers' faults not at all
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._config = Config(
            app=app,
            http=HttpConnection,
            ws="none",
            lifespan="off",
            loop="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=limits.keep_alive,
        )
        self._config.load()
        self._server = Server(self._config)
        self._state = self._server.server_state
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._sockets: list[socket.socket] = []
        self._stopping = False
        self.connections = 0

    async def start(self, sockets: Sequence[Listening]) -> None:
        """Listens on all of `sockets`; they belong to the listener from now on."""
        loop = asyncio.get_running_loop()
        await self._server.on_tick(0)  # the field Date
        self._tasks.add(loop.create_task(self._tick()))
        for bound in sockets:
            bound.sock.setblocking(False)
            bound.sock.listen(_BACKLOG)
            self._sockets.append(bound.sock)
            self._tasks.add(loop.create_task(self._accept(bound)))

    async def stop(self, grace: float) -> None:
        """Takes no more connections; those at rest end at once, the others when their request is answered."""
        self._stopping = True
        for task in (*self._tasks, *self._opening):
            task.cancel()
        for sock in self._sockets:
            sock.close()
        loop = asyncio.get_running_loop()
        for connection in self._open():
            connection.shutdown()
        until = loop.time() + grace
        while (self._state.tasks or self._open()) and loop.time() < until:
            if not self._state.tasks:
                until = min(until, loop.time() + _FAREWELL)
            for connection in self._open():
                if not connection.busy and not connection.transport.is_closing():
                    connection.shutdown()
            await asyncio.sleep(_LOOK)
        for connection in self._open():
            connection.abort()

    def released(self, connection: HttpConnection) -> None:
        self._leave(connection.address)

    def _open(self) -> list[HttpConnection]:
        return [each for each in self._state.connections if isinstance(each, HttpConnection)]

    async def _tick(self) -> None:
        """Each second: the field Date, and connections whose client does not let them end."""
        while True:
            await asyncio.sleep(1.0)
            await self._server.on_tick(0)
            for connection in self._open():
                if connection.transport.is_closing():
                    connection.closing_for += 1
                    if connection.closing_for > self.limits.write_timeout:
                        connection.abort()

    # Accepting

    async def _accept(self, bound: Listening) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, peer = await loop.sock_accept(bound.sock)
            except OSError as error:  # out of descriptors, or the peer is gone already
                log.warning("A connection could not be accepted: %s", os.strerror(error.errno or 0))
                await asyncio.sleep(_ACCEPT_PAUSE)
                continue
            task = loop.create_task(self._enter(sock, str(peer[0]), encrypted=bound.encrypted))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _enter(self, sock: socket.socket, peer: str, *, encrypted: bool) -> None:
        """One connection up to the point where it is served by itself."""
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        try:
            timeout = self.limits.handshake_timeout
            address = await read_header(sock, peer, timeout) if is_proxy(peer, self._proxies) else peer
        except asyncio.CancelledError:
            sock.close()
            raise
        if address is None:
            log.warning("A connection from a proxy came without a valid PROXY header.")
            sock.close()
            return
        if not self._admit(address):
            self.counters.turned_away += 1
            sock.close()  # neither a handshake nor a word is what its address may cost us
            return
        connection = HttpConnection(self._config, self._state, loop, self, address)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(OSError, ssl.SSLError):  # the peer broke the handshake off
                if encrypted:
                    await loop.connect_accepted_socket(
                        lambda: connection,
                        sock,
                        ssl=self._tls,
                        ssl_handshake_timeout=timeout,
                        ssl_shutdown_timeout=_FAREWELL,
                    )
                else:
                    await loop.connect_accepted_socket(lambda: connection, sock)
        finally:
            if not connection.made:
                self._leave(address)

    def _admit(self, address: str) -> bool:
        """Counts a connection; False: one too many, and it is not counted."""
        limits, shared = self.limits, self._shared
        if self._stopping or self.connections >= limits.connections:
            return False
        if not shared.enter("web address", address_key(address), limits.connections_per_address):
            return False
        if not shared.enter("web network", network_key(address), limits.connections_per_network):
            shared.leave("web address", address_key(address))
            return False
        self.connections += 1
        return True

    def _leave(self, address: str) -> None:
        self.connections -= 1
        self._shared.leave("web address", address_key(address))
        self._shared.leave("web network", network_key(address))
