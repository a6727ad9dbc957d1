"""An installation that has a directory and no mail: real databases, keys and folders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.audit import Audit
from storage.changes import AccountChanged, TenantChanged
from storage.clock import FixedClock
from storage.directory.control import Control
from storage.directory.provisioning import Provisioning
from storage.directory.resolve import Resolver
from storage.directory.rows import AccountRow, State
from storage.directory.tenant import Tenant
from storage.errors import NotFound
from storage.keys.keystore import KeyStore
from storage.keys.master import Master, read_master_file, write_master_file
from storage.keys.source import LocalKeys
from storage.values import AccountId, Domain, EmailAddress, TenantId


class DirectoryPremises:
    def __init__(self, data: Path) -> None:
        """Made anew, or opened if it is there."""
        self.data = data
        self.clock = FixedClock()
        control, master = data / "control.db", data / "master"
        if control.exists():
            self.keys = LocalKeys(KeyStore(data / "keys", read_master_file(master), self.clock))
            self.control = Control.open(control, self.keys, self.clock)
        else:
            write_master_file(master, Master.generate())
            self.keys = LocalKeys(KeyStore.create(data / "keys", read_master_file(master), self.clock))
            self.control = Control.create(control, self.keys, self.clock)
        self.audit = Audit.open(data, self.keys, self.clock)
        self.control.approvals.recorded_in(lambda: self.audit)
        self.announced: list[AccountChanged | TenantChanged] = []
        self._tenants: dict[TenantId, Tenant] = {}

    def tenant(self, tenant_id: TenantId) -> Tenant:
        if tenant_id not in self._tenants:
            path = self.folder(tenant_id) / "tenant.db"
            if not path.exists():
                raise NotFound
            key = self.keys.tenant_key(tenant_id, "test")
            self._tenants[tenant_id] = Tenant.open(path, tenant_id, key, self.clock)
        return self._tenants[tenant_id]

    def make_tenant(self, tenant_id: TenantId) -> None:
        key = self.keys.create_tenant_key(tenant_id)
        self.folder(tenant_id).mkdir(parents=True)
        Tenant.create(self.folder(tenant_id) / "tenant.db", tenant_id, key, self.clock).close()

    def make_account(self, tenant_id: TenantId, account_id: AccountId) -> None:
        self.keys.create_account_key(tenant_id, account_id)
        (self.folder(tenant_id) / str(account_id)).mkdir(exist_ok=True)

    def end_account(self, tenant_id: TenantId, account_id: AccountId) -> None:
        """What an ending does to the directory; `account_ending.end_account` is a whole one, for an installation."""
        self.tenant(tenant_id).change_state(account_id, State.ENDED)
        self.announce(AccountChanged(tenant_id, account_id))
        self.keys.destroy_account_key(tenant_id, account_id)
        self.control.endings.remove_rows(tenant_id, [account_id], whole=False)
        self.tenant(tenant_id).remove_account(account_id)

    def announce(self, change: AccountChanged | TenantChanged) -> None:
        self.announced.append(change)

    def folder(self, tenant_id: TenantId) -> Path:
        return self.data / "tenants" / str(tenant_id)

    def close(self) -> None:
        for tenant in self._tenants.values():
            tenant.close()
        self.control.close()
        self.audit.close()


class Town:
    """Shorthands for tests: everything by its text."""

    def __init__(self, premises: DirectoryPremises) -> None:
        self.premises = premises
        self.control = premises.control
        self.provisioning = Provisioning(premises)
        self.resolver = Resolver(premises)

    def tenant(self, slug: str, *domains: str, verified: bool = True) -> TenantId:
        tenant_id = self.provisioning.create_tenant(slug, slug.title()).tenant_id
        for domain in domains:
            self.control.add_domain(tenant_id, Domain.parse(domain))
            if verified:
                self.control.verify_domain(Domain.parse(domain), None)
        return tenant_id

    def account(self, tenant_id: TenantId, address: str) -> AccountRow:
        return self.provisioning.create_account(tenant_id, EmailAddress.parse(address))

    def alias(self, tenant_id: TenantId, address: str, *targets: str) -> None:
        self.provisioning.add_alias(tenant_id, EmailAddress.parse(address), [EmailAddress.parse(t) for t in targets])

    def catch_all(self, tenant_id: TenantId, domain: str, *targets: str) -> None:
        self.provisioning.set_catch_all(tenant_id, Domain.parse(domain), [EmailAddress.parse(t) for t in targets])


@contextmanager
def new_town(data: Path) -> Iterator[Town]:
    premises = DirectoryPremises(data)
    try:
        yield Town(premises)
    finally:
        premises.close()
