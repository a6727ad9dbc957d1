"""Moves pages from the write-ahead logs into the databases, on a thread of its own and a connection of its own.

A commit that also checkpoints makes one user wait for what a thousand commits left behind; so in workers SQLite's own
checkpoints are off and this thread does them: some seconds after the first commit that it was told of, or after so
many commits. Writers and readers go on meanwhile. Without it nothing is lost: the log is durable by itself.
"""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from storage.clock import Clock
from storage.errors import CleanmailError

_log = logging.getLogger("cleanmail.storage")


class Checkpointed(Protocol):
    def checkpoint(self) -> None: ...


class Checkpointer:
    """One for all databases of a process. `start` it; `stop` before they are closed."""

    def __init__(self, clock: Clock, *, interval: float = 1.0, age: float = 10.0, commits: int = 300) -> None:
        self._clock = clock
        self._interval = interval
        self._age = age
        self._commits = commits
        self._guard = threading.Lock()
        self._noted: dict[Checkpointed, tuple[int, float]] = {}  # commits, and when the first of them was
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="checkpointer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """A checkpoint in progress is finished; the rest is done when the databases are closed."""
        self._stopped.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def note(self, database: Checkpointed) -> None:
        """One more commit."""
        with self._guard:
            count, since = self._noted.get(database, (0, 0.0))
            self._noted[database] = (count + 1, since or self._clock.monotonic())
            if not count:
                self._wake.set()

    def forget(self, database: Checkpointed) -> None:
        with self._guard:
            self._noted.pop(database, None)

    def checkpoint_due(self) -> int:
        """Checkpoint every database whose time has come; how many that were."""
        now = self._clock.monotonic()
        with self._guard:
            due = [d for d, (count, since) in self._noted.items() if count >= self._commits or now - since >= self._age]
            for database in due:
                del self._noted[database]
            if not self._noted:
                self._wake.clear()
        for database in due:
            try:
                database.checkpoint()
            except CleanmailError as error:  # tried again after the next commit
                _log.warning("a checkpoint failed: %s", error.detail or type(error).__name__)
        return len(due)

    def _run(self) -> None:
        while not self._stopped.is_set():  # asked anew after each round, which may have cleared what `stop` set
            self._wake.wait()
            if self._stopped.wait(self._interval):
                return
            self.checkpoint_due()
