"""What the stores of control.db's directory have in common: its database, and whose rows are shown."""

from __future__ import annotations

from storage.clock import Clock
from storage.database.database import Database
from storage.keys.source import KeySource
from storage.values import TenantId


class Part:
    """One subject of the directory; `storage.directory.control.Control` is all of them."""

    def __init__(self, database: Database, keys: KeySource, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._only: TenantId | None = None

    def show_only(self, tenant_id: TenantId) -> None:
        """From now on there is no other tenant here, for tenants, domains and logins: for a tenant's administrator."""
        self._only = tenant_id

    def _hides(self, tenant_id: int) -> bool:
        return self._only is not None and tenant_id != self._only
