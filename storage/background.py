"""Work that may be done a little later, on one thread of the process: removing files, packing snapshots.

Everything submitted is resumable: what is not done when the process ends is found again when its account is opened. A
job runs in short steps, in turn with the jobs of others, until it says that nothing is left.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from typing import Any

from storage.errors import CleanmailError

_log = logging.getLogger("cleanmail.storage")

Step = Callable[[], Any]  # true: there is more to do


class Background:
    """Jobs under keys of their own; the first of a key names whose they are. The thread starts with the first job."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._jobs: dict[tuple[Hashable, ...], Step] = {}  # in the order of their turns
        self._running: tuple[Hashable, ...] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, key: tuple[Hashable, ...], step: Step) -> None:
        """Call `step` soon, and again while it returns something true. A job of that key that waits is replaced."""
        with self._changed:
            if self._closed:
                return
            self._jobs[key] = step
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="background", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def submit_later(self, key: tuple[Hashable, ...], step: Step, seconds: float) -> None:
        """Like `submit`, after a while; nobody waits for it, and when the process ends before, it is not done."""
        timer = threading.Timer(seconds, self._submit_again, (key, step))
        timer.daemon = True
        timer.start()

    def _submit_again(self, key: tuple[Hashable, ...], step: Step) -> None:
        with self._changed:
            waits = key in self._jobs
        if not waits:
            self.submit(key, step)

    def has(self, owner: Hashable) -> bool:
        """Whether a job of that owner waits or runs."""
        with self._changed:
            return self._has(owner)

    def settle(self, owner: Hashable = None) -> None:
        """Wait until everything (of that owner) is done. Not to be called by a job."""
        with self._changed:
            while self._has(owner) if owner is not None else (self._jobs or self._running):
                self._changed.wait()

    def close(self) -> None:
        """Finish the step that runs; drop the rest."""
        with self._changed:
            self._closed = True
            self._jobs.clear()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _has(self, owner: Hashable) -> bool:
        return any(key[0] == owner for key in self._jobs) or (self._running is not None and self._running[0] == owner)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._running = None
                self._changed.notify_all()
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                key = next(iter(self._jobs))
                step = self._jobs.pop(key)
                self._running = key
            if self._does_more(key, step):
                with self._changed:
                    if not self._closed:
                        self._jobs.setdefault(key, step)

    def _does_more(self, key: tuple[Hashable, ...], step: Step) -> bool:
        try:
            return bool(step())
        except CleanmailError as error:  # the disk is full, the account is closed: it is tried at the next opening
            _log.warning("background work %s failed: %s", key[-1], error.detail or type(error).__name__)
        except Exception:  # noqa: BLE001
            _log.exception("background work %s failed", key[-1])
        return False
