"""How commands ask DNS: one event loop for one piece of work, with the resolver that [dns] describes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.dns.resolver import Resolver
from hosting.config import Config

T = TypeVar("T")


def ask(config: Config, question: Callable[[Resolver], Awaitable[T]]) -> T:
    """What `question` finds out. Raises what it raises; DNS itself raises nothing."""

    async def asking() -> T:
        return await question(Resolver(config.dns))

    return asyncio.run(asking())
