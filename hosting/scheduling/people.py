"""Whose a calendar user address is: one's own, another account's of the tenant, somebody's who is reached by mail.

Raises: Unavailable.
Standards: RFC 6638 §2.4.1, §3.2.9.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from storage.directory.resolve import Outcome, Resolution, Resolver, Route
from storage.itip.users import address_of
from storage.values import AccountId, EmailAddress, TenantId


@dataclass(frozen=True, slots=True)
class Here:
    """An account of the same tenant: scheduling messages go straight into its calendar."""

    account_id: AccountId


@dataclass(frozen=True, slots=True)
class ByMail:
    """Anybody else who has mail, also accounts here of other tenants: what he gets into his calendar he decides."""

    address: EmailAddress = field(repr=False)
    resolution: Resolution = field(repr=False)


@dataclass(frozen=True, slots=True)
class Nowhere:
    """Nobody who could be reached."""


Place = Here | ByMail | Nowhere


class People:
    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def own(self, tenant_id: TenantId, account_id: AccountId) -> Callable[[str], bool]:
        """Whether a calendar user is this account, and nobody beside it. Each is looked up once."""
        known: dict[str, bool] = {}

        def is_own(user: str) -> bool:
            found = known.get(user)
            if found is None:
                place = self.place(tenant_id, user)
                found = known[user] = isinstance(place, Here) and place.account_id == account_id
            return found

        return is_own

    def place(self, tenant_id: TenantId, user: str) -> Place:
        """Where a calendar user is, for accounts of the tenant."""
        address = address_of(user)
        if address is None:
            return Nowhere()
        found = self._resolver.resolve(address)
        if found.outcome in {Outcome.UNKNOWN, Outcome.ENDED} and found.tenant_id == tenant_id:
            return Nowhere()  # who there is of other tenants, mail tells or nobody
        only_mailbox = len(found.mailboxes) == 1 and not found.external and not found.routed
        # An address that leads to somebody only since nobody else has it is not his.
        if only_mailbox and found.route not in {Route.CATCH_ALL, Route.ROLE}:
            mailbox = found.mailboxes[0]
            if mailbox.tenant_id == tenant_id and found.tenant_id == tenant_id:
                return Here(mailbox.account_id)
        return ByMail(address, found)
