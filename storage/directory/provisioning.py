"""Makes and changes tenants, accounts and aliases: steps over both databases, keys and files, in their order.

What is made exists from its last commit on; a run that was interrupted leaves ids that are never used, and keys and
folders without rows, and the same call made again succeeds. Whoever has sessions open is told after the commit. Tenants
and accounts are removed by `storage.ending` alone, which certifies it.

Raises: NotFound, AlreadyExists, Conflict, InvalidInput, NotPermitted, LimitReached, Unavailable.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from storage.changes import AccountChanged, TenantChanged
from storage.directory.addresses import ALIAS, CATCH_ALL, Entry, Target, catch_all_key
from storage.directory.control import check_slug
from storage.directory.resolve import Directory, find, leads_back
from storage.directory.rows import AccountRow, AppPasswordRow, State, TenantRow
from storage.directory.scram import MANY_ROUNDS, make_key, salt_of
from storage.directory.tenant import Room, Tenant
from storage.errors import AlreadyExists, Conflict, Gone, InvalidInput, NotFound, NotPermitted
from storage.values import AccountId, Domain, EmailAddress, TenantId


class Premises(Directory, Protocol):
    """What an installation does for provisioning. Each step may be repeated."""

    def make_tenant(self, tenant_id: TenantId) -> None:
        """The tenant's key, folder and database."""
        ...

    def make_account(self, tenant_id: TenantId, account_id: AccountId) -> None:
        """The account's key, folder and database with its first mailboxes."""
        ...

    def announce(self, change: AccountChanged | TenantChanged) -> None:
        """Tell every process on the change feed."""
        ...


class Provisioning:
    def __init__(self, premises: Premises) -> None:
        self._premises = premises
        self._control = premises.control

    # Tenants

    def create_tenant(self, slug: str, name: str) -> TenantRow:
        """A tenant with a key and a database of its own, without domains and accounts."""
        check_slug(slug)
        if self._control.has_slug(slug):
            raise AlreadyExists(f"There is a tenant '{slug}' already.")
        tenant_id = self._control.next_tenant_id()
        self._premises.make_tenant(tenant_id)
        return self._control.insert_tenant(tenant_id, slug, name)

    def suspend_tenant(self, tenant_id: TenantId) -> TenantRow:
        """Nobody of the tenant signs in, and open sessions end; mail that arrives waits, here or at its sender."""
        return self._change_tenant(tenant_id, State.SUSPENDED)

    def resume_tenant(self, tenant_id: TenantId) -> TenantRow:
        return self._change_tenant(tenant_id, State.ACTIVE)

    def _change_tenant(self, tenant_id: TenantId, state: State) -> TenantRow:
        row = self._control.change_tenant_state(tenant_id, state)
        self._premises.announce(TenantChanged(tenant_id))
        return row

    # Accounts

    def create_account(
        self,
        tenant_id: TenantId,
        address: EmailAddress,
        *,
        name: str = "",
        password_hash: str | None = None,
        quota_bytes: int = 0,
        quota_messages: int = 0,
    ) -> AccountRow:
        """A mailbox owner who signs in as `address`; its domain belongs to the tenant, verified or not."""
        self._own_domain(tenant_id, address.domain)
        if address.base != address:
            raise InvalidInput("An account's address has no + in it: what follows the + is a subaddress.")
        tenant = self._tenant(tenant_id)
        if tenant.addresses.find(address.key) is not None:
            raise AlreadyExists(f"{address} exists already.")
        room = self._room(tenant_id)
        if room is not None:  # before a key and a folder are made; what counts is said in the transaction
            room([*(row.quota_bytes for row in tenant.accounts() if row.state is not State.ENDED), quota_bytes])
        account_id = self._control.next_account_id()
        self._premises.make_account(tenant_id, account_id)
        return tenant.insert_account(
            account_id,
            address,
            name=name,
            password_hash=password_hash,
            quota_bytes=quota_bytes,
            quota_messages=quota_messages,
            claim=lambda: self._control.claim_login(address, tenant_id, account_id),
            room=room,
        )

    def _room(self, tenant_id: TenantId) -> Room | None:
        """What the contract says to one more account; None: nothing. Raises NotPermitted if it ends soon."""
        contract = self._control.contracts.find(tenant_id)
        if contract is None:
            return None
        self._control.contracts.check_open(tenant_id)
        return contract.limits.check_accounts

    def set_password(self, tenant_id: TenantId, account_id: AccountId, password_hash: str | None) -> None:
        """Sessions that were opened with the old password end; app passwords stay valid."""
        self._tenant(tenant_id).set_password(account_id, password_hash)
        self._announce(tenant_id, account_id)

    def make_scram_key(self, tenant_id: TenantId, account_id: AccountId, password_hash: str, password: str) -> None:
        """SCRAM knows the account's own password at once, and not from its next verification on.

        To be called where main passwords are for SCRAM, after the password was set; nothing happens if another was set.
        """
        tenant = self._tenant(tenant_id)
        salt = tenant.scram.salt(account_id)
        if salt is None:
            salt = salt_of(self._control.login_hash(str(tenant.account(account_id).login)))
        key = make_key(password, salt, MANY_ROUNDS)
        if key is not None:
            tenant.set_scram_key(account_id, password_hash, salt, key)

    def set_quota(
        self, tenant_id: TenantId, account_id: AccountId, *, quota_bytes: int, quota_messages: int
    ) -> AccountRow:
        """0 is unlimited. What is stored already stays, whatever it takes."""
        tenant = self._tenant(tenant_id)
        contract, before = self._control.contracts.find(tenant_id), tenant.account(account_id).quota_bytes
        less = 0 < quota_bytes <= before  # may be given whatever the contract says
        room = None if contract is None or less else contract.limits.check_quotas
        tenant.set_quota(account_id, quota_bytes=quota_bytes, quota_messages=quota_messages, room=room)
        self._announce(tenant_id, account_id)
        return tenant.account(account_id)

    def suspend_account(self, tenant_id: TenantId, account_id: AccountId) -> AccountRow:
        return self._change_account(tenant_id, account_id, State.SUSPENDED)

    def resume_account(self, tenant_id: TenantId, account_id: AccountId) -> AccountRow:
        return self._change_account(tenant_id, account_id, State.ACTIVE)

    def allow_catch_all_sender(self, tenant_id: TenantId, account_id: AccountId, granted: bool) -> None:
        """Whether it may send as any address that reaches it by a catch-all alone."""
        self._tenant(tenant_id).allow_catch_all_sender(account_id, granted)

    def _change_account(self, tenant_id: TenantId, account_id: AccountId, state: State) -> AccountRow:
        tenant = self._tenant(tenant_id)
        tenant.change_state(account_id, state)
        self._announce(tenant_id, account_id)
        return tenant.account(account_id)

    # App passwords

    def create_app_password(
        self, tenant_id: TenantId, account_id: AccountId, name: str, protocols: Collection[str] = ()
    ) -> tuple[AppPasswordRow, str]:
        """The new one and its text, to be shown once. No protocols: all of them."""
        tenant = self._tenant(tenant_id)
        account = tenant.account(account_id)
        if account.state is State.ENDED:
            raise Conflict("The account is being deleted.")
        salt = salt_of(self._control.login_hash(str(account.login)))
        return tenant.app_passwords.create(account_id, name, protocols, salt=salt)

    def revoke_app_password(self, tenant_id: TenantId, account_id: AccountId, app_password_id: int) -> None:
        """Sessions that were opened with it end."""
        self._tenant(tenant_id).app_passwords.revoke(account_id, app_password_id)
        self._announce(tenant_id, account_id)

    # Aliases

    def add_alias(self, tenant_id: TenantId, address: EmailAddress, targets: Sequence[EmailAddress]) -> None:
        """Mail to `address` goes to each target. NotFound for a target of this tenant that nobody has."""
        tenant, entry = self._entry(tenant_id, address.domain, address.key, ALIAS, targets)
        tenant.addresses.add_alias(address, entry.targets)

    def remove_alias(self, tenant_id: TenantId, address: EmailAddress) -> None:
        self._tenant(tenant_id).addresses.remove(address.key)

    def set_catch_all(self, tenant_id: TenantId, domain: Domain, targets: Sequence[EmailAddress]) -> None:
        """Mail to any address of the domain that nobody has goes to each target."""
        tenant, entry = self._entry(tenant_id, domain, catch_all_key(domain), CATCH_ALL, targets)
        tenant.addresses.add_catch_all(domain, entry.targets)

    def remove_catch_all(self, tenant_id: TenantId, domain: Domain) -> None:
        self._tenant(tenant_id).addresses.remove(catch_all_key(domain))

    def _entry(
        self, tenant_id: TenantId, domain: Domain, key: str, kind: str, targets: Sequence[EmailAddress]
    ) -> tuple[Tenant, Entry]:
        self._own_domain(tenant_id, domain)
        tenant = self._tenant(tenant_id)
        if tenant.addresses.find(key) is not None:
            raise AlreadyExists(f"{key} exists already.")
        entry = Entry(
            key, kind, targets=tuple(self._target(tenant, target, Entry(key, kind, ())) for target in targets)
        )
        if leads_back(self._premises, tenant_id, entry):
            raise Conflict(f"{key} would lead back to itself.")
        return tenant, entry

    def _target(self, tenant: Tenant, address: EmailAddress, new: Entry) -> Target:
        """An account by its id where the address is exactly its own, so that the target goes with the account."""
        domain = self._control.find_domain(address.domain)
        if domain is None or domain.tenant_id != tenant.tenant_id:
            return address
        found = find(tenant, address, new)
        if found is None:
            route = tenant.routes.find(address.domain)
            if route is not None and route.leads_out:  # somebody may have it there
                return address
            raise NotFound(f"Nobody has the address {address}.")
        if found.entry.key == address.key and found.entry.kind not in (ALIAS, CATCH_ALL):
            return found.entry.targets[0]
        return address

    def _own_domain(self, tenant_id: TenantId, domain: Domain) -> None:
        row = self._control.find_domain(domain)
        if row is None:
            raise NotFound(f"The domain {domain} is not in this installation; add it first.")
        if row.tenant_id != tenant_id:
            raise NotPermitted(f"The domain {domain} belongs to another tenant.")

    def _tenant(self, tenant_id: TenantId) -> Tenant:
        if self._control.tenant_state(tenant_id)[0] is State.ENDED:
            raise Gone("The tenant's contract has ended.")
        return self._premises.tenant(tenant_id)

    def _announce(self, tenant_id: TenantId, account_id: AccountId) -> None:
        self._premises.announce(AccountChanged(tenant_id, account_id))
