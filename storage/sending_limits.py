"""Limits on what accounts send to addresses elsewhere, as they are configured; `storage.sending` applies them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MOST = 1_000_000_000

_LIMIT: dict[str, Any] = {"least": 0, "most": MOST}


@dataclass(frozen=True, slots=True)
class SendingLimits:
    """What accounts may send to addresses elsewhere, counted in recipients; a tenant may have values of its own."""

    account_per_hour: int = field(default=1000, metadata=_LIMIT)  # recipients; 0: no limit
    account_per_day: int = field(default=5000, metadata=_LIMIT)  # recipients; 0: no limit
    tenant_per_hour: int = field(default=10_000, metadata=_LIMIT)  # recipients of all its accounts; 0: no limit
    tenant_per_day: int = field(default=50_000, metadata=_LIMIT)  # recipients of all its accounts; 0: no limit
    # recipients within an hour above which an account is frozen if that is also unusual for it; 0: never
    freeze_above: int = field(default=500, metadata=_LIMIT)
    # unusual: so many times what it sent in its busiest hour of the week before
    freeze_factor: int = field(default=10, metadata={"least": 1, "most": 1_000_000})
