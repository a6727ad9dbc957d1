"""The MX service: mail from other servers for the tenants' domains. For the asyncio reactor, alone or beside others.

Standards: RFC 5321; the extensions of `gateway.smtp.server` without AUTH.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import ip_network

from gateway.acceptance.keep import RETRY_TIME, Keeping
from gateway.acceptance.targets import Suspended
from gateway.dns.resolver import Resolver as DnsResolver
from gateway.facts.sender import SenderChecks
from gateway.mx.acceptance import MxAcceptance
from gateway.mx.handler import MxCounters, MxDesk, MxHandler
from gateway.mx.own_servers import OwnServers
from gateway.mx.recipients import Recipients
from gateway.mx.settings import MxSettings
from gateway.policy.settings import FilterSettings
from gateway.smtp.listener import SmtpListener
from gateway.smtp.proxy import Network
from gateway.smtp.session import BoundSocket, Profile
from gateway.smtp.shared_limits import Rate, SharedLimits
from gateway.smtp.tls import ServerCertificate
from gateway.work import Together, Work
from hosting.mx.filtering import Filtering
from hosting.smtp_service import SmtpService, own_domain, spill_directory
from storage.directory.resolve import Resolver
from storage.installation import Installation


@dataclass(frozen=True, slots=True)
class MxServiceSettings:
    hostname: str
    mx: MxSettings = field(default_factory=MxSettings)
    filter: FilterSettings = field(default_factory=FilterSettings)
    proxies: tuple[Network, ...] = ()
    retry_time: int = RETRY_TIME
    stop_within: float = 30.0  # seconds that transactions in flight get at a stop
    threads: int = 16  # recipients that are looked up, and messages that are stored, at the same time


class MxService(SmtpService):
    def __init__(
        self,
        installation: Installation,
        resolver: Resolver,
        dns: DnsResolver,
        own_servers: OwnServers,
        shared: SharedLimits,
        settings: MxServiceSettings,
        sockets: Sequence[BoundSocket],
        certificate: ServerCertificate | None,
    ) -> None:
        """`dns` and `own_servers` are closed with the service."""
        pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="mx")
        mx, clock, traces = settings.mx, installation.clock, installation.traces
        recipients = Recipients(installation, resolver, Suspended(mx.suspended))
        keeping = Keeping(installation, traces)
        work = Work(pool)
        filtering = Filtering(installation, dns, work, settings.hostname, settings.filter, mx.sender_check_timeout)
        acceptance = MxAcceptance(
            keeping,
            filtering.quarantine,
            filtering.judge,
            filtering.records,
            recipients,
            clock,
            settings.hostname,
            settings.retry_time,
        )
        self.counters = MxCounters()
        self.verdicts = filtering.records
        desk = MxDesk(
            recipients,
            acceptance,
            filtering.clients,
            SenderChecks(dns, settings.hostname, mx.sender_check_timeout),
            filtering.collector,
            filtering.judge,
            filtering.records,
            filtering.greylist,
            filtering.listings_wait,
            own_servers,
            shared,
            Rate(mx.messages_per_sender, 60),
            traces,
            self.counters,
            work,
            Together(work, acceptance.accept_together),
            clock,
        )
        listener = SmtpListener(
            Profile(
                hostname=settings.hostname,
                postmaster=own_domain(settings.hostname),
                spill_directory=spill_directory(installation.data),
                limits=mx.limits,
                tls=None if certificate is None else certificate.context,
                service="mx",
                offers_dsn=mx.offers_dsn,
                one_bounce_recipient=True,
                waits_its_turn=True,
                normalise=tuple(map(ip_network, mx.normalise)),
                unlimited=tuple(map(ip_network, mx.unlimited)),
            ),
            lambda session: MxHandler(session, desk),
            proxies=settings.proxies,
            shared=shared,
            transcripts=installation.transcripts,
            clock=clock,
        )
        super().__init__(listener, sockets, certificate, pool, settings.stop_within)
        self._dns = dns
        self._own_servers = own_servers
        self._filtering = filtering

    @property
    def scans(self) -> dict[str, int]:
        """What came of scans, by scanner and kind: for metrics."""
        return self._filtering.scans

    async def _stop(self) -> None:
        await super()._stop()
        await self._own_servers.close()
        await self._dns.close()
        self._filtering.close()
