"""A web service over a town with mail: real keys, databases, sockets and TLS; the test says what /dav/ answers."""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

from imap_town import PASSWORD, MailTown
from loop_thread import LoopThread
from starlette.routing import BaseRoute

from gateway.smtp.proxy import Network
from gateway.smtp.shared_limits import SharedLimits
from gateway.smtp.tls import ServerCertificate
from hosting import tls
from hosting.auth.signin import Authenticator
from hosting.config import Config
from hosting.dav.request import DavRequest, DavResponse
from hosting.tls_names import Names
from hosting.web.app import WebParts
from hosting.web.limits import Limits
from hosting.web.listener import Listening
from hosting.web.places import Places
from hosting.web.service import WebService, WebSettings, take_http
from storage.changes import Subscriber

ALICE = "alice@example.test"


def basic(login: str = ALICE, password: str = PASSWORD) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()}


class WebPlace:
    """A running service; `asked` are the requests that came to /dav/."""

    def __init__(self, town: MailTown, loop: LoopThread, service: WebService, ports: tuple[int, int], ca: Path) -> None:
        self.town = town
        self.loop = loop
        self.service = service
        self.https_port, self.http_port = ports
        self.client_tls = ssl.create_default_context(cafile=str(ca))
        self.asked: list[DavRequest] = []
        self._stopped = False

    def stop(self) -> None:
        """Returns when the service has stopped."""
        if not self._stopped:
            self._stopped = True
            self.loop.settled(self.service.stopService)

    def https(self) -> HTTPSConnection:
        return HTTPSConnection("localhost", self.https_port, timeout=20, context=self.client_tls)

    def http(self) -> HTTPConnection:
        return HTTPConnection("localhost", self.http_port, timeout=20)

    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One request over a connection of its own."""
        client = self.https()
        try:
            client.request(method, path, body=body, headers=headers or {})
            answer = client.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            client.close()

    def raw(self) -> socket.socket:
        """Without TLS, for whoever speaks by hand."""
        return socket.create_connection(("127.0.0.1", self.http_port), timeout=20)


def echo(request: DavRequest) -> DavResponse:
    body = f"{request.method} {request.path} {len(request.body)}".encode()
    return DavResponse(207, [("Content-Length", str(len(body)))], body)


@contextmanager
def web_place(
    folder: Path,
    answers: Callable[[DavRequest], DavResponse] = echo,
    *,
    limits: Limits | None = None,
    plain: bool = True,
    proxies: tuple[Network, ...] = (),
    routes: Callable[[WebParts], Sequence[BaseRoute]] = lambda parts: (),
    authenticator: Callable[[Authenticator], Authenticator] = lambda own: own,
) -> Iterator[WebPlace]:
    folder.mkdir(parents=True, exist_ok=True)
    town = MailTown(folder)
    tls.make_self_signed(folder / "tls", ["localhost"])
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = (sockets[0].getsockname()[1], sockets[1].getsockname()[1])
    loop = LoopThread()
    places: list[WebPlace] = []

    def answered(request: DavRequest) -> DavResponse:
        places[0].asked.append(request)
        return answers(request)

    def make() -> WebService:
        service = WebService(
            replace(Config()),
            town.installation,
            authenticator(town.authenticator),
            town.clock,
            WebSettings(Places("localhost", ports[0], plain), limits or Limits(), proxies, stop_within=4.0),
            answered,
            [Listening(sockets[0], True), Listening(sockets[1], False)],
            ServerCertificate(folder / "tls" / "certificate.pem", folder / "tls" / "key.pem"),
            Names(folder / "tls" / "names", lambda chain, key: take_http(ServerCertificate(chain, key).context)),
            Subscriber(folder, town.clock, mailboxes=False),
            SharedLimits.of_this_process(town.clock),
        )
        service.add_routes(routes(service.parts))
        service.startService()
        return service

    service = loop.on_loop(make)
    places.append(WebPlace(town, loop, service, ports, folder / "tls" / "ca.pem"))
    try:
        loop.settled(lambda: service.listening)
        yield places[0]
    finally:
        places[0].stop()
        loop.stop()
        town.close()
