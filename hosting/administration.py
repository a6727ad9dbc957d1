"""The stores of an installation as the command line uses them, and what it asks of an account.

Raises: NotFound, Unavailable.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.directory.control import Control
from storage.directory.provisioning import Provisioning
from storage.directory.resolve import Resolver
from storage.errors import Unavailable
from storage.installation import Installation
from storage.mail.account import Surroundings
from storage.mail.quota import Usage
from storage.rebuild import Rebuilt, rebuild_account, unshared
from storage.values import AccountId, TenantId


@dataclass(frozen=True, slots=True)
class Administration:
    installation: Installation
    provisioning: Provisioning
    resolver: Resolver

    @property
    def control(self) -> Control:
        return self.installation.control

    def usage(self, tenant_id: TenantId, account_id: AccountId) -> Usage:
        """What the account stores now."""
        with self.installation.account(tenant_id, account_id) as account:
            return account.usage()

    def entries(self, tenant_id: TenantId, account_id: AccountId) -> tuple[int, int]:
        """How many events, tasks, notes, cards and files the account has, and their octets, which its usage counts."""
        with self.installation.account(tenant_id, account_id) as account:
            there = account.collections.list()
        return sum(each.objects for each in there), sum(each.bytes for each in there)

    def unindexed(self, tenant_id: TenantId, account_id: AccountId) -> int:
        """Messages of the account that the search index does not hold yet."""
        with self.installation.account(tenant_id, account_id) as account:
            return account.index.unindexed()

    def rebuild(self, tenant_id: TenantId, account_id: AccountId) -> Rebuilt:
        """The account's database anew from its message files. Raises Unavailable if a process has it open."""
        installation = self.installation
        key = installation.keys.account_key(tenant_id, account_id, "rebuild")
        surroundings = Surroundings(installation.clock, installation.incarnation.name, installation.background)
        folder = installation.data / "tenants" / str(tenant_id) / "accounts" / str(account_id)
        try:
            replacing = unshared(installation, tenant_id, account_id)
            return rebuild_account(folder, tenant_id, account_id, key, surroundings, replacing=replacing)
        except Unavailable as error:
            raise Unavailable(
                "The account cannot be rebuilt while a process has it open; stop the server first.", detail=error.detail
            ) from None
