"""What time it is, given to whoever needs it, so that tests can set it; and which boot of the machine this is."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    def now(self) -> int:
        """Unix seconds."""

    def precise(self) -> float:
        """Unix seconds with a fraction."""

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back; only differences mean something."""

    def boottime(self) -> float:
        """Seconds since the machine was started, also while it slept; nobody can set it."""

    def boot(self) -> str:
        """Which start of the machine `boottime` counts from."""


class SystemClock:
    def now(self) -> int:
        return int(time.time())

    def precise(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def boottime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def boot(self) -> str:
        return boot_id()


class FixedClock:
    """Stands still until it is moved."""

    def __init__(self, start: float = 1_750_000_000.0) -> None:
        self._time = start
        self._boottime = 1000.0
        self._boots = 1

    def now(self) -> int:
        return int(self._time)

    def precise(self) -> float:
        return self._time

    def monotonic(self) -> float:
        return self._time

    def boottime(self) -> float:
        return self._boottime

    def boot(self) -> str:
        return f"fixed-{self._boots}"

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self._time += seconds
        self._boottime += seconds

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock; no time passes."""
        self._time += seconds

    def reboot(self, off: float = 0.0, running: float = 30.0) -> None:
        """The machine was switched off for a while, and runs again for some seconds."""
        self._time += off + running
        self._boottime = running
        self._boots += 1


@cache
def boot_id() -> str:
    """Differs after every start of the machine: what was written but not fsynced before it may be lost."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
