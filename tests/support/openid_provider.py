"""An OpenID provider's introspection endpoint on loopback, with a certificate of its own authority; does as told."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from hosting.tls import make_self_signed

AUDIENCE, SCOPE = "mail.example.test", "mail"


def active(login: str, **claims: Any) -> dict[str, Any]:
    return {"active": True, "username": login, "aud": AUDIENCE, "scope": f"openid {SCOPE}", **claims}


@dataclass
class Request:
    head: str
    token: str


def http(body: bytes, status: str = "200 OK", *fields: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class OpenIdProvider:
    """`tokens`: what is said of each; others are inactive. `answer` in place of it gives the octets of any answer."""

    address: str
    authority: Path
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    answer: Callable[[Request], bytes] | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    def say(self, request: Request) -> bytes:
        self.requests.append(request)
        if self.answer is not None:
            return self.answer(request)
        return http(json.dumps(self.tokens.get(request.token, {"active": False})).encode())


@contextmanager
def openid_provider(folder: Path, name: str = "localhost") -> Iterator[OpenIdProvider]:
    """`name`: whom its certificate is for."""
    make_self_signed(folder, [name])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    listening = socket.create_server(("127.0.0.1", 0))
    provider = OpenIdProvider(f"https://localhost:{listening.getsockname()[1]}/introspect?realm=a", folder / "ca.pem")
    threads: list[threading.Thread] = []
    connections: list[socket.socket] = []

    def serve(plain: socket.socket) -> None:
        with suppress(OSError):
            connection = context.wrap_socket(plain, server_side=True)
            connections.append(connection)
            provider.connections += 1
            received = b""
            while True:
                while b"\r\n\r\n" not in received:
                    data = connection.recv(65536)
                    if not data:
                        return
                    received += data
                head, _, received = received.partition(b"\r\n\r\n")
                length = next(
                    int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
                )
                while len(received) < length:
                    received += connection.recv(65536)
                body, received = received[:length], received[length:]
                token = parse_qs(body.decode(), keep_blank_values=True)["token"][0]
                connection.sendall(provider.say(Request(head.decode(), token)))

    def accept() -> None:
        with suppress(OSError):
            while True:
                plain, _ = listening.accept()
                connections.append(plain)
                thread = threading.Thread(target=serve, args=(plain,))
                threads.append(thread)
                thread.start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield provider
    finally:
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        accepting.join()
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in threads:
            thread.join()
