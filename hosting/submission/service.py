"""The submission service: sockets, sessions, and what ends them. For the asyncio reactor, alone or beside others.

Sessions whose credential, account or tenant changed end with 421 before their next command.

Standards: RFC 6409, RFC 8314 (implicit TLS and STARTTLS).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred

from gateway.acceptance.keep import RETRY_TIME
from gateway.acceptance.targets import Suspended
from gateway.smtp import replies
from gateway.smtp.limits import Limits
from gateway.smtp.listener import SmtpListener
from gateway.smtp.proxy import Network
from gateway.smtp.server import SmtpServer
from gateway.smtp.session import BoundSocket, Profile, SmtpSession
from gateway.smtp.shared_limits import SharedLimits
from gateway.smtp.tls import ServerCertificate
from gateway.work import Work
from hosting.auth import sasl
from hosting.auth.signin import Principal, SaslAuthenticator
from hosting.smtp_service import SmtpService, own_domain, spill_directory
from hosting.submission.acceptance import Acceptance
from hosting.submission.counters import Counters
from hosting.submission.handler import SubmissionHandler
from hosting.submission.sending import SendingGate
from storage.changes import HEARTBEAT, AccountChanged, Gap, Published, Subscriber, TenantChanged
from storage.clock import Clock
from storage.directory.resolve import Resolver
from storage.errors import CleanmailError
from storage.installation import Installation
from storage.sending import Sending
from storage.sending_limits import SendingLimits

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SubmissionSettings:
    hostname: str
    limits: Limits = field(default_factory=Limits)
    plain_text_sign_in: bool = False  # AUTH without TLS; only where all addresses are loopback
    proxies: tuple[Network, ...] = ()
    suspended: Suspended = Suspended.DEFER  # mail for accounts here that are suspended
    retry_time: int = RETRY_TIME
    sending: SendingLimits = field(default_factory=SendingLimits)
    stop_within: float = 30.0  # seconds that transactions in flight get at a stop
    threads: int = 16  # messages that are stored, and passwords that are asked for, at the same time


class SubmissionService(SmtpService):
    def __init__(
        self,
        installation: Installation,
        authenticator: SaslAuthenticator,
        resolver: Resolver,
        clock: Clock,
        settings: SubmissionSettings,
        sockets: Sequence[BoundSocket],
        certificate: ServerCertificate | None,
        subscriber: Subscriber | None = None,
        shared: SharedLimits | None = None,
    ) -> None:
        """`subscriber`: a change feed of our own; without one, whoever reads the feed calls `changed`.

        `shared`: the process's limits; without them they hold for this service.
        """
        self._authenticator = authenticator
        self._subscriber = subscriber
        pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="submission")
        self._work = Work(pool)
        self._clock = clock
        self._access_log = installation.access_log
        self._traces = installation.traces
        self.gate = SendingGate(installation, resolver, Sending(installation, settings.sending), settings.hostname)
        self._acceptance = Acceptance(
            installation,
            resolver,
            clock,
            settings.hostname,
            suspended=settings.suspended,
            retry_time=settings.retry_time,
            traces=installation.traces,
            gate=self.gate,
        )
        shared = shared or SharedLimits.of_this_process(clock)
        self.counters = Counters(settings.limits.connections_per_account, shared)
        self._tasks: set[asyncio.Task[None]] = set()
        self._feed_timer: asyncio.TimerHandle | None = None
        listener = SmtpListener(
            Profile(
                hostname=settings.hostname,
                postmaster=own_domain(settings.hostname),
                spill_directory=spill_directory(installation.data),
                limits=settings.limits,
                tls=None if certificate is None else certificate.context,
                service="submission",
                offers_auth=True,
                requires_auth=True,
                plain_auth=settings.plain_text_sign_in,
                # Nothing can be bound to here: Python's ssl gives no exporter of TLS 1.3 (RFC 9266), so no -PLUS.
                mechanisms=("PLAIN", "LOGIN", *sasl.mechanisms(authenticator.offers, bindable=False)),
                told=("PLAIN", "LOGIN", *sasl.told(authenticator.offers, bindable=False)),
            ),
            self._make_handler,
            proxies=settings.proxies,
            shared=shared,
            transcripts=installation.transcripts,
            clock=clock,
        )
        super().__init__(listener, sockets, certificate, pool, settings.stop_within)

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        super().startService()
        if self._subscriber is not None:
            asyncio.get_event_loop().add_reader(self._subscriber.fileno(), self._read_feed)
            self._look_at_feed()

    def stopService(self) -> Deferred[None]:  # noqa: N802 - Twisted's name
        if self._subscriber is not None:
            asyncio.get_event_loop().remove_reader(self._subscriber.fileno())
        if self._feed_timer is not None:
            self._feed_timer.cancel()
        return super().stopService()

    def _make_handler(self, session: SmtpSession) -> SubmissionHandler:
        return SubmissionHandler(
            session,
            self._authenticator,
            self._acceptance,
            self._access_log,
            self._traces,
            self.counters,
            self._work,
            self._clock,
        )

    # Changes of credentials and states

    def changed(self, changes: Iterable[Published | Gap]) -> None:
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
        for server, session in self.listener.sessions():
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

    def end_expired(self) -> None:
        """Ends the sessions whose token has expired, each behind the message that it is at."""
        now = self._clock.now()
        for server, session in self.listener.sessions():
            principal: Principal | None = session.principal
            if principal is not None and principal.has_expired(now):
                server.end(replies.ACCESS_ENDED, after_transaction=True)

    def _read_feed(self) -> None:
        if self._subscriber is not None:
            self.changed(self._subscriber.drain())

    def _look_at_feed(self) -> None:
        """Each second: that a publisher has fallen silent, or a token has expired, is seen only by looking."""
        self._read_feed()
        self.end_expired()
        self._feed_timer = asyncio.get_event_loop().call_later(HEARTBEAT, self._look_at_feed)
