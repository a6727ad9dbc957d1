"""The queue role: relays what waits to leave, delivers what waits for mailboxes here, reports what failed. On asyncio.

`stopService` fires when what is under way is done or has had its time ([server] stop_within, less a little so that its
end is written down); nothing is lost by a kill.
"""

# ruff: noqa: N802 - Twisted calls these methods by these names

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from gateway.dkim.signer import TenantSigner
from gateway.dns.resolver import Resolver as DnsResolver
from gateway.dsn.follow_ups import Telling
from gateway.queue.orders import Orders
from gateway.queue.runner import Runner
from gateway.queue.schedule import Limits
from gateway.queue.settlement import Settlement
from gateway.relay.relay import SmtpRelay
from gateway.tls_policy.policy import TlsPolicies
from gateway.tls_policy.sts import StsPolicies
from gateway.tls_policy.sts_fetch import StsFetcher
from gateway.work import Work
from hosting.composition import Parts
from hosting.ending import LettingGo
from hosting.outgoing import next_hops, reachable
from hosting.roles.housekeeping import Ticking, every_second
from hosting.roles.service import RoleService
from hosting.smtp_service import own_domain
from storage.directory.resolve import Resolver

log = logging.getLogger("queue")

THREADS = 8  # for storage; commits are shared between them
LOOK_EACH = 15.0  # seconds between two looks at how much waits
_LOCK_AGAIN = 0.2  # seconds
_BEGIN_AGAIN = 1.0  # seconds
_LEFT_FOR_THE_END = 2.0  # seconds of stop_within


class QueueService(Service):
    """Runs a `Runner` while it runs itself and nobody else runs one on this data directory.

    Workers of a supervisor that was killed take a while to end: what they still hand over must not be handed over here.
    A runner that ends by a fault is followed by a new one, since a queue that nobody works looks like one that is idle.
    """

    def __init__(self, make: Callable[[], Runner], dns: DnsResolver, pool: ThreadPoolExecutor, lock: Path) -> None:
        """`dns`, which the runners ask, and `pool` are closed with the service."""
        self._make = make
        self._dns = dns
        self._runner: Runner | None = None
        self._pool = pool
        self._lock = lock
        self._running: asyncio.Future[None] | None = None

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._running = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        while self.running:
            try:
                await self._run_one()
            except Exception:
                log.error("the runner ended by a fault; another one goes on", exc_info=True)
                await asyncio.sleep(_BEGIN_AGAIN)
        await self._dns.close()

    async def _run_one(self) -> None:
        """Until it was told to stop."""
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _locked(descriptor):
                if not self.running:
                    return
                await asyncio.sleep(_LOCK_AGAIN)
            self._runner = self._make()
            await self._runner.run()
        finally:
            os.close(descriptor)

    def stopService(self) -> Deferred[None] | None:
        super().stopService()  # type: ignore[no-untyped-call]
        if self._running is None:
            return None
        if self._runner is not None:
            self._runner.stop()
        stopping = Deferred.fromFuture(self._running)
        self._running = None

        def over(result: object) -> object:
            self._pool.shutdown(wait=False)
            return result

        return stopping.addBoth(over)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def make_service(parts: Parts) -> RoleService:
    installation, config, metrics = parts.installation, parts.config, parts.metrics
    queue = installation.queue
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="queue")
    work = Work(pool)
    dns = DnsResolver(config.dns, parts.clock)
    resolver = Resolver(installation, config.postmaster, own_domain(config.server.name))
    telling = Telling(resolver, installation.control, parts.clock, config.server.name, config.relay.retry_time)
    settlement = Settlement(
        queue, telling, parts.clock, traces=installation.traces, delay_notice=config.relay.delay_notice
    )
    signer = TenantSigner(installation)
    feed = parts.subscribe(mailboxes=False, queue=True)

    def make() -> Runner:
        return Runner(
            queue,
            Orders(installation, resolver, settlement, signer.author),
            settlement,
            _relay(parts, dns, work, signer),
            work,
            parts.clock,
            Limits(config.relay.connections, config.relay.connections_per_destination),
            feed=feed,
            stop_within=max(0.0, config.server.stop_within - _LEFT_FOR_THE_END),
        )

    def show() -> None:
        metrics.count_up_to("queue", {ending.value: count for ending, count in settlement.counts.items()})

    def look() -> None:
        metrics.show_queue(queue.totals(), parts.clock.now())

    return RoleService(
        [
            QueueService(make, dns, pool, parts.data / "run" / "queue.lock"),
            LettingGo(parts),
            every_second(parts, show),
            Ticking(parts.reactor, LOOK_EACH, blocking=[look, queue.tls_results.flush], at_once=True),
        ]
    )


def _relay(parts: Parts, dns: DnsResolver, work: Work, signer: TenantSigner) -> SmtpRelay:
    config, queue = parts.config, parts.installation.queue
    trusted = ssl.create_default_context(cafile=config.relay.ca_file or None)
    fetcher = StsFetcher(dns, reachable(config), trusted)
    sts = StsPolicies(dns, fetcher, queue.sts, work, parts.clock, queue.tls_results)
    policies = TlsPolicies(dns, sts, parts.clock, queue.tls_results)
    return SmtpRelay(next_hops(parts, dns, policies), work, signer)
