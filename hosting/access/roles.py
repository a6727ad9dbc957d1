"""The roles of people by need-to-know, and what is known of somebody who asks.

Raises: InvalidInput.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from storage.errors import InvalidInput
from storage.values import AccountId, TenantId


class StaffRole(StrEnum):
    OPERATOR = "operator"  # runs the installation
    SUPPORT = "support"  # helps customers: sees states and traces, no content
    REVIEWER = "reviewer"  # technical reviewer of withheld mail: headers, with a recorded secrecy agreement
    AUDITOR = "auditor"  # log auditor: transcripts, audit records
    BILLING = "billing"  # contracts, and how much is used
    TENANT_ADMINISTRATOR = "tenant_administrator"  # of one customer
    USER = "user"  # of one mailbox: his own


# Whom the provider employs; the others see what is theirs only.
PROVIDERS = frozenset({StaffRole.OPERATOR, StaffRole.SUPPORT, StaffRole.REVIEWER, StaffRole.AUDITOR, StaffRole.BILLING})


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody who asks, as far as it is known; what he may follows from this alone (`hosting.access.decide`)."""

    name: str = field(repr=False)  # for audit records: of the staff account, else of the Unix user
    roles: frozenset[StaffRole]
    tenant_id: TenantId | None = None  # of a tenant administrator and of a user
    account_id: AccountId | None = None  # of a user
    unix: str = field(default="", repr=False)  # the Unix user
    signed_in: bool = False  # with a password and a code
    must_sign_in: bool = False  # [staff] required, and he did not
    machine: bool = False  # his process could read the keys anyway: root, or the user that the server runs as
    root: bool = False  # the person is root himself
    server: bool = False  # comes as the user that the server runs as: which person that is, nobody knows
    agreed: bool = False  # a secrecy agreement of his is in force
    named_auditor: bool = False  # [logs] auditors names his Unix user


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose data it is; nobody's: the installation itself."""

    tenant_id: TenantId | None = None
    account_id: AccountId | None = None


def parse_roles(names: Iterable[str]) -> frozenset[StaffRole]:
    """Raises InvalidInput. Roles of people who sign in as staff: a user of a mailbox is none."""
    given = frozenset(names)
    known = {role.value for role in StaffRole} - {StaffRole.USER.value}
    if unknown := given - known:
        raise InvalidInput(f"There is no role '{min(unknown)[:40]}'; roles are {', '.join(sorted(known))}.")
    if not given:
        raise InvalidInput("A person has at least one role.")
    roles = frozenset(StaffRole(name) for name in given)
    if StaffRole.TENANT_ADMINISTRATOR in roles and len(roles) > 1:
        raise InvalidInput("A tenant's administrator has no role with the provider.")
    return roles
