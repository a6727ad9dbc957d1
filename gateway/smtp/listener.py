"""Accepts SMTP connections on sockets that are bound already, and stops cleanly.

Connection limits are held here, per process, and per client address and network over all processes; where TLS comes
first, before the handshake, and whoever is beyond them is cut off without a word. Behind a configured proxy the
client's address comes from the PROXY header, which precedes TLS.

When `stop` returns, every transaction that was in flight is settled or its time was up, and all connections are closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from gateway.smtp import replies
from gateway.smtp.admission import Admission
from gateway.smtp.proxy import Network, is_proxy, read_header
from gateway.smtp.replies import SmtpReply
from gateway.smtp.server import SmtpServer
from gateway.smtp.session import BoundSocket, Handler, Profile, SmtpSession
from gateway.smtp.shared_limits import SharedLimits
from gateway.smtp.wire import Wire
from gateway.transcript import Transcript, TranscriptSink
from storage.clock import Clock, SystemClock
from storage.logs.transcripts import Direction

log = logging.getLogger(__name__)

_BACKLOG = 1024
_ACCEPT_PAUSE = 0.1  # seconds


class SmtpListener:
    """All SMTP connections of one process. Everything here runs on the event loop."""

    def __init__(
        self,
        profile: Profile,
        make_handler: Callable[[SmtpSession], Handler],
        *,
        proxies: Sequence[Network] = (),
        shared: SharedLimits | None = None,
        transcripts: TranscriptSink | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`shared`: the process's, for limits that hold over all processes; without it they hold for this listener."""
        self._profile = profile
        self._make_handler = make_handler
        self._proxies = proxies
        self._transcripts = transcripts
        self._clock = clock or SystemClock()
        shared = shared or SharedLimits.of_this_process(self._clock)
        self._admission = Admission(profile.service, profile.limits, shared, profile.unlimited)
        self._open: dict[SmtpServer, asyncio.Event] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._accepting: list[tuple[BoundSocket, asyncio.Task[None]]] = []
        self._stopping = False

    @property
    def connections(self) -> int:
        return self._admission.total

    @property
    def turned_away(self) -> int:
        """Connections that were beyond a limit."""
        return self._admission.turned_away

    def sessions(self) -> Iterator[tuple[SmtpServer, SmtpSession]]:
        """Every open session, for whoever must end some of them."""
        for server in list(self._open):
            yield server, server.session

    async def start(self, sockets: Sequence[BoundSocket]) -> None:
        """Listens on all of `sockets`; they belong to the listener from now on."""
        for bound in sockets:
            bound.sock.setblocking(False)
            if self._proxies or bound.implicit_tls:
                bound.sock.listen(_BACKLOG)
                self._accepting.append((bound, asyncio.get_running_loop().create_task(self._accept(bound))))
            else:
                self._servers.append(await self._listen(bound))

    async def stop(self, grace: float) -> None:
        """Takes no more connections; those at rest end at once, those in a transaction when it is settled."""
        self._stopping = True
        for server in self._servers:
            server.close()
        for bound, accepting in self._accepting:
            accepting.cancel()
            bound.sock.close()
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

        async def serve(wire: Wire) -> None:
            address = wire.peer_address
            await self._serve(wire, address, encrypted=False, refusal=self._admission.enter(address))

        return await loop.create_server(lambda: Wire(loop, serve), sock=bound.sock, backlog=_BACKLOG)

    async def _serve(self, wire: Wire, address: str, *, encrypted: bool, refusal: SmtpReply | None) -> None:
        """One connection to its end; without a refusal it is counted, until then."""
        if refusal is None and self._stopping:
            self._admission.leave(address)
            refusal = replies.STOPPING
        session = SmtpSession(address, encrypted)
        session.transcript = self._transcript(session)
        if refusal is not None:
            if session.transcript is not None:
                session.transcript.ours(refusal.encode())
                session.transcript.close()
            wire.write(refusal.encode())
            wire.close()
            return
        server = SmtpServer(wire, session, self._make_handler(session), self._profile, self._admission)
        self._open[server] = gone = asyncio.Event()
        try:
            await server.run()
        finally:
            self._admission.leave(address)
            del self._open[server]
            gone.set()

    def _transcript(self, session: SmtpSession) -> Transcript | None:
        if self._transcripts is None:
            return None
        return Transcript(self._transcripts, self._clock, Direction.IN, session.id, session.address)

    # What comes before the first octet of SMTP: PROXY headers, TLS

    async def _accept(self, bound: BoundSocket) -> None:
        """Accepts by hand: the PROXY header is read from the bare socket, and limits are held, before TLS."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, peer = await loop.sock_accept(bound.sock)
            except OSError as error:  # out of descriptors, or the peer is gone already
                log.warning("A connection could not be accepted: %s", os.strerror(error.errno or 0))
                await asyncio.sleep(_ACCEPT_PAUSE)
                continue
            task = loop.create_task(self._enter(sock, str(peer[0]), bound.implicit_tls))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _enter(self, sock: socket.socket, peer: str, implicit_tls: bool) -> None:
        """One connection up to the point where it is served by itself."""
        loop = asyncio.get_running_loop()
        limits = self._profile.limits
        sock.setblocking(False)
        try:
            address = await read_header(sock, peer, limits.handshake_timeout) if is_proxy(peer, self._proxies) else peer
        except asyncio.CancelledError:
            sock.close()
            raise
        if address is None:
            log.warning("A connection from a proxy came without a valid PROXY header.")
            sock.close()
            return
        refusal = self._admission.enter(address)
        if refusal is not None and implicit_tls:
            sock.close()  # a handshake is what its address may not cost us
            return
        begun = False

        def serve(wire: Wire) -> Coroutine[Any, Any, None]:
            nonlocal begun
            begun = True
            return self._serve(wire, address, encrypted=implicit_tls, refusal=refusal)

        try:
            with contextlib.suppress(OSError, ssl.SSLError):  # the peer broke the handshake off
                await loop.connect_accepted_socket(
                    lambda: Wire(loop, serve),
                    sock,
                    ssl=self._profile.tls if implicit_tls else None,
                    ssl_handshake_timeout=limits.handshake_timeout if implicit_tls else None,
                )
        finally:
            if not begun and refusal is None:
                self._admission.leave(address)
