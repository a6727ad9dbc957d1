"""The submission service: sockets, sessions, and what ends them. For the asyncio reactor, alone or beside IMAP.

`startService` listens on sockets that are bound already (`listening` fires when it does); `stopService` fires when
every transaction in flight is settled, or its time is up, and all connections are closed. Sessions whose credential,
account or tenant changed end with 421 before their next command.

Standards: RFC 6409, RFC 8314 (implicit TLS and STARTTLS).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from gateway.smtp import replies
from gateway.smtp.limits import Limits
from gateway.smtp.listener import SmtpListener
from gateway.smtp.proxy import Network
from gateway.smtp.server import SmtpServer
from gateway.smtp.session import BoundSocket, Profile, SmtpSession
from gateway.smtp.tls import ServerCertificate
from gateway.work import Work
from hosting.auth.signin import Authenticator, Principal
from hosting.submission.acceptance import Acceptance
from hosting.submission.counters import Counters
from hosting.submission.handler import SubmissionHandler
from storage.changes import HEARTBEAT, AccountChanged, Change, Gap, Subscriber, TenantChanged
from storage.clock import Clock
from storage.directory.resolve import Resolver
from storage.errors import CleanmailError
from storage.installation import Installation
from storage.values import Domain

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SubmissionSettings:
    hostname: str
    limits: Limits = field(default_factory=Limits)
    plain_text_sign_in: bool = False  # AUTH without TLS; only where all addresses are loopback
    proxies: tuple[Network, ...] = ()
    stop_within: float = 30.0  # seconds that transactions in flight get at a stop
    threads: int = 16  # messages that are stored, and passwords that are asked for, at the same time


class SubmissionService(Service):
    def __init__(
        self,
        installation: Installation,
        authenticator: Authenticator,
        resolver: Resolver,
        clock: Clock,
        settings: SubmissionSettings,
        sockets: Sequence[BoundSocket],
        certificate: ServerCertificate | None,
        subscriber: Subscriber | None = None,
    ) -> None:
        """`subscriber`: a change feed of our own; without one, whoever reads the feed calls `changed`."""
        self._authenticator = authenticator
        self._settings = settings
        self._sockets = sockets
        self._certificate = certificate
        self._subscriber = subscriber
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="submission")
        self._work = Work(self._pool)
        self._clock = clock
        self._access_log = installation.access_log
        self._acceptance = Acceptance(installation, resolver, clock, settings.hostname)
        self.counters = Counters(settings.limits.connections_per_account)
        self._listener = SmtpListener(
            Profile(
                hostname=settings.hostname,
                postmaster=_own_domain(settings.hostname),
                spill_directory=str(_spill_directory(installation.data)),
                limits=settings.limits,
                tls=None if certificate is None else certificate.context,
                offers_auth=True,
                requires_auth=True,
                plain_auth=settings.plain_text_sign_in,
            ),
            self._make_handler,
            proxies=settings.proxies,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._feed_timer: asyncio.TimerHandle | None = None
        self.listening: Deferred[None] | None = None

    @property
    def connections(self) -> int:
        return self._listener.connections

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        super().startService()  # type: ignore[no-untyped-call]
        self.listening = _deferred(self._listener.start(self._sockets))
        if self._subscriber is not None:
            asyncio.get_event_loop().add_reader(self._subscriber.fileno(), self._read_feed)
            self._look_at_feed()

    def stopService(self) -> Deferred[None]:  # noqa: N802 - Twisted's name
        super().stopService()  # type: ignore[no-untyped-call]
        if self._subscriber is not None:
            asyncio.get_event_loop().remove_reader(self._subscriber.fileno())
        if self._feed_timer is not None:
            self._feed_timer.cancel()
        return _deferred(self._stop())

    async def _stop(self) -> None:
        await self._listener.stop(self._settings.stop_within)
        self._pool.shutdown(wait=False)

    def reload(self) -> None:
        """Takes the certificate's files as they are now. Raises InvalidInput, and nothing changes, if they are bad."""
        if self._certificate is not None:
            self._certificate.reload()

    def _make_handler(self, session: SmtpSession) -> SubmissionHandler:
        return SubmissionHandler(
            session,
            self._authenticator,
            self._acceptance,
            self._access_log,
            self.counters,
            self._work,
            self._clock,
        )

    # Changes of credentials and states

    def changed(self, changes: Iterable[Change | AccountChanged | TenantChanged | Gap]) -> None:
        """Looks at the sessions that `changes` may concern, and ends those that are not valid any more."""
        tenants: set[int] = set()
        accounts: set[int] = set()
        anybody = False
        for change in changes:
            match change:
                case AccountChanged():
                    accounts.add(change.account_id)
                case TenantChanged():
                    tenants.add(change.tenant_id)
                case Gap():
                    anybody = True
        if not (anybody or tenants or accounts):
            return
        for server, session in self._listener.sessions():
            principal: Principal | None = session.principal
            if principal is not None and (
                anybody or principal.account_id in accounts or principal.tenant_id in tenants
            ):
                task = asyncio.get_event_loop().create_task(self._look_again(server, principal))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _look_again(self, server: SmtpServer, principal: Principal) -> None:
        try:
            valid = await self._work.run(lambda: self._authenticator.still_valid(principal))
        except CleanmailError:
            log.warning("Account %d: whether its sign-in is still valid could not be learnt.", principal.account_id)
            valid = False
        if not valid:
            server.end(replies.ACCESS_ENDED, after_transaction=False)

    def _read_feed(self) -> None:
        if self._subscriber is not None:
            self.changed(self._subscriber.drain())

    def _look_at_feed(self) -> None:
        """Each second: that a publisher has fallen silent is seen only by looking."""
        self._read_feed()
        self._feed_timer = asyncio.get_event_loop().call_later(HEARTBEAT, self._look_at_feed)


def _own_domain(hostname: str) -> Domain:
    """The domain of a bare <postmaster>: the server's own name."""
    return Domain(hostname.lower())


def _spill_directory(data: Path) -> Path:
    return data / "run"


def _deferred(work: Coroutine[Any, Any, None]) -> Deferred[None]:
    return Deferred.fromFuture(asyncio.ensure_future(work, loop=asyncio.get_event_loop()))
