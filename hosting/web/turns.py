"""Whose turn it is on the threads of the web role: all share them, and no account has more than its part at once.

Work that has begun is finished whatever becomes of the client; who waited for it only hears no more of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import copy_context
from typing import TypeVar

from storage.errors import Unavailable

T = TypeVar("T")


class Crowded(Unavailable):
    """Too many requests wait already."""

    default = "The server has too much to do for the moment; try again later."


class Turns:
    """Belongs to the event loop. Of one key `per_key` runs are under way at once; in all, one for each thread."""

    def __init__(self, executor: Executor, *, per_key: int, waiting: int) -> None:
        self._executor = executor
        self._per_key = per_key
        self._most = waiting
        self._turns: dict[object, _Key] = {}
        self.under_way = 0  # waiting ones included

    async def run(self, key: object, work: Callable[[], T], *, goes_on: bool = False) -> T:
        """`work` in a thread. Raises what it raises, and Crowded, but not where it `goes_on` with what was begun."""
        if self.under_way >= self._most and not goes_on:
            raise Crowded
        turn = self._turns.get(key)
        if turn is None:
            turn = self._turns[key] = _Key(asyncio.Semaphore(self._per_key))
        turn.users += 1
        self.under_way += 1
        try:
            await turn.semaphore.acquire()
        except BaseException:
            self._leave(key, turn)
            raise
        try:
            running = asyncio.get_running_loop().run_in_executor(self._executor, copy_context().run, work)
        except BaseException:
            turn.semaphore.release()
            self._leave(key, turn)
            raise

        def over(_: object) -> None:
            turn.semaphore.release()
            self._leave(key, turn)

        running.add_done_callback(over)
        return await asyncio.shield(running)

    def _leave(self, key: object, turn: _Key) -> None:
        self.under_way -= 1
        turn.users -= 1
        if not turn.users:
            self._turns.pop(key, None)


class _Key:
    __slots__ = ("semaphore", "users")

    def __init__(self, semaphore: asyncio.Semaphore) -> None:
        self.semaphore = semaphore
        self.users = 0
