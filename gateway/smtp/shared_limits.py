"""Limits that hold for the whole installation: how many connections there are now, and how much happened lately.

Every process counts in a table of its own and reads those of the others, all in memory: nothing is locked, sent or
waited for, and what a process counted is gone with it. Two processes that ask at the same moment may both pass, so a
limit may be overrun by as many as there are processes, once. Where the tables cannot be shared, each process holds the
limits alone, and says so in the log once.

Keys are addresses, networks, senders or whatever else is limited; tables hold keyed hashes of them.
"""

from __future__ import annotations

import logging
import secrets
import weakref
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from threading import Lock

from gateway.smtp.limit_files import LimitFolder
from gateway.smtp.limit_table import SIZE, LimitTable
from storage.clock import Clock, SystemClock

log = logging.getLogger(__name__)

_LOOK_EVERY = 1.0  # seconds between looks at who has died
_LOOK_AGAIN = 0.05  # seconds; before somebody is refused it is looked again, unless that was just done


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `limit` in any period of `seconds`. A limit of 0 means any number."""

    limit: int
    seconds: int


class SharedLimits:
    """One for a process, for all its services. Any thread may use it."""

    def __init__(self, folder: LimitFolder | None, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._lock = Lock()
        self._own = folder.own.table if folder is not None else LimitTable(memoryview(bytearray(SIZE)))
        self._others: list[LimitTable] = []
        self._hash = blake2b(key=folder.key if folder is not None else secrets.token_bytes(16), digest_size=8)
        self._looked = float("-inf")
        if folder is not None:
            weakref.finalize(self, folder.close)  # at the end of the process, too

    @classmethod
    def open(cls, run: Path, clock: Clock | None = None) -> SharedLimits:
        """Shared with every process that opens them in the same DATA/run. Raises nothing."""
        clock = clock or SystemClock()
        try:
            return cls(LimitFolder(run), clock)
        except (OSError, ValueError) as error:
            log.warning("Limits hold for each process alone: their tables cannot be shared (%s).", type(error).__name__)
            return cls(None, clock)

    @classmethod
    def of_this_process(cls, clock: Clock | None = None) -> SharedLimits:
        """Shared with nobody."""
        return cls(None, clock or SystemClock())

    @property
    def shared(self) -> bool:
        return self._folder is not None

    def close(self) -> None:
        """Its counts vanish for the others. It goes on for this process alone."""
        with self._lock:
            folder, self._folder = self._folder, None
            self._others = []
            if folder is not None:
                self._own = LimitTable(memoryview(bytearray(SIZE)))
                folder.close()

    # How many now

    def enter(self, kind: str, key: str, most: int) -> bool:
        """Counts one more; False, and it isn't counted, if there are `most` already. `leave` takes it back."""
        place = self._place(kind, key)
        with self._lock:
            if self._count(place) >= most and not (self._look_again() and self._count(place) < most):
                return False
            self._own.raise_gauge(place)
            return True

    def leave(self, kind: str, key: str) -> None:
        with self._lock:
            self._own.lower_gauge(self._place(kind, key))

    def count(self, kind: str, key: str) -> int:
        with self._lock:
            return self._count(self._place(kind, key))

    # How many lately

    def spend(self, kind: str, key: str, amount: int, rate: Rate) -> bool:
        """Counts `amount`; False, and it isn't counted, if that were more than the rate allows."""
        if not rate.limit:
            return True
        place = self._place(f"{kind} {rate.seconds}", key)
        with self._lock:
            now = self._clock.monotonic()
            window, gone = divmod(now, rate.seconds)
            number = int(window)
            left = 1.0 - gone / rate.seconds  # of the window before this one
            if self._lately(place, number, left) + amount > rate.limit and not (
                self._look_again() and self._lately(place, number, left) + amount <= rate.limit
            ):
                return False
            self._own.add(place, number, amount, int(now * 1000))
            return True

    def lately(self, kind: str, key: str, rate: Rate) -> float:
        """What was spent in the last period."""
        with self._lock:
            window, gone = divmod(self._clock.monotonic(), rate.seconds)
            return self._lately(self._place(f"{kind} {rate.seconds}", key), int(window), 1.0 - gone / rate.seconds)

    # Inside

    def _place(self, kind: str, key: str) -> int:
        hashed = self._hash.copy()
        hashed.update(f"{kind}\0{key}".encode())
        return int.from_bytes(hashed.digest(), "little") or 1

    def _count(self, place: int) -> int:
        self._look(_LOOK_EVERY)
        total = self._own.own_gauge(place)
        for table in self._others:
            total += table.gauge(place)
        return total

    def _lately(self, place: int, window: int, left: float) -> float:
        self._look(_LOOK_EVERY)
        current, previous = self._own.rate(place, window)
        for table in self._others:
            theirs = table.rate(place, window)
            current += theirs[0]
            previous += theirs[1]
        return current + previous * left

    def _look_again(self) -> bool:
        return self._look(_LOOK_AGAIN)

    def _look(self, after: float) -> bool:
        """Who else is there, if somebody came or went, or that was last asked `after` seconds ago."""
        if self._folder is None:
            return False
        now = self._clock.monotonic()
        if now - self._looked < after and not self._folder.changed:
            return False
        self._looked = now
        self._folder.look()
        self._others = self._folder.others
        return True
