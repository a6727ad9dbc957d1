"""Opens sessions with next hops, one after the other until one has done its work.

    async for session in hops.sessions(hop):
        ...
        if done:
            break

The first is one that was kept open, if there is one; then come the addresses of the hosts in their order, each
connected when it is its turn. An address that did not answer a moment ago is tried last. Opening has its time for all
of them together: servers that are always just in time would otherwise keep a connection from others for hours.

Raises: `Unroutable` if not one session could be had.
Standards: RFC 5321 §5.1 (addresses in order until one succeeds, and a limit).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from gateway.dns.answers import Dns
from gateway.networks import Reachable
from gateway.relay.hosts import Hosts, Place, Unroutable
from gateway.relay.kept import KeptSessions
from gateway.relay.opening import Opener, Terms
from gateway.relay.outcome import NextHop, OwnServer, TlsDemand
from gateway.relay.replies import deferred
from gateway.relay.session import Broken, Session
from gateway.relay.settings import RelaySettings, Timeouts
from gateway.tls_policy.policy import TlsPolicies
from gateway.transcript import TranscriptSink
from storage.clock import Clock

TRIES = 8  # addresses that are connected for one message
SESSIONS = 3  # that are opened for one message
AVOIDED_FOR = 60.0  # seconds
AVOIDED_MAX = 10_000  # addresses


class NextHops:
    """`policies`: what domains demand of TLS with their servers; None: opportunistic TLS with all of them."""

    def __init__(
        self,
        hosts: Hosts,
        opener: Opener,
        kept: KeptSessions,
        clock: Clock,
        opening: float,
        policies: TlsPolicies | None = None,
    ) -> None:
        """`opening`: seconds for all that is tried for one message."""
        self._opening = opening
        self._hosts = hosts
        self._opener = opener
        self._kept = kept
        self._clock = clock
        self._policies = policies
        self._avoided: OrderedDict[tuple[str, int], float] = OrderedDict()

    async def sessions(self, hop: NextHop) -> AsyncGenerator[Session, None]:
        kept = self._kept.take(hop)
        if kept is not None:
            yield kept
        trouble = None
        tries = opened = 0
        loop, left = asyncio.get_running_loop(), self._opening
        async with aclosing(self._places(hop)) as places:
            async for place in places:
                tries += 1
                session, began = None, loop.time()
                try:
                    async with asyncio.timeout(left):
                        session = await self._open(hop, place)
                except Broken as broken:
                    trouble = broken.outcome
                except TimeoutError:
                    trouble = deferred("4.4.2", "The server took too long to be ready.", place.host)
                left -= loop.time() - began
                if session is None:
                    self._avoid(place)
                else:
                    opened += 1
                    yield session
                if tries >= TRIES or opened >= SESSIONS or left <= 0:
                    break
        if not opened and trouble is not None:
            raise Unroutable(trouble)

    async def _open(self, hop: NextHop, place: Place) -> Session:
        """Raises Broken."""
        if isinstance(hop, OwnServer):
            session, _ = await self._opener.open(place, Terms(hop.tls, hop.tls, place.host))
            return session
        if self._policies is None:
            opportunistic = Terms(TlsDemand.OPPORTUNISTIC, TlsDemand.OPPORTUNISTIC, place.host)
            session, _ = await self._opener.open(place, opportunistic)
            return session
        policy = await self._policies.for_host(hop, place.host, place.port, place.secure)
        if policy.excluded:
            self._policies.record(policy)
            raise Broken(deferred("4.7.5", "The domain's policy excludes this server for now.", place.host))
        try:
            session, outcome = await self._opener.open(place, Terms.of_policy(policy))
        except Broken as broken:
            if broken.tls:
                self._policies.record(policy, broken.tls)
            raise
        self._policies.record(policy, outcome)
        return session

    def release(self, hop: NextHop, session: Session, *, more: bool) -> None:
        """The session has done its work; `more`: the next message for this hop is waiting."""
        self._kept.release(hop, session, more=more)

    async def close(self) -> None:
        await self._kept.close()
        if self._policies is not None:
            await self._policies.close()

    async def _places(self, hop: NextHop) -> AsyncGenerator[Place, None]:
        """In their order, those that are avoided at the end."""
        later = []
        async with aclosing(self._hosts.of(hop)) as places:
            async for place in places:
                if self._is_avoided(place):
                    later.append(place)
                else:
                    yield place
        for place in later:
            yield place

    def _avoid(self, place: Place) -> None:
        self._avoided[place.address, place.port] = self._clock.monotonic() + AVOIDED_FOR
        self._avoided.move_to_end((place.address, place.port))
        if len(self._avoided) > AVOIDED_MAX:
            self._avoided.popitem(last=False)

    def _is_avoided(self, place: Place) -> bool:
        until = self._avoided.get((place.address, place.port))
        return until is not None and self._clock.monotonic() < until


def make_next_hops(
    settings: RelaySettings,
    hostname: str,
    dns: Dns,
    reachable: Reachable,
    clock: Clock,
    *,
    own_names: Iterable[str] = (),
    transcripts: TranscriptSink | None = None,
    policies: TlsPolicies | None = None,
    timeouts: Timeouts | None = None,
) -> NextHops:
    """Everything that is between the settings and an open session. `own_names`: what MX records call us."""
    hosts = Hosts(dns, reachable, settings.port, (hostname, *own_names))
    timeouts = timeouts or Timeouts()
    opener = Opener(settings, hostname, clock, transcripts, timeouts)
    kept = KeptSessions(
        settings.messages_per_connection, settings.idle_time, settings.connections, settings.stream_time
    )
    return NextHops(hosts, opener, kept, clock, timeouts.opening, policies)
