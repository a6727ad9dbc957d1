"""Who follows what comes to mailboxes and leaves them: told in the writing transaction (storage.notes).

A follower writes on the transaction that it is handed and nowhere else. What it raises undoes the change. It is told
the mailbox's name as the transaction sees it, from a row that is read anyway: it need ask nothing about mailboxes that
do not concern it, and never misses a name that another process has given or taken away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from storage.database.database import Transaction
from storage.notes.message import NoteMessage
from storage.values import MailboxId


class MailFollower(Protocol):
    def arrived(
        self, transaction: Transaction, mailbox_id: MailboxId, name: str, messages: Sequence[tuple[int, NoteMessage]]
    ) -> None:
        """Messages that say that they are notes stand under these UIDs."""

    def transferred(self, transaction: Transaction, mailbox_id: MailboxId, name: str, uids: Sequence[int]) -> None:
        """Messages of this account came by COPY or MOVE; nobody has read them."""

    def left(self, transaction: Transaction, mailbox_id: MailboxId, name: str, uids: Sequence[int]) -> None:
        """Messages were expunged or moved away."""

    def may_go(self, transaction: Transaction, mailbox_id: MailboxId, name: str) -> None:
        """Raises NotPermitted if the mailbox must not be deleted or renamed."""

    def came(self, transaction: Transaction, name: str) -> None:
        """A mailbox that was there has this name now."""
