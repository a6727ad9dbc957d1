"""The MTA-STS policies of other domains: found, kept as long as they say, and looked at anew when they change.

`policy_for` gives the policy that binds now, or None. A policy that was seen once binds until it expires, whatever
became of its TXT record or its host meanwhile: else whoever can suppress those could suppress the policy (RFC 8461
§5.1). It is fetched anew when its id changes and, without anybody waiting, when it is a day old. A failed fetch is not
repeated for five minutes.

Never raises but for cancellation. Standards: RFC 8461 §3.1, §3.3, §5.1, §10.2.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import Protocol

from gateway.dns.answers import Dns
from gateway.tls_policy.results import PolicyType, TlsReporter
from gateway.tls_policy.sts_fetch import FetchFailed
from gateway.tls_policy.sts_text import PolicyText, policy_id
from gateway.work import Work
from storage.clock import Clock
from storage.errors import CleanmailError
from storage.queue.sts import StsPolicy
from storage.values import Domain

DAY = 86_400
PAUSE = 300.0  # seconds after a fetch that failed (§3.3)
REMEMBERED = 10_000  # domains, in memory

_log = logging.getLogger(__name__)


class PolicyStore(Protocol):
    """Shared by all processes (`storage.queue.sts.StsStore`)."""

    def get(self, domain: Domain) -> StsPolicy | None: ...

    def put(self, policy: StsPolicy) -> None: ...


class Fetcher(Protocol):
    async def fetch(self, domain: Domain) -> PolicyText:
        """Raises FetchFailed."""
        ...


class StsPolicies:
    def __init__(
        self,
        dns: Dns,
        fetcher: Fetcher,
        store: PolicyStore,
        work: Work,
        clock: Clock,
        reporter: TlsReporter | None = None,
    ) -> None:
        self._dns = dns
        self._fetcher = fetcher
        self._store = store
        self._work = work
        self._clock = clock
        self._reporter = reporter
        self._known: OrderedDict[Domain, StsPolicy | None] = OrderedDict()
        self._failed: OrderedDict[Domain, float] = OrderedDict()
        self._fetching: dict[Domain, asyncio.Task[StsPolicy | None]] = {}

    async def policy_for(self, domain: Domain) -> StsPolicy | None:
        answer = await self._dns.txt(f"_mta-sts.{domain.name}")
        published = policy_id(answer.records)
        known = await self._look_up(domain)
        if published is None:
            return known
        if known is not None and known.policy_id == published:
            if self._is_old(known):
                self._fetch(domain, published)
            return known
        # Another process may have fetched it already.
        known = await self._look_up(domain, anew=True)
        if known is not None and known.policy_id == published:
            return known
        task = self._fetch(domain, published)
        return known if task is None else await asyncio.shield(task) or known

    async def close(self) -> None:
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_old(self, policy: StsPolicy) -> bool:
        age = self._clock.now() - policy.fetched
        return age >= DAY or age * 2 >= policy.max_age

    async def _look_up(self, domain: Domain, *, anew: bool = False) -> StsPolicy | None:
        """What is known and has not expired."""
        if anew or domain not in self._known:
            try:
                found = await self._work.run(lambda: self._store.get(domain))
            except CleanmailError as error:
                _log.warning("MTA-STS policies cannot be read: %s", type(error).__name__)
                return None
            self._remember(domain, found)
        policy = self._known[domain]
        return policy if policy is not None and policy.expires > self._clock.now() else None

    def _remember(self, domain: Domain, policy: StsPolicy | None) -> None:
        self._known[domain] = policy
        self._known.move_to_end(domain)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _fetch(self, domain: Domain, published: str) -> asyncio.Task[StsPolicy | None] | None:
        """A fetch under way, for all who want it; None if one has failed a moment ago."""
        task = self._fetching.get(domain)
        if task is None:
            if self._clock.monotonic() < self._failed.get(domain, 0.0):
                return None
            task = asyncio.get_running_loop().create_task(self._fetched(domain, published))
            self._fetching[domain] = task
            task.add_done_callback(lambda _: self._fetching.pop(domain, None))
        return task

    async def _fetched(self, domain: Domain, published: str) -> StsPolicy | None:
        try:
            text = await self._fetcher.fetch(domain)
        except FetchFailed as error:
            self._failed[domain] = self._clock.monotonic() + PAUSE
            self._failed.move_to_end(domain)
            if len(self._failed) > REMEMBERED:
                self._failed.popitem(last=False)
            if self._reporter is not None:
                day = self._clock.now() // DAY
                self._reporter.count(day, domain, PolicyType.STS, "", error.outcome)
            return None
        now = self._clock.now()
        policy = StsPolicy(domain, published, text.mode, text.max_age, text.mx, now, now + text.max_age)
        self._remember(domain, policy)
        try:
            await self._work.run(lambda: self._store.put(policy))
        except CleanmailError as error:
            _log.warning("an MTA-STS policy could not be kept: %s", type(error).__name__)
        return policy
