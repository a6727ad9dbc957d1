"""The auth role's Unix socket: connections, their limits and time limits; `hosting.auth.requests` answers.

Only processes of our own user may connect. A connection says first which role it is, then asks one thing after the
other; requests are worked on in threads, so neither a slow request nor a client that stops reading or sends half a
frame keeps others waiting. Changes of keys have a thread of their own: they wait for a lock of files, for a mirror's
disk and for commands that store the master, and nobody who signs in waits with them. When the service has stopped,
requests under way were answered and nobody is listened to.

Raises: Unavailable if another auth role serves the same socket.
"""
# ruff: noqa: N802 - Twisted calls these methods by these names

from __future__ import annotations

import fcntl
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from hosting.auth import sockets
from hosting.auth.frames import Fields, FrameReader, encode
from hosting.auth.grants import CHANGE_KEYS, Role
from hosting.auth.messages import VERSION, error_reply
from hosting.auth.requests import Caller, Requests
from storage.errors import CleanmailError, InvalidInput, LimitReached, NotPermitted, Unavailable


@dataclass(frozen=True, slots=True)
class SocketLimits:
    connections: int = 1024
    connections_per_process: int = 128
    hello_seconds: float = 5.0
    frame_seconds: float = 10.0  # from its first octet to its last
    reply_seconds: float = 30.0  # a client that does not read


@implementer(IPushProducer)
class AuthConnection(Protocol):
    """One client connection; one request at a time."""

    transport: Any  # a Unix server transport: ITransport, IConsumer and IPushProducer in one

    def __init__(self, factory: AuthFactory) -> None:
        self._factory = factory
        self._timer: Any = None
        self._reader = FrameReader()
        self._caller: Caller | None = None
        self._pid = -1
        self._busy = False  # a request is being worked on
        self._full = False  # the client does not read
        self._paused = False  # we do not read
        self._ended = False

    def connectionMade(self) -> None:
        self._pid, uid = sockets.peer(self.transport.getHandle())
        self.transport.registerProducer(self, True)
        refusal = self._factory.joined(self, self._pid, uid)
        if refusal is not None:
            self._close_with(refusal)
            return
        self._set_timer(self._factory.limits.hello_seconds)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._ended = True
        self._clear_timer()
        self._factory.left(self, self._pid)

    def dataReceived(self, data: bytes) -> None:
        if self._ended:
            return
        self._reader.feed(data)
        if self._busy:
            self._pause()  # whoever asks on without waiting is not read before it is answered
        else:
            self._advance()

    def pauseProducing(self) -> None:
        self._full = True
        self._pause()
        self._set_timer(self._factory.limits.reply_seconds)

    def resumeProducing(self) -> None:
        self._full = False
        self._advance()

    def stopProducing(self) -> None:
        self._ended = True

    def close_when_idle(self) -> None:
        """Part of a clean stop."""
        if not self._busy:
            self._close()

    def _advance(self) -> None:
        """Take the next whole frame, unless one is being answered or the answers pile up."""
        if self._busy or self._full or self._ended:
            return
        try:
            fields = self._reader.next()
            if fields is None:
                self._resume()
                self._wait()
            elif self._caller is None:
                self._caller = _hello(fields, self._pid)
                self._reply({"ok": {"version": VERSION}})
                self._advance()
            else:
                self._busy = True
                self._clear_timer()
                self._factory.work(self._caller, fields, self._answered)
        except CleanmailError as error:
            self._close_with(error)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.transport.pauseProducing()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()

    def _wait(self) -> None:
        limits = self._factory.limits
        if self._caller is None:
            return  # the time for the hello is running
        if not self._reader.partial:
            self._clear_timer()
        elif self._timer is None:
            self._set_timer(limits.frame_seconds)

    def _answered(self, reply: Fields) -> None:
        self._busy = False
        if self._ended:
            return
        self._reply(reply)
        if self._factory.stopping:
            self.close_when_idle()
        else:
            self._advance()

    def _reply(self, fields: Fields) -> None:
        self._clear_timer()
        self.transport.write(encode(fields))

    def _close_with(self, error: CleanmailError) -> None:
        self.transport.write(encode(error_reply(error)))
        self._close()

    def _close(self) -> None:
        """After what is written was taken, or soon."""
        self._ended = True
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        self._set_timer(self._factory.limits.hello_seconds)

    def _set_timer(self, seconds: float) -> None:
        self._clear_timer()
        self._timer = self._factory.reactor.callLater(seconds, self._expire)

    def _clear_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _expire(self) -> None:
        self._timer = None
        self._ended = True
        self.transport.abortConnection()


class AuthFactory(Factory):
    """Counts connections and hands requests to threads."""

    noisy = False

    def __init__(self, reactor: Any, requests: Requests, limits: SocketLimits, threads: int) -> None:
        self.limits = limits
        self.stopping = False
        self.reactor = reactor
        self._requests = requests
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="auth")
        self._changes = ThreadPoolExecutor(1, thread_name_prefix="auth-keys")  # one after the other, as the files are
        self._connections: set[AuthConnection] = set()
        self._per_process: dict[int, int] = {}
        self._under_way = 0
        self._idle: Deferred[None] | None = None

    def buildProtocol(self, addr: Any) -> AuthConnection:
        return AuthConnection(self)

    def joined(self, connection: AuthConnection, pid: int, uid: int) -> CleanmailError | None:
        """Why it may not stay, if so."""
        self._connections.add(connection)
        self._per_process[pid] = self._per_process.get(pid, 0) + 1
        if uid != os.geteuid():
            return NotPermitted("Only processes of the server's own user may ask.")
        if len(self._connections) > self.limits.connections:
            return LimitReached("Too many connections.")
        if self._per_process[pid] > self.limits.connections_per_process:
            return LimitReached("Too many connections of one process.")
        return None

    def left(self, connection: AuthConnection, pid: int) -> None:
        self._connections.discard(connection)
        count = self._per_process.get(pid, 0) - 1
        if count > 0:
            self._per_process[pid] = count
        else:
            self._per_process.pop(pid, None)

    def work(self, caller: Caller, fields: Fields, answered: Any) -> None:
        """Have the request answered; `answered` is called in the reactor's thread."""
        self._under_way += 1

        def finished(reply: Future[Fields]) -> None:
            self.reactor.callFromThread(self._finished, reply.result(), answered)

        threads = self._changes if str(fields.get("op")) in CHANGE_KEYS else self._threads
        threads.submit(lambda: self._requests.answer(caller, fields).add_done_callback(finished))

    def drain(self) -> Deferred[None]:
        """Fires when every request under way is answered; idle connections are closed at once."""
        self.stopping = True
        idle: Deferred[None] = Deferred()
        self._idle = idle
        for connection in list(self._connections):
            connection.close_when_idle()
        self._settle()
        return idle

    def _finished(self, reply: Fields, answered: Any) -> None:
        self._under_way -= 1
        answered(reply)
        self._settle()

    def _settle(self) -> None:
        if self._idle is not None and not self._under_way:
            idle, self._idle = self._idle, None
            self._threads.shutdown(wait=False)
            self._changes.shutdown(wait=False)
            idle.callback(None)


class AuthService(Service):
    """Serves `path` while it runs."""

    def __init__(
        self, reactor: Any, path: Path, requests: Requests, *, limits: SocketLimits | None = None, threads: int = 4
    ) -> None:
        self._reactor = reactor
        self._path = path
        self._requests = requests
        self._limits = limits or SocketLimits()
        self._threads = threads
        self._held = ExitStack()
        self._factory: AuthFactory | None = None
        self._port: Any = None

    def startService(self) -> None:
        """Listen; when it returns, clients may connect."""
        self._take_lock()
        short = self._held.enter_context(sockets.short_path(self._path))
        self._path.unlink(missing_ok=True)  # of an auth role that was killed: the lock says that it is gone
        self._factory = AuthFactory(self._reactor, self._requests, self._limits, self._threads)
        mask = os.umask(0o177)
        try:
            self._port = self._reactor.listenUNIX(short, self._factory, backlog=128, mode=0o600)
        finally:
            os.umask(mask)
        super().startService()  # type: ignore[no-untyped-call]

    def stopService(self) -> Deferred[None]:
        """Fires when requests under way are answered and the socket is gone."""
        super().stopService()  # type: ignore[no-untyped-call]
        assert self._factory is not None
        stopped: Deferred[None] = Deferred()
        closing = self._port.stopListening()
        factory = self._factory

        def drained(_: Any) -> None:
            self._held.close()
            stopped.callback(None)

        def closed(_: Any) -> None:
            factory.drain().addCallback(drained)

        if isinstance(closing, Deferred):
            closing.addBoth(closed)
        else:
            closed(None)
        return stopped

    def _take_lock(self) -> None:
        lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise Unavailable("Another auth role serves this data directory.") from None
        self._held.callback(os.close, lock)


def _hello(fields: Fields, pid: int) -> Caller:
    if fields.get("op") != "hello" or fields.get("version") != VERSION:
        raise InvalidInput("The first request is a hello of this version.")
    try:
        return Caller(pid, Role(str(fields.get("role"))))
    except ValueError:
        raise NotPermitted("There is no such role.") from None
