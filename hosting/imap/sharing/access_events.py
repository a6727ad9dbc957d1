"""What of a session is recorded as an access event, besides what the auth role records when it begins."""

from __future__ import annotations

from hosting.auth.signin import Principal
from storage.logs.access import AccessEvent, AccessResult, AccessType


def signing_out(who: Principal, address: str, now: int) -> AccessEvent:
    """The end of what `who` did from `address`."""
    return AccessEvent(
        now, AccessType.SIGN_OUT, AccessResult.SUCCESS, "imap", who.tenant_id, who.account_id, b"", address
    )
