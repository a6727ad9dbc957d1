"""Addresses of accounts by their numbers, for lists of records."""

from __future__ import annotations

from hosting.administration import Administration
from storage.errors import Gone, NotFound
from storage.values import TenantId


class Names:
    """Accounts' addresses by their numbers, each tenant read once."""

    def __init__(self, administration: Administration) -> None:
        self._administration = administration
        self._known: dict[int, dict[int, str]] = {}

    def slug(self, tenant_id: int) -> str:
        slugs = {int(row.tenant_id): row.slug for row in self._administration.control.tenants()}
        return slugs.get(tenant_id, f"number {tenant_id}, gone")

    def of(self, tenant_id: int, account_id: int) -> str:
        if tenant_id not in self._known:
            try:
                accounts = self._administration.installation.tenant(TenantId(tenant_id)).accounts()
            except (NotFound, Gone):
                accounts = []
            self._known[tenant_id] = {int(row.account_id): str(row.login) for row in accounts}
        return self._known[tenant_id].get(account_id, f"number {account_id}, deleted")
