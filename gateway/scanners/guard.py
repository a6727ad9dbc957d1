"""Keeps a scanner that is dead, slow or overloaded from costing anybody more than its time limit, and that rarely.

Each scan has its own time limit and its own connection, so a slow one holds up no other. After `FAILURES` failures in
a row the scanner is passed over for `PAUSE` seconds; then one scan tries it, and its outcome decides. The log has one
line when it is passed over and one when it answers again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from storage.clock import Clock, SystemClock

T = TypeVar("T")

FAILURES = 3
PAUSE = 15.0  # seconds
AT_ONCE = 64  # scans of one process; further ones are not waited for

_log = logging.getLogger(__name__)


class ScannerFailed(Exception):  # noqa: N818 - it becomes a result
    """The scanner did not do its work; `args[0]` says why, for people."""


class Breaker:
    """Whether a scanner is asked. Pure but for its clock."""

    def __init__(self, clock: Clock, failures: int = FAILURES, pause: float = PAUSE) -> None:
        self._clock = clock
        self._failures = failures
        self._pause = pause
        self._in_a_row = 0
        self._open_until: float | None = None  # None: it is asked
        self._trying = False

    @property
    def closed(self) -> bool:
        return self._open_until is None

    def admits(self) -> bool:
        """Whether to ask it now. Who is admitted says `succeeded`, `failed` or `gave_up` afterwards."""
        if self._open_until is None:
            return True
        if self._trying or self._clock.monotonic() < self._open_until:
            return False
        self._trying = True
        return True

    def succeeded(self) -> None:
        self._in_a_row = 0
        self._open_until = None
        self._trying = False

    def failed(self) -> None:
        self._in_a_row += 1
        if self._trying or self._in_a_row >= self._failures:
            self._open_until = self._clock.monotonic() + self._pause
        self._trying = False

    def gave_up(self) -> None:
        """Whoever asked went away before the scanner had its time."""
        self._trying = False


class Guard:
    """One for a scanner; belongs to one event loop."""

    def __init__(self, name: str, limit: float, clock: Clock | None = None, *, at_once: int = AT_ONCE) -> None:
        self._name = name
        self._limit = limit
        self._breaker = Breaker(clock or SystemClock())
        self._at_once = at_once
        self._running = 0
        self.scans = 0  # that gave a result
        self.failures = 0
        self.skipped = 0  # without asking, since it failed before or has too much to do

    @property
    def answers(self) -> bool:
        """False while it is passed over."""
        return self._breaker.closed

    @property
    def counts(self) -> dict[str, int]:
        """For metrics."""
        return {"scans": self.scans, "failed": self.failures, "skipped": self.skipped}

    async def run(self, scan: Callable[[], Awaitable[T]], unknown: Callable[[str], T]) -> T:
        """What `scan` gives, or `unknown` of a reason. Raises nothing but cancellation."""
        if self._running >= self._at_once:
            self.skipped += 1
            return unknown(f"{self._name} has too much to do")
        if not self._breaker.admits():
            self.skipped += 1
            return unknown(f"{self._name} failed before and is not asked for the moment")
        self._running += 1
        try:
            async with asyncio.timeout(self._limit):
                result = await scan()
        except asyncio.CancelledError:
            self._breaker.gave_up()
            raise
        except TimeoutError:
            return unknown(self._failed(f"{self._name} did not answer in time"))
        except ScannerFailed as error:
            return unknown(self._failed(f"{self._name} {error.args[0]}"))
        except OSError:
            return unknown(self._failed(f"{self._name} cannot be reached, or ended the connection"))
        except Exception as error:  # noqa: BLE001 - what a scanner answers must not stop mail
            _log.error("what %s answers could not be read: %s", self._name, type(error).__name__)
            return unknown(self._failed(f"{self._name} gave an answer that cannot be read"))
        finally:
            self._running -= 1
        self.scans += 1
        if not self._breaker.closed:
            _log.warning("%s answers again", self._name)
        self._breaker.succeeded()
        return result

    def _failed(self, reason: str) -> str:
        self.failures += 1
        was_closed = self._breaker.closed
        self._breaker.failed()
        if was_closed and not self._breaker.closed:
            _log.warning("%s fails; messages are judged without it (%s)", self._name, reason)
        return reason
