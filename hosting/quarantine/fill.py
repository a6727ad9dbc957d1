"""The jobs role's look at how full quarantines are: a gauge of the fullest, and a warning a day for each tenant.

A full quarantine lets senders wait, which nobody here would notice otherwise. A tenant that cannot be opened is left
out; the round that looks at it too says so (`hosting.quarantine_round`). Blocking.
"""

from __future__ import annotations

import logging

from hosting.metrics import Metrics
from storage.directory.rows import State
from storage.errors import CleanmailError
from storage.installation import Installation
from storage.quarantine.store import Quarantine
from storage.values import TenantId

log = logging.getLogger("quarantine")

NEARLY_FULL = 0.9
_DAY = 86_400


class FillWatch:
    def __init__(self, installation: Installation, quarantine: Quarantine, metrics: Metrics) -> None:
        self._installation = installation
        self._quarantine = quarantine
        self._metrics = metrics
        self._warned: dict[TenantId, int] = {}  # day of the last warning

    def look(self) -> float:
        """How much of its limits the fullest quarantine has used up."""
        fullest = 0.0
        for row in self._installation.control.tenants():
            if row.state is not State.ENDED:
                fullest = max(fullest, self._look_at(row.tenant_id))
        self._metrics.quarantine_fill.set(fullest)
        return fullest

    def _look_at(self, tenant_id: TenantId) -> float:
        try:
            fill = self._quarantine.fill(tenant_id)
        except CleanmailError:
            return 0.0
        today = self._installation.clock.now() // _DAY
        if fill >= NEARLY_FULL and self._warned.get(tenant_id) != today:
            self._warned[tenant_id] = today
            log.warning("the quarantine of tenant %d is full to %d %%", tenant_id, int(fill * 100))
        return fill
