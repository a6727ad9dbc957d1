"""The one door from the event loop to blocking work: a function runs in a worker thread with its context variables.

Large messages pass one or two at a time, so that a few of them cannot fill the memory. Small pieces of work of one kind
can go together (`Together`): threads of one process that each do a little are mostly busy with taking turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from contextvars import copy_context
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")

LARGE = 1024 * 1024  # octets


class Work:
    def __init__(self, executor: Executor, large_at_once: int = 2) -> None:
        self._executor = executor
        self._large = asyncio.Semaphore(large_at_once)

    async def run(self, work: Callable[[], T]) -> T:
        """`work` in a worker thread, with the caller's context variables. Raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, copy_context().run, work)

    async def run_on(self, size: int, work: Callable[[], T]) -> T:
        """The same for work that holds a message of `size` octets in memory.

        Who waits no longer ends no thread: a large message keeps its turn until the work is over.
        """
        if size <= LARGE:
            return await self.run(work)
        await self._large.acquire()
        try:
            running = self._executor.submit(copy_context().run, work)
        except BaseException:
            self._large.release()
            raise
        loop = asyncio.get_running_loop()
        running.add_done_callback(lambda _: _on(loop, self._large.release))
        return await asyncio.wrap_future(running)


def _on(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """From any thread. A loop that has ended needs it no more."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call)


class Together(Generic[T, U]):
    """What comes while others are worked on is worked on together, in one run of one worker thread."""

    def __init__(self, work: Work, carry_out: Callable[[Sequence[T]], Sequence[U | Exception]], most: int = 32) -> None:
        """`carry_out` gives for each its result, or what went wrong with it. At most `most` go together."""
        self._work = work
        self._carry_out = carry_out
        self._most = most
        self._waiting: list[tuple[T, asyncio.Future[U]]] = []
        self._running: asyncio.Task[None] | None = None

    async def run(self, thing: T) -> U:
        """Its result. Raises what went wrong."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[U] = loop.create_future()
        self._waiting.append((thing, result))
        if self._running is None:
            self._running = loop.create_task(self._run())
        return await result

    async def _run(self) -> None:
        try:
            while self._waiting:
                now, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                outcomes = await self._outcomes([thing for thing, _ in now])
                for (_, result), outcome in zip(now, outcomes, strict=True):
                    if result.cancelled():
                        continue
                    if isinstance(outcome, Exception):
                        result.set_exception(outcome)
                    else:
                        result.set_result(outcome)
        finally:
            self._running = None

    async def _outcomes(self, things: Sequence[T]) -> Sequence[U | Exception]:
        try:
            return await self._work.run(lambda: self._carry_out(things))
        except Exception as error:  # noqa: BLE001 - whoever waits has to hear of it
            return [error] * len(things)
