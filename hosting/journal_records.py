"""Whose journals an audit record belongs to.

Nearly always of the account that it is of. A reviewer's process knows no accounts, so the record of his look is of the
tenant alone: it is told to each account here from which the message is withheld, as long as the message is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hosting.review.desk import VIEW
from storage.audit import AuditRecord
from storage.errors import Gone, NotFound
from storage.installation import Installation
from storage.quarantine.store import Quarantine


def of_accounts(installation: Installation, record: AuditRecord) -> Iterator[AuditRecord]:
    """The record once for each account whose owner it concerns."""
    if record.account_id is not None:
        yield record
    elif record.action == VIEW and record.tenant_id is not None and record.details is not None:
        try:
            message = Quarantine(installation).show(record.tenant_id, record.details.get("message", ""))
        except (NotFound, Gone):
            return
        accounts = {each.onward.account_id for each in message.recipients}
        # The reason is the reviewer's, and may speak of other recipients.
        details = {"message": record.details.get("message", "")}
        for account_id in sorted(each for each in accounts if each is not None):
            yield replace(record, account_id=account_id, details=details, role=record.role or "reviewer")
