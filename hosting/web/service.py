"""HTTP as a Twisted service on the asyncio reactor: listener, threads, remembered sign-ins and the change feed.

`startService` listens on sockets that are bound already (`listening` fires when it does); `stopService` fires when the
requests under way are answered, or their time is up, and all connections are closed.
"""

# ruff: noqa: N802 - Twisted calls these methods by these names

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from starlette.routing import BaseRoute
from twisted.application.service import Service
from twisted.internet.defer import Deferred

from gateway.smtp.proxy import Network
from gateway.smtp.shared_limits import SharedLimits
from gateway.smtp.tls import ServerCertificate
from hosting.auth.signin import Authenticator
from hosting.config import Config
from hosting.smtp_service import deferred
from hosting.tls_names import Names, choose_by_name
from hosting.web.app import WebParts, make_app
from hosting.web.bodies import Bodies
from hosting.web.counters import Counters
from hosting.web.dav import Answers, DavEndpoint
from hosting.web.limits import Limits
from hosting.web.listener import HttpListener, Listening
from hosting.web.places import Places
from hosting.web.signin import SignIns
from hosting.web.turns import Turns
from storage.changes import HEARTBEAT, Subscriber
from storage.clock import Clock
from storage.installation import Installation

_SIGNING_IN = 8  # threads that ask the auth role about passwords
_CONFIRMING = 4  # threads that ask it whether what is remembered still holds
_SIGN_INS_OF_ADDRESS = 4  # at once
_SIGN_INS_WAITING = 512
_EXPIRE_EVERY = 60  # looks at the feed
_ALPN = ["http/1.1"]
_LEFT_FOR_THE_END = 2.0  # seconds of stop_within


@dataclass(frozen=True, slots=True)
class WebSettings:
    places: Places
    limits: Limits = field(default_factory=Limits)
    proxies: tuple[Network, ...] = ()
    stop_within: float = 30.0


class WebService(Service):
    def __init__(
        self,
        config: Config,
        installation: Installation,
        authenticator: Authenticator,
        clock: Clock,
        settings: WebSettings,
        answers: Answers,
        sockets: Sequence[Listening],
        certificate: ServerCertificate,
        names: Names[ssl.SSLContext],
        subscriber: Subscriber,
        shared: SharedLimits,
    ) -> None:
        """`answers` is what /dav/ is answered by; `names` the certificates for other names than the server's own."""
        limits = settings.limits
        self._settings = settings
        self._sockets = sockets
        self._certificate = certificate
        self._subscriber = subscriber
        self._pools = [
            ThreadPoolExecutor(limits.threads, thread_name_prefix="web"),
            ThreadPoolExecutor(_SIGNING_IN, thread_name_prefix="sign-in"),
            ThreadPoolExecutor(_CONFIRMING, thread_name_prefix="confirm"),
        ]
        turns = Turns(self._pools[0], per_key=limits.requests_per_account, waiting=limits.waiting)
        signing_in = Turns(self._pools[1], per_key=_SIGN_INS_OF_ADDRESS, waiting=_SIGN_INS_WAITING)
        confirming = Turns(self._pools[2], per_key=_SIGN_INS_OF_ADDRESS, waiting=_SIGN_INS_WAITING)
        self.counters = Counters()
        self.sign_ins = SignIns(authenticator, installation.access_log, clock, seconds=limits.remembered_for)
        self._bodies = Bodies(limits)
        dav = DavEndpoint(
            answers, self.sign_ins, signing_in, confirming, turns, self._bodies, settings.places, self.counters
        )
        self.parts = WebParts(config, installation, clock, settings.places, turns, self._bodies, self.counters, dav)
        self._routes: list[BaseRoute] = []
        self._listener: HttpListener | None = None
        self._shared = shared
        self._looks = 0
        self._feed_timer: asyncio.TimerHandle | None = None
        self.listening: Deferred[None] | None = None
        take_http(certificate.context)
        choose_by_name(certificate.context, names)

    def add_routes(self, routes: Sequence[BaseRoute]) -> None:
        """Before it is started."""
        self._routes += routes

    @property
    def connections(self) -> int:
        return self._listener.connections if self._listener is not None else 0

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._listener = HttpListener(
            make_app(self.parts, self._routes),
            self._settings.limits,
            self.counters,
            self._shared,
            self._certificate.context,
            self._settings.proxies,
        )
        self.listening = deferred(self._listener.start(self._sockets))
        asyncio.get_event_loop().add_reader(self._subscriber.fileno(), self._read_feed)
        self._look_at_feed()

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        asyncio.get_event_loop().remove_reader(self._subscriber.fileno())
        if self._feed_timer is not None:
            self._feed_timer.cancel()
        return deferred(self._stop())

    async def _stop(self) -> None:
        if self._listener is not None:
            await self._listener.stop(max(0.0, self._settings.stop_within - _LEFT_FOR_THE_END))
        for pool in self._pools:
            pool.shutdown(wait=False)

    def reload(self) -> None:
        """Takes the certificate's files as they are now. Raises InvalidInput, and nothing changes, if they are bad."""
        self._certificate.reload()

    def _read_feed(self) -> None:
        self.sign_ins.changed(self._subscriber.drain())

    def _look_at_feed(self) -> None:
        """Each second: that a publisher has fallen silent is seen only by looking."""
        self._read_feed()
        self._looks += 1
        if self._looks % _EXPIRE_EVERY == 0:
            self.sign_ins.expire()
        self._feed_timer = asyncio.get_event_loop().call_later(HEARTBEAT, self._look_at_feed)


def take_http(context: ssl.SSLContext) -> ssl.SSLContext:
    """Says in ALPN what is spoken here (RFC 7301)."""
    context.set_alpn_protocols(_ALPN)
    return context
