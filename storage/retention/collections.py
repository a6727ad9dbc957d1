"""What collections remember for a time goes: messages of scheduling in the inbox, names of what was deleted, old locks.

Objects that people keep stay until their owner deletes them. What goes from the inbox goes as by DELETE, so clients
are told. Repeated it goes on. Who comes with a sync token of before the names that went gets valid-sync-token and reads
his collections anew (RFC 6578 §3.2).
"""

from __future__ import annotations

from collections.abc import Callable

from storage.clock import Clock
from storage.collections.values import Kind
from storage.itip.store import Scheduling
from storage.mail.account import Account
from storage.register.periods import DAY

KEPT_DAYS = 90
_SLICE = 500


def remove_from_collections(account: Account, now: int, stopping: Callable[[], bool] = lambda: False) -> int:
    """How many objects, names and locks went."""
    before = now - KEPT_DAYS * DAY
    removed = account.objects.forget_gone(before) + account.locks.remove_expired()
    for inbox in account.collections.list(Kind.INBOX):
        after = 0
        while inbox.objects and not stopping() and (rows := account.objects.some(inbox.id, after, _SLICE)):
            after = rows[-1].object_id
            for each in rows:
                if each.modified < before and not stopping():
                    account.objects.delete(inbox.id, each.name, if_match=(each.etag,))
                    removed += 1
    return removed


def remove_from_scheduling(account: Account, clock: Clock) -> int:
    """Which messages were worked on is forgotten when nobody sends them again; how many."""
    return Scheduling(account, clock).remove_expired()
