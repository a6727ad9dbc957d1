"""The other processes of a server, as an ending sees them; `hosting.ending` knows them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from storage.values import TenantId


class Processes(Protocol):
    """Never this process itself."""

    def holding(self, tenant_id: TenantId, folder: Path, *, keys: bool) -> frozenset[int]:
        """Those that have files below `folder` open or, with `keys`, did not say that they forgot the tenant's keys."""

    def kill(self, tenant_id: TenantId, processes: frozenset[int]) -> int:
        """End those of them that ever held keys of the tenant, at once; how many."""

    def replaced_until(self, now: int) -> int | None:
        """When those that held keys of an account which ends now, and go on for others, are replaced at the latest."""

    def recycle(self, tenant_id: TenantId) -> int:
        """Have those that ever held keys of the tenant replaced, since their memory may still show them; how many."""

    def recycle_key_holder(self) -> int:
        """Likewise the one that gives keys to the others; how many. It holds every key, and old ones of the master."""


class Nobody:
    """Where no server runs."""

    def holding(self, tenant_id: TenantId, folder: Path, *, keys: bool) -> frozenset[int]:
        return frozenset()

    def kill(self, tenant_id: TenantId, processes: frozenset[int]) -> int:
        return 0

    def replaced_until(self, now: int) -> int | None:
        return None

    def recycle(self, tenant_id: TenantId) -> int:
        return 0

    def recycle_key_holder(self) -> int:
        return 0
