"""The threads that compute argon2: a fixed number, so that sign-ins cannot take the machine's cores and memory.

Questions to an OpenID provider have a pool of their own (`hosting.auth.tokens`).

Work waits in two lines, and the line of client addresses that are known is served first: a flood of guesses delays
strangers, not the people who signed in yesterday. Both lines are bounded; what finds its line full is refused at once.

Raises: Unavailable (a full line, or the pool is closed).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from storage.errors import Unavailable

T = TypeVar("T")


class HashingPool:
    def __init__(self, threads: int, *, waiting: int = 512, name: str = "argon2") -> None:
        self._waiting = waiting
        self._known: deque[Callable[[], None]] = deque()
        self._strangers: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Callable[[], T], *, known: bool) -> Future[T]:
        """`work`'s result, in time. Callbacks of the future run in the pool's thread."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the future
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._changed:
            line = self._known if known else self._strangers
            if self._closed or len(line) >= self._waiting:
                raise Unavailable
            line.append(run)
            self._changed.notify()
        return future

    def close(self) -> None:
        """Finish what waits, then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not (self._known or self._strangers or self._closed):
                    self._changed.wait()
                if self._known:
                    run = self._known.popleft()
                elif self._strangers:
                    run = self._strangers.popleft()
                else:
                    return
            run()
