"""What the jobs role does about time: removes what is due each hour, and looks at the clock each minute.

Where the clock is not believed nothing is removed, an error is logged and a gauge raised, until somebody says that it
is right (`cleanmail clock confirm`). What is older than its ceiling, or cannot be looked at, raises a gauge too.
Blocking.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from hosting.metrics import Metrics
from storage.errors import Unavailable
from storage.installation import Installation
from storage.retention import remove_due

log = logging.getLogger("retention")

CLOCK_EVERY = 60.0  # seconds


class RetentionRound:
    def __init__(self, installation: Installation, metrics: Metrics) -> None:
        self._installation = installation
        self._metrics = metrics
        self._stopping = False

    def stop(self) -> None:
        """The run that is under way ends at a whole step; the next goes on."""
        self._stopping = True

    def run(self) -> None:
        try:
            removed = remove_due(self._installation, stopping=lambda: self._stopping)
        except Unavailable as error:
            log.error("nothing was removed by time: %s", error.detail or error.public)
            return
        for receipt in removed.receipts:
            self._metrics.retention_overdue.labels(receipt.data_class).set(int(receipt.overdue or receipt.failed > 0))
        if removed.receipts:
            self._metrics.retention_run.set(self._installation.clock.now())


class ClockWatch:
    def __init__(self, installation: Installation, metrics: Metrics) -> None:
        self._installation = installation
        self._metrics = metrics
        self._doubted = False

    def look(self) -> None:
        """Notes the time, if it is believed; says once in the log that it is not, or is again."""
        guard = self._installation.clock_guard
        doubted = guard.reading().doubt is not None
        if not doubted:
            with suppress(Unavailable):  # doubted from this moment on: the next look says so
                guard.check()
        elif not self._doubted:
            log.error("%s Nothing is removed by time until: cleanmail clock confirm", guard.reading().sentence)
        if self._doubted and not doubted:
            log.info("the clock is believed again")
        self._doubted = doubted
        self._metrics.clock_doubted.set(int(doubted))
