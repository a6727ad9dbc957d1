"""An event loop in a thread of its own, for services whose clients are synchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


class LoopThread:
    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def on_loop(self, work: Callable[[], T]) -> T:
        async def call() -> T:
            return work()

        return self.run(call())

    def settled(self, work: Callable[[], Any]) -> None:
        """Waits for a Deferred that `work` gives on the loop."""

        async def wait() -> None:
            await work().asFuture(self.loop)

        self.run(wait())

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()
