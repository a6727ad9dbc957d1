"""The one door from the event loop to blocking work: a function runs in a worker thread with its context variables.

Large messages pass one or two at a time, so that a few of them cannot fill the memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")

LARGE = 1024 * 1024  # octets


class Work:
    def __init__(self, executor: Executor, large_at_once: int = 2) -> None:
        self._executor = executor
        self._large = asyncio.Semaphore(large_at_once)

    async def run(self, work: Callable[[], T]) -> T:
        """`work` in a worker thread, with the caller's context variables. Raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, copy_context().run, work)

    async def run_on(self, size: int, work: Callable[[], T]) -> T:
        """The same for work that holds a message of `size` octets in memory."""
        if size <= LARGE:
            return await self.run(work)
        async with self._large:
            return await self.run(work)
