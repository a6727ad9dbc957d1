"""An SMTP listener on loopback with a handler that records, and raw sockets to talk to it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import uvloop
from certificates import write_certificate

from gateway.smtp.address import ForwardPath
from gateway.smtp.content import Content
from gateway.smtp.limits import Limits
from gateway.smtp.listener import SmtpListener
from gateway.smtp.replies import OK, RECIPIENT_OK, SENDER_OK, SmtpReply
from gateway.smtp.session import BoundSocket, Profile, SmtpSession, Transaction
from gateway.smtp.tls import ServerCertificate
from storage.errors import AuthenticationFailed
from storage.values import Domain


@dataclass
class Recorder:
    """A handler for all connections: takes everything and keeps it; replies and errors can be set."""

    messages: list[tuple[Transaction, bytes]] = field(default_factory=list)
    sessions: list[SmtpSession] = field(default_factory=list)
    closed_sessions: list[SmtpSession] = field(default_factory=list)
    on_data: Callable[[], Any] | None = None
    on_rcpt: Callable[[ForwardPath], SmtpReply] | None = None
    on_connect: Callable[[SmtpSession], SmtpReply | None] | None = None

    async def connect(self, session: SmtpSession) -> SmtpReply | None:
        return self.on_connect(session) if self.on_connect else None

    async def sign_in(self, session: SmtpSession, login: str, password: str) -> str:
        if password != "right":
            raise AuthenticationFailed
        return login

    async def mail(self, session: SmtpSession, transaction: Transaction) -> SmtpReply:
        return SENDER_OK

    async def rcpt(self, session: SmtpSession, transaction: Transaction, path: ForwardPath) -> SmtpReply:
        return self.on_rcpt(path) if self.on_rcpt else RECIPIENT_OK

    async def data(self, session: SmtpSession, transaction: Transaction, content: Content) -> SmtpReply:
        if self.on_data is not None:
            waiting = self.on_data()
            if waiting is not None:
                await waiting
        self.messages.append((transaction, content.read()))
        return OK

    def closed(self, session: SmtpSession) -> None:
        self.closed_sessions.append(session)


class Client:
    """A raw socket that speaks lines."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.file = sock.makefile("rb")

    def send(self, octets: bytes) -> None:
        self.sock.sendall(octets)

    def reply(self) -> tuple[int, list[bytes]]:
        lines = []
        while True:
            line = self.file.readline()
            if not line:
                return 0, lines
            lines.append(line[4:].rstrip(b"\r\n"))
            if line[3:4] != b"-":
                return int(line[:3]), lines

    def say(self, line: bytes) -> int:
        self.send(line + b"\r\n")
        return self.reply()[0]

    def ehlo(self) -> list[bytes]:
        self.send(b"EHLO client.example\r\n")
        return self.reply()[1]

    def start_tls(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.file.close()
        self.sock = context.wrap_socket(self.sock)
        self.file = self.sock.makefile("rb")

    def close(self) -> None:
        self.file.close()
        self.sock.close()


class RunningListener:
    """A listener on its own loop in its own thread."""

    def __init__(self, profile: Profile, recorder: Recorder, **options: Any) -> None:
        self.recorder = recorder
        self.loop = uvloop.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

        def make_handler(session: SmtpSession) -> Recorder:
            recorder.sessions.append(session)
            return recorder

        self.listener = SmtpListener(profile, make_handler, **options)
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self.port, self.tls_port = (sock.getsockname()[1] for sock in sockets)
        bound = [BoundSocket(sockets[0], implicit_tls=False)]
        if profile.tls is not None:
            bound.append(BoundSocket(sockets[1], implicit_tls=True))
        else:
            sockets[1].close()
        self.run(self.listener.start(bound))
        self.clients: list[Client] = []

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def connect(self, *, tls: bool = False, greet: bool = True, before: bytes = b"") -> Client:
        sock = socket.create_connection(("127.0.0.1", self.tls_port if tls else self.port), timeout=10)
        if before:
            sock.sendall(before)
        client = Client(sock)
        self.clients.append(client)
        if tls:
            client.start_tls()
        if greet:
            assert client.reply()[0] == 220
        return client

    def stop(self, grace: float = 5.0) -> None:
        for client in self.clients:
            client.close()
        self.run(self.listener.stop(grace))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ServerCertificate:
    return ServerCertificate(*write_certificate(tmp_path_factory.mktemp("certificate")))


@pytest.fixture
def profile(tmp_path: Path, certificate: ServerCertificate) -> Profile:
    return Profile(
        hostname="mail.example.test",
        postmaster=Domain("example.test"),
        spill_directory=str(tmp_path),
        limits=Limits(message_size=1_000_000),
        tls=certificate.context,
        offers_auth=True,
    )


@pytest.fixture
def listen(profile: Profile) -> Iterator[Callable[..., RunningListener]]:
    """listen(limits=Limits(...), requires_auth=True, proxies=..., transcripts=...) -> a running listener."""
    running: list[RunningListener] = []

    def start(*, recorder: Recorder | None = None, **changes: Any) -> RunningListener:
        options = {name: changes.pop(name) for name in ("proxies", "shared", "transcripts", "clock") if name in changes}
        running.append(RunningListener(replace(profile, **changes), recorder or Recorder(), **options))
        return running[-1]

    yield start
    for listener in running:
        if listener.thread.is_alive():
            listener.stop()
