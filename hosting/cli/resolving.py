"""How commands ask DNS and policy hosts: one event loop for one piece of work, as [dns] and [relay] describe it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.dns.resolver import Resolver
from gateway.tls_policy.sts_fetch import StsFetcher
from hosting.config import Config
from hosting.outgoing import reachable

T = TypeVar("T")


def ask(config: Config, question: Callable[[Resolver], Awaitable[T]]) -> T:
    """What `question` finds out. Raises what it raises; DNS itself raises nothing."""

    async def asking() -> T:
        return await question(Resolver(config.dns))

    return asyncio.run(asking())


def policy_fetcher(config: Config, dns: Resolver, *, port: int = 443, limit: float = 15.0) -> StsFetcher:
    """`limit` is shorter than a server's: somebody waits before a terminal."""
    context = ssl.create_default_context(cafile=config.relay.ca_file or None)
    return StsFetcher(dns, reachable(config), context, port=port, limit=limit)
