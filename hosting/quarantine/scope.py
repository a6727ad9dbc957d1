"""Who asks about withheld mail, and what of it is theirs: an account, a tenant's administrator, or the operator. Pure.

Accounts and administrators of a tenant see their own mail. For the operator it is the mail of others: he sees its
subjects, authors and header lines if he promised in writing to keep them secret, else what the traces show anyway.

Raises: NotPermitted (another tenant's, or texts that are not for who asks).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from hosting.access.actions import Action
from hosting.access.decide import may
from hosting.access.roles import StaffRole, Who
from storage.errors import NotPermitted
from storage.quarantine.values import Query, ReleasedBy, Withheld
from storage.values import AccountId, TenantId


@dataclass(frozen=True, slots=True)
class Scope:
    """Everything that is not in it does not exist for who asks."""

    actor: str = field(repr=False)  # for records: a Unix user, an administrator's name, an account's address
    tenant_id: TenantId | None = None  # None: any
    account_id: AccountId | None = None  # only what is for this account's mailbox
    protocol: str = ""  # for access events: how the account signed in …
    address: str = field(default="", repr=False)  # … and from where

    who: Who | None = field(default=None, repr=False)  # what else is known of an operator

    @classmethod
    def operator(cls, actor: str, who: Who | None = None) -> Scope:
        return cls(actor, who=who)

    @classmethod
    def administrator(cls, actor: str, tenant_id: TenantId) -> Scope:
        return cls(actor, tenant_id)

    @classmethod
    def account(
        cls, login: str, tenant_id: TenantId, account_id: AccountId, *, protocol: str = "web", address: str = ""
    ) -> Scope:
        return cls(login, tenant_id, account_id, protocol, address)

    @property
    def is_operator(self) -> bool:
        return self.tenant_id is None

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

    def closed(self, *, agreed: bool, server_users: Collection[str]) -> str:
        """Why subjects, authors and header lines are not for who asks, in a sentence; empty if they are.

        `agreed`: whether a secrecy agreement of the operator is in force now; `server_users`: whom the server's own
        processes belong to, of whom nobody knows which person they are.
        """
        if not self.is_operator:
            return ""
        known = self.who or Who(self.actor, frozenset({StaffRole.REVIEWER}))
        who = replace(known, server=known.server or self.actor in server_users, agreed=known.agreed or agreed)
        try:
            may(who, Action.WITHHELD_TEXTS)
        except NotPermitted as refused:
            return refused.public
        return ""


def in_envelope(query: Query, closed: str) -> Query:
    """The query for whom header fields are closed to: it looks into none. Raises NotPermitted if it asks for them."""
    if not closed:
        return query
    if query.subject:
        raise NotPermitted(closed)
    return replace(query, envelope_only=True)


def without_header(message: Withheld) -> Withheld:
    """The message without what its header fields say."""
    return replace(message, author="", subject="")
