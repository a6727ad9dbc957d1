"""Which accounts this process is told of by the change feed: those of sessions in IDLE, or that asked for NOTIFY.

Of other accounts nobody here would be told anything, so their commits wake nobody (`storage.feed_files`). Whoever
begins to pay attention looks at the database once more afterwards, also where others paid it already: what was
committed after his last look, and told before he was among those who are told, is found then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from storage.changes import Published, Subscriber
from storage.values import AccountId, MailboxId

Watched = tuple[AccountId, MailboxId]


class Attention:
    """Confined to the event loop. `look` has a change told in the next turn, as if it had just been made."""

    def __init__(self, subscriber: Subscriber | None, look: Callable[[Published], None]) -> None:
        self._subscriber = subscriber
        self.look = look
        self._paid: Counter[AccountId] = Counter()

    def pay(self, account_id: AccountId) -> None:
        self._paid[account_id] += 1
        if self._paid[account_id] == 1 and self._subscriber is not None:
            self._subscriber.watch(account_id)

    def withdraw(self, account_id: AccountId) -> None:
        self._paid[account_id] -= 1
        if not self._paid[account_id]:
            del self._paid[account_id]
            if self._subscriber is not None:
                self._subscriber.unwatch(account_id)


def selected(connection: Any) -> Watched | None:
    """The mailbox that a connection has selected."""
    found = connection.session.selected if connection.session is not None else None
    return None if found is None else (found.account.account_id, found.mailbox_id)
