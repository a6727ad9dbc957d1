"""What the directory hands out: frozen rows of tenants, domains, accounts, device passwords and aliases.

No row carries a password, a hash or a key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from storage.values import AccountId, Domain, EmailAddress, TenantId


class State(StrEnum):
    """Of a tenant or an account. ENDED is final: what it stored is being erased."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    ENDED = "ended"


# Which state may follow which; anything else is a Conflict.
NEXT_STATES: dict[State, frozenset[State]] = {
    State.ACTIVE: frozenset({State.SUSPENDED, State.ENDED}),
    State.SUSPENDED: frozenset({State.ACTIVE, State.ENDED}),
    State.ENDED: frozenset(),
}


class DomainState(StrEnum):
    PENDING = "pending"  # neither local delivery nor sending
    VERIFIED = "verified"


@dataclass(frozen=True, slots=True)
class TenantRow:
    tenant_id: TenantId
    slug: str
    name: str
    state: State
    state_version: int
    created: int


@dataclass(frozen=True, slots=True)
class DomainRow:
    domain: Domain
    tenant_id: TenantId
    state: DomainState
    token: str
    created: int
    verified: int | None

    @property
    def record_name(self) -> str:
        """Where the owner of the domain publishes `token` as a TXT record."""
        return f"_cleanmail.{self.domain}"


@dataclass(frozen=True, slots=True)
class Login:
    """Whom a login name belongs to."""

    tenant_id: TenantId
    account_id: AccountId


@dataclass(frozen=True, slots=True)
class AccountRow:
    account_id: AccountId
    login: EmailAddress
    name: str
    state: State
    credential_version: int
    quota_bytes: int  # 0: unlimited
    quota_messages: int  # 0: unlimited
    catch_all_sender: bool
    created: int


@dataclass(frozen=True, slots=True)
class AppPasswordRow:
    app_password_id: int
    account_id: AccountId
    name: str
    version: int
    protocols: frozenset[str]  # empty: all
    created: int
    revoked: int | None
    # Whether SCRAM knows it, in a list: those from before there was SCRAM, and revoked ones, it does not.
    scram: bool = field(default=False, compare=False)

    def allows(self, protocol: str) -> bool:
        return not self.protocols or protocol in self.protocols


@dataclass(frozen=True, slots=True)
class AliasRow:
    """An alias, or a catch-all, whose `address` is written "@domain"."""

    address: str
    catch_all: bool
    accounts: tuple[AccountId, ...]
    addresses: tuple[EmailAddress, ...]
