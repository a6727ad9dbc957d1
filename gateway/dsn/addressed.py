"""Makes recipients of the queue out of where an address leads. Pure.

Standards: RFC 5321 §3.9 (aliases).
"""

from __future__ import annotations

from dataclasses import replace

from storage.directory.resolve import Outcome, Resolution
from storage.directory.rows import State
from storage.queue.entries import NewRecipient, RecipientParameters
from storage.values import EmailAddress, TenantId


def recipients(
    resolution: Resolution, address: EmailAddress, tenant_id: TenantId, parameters: RecipientParameters
) -> dict[TenantId, list[NewRecipient]]:
    """By whose entry they belong in; what leaves the installation is `tenant_id`'s. Empty: it leads nowhere.

    A mailbox that is suspended takes what is about its own mail.
    """
    if resolution.outcome is Outcome.ELSEWHERE:
        return {tenant_id: [NewRecipient(address, None, parameters)]}
    if resolution.outcome is Outcome.ENDED:
        return {}
    found: dict[TenantId, list[NewRecipient]] = {}
    for mailbox in resolution.mailboxes:
        if mailbox.state is not State.ENDED:
            here = NewRecipient(address, mailbox.account_id, parameters)
            found.setdefault(mailbox.tenant_id, []).append(here)
    beyond = replace(parameters, original=parameters.original or str(address))
    for routed in resolution.routed:
        there = NewRecipient(routed.address, None, beyond, routed.domain)
        found.setdefault(routed.tenant_id, []).append(there)
    for external in resolution.external:
        found.setdefault(tenant_id, []).append(NewRecipient(external, None, beyond))
    return found
