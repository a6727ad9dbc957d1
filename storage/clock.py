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


class SystemClock:
    def now(self) -> int:
        return int(time.time())

    def precise(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class FixedClock:
    """Stands still until it is moved."""

    def __init__(self, start: float = 1_750_000_000.0) -> None:
        self._time = start

    def now(self) -> int:
        return int(self._time)

    def precise(self) -> float:
        return self._time

    def monotonic(self) -> float:
        return self._time

    def advance(self, seconds: float) -> None:
        self._time += seconds


@cache
def boot_id() -> str:
    """Differs after every start of the machine: what was written but not fsynced before it may be lost."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
