"""What people asked for about themselves and what was done, as the audit chain has it: no table of its own is needed.

A record about an account is sealed under that account's key and ends with it; of who has none here the record holds a
keyed hash of the address, so that his requests are found by who knows it, and nobody is remembered for having asked.

Raises: Unavailable.
"""

from __future__ import annotations

from collections.abc import Iterator

from storage.audit import AuditRecord
from storage.persons.sought import Sought

NOUN = "person"
REPORT, CORRECT, ERASE, DONE = (f"{NOUN}.{verb}" for verb in ("report", "correct", "erase", "erased"))

PERSON = "person"  # the detail that tells requests about one person from others


def record(sought: Sought, action: str, by: str, details: dict[str, str]) -> int:
    """Before anything is read or changed; the number of the record."""
    account_id = sought.account_id
    tenant_id = sought.tenant_id if account_id is not None else sought.only
    more = {PERSON: sought.mark}
    if account_id is not None:
        more["address"] = str(sought.address)
    return sought.installation.audit.append(action, by, tenant_id, account_id, {**more, **details})


def made(sought: Sought) -> Iterator[AuditRecord]:
    """Requests about this person."""
    for each in sought.installation.audit.read(action=NOUN, tenant_id=sought.only):
        same = (each.details or {}).get(PERSON) == sought.mark
        if same or (sought.account_id is not None and each.account_id == sought.account_id):
            yield each
