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
from contextlib import suppress
from typing import Any

from OpenSSL._util import ffi, lib
from OpenSSL.SSL import Error, WantReadError
from twisted.internet import tcp
from twisted.internet._newtls import _BypassTLS
from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import directlyProvides

from hosting.tls import renew_buffers

_RECORD = 16 * 1024  # octets of a TLS record (RFC 8446 §5.1); OpenSSL's buffer grows no further, and is kept
_SEALED = 2 * _RECORD
_READ = 64 * 1024  # octets that are read in one go
_HEADER = 5  # octets before a record's content: its type, a version, the content's length
_DATA = 23  # application_data
_OPENED: Any = ffi.new("char[]", _RECORD)  # where OpenSSL puts things, for one call of the event loop's thread
_NOTHING: Any = bytes(_RECORD)
_CLOSED: Any = ffi.new("char[]", _SEALED)


class Tls(TLSMemoryBIOProtocol):
    """TLS between a connection and its socket: all records of one write go to the socket together.

    What arrives is mostly one whole record, a command: then OpenSSL is asked for it once. Twisted asks until it hears
    that there is no more, and whether there is something to be sent, which takes two exceptions of OpenSSL. OpenSSL is
    called where pyOpenSSL would call it, without the new buffer of 16 or 32 KiB that it takes for each call.
    """

    _missing = 0  # octets of a record that began to arrive
    _head = b""  # the beginning of one, too short to tell its length
    _resting = False  # nothing came since its buffers were renewed

    def dataReceived(self, data: bytes) -> None:
        twisted: Any = self
        self._resting = False
        if (
            self._missing
            or self._head
            or not twisted._handshakeDone
            or not _is_one_record(data)
            or twisted._lostTLSConnection
            or twisted._appSendBuffer
        ):
            self._follow(data)
            TLSMemoryBIOProtocol.dataReceived(self, data)
            return
        connection = twisted._tlsConnection
        lib.BIO_write(connection._into_ssl, data, len(data))
        size = lib.SSL_read(connection._ssl, _OPENED, _RECORD)
        if size <= 0:  # a closing, or what belongs to TLS itself
            with suppress(Error):
                connection._raise_ssl_error(connection._ssl, size)
            twisted._flushReceiveBIO()
        elif not twisted._aborted:
            octets = ffi.buffer(_OPENED, size)[:]
            ffi.memmove(_OPENED, _NOTHING, size)  # what a client says does not stay there
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
            sent = lib.SSL_write(connection._ssl, piece, len(piece))
            if sent <= 0:
                self._failed(connection, sent, octets[at:])
                break
            at += sent
            filled = lib.BIO_read(connection._from_ssl, _CLOSED, _SEALED)
            sealed.append(ffi.buffer(_CLOSED, filled)[:])
        if sealed:
            twisted.transport.write(sealed[0] if len(sealed) == 1 else b"".join(sealed))

    def _failed(self, connection: Any, result: int, octets: bytes) -> None:
        twisted: Any = self
        try:
            connection._raise_ssl_error(connection._ssl, result)
        except WantReadError:  # not before the handshake is done
            twisted._bufferedWrite(octets)
        except Error:
            twisted._tlsShutdownFinished(Failure())


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

    def doRead(self) -> Any:
        """Twisted's, in one step. None, or why the connection ends."""
        try:
            data = self.socket.recv(_READ)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            return CONNECTION_DONE
        protocol: Any = self.protocol
        protocol.dataReceived(data)
        return None

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
