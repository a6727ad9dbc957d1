"""Answers that come no earlier than a while after their question, so that how long it took to find them tells nothing.

Waiting costs neither a thread of those who work nor the processor: what is found waits for its moment in one queue,
whose thread ends when nothing waits.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


class Floor:
    """Safe to use from many threads."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []  # a heap
        self._numbers = itertools.count()
        self._is_running = False

    def answer(self, work: Callable[[], Result], *, only_refusals: bool = False) -> Future[Result]:
        """Does the work now; its result, or what it raises, is told when it is time. `only_refusals`: or at once."""
        due = time.monotonic() + self._seconds
        answer: Future[Result] = Future()
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the answer
            refusal = error
            self._at(due, lambda: answer.set_exception(refusal))
        else:
            if only_refusals:
                answer.set_result(result)
            else:
                self._at(due, lambda: answer.set_result(result))
        return answer

    def _at(self, due: float, tell: Callable[[], None]) -> None:
        if due <= time.monotonic():
            tell()
            return
        with self._changed:
            heapq.heappush(self._waiting, (due, next(self._numbers), tell))
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="auth-floor", daemon=True).start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._is_running = False
                    return
                left = self._waiting[0][0] - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                    continue
                _, _, tell = heapq.heappop(self._waiting)
            tell()
