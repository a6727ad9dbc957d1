"""Who asks about withheld mail, and what of it is theirs: an account, a tenant's administrator, or the operator. Pure.

Raises: NotPermitted (another tenant's).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from storage.errors import NotPermitted
from storage.quarantine.values import Query, ReleasedBy
from storage.values import AccountId, TenantId


@dataclass(frozen=True, slots=True)
class Scope:
    """Everything that is not in it does not exist for who asks."""

    actor: str = field(repr=False)  # for records: a Unix user, an administrator's name, an account's address
    tenant_id: TenantId | None = None  # None: any
    account_id: AccountId | None = None  # only what is for this account's mailbox
    protocol: str = ""  # for access events: how the account signed in …
    address: str = field(default="", repr=False)  # … and from where

    @classmethod
    def operator(cls, actor: str) -> Scope:
        return cls(actor)

    @classmethod
    def administrator(cls, actor: str, tenant_id: TenantId) -> Scope:
        return cls(actor, tenant_id)

    @classmethod
    def account(
        cls, login: str, tenant_id: TenantId, account_id: AccountId, *, protocol: str = "web", address: str = ""
    ) -> Scope:
        return cls(login, tenant_id, account_id, protocol, address)

    @property
    def released_by(self) -> ReleasedBy:
        return ReleasedBy.ADMINISTRATOR if self.account_id is None else ReleasedBy.RECIPIENT

    def check(self, tenant_id: TenantId) -> None:
        """Raises NotPermitted unless the tenant is in it."""
        if self.tenant_id not in {None, tenant_id}:
            raise NotPermitted("This quarantine belongs to another tenant.")

    def narrowed(self, query: Query) -> Query:
        """The query, for what is in it alone. Raises NotPermitted if it asks for somebody else's."""
        if self.account_id is None:
            return query
        if query.account_id not in {None, self.account_id}:
            raise NotPermitted("This mail is for somebody else.")
        return replace(query, account_id=self.account_id)
