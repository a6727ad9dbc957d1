"""What each role may ask of the auth role: the table "Processes" of the design as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from storage.errors import NotPermitted


class Role(StrEnum):
    IMAP = "imap"
    SMTP = "smtp"
    QUEUE = "queue"
    WEB = "web"
    JOBS = "jobs"
    ADMIN = "admin"  # the command line
    AUDITOR = "auditor"  # the command line of a log auditor
    REVIEWER = "reviewer"  # the command line of who reviews withheld mail


@dataclass(frozen=True, slots=True)
class Grant:
    services: frozenset[str]  # service keys by name
    tenants: bool  # tenants' keys
    sign_in: bool  # verify passwords
    provision: bool  # make and destroy keys
    accounts: bool = True  # accounts' keys are what nearly every role works with
    transcripts: bool = False  # read what all others can only write
    reviews: bool = False  # see what was reported as wrongly withheld, with keys that open headers only
    endings: bool = False  # destroy tenants' keys, sign, and end processes that hold keys
    staff: bool = False  # let staff sign in
    sharing: bool = False  # read and change who may do what with others' mailboxes


_DELIVERY = frozenset({"control", "directory", "queue", "logs", "transcripts"})
_ALL = _DELIVERY | {"audit"}

GRANTS: dict[Role, Grant] = {
    Role.IMAP: Grant(frozenset({"logs"}), tenants=False, sign_in=True, provision=False, sharing=True),
    Role.SMTP: Grant(_DELIVERY, tenants=True, sign_in=True, provision=False),
    Role.QUEUE: Grant(_DELIVERY, tenants=True, sign_in=False, provision=False),
    Role.WEB: Grant(_DELIVERY, tenants=True, sign_in=True, provision=False),
    Role.JOBS: Grant(_ALL, tenants=True, sign_in=False, provision=True, endings=True),
    Role.ADMIN: Grant(_ALL, tenants=True, sign_in=False, provision=True, endings=True, staff=True),
    Role.AUDITOR: Grant(frozenset(), tenants=False, sign_in=False, provision=False, accounts=False, transcripts=True),
    Role.REVIEWER: Grant(frozenset(), tenants=False, sign_in=False, provision=False, accounts=False, reviews=True),
}

# Requests that need more than a place in the table: which column of it.
_COLUMN = {
    "verify": "sign_in",
    "scram_begin": "sign_in",
    "scram_finish": "sign_in",
    "verify_token": "sign_in",
    "tenant_key": "tenants",
    "account_key": "accounts",
    "staff_sign_in": "staff",
    "auditor_key": "transcripts",
    "header_key": "reviews",
    "reviews": "reviews",
    "view_review": "reviews",
    "decide_review": "reviews",
    "create_tenant_key": "provision",
    "create_account_key": "provision",
    "destroy_account_key": "provision",
    "destroy_tenant_key": "endings",
    "rotate_keys": "endings",
    "sign": "endings",
    "holders": "endings",
    "present": "endings",
    "recycle": "endings",
    "retire": "endings",
    "kill": "endings",
    "mailboxes_shared": "sharing",
    "mailbox_rights": "sharing",
    "mailbox_identifier": "sharing",
    "mailbox_owner": "sharing",
    "change_mailbox_rights": "sharing",
    "inherit_mailbox_rights": "sharing",
    "remove_mailbox_rights": "sharing",
}


# What changes keys, one after the other, and may take as long as the operator's key store.
CHANGE_KEYS = frozenset(
    {"create_tenant_key", "create_account_key", "destroy_account_key", "destroy_tenant_key", "rotate_keys"}
)


def check(role: Role, operation: str, service: str | None = None) -> None:
    """Raises NotPermitted."""
    grant = GRANTS[role]
    column = _COLUMN.get(operation)
    if column is not None and not getattr(grant, column):
        raise NotPermitted(f"The role {role} may not ask for {operation}.")
    if operation == "service_key" and service not in grant.services:
        raise NotPermitted(f"The role {role} may not hold this key.")
