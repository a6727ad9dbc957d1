"""A connection until its client is greeted: the address that it comes from, its place among others, implicit TLS.

Standards: HAProxy's PROXY protocol 2.3, RFC 8314 §3.3 (implicit TLS), RFC 9266 (what a sign-in is bound to).
"""

# ruff: noqa: N802 - the methods that Twisted calls have Twisted's names

from __future__ import annotations

import time
from typing import Any, cast

from twisted.internet.protocol import Protocol as TwistedProtocol

from hosting.imap.session import Session
from hosting.imap.shell.host import Host
from hosting.imap.shell.proxied import ProxyHeader
from hosting.imap.shell.wire import Wire
from hosting.tls import channel_of
from storage.errors import InvalidInput


class Arriving(TwistedProtocol):
    """What `Connection` goes on from."""

    def __init__(self, host: Host, *, implicit_tls: bool, proxied: bool) -> None:
        self._host = host
        self._implicit_tls = implicit_tls
        self._header = ProxyHeader() if proxied else None  # until it has come
        self.address = ""
        self.session: Session | None = None
        self._wire: Wire | None = None
        self._ending = False
        self._admitted = False
        self.ended = 0.0  # when the connection was told to end; 0: it was not

    def connectionMade(self) -> None:
        transport = cast(Any, self.transport)
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        self.address = str(getattr(transport.getPeer(), "host", ""))
        if self._header is None:
            self._begin(b"")

    def _begin(self, octets: bytes) -> None:
        """The client's address is known: admit it and greet."""
        transport = cast(Any, self.transport)
        if not self._host.admit(self, self.address):
            transport.write(b"* BYE Too many connections.\r\n")
            self._disconnect()
            return
        self._admitted = True
        if self._implicit_tls:
            transport.startTLS(self._host.tls_context(), True)
        transport.registerProducer(self, True)
        session = self._host.session(self.address, secure=self._implicit_tls)
        self.session = session
        self._wire = Wire(session.services.limits)
        if not self._implicit_tls:  # else when TLS is active: what can be offered depends on it
            transport.write(session.greeting())
        if octets:
            (transport.protocol if self._implicit_tls else self).dataReceived(octets)

    def handshakeCompleted(self) -> None:
        """TLS is active, and with it there is something that a sign-in can be bound to."""
        session = self.session
        if session is None:
            return
        session.channel = channel_of(cast(Any, self.transport).getHandle())
        if self._implicit_tls and not self._ending:
            cast(Any, self.transport).write(session.greeting())

    def _read_header(self, header: ProxyHeader, data: bytes) -> None:
        try:
            read = header.feed(data)
        except InvalidInput:
            cast(Any, self.transport).abortConnection()
            return
        if read is not None:
            self._header, self.address = None, read[0] or self.address
            self._begin(read[1])

    def _disconnect(self) -> None:
        self._ending = True
        self.ended = time.monotonic()
        transport = cast(Any, self.transport)
        if self._admitted:
            transport.unregisterProducer()
        transport.loseConnection()
