"""Tells a new throttle which addresses signed in to which accounts lately, from the access events of before.

Without it a restart of the auth role would, for a while, let the account limit lock out people who are known. Reads the
events of some days, so it belongs in a thread of its own.
"""

from __future__ import annotations

from hosting.auth.throttle import Throttle
from storage.clock import Clock
from storage.directory.control import Control
from storage.logs.access import AccessLog, AccessResult, AccessType

RECALLED = 7 * 86400  # seconds


def recall(throttle: Throttle, access_log: AccessLog, control: Control, clock: Clock) -> int:
    """How many sign-ins were told. Raises Unavailable; what was told until then stays."""
    now = clock.now()
    hashes = control.login_hashes()
    told = 0
    for event in access_log.read(now - RECALLED, now + 1):
        if event.type != AccessType.SIGN_IN or event.result != AccessResult.SUCCESS or event.account_id is None:
            continue
        login_hash = hashes.get(event.account_id)
        if login_hash is not None:
            throttle.remember(login_hash, event.address, event.time)
            told += 1
    return told
