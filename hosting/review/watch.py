"""The jobs role's look at the provider's promise: gauges for Prometheus, and a warning once a day where it is broken.

It measures and never blocks: no mail goes another way because of it.

Raises: Unavailable and others of control.db.
"""

from __future__ import annotations

import logging

from hosting.metrics import Metrics
from hosting.review.shares import DAYS, Shares
from storage.filter.counts import DAY, Counted
from storage.installation import Installation

log = logging.getLogger("review")

EVERY = 60.0  # seconds between two looks


class Watch:
    def __init__(self, installation: Installation, metrics: Metrics, promised: float) -> None:
        """`promised`: in percent of all traffic."""
        self._installation = installation
        self._metrics = metrics
        self._promised = promised
        self._warned = -1  # day of the last warning

    def look(self) -> Shares:
        shares = Shares(self._installation.control.judged.sums(DAYS), self._promised)
        self._metrics.filter_reviewed.set(shares.reviewed / 100)
        self._metrics.filter_wrong.set(shares.wrong / 100)
        today = self._installation.clock.now() // DAY
        if shares.alarm and self._warned != today:
            self._warned = today
            log.warning(
                "wrongly filtered mail: of %d messages in %d days people looked at %d (%.4f %%) and found %d wrong "
                "(%.4f %%); promised is less than %s %%",
                shares.judged,
                DAYS,
                shares.sums[Counted.VIEWED],
                shares.reviewed,
                shares.sums[Counted.WRONG],
                shares.wrong,
                shares.promised,
            )
        return shares
