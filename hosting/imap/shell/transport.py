"""The socket of a connection: what is written goes out at once, in plain and over TLS.

Twisted keeps what is written until the next turn of its loop, asks the kernel to say when the socket takes octets, and
takes that back afterwards: two turns and two system calls for an answer of 20 octets. Its TLS waits one more turn for
more to write. Here whoever writes has already put together what belongs together (`connection`), so it is
sent where it is written; only what the socket does not take is kept, with Twisted's means, which then say when there
is room again.

One TLS factory serves all connections of a port.
"""

# ruff: noqa: N802 - the methods that Twisted calls have Twisted's names

from __future__ import annotations

import socket
from typing import Any

from OpenSSL.SSL import Error, WantReadError
from twisted.internet import tcp
from twisted.internet._newtls import _BypassTLS
from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import directlyProvides

from hosting.tls import renew_buffers

_RECORD = 16 * 1024  # octets of a TLS record (RFC 8446 §5.1); OpenSSL's buffer grows no further, and is kept
_SEALED = 2 * _RECORD
_HEADER = 5  # octets before a record's content: its type, a version, the content's length
_DATA = 23  # application_data


class Tls(TLSMemoryBIOProtocol):
    """TLS between a connection and its socket: all records of one write go to the socket together.

    What arrives is mostly one whole record, a command: then OpenSSL is asked for it once. Twisted asks until it hears
    that there is no more, and whether there is something to be sent, which takes two exceptions of OpenSSL.
    """

    _missing = 0  # octets of a record that began to arrive
    _head = b""  # the beginning of one, too short to tell its length
    _resting = False  # nothing came since its buffers were renewed

    def dataReceived(self, data: bytes) -> None:
        twisted: Any = self
        self._resting = False
        if self._missing or self._head or not twisted._handshakeDone or not _is_one_record(data):
            self._follow(data)
            TLSMemoryBIOProtocol.dataReceived(self, data)
            return
        if twisted._lostTLSConnection or twisted._appSendBuffer:
            TLSMemoryBIOProtocol.dataReceived(self, data)
            return
        connection = twisted._tlsConnection
        connection.bio_write(data)
        try:
            octets = connection.recv(_RECORD)
        except Error:  # a closing, or what belongs to TLS itself
            twisted._flushReceiveBIO()
            return
        if not twisted._aborted:
            twisted.wrappedProtocol.dataReceived(octets)

    def rest(self) -> None:
        """Nothing was heard for a while; may be called again and again."""
        twisted: Any = self
        if self._resting or self._missing or self._head or not twisted._handshakeDone or twisted._lostTLSConnection:
            return
        if not twisted._appSendBuffer:
            self._resting = renew_buffers(twisted._tlsConnection)

    def _follow(self, data: bytes) -> None:
        """Notes where in a record the octets that arrived end (RFC 8446 §5.1)."""
        octets = self._head + data if self._head else data
        at, size = self._missing, len(octets)
        while at + _HEADER <= size:
            at += _HEADER + int.from_bytes(octets[at + 3 : at + _HEADER], "big")
        self._head = octets[at:]
        self._missing = max(0, at - size)

    def _write(self, octets: bytes) -> None:
        twisted: Any = self
        if twisted._lostTLSConnection:
            return
        connection, size, at = twisted._tlsConnection, len(octets), 0
        sealed: list[bytes] = []
        while at < size:
            piece = octets if size <= _RECORD else octets[at : at + _RECORD]
            try:
                at += connection.send(piece)
                sealed.append(connection.bio_read(_SEALED))
            except WantReadError:  # not before the handshake is done
                twisted._bufferedWrite(octets[at:])
                break
            except Error:
                twisted._tlsShutdownFinished(Failure())
                break
        if sealed:
            twisted.transport.write(sealed[0] if len(sealed) == 1 else b"".join(sealed))


class Prompt(FileDescriptor):
    """Writes to the socket at once, unless older octets wait for it."""

    def write(self, data: bytes) -> None:
        if not self._tempDataLen and not self.dataBuffer and self.connected and not self._writeDisconnected:
            try:
                sent = self.socket.send(data)  # type: ignore[attr-defined]
            except OSError:  # full, or lost: the next try tells which
                sent = 0
            if sent == len(data):
                return
            if sent:
                data = data[sent:]
        FileDescriptor.write(self, data)


class Server(tcp.Server):
    """A connection that was accepted."""

    def write(self, data: bytes) -> None:
        if not self.TLS:
            Prompt.write(self, data)  # type: ignore[arg-type]
        elif self.connected:
            self.protocol.write(data)

    def getHandle(self) -> Any:
        """The TLS, or the socket; a method, where Twisted keeps two more objects for each connection."""
        return self.protocol.getHandle() if self.TLS else self.socket

    def rest(self) -> None:
        """Nothing was heard for a while: keep nothing that can be made again."""
        if self.TLS:
            self.protocol.rest()

    def startTLS(self, ctx: Any, normal: bool = True) -> None:
        """As Twisted's (twisted.internet._newtls), with the port's factory and the classes above."""
        twisted: Any = self
        producer, streaming = twisted.producer, twisted.streamingProducer
        if producer is not None:
            twisted.unregisterProducer()
        tls: Any = _make_tls(twisted.server.tls_factory(ctx), twisted.protocol, False)
        twisted.protocol = tls
        directlyProvides(self, ISSLTransport)
        self.TLS = True
        tls.makeConnection(_BypassTLS(Prompt, self))
        if producer is not None:
            twisted.registerProducer(producer, streaming)


class Port(tcp.Port):
    """A listening socket."""

    transport = Server
    _tls: tuple[Any, TLSMemoryBIOFactory] | None = None

    def tls_factory(self, context: Any) -> TLSMemoryBIOFactory:
        """What makes the TLS of connections; one for all, since it asks the context for each."""
        if self._tls is None or self._tls[0] is not context:
            nobody: Any = Factory()  # connections have their protocol when TLS begins
            self._tls = context, TLSMemoryBIOFactory(context, False, nobody, self.reactor)
        return self._tls[1]


_make_tls: Any = Tls  # Twisted's constructors have no types


def _is_one_record(data: bytes) -> bool:
    """One TLS record of a program's data, from its first octet to its last."""
    return data[0] == _DATA and len(data) == _HEADER + int.from_bytes(data[3:_HEADER], "big")


def listen(reactor: Any, listening: socket.socket, factory: Factory) -> Any:
    """Accepts connections on a socket that is bound and listens; the port."""
    ports: Any = Port
    port = ports._fromListeningDescriptor(reactor, listening.fileno(), listening.family, factory)
    port.startListening()
    return port
