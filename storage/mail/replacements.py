"""REPLACE: a new message in the place of an old one, in one commit; after a crash one of both is there, never neither.

The old message's octets are given back before the new one's are charged: only the difference has to fit (RFC 8508 §1).
Nothing is inherited. What the mailboxes' owner shows elsewhere (storage.mail.follow) is told first of what came, then
of what left, as if a client had done the one after the other.

Raises: NotFound (mailbox), Gone (the old message), NotPermitted, OverQuota, StorageFull, Unavailable.
Standards: RFC 8508 §3.4 and §4.5; RFC 7162 §3.2.10 (a tombstone, as of an expunge).
"""

from __future__ import annotations

from storage.database.database import Transaction
from storage.errors import Gone
from storage.mail.arrivals import Arrivals, Filed
from storage.mail.ledger import Ledger
from storage.mail.memberships import Memberships
from storage.mail.outcomes import Appended, NewMessage
from storage.mail.removals import Removals
from storage.values import MailboxId, UidSet


class Replacements:
    """Within one account."""

    def __init__(self, ledger: Ledger, memberships: Memberships, arrivals: Arrivals, removals: Removals) -> None:
        self._ledger = ledger
        self._memberships = memberships
        self._arrivals = arrivals
        self._removals = removals

    def replace(self, mailbox_id: MailboxId, uid: int, target_id: MailboxId, target: str, new: NewMessage) -> Appended:
        """`target` is the name that the file will remember."""
        filed = self._arrivals.file(target, new, read_later=True)
        try:
            appended = self._ledger.database.write(
                lambda transaction: self._exchange(transaction, mailbox_id, uid, target_id, filed)
            )
        except Exception:  # an interrupt may come after the commit: it leaves the file alone
            self._arrivals.drop([filed])
            raise
        self._arrivals.settle([filed])
        self._removals.count_tombstones(mailbox_id, 1)
        return appended

    def _exchange(
        self, transaction: Transaction, mailbox_id: MailboxId, uid: int, target_id: MailboxId, filed: Filed
    ) -> Appended:
        rows = self._memberships.full(transaction, mailbox_id, UidSet.of([uid]))
        if not rows:
            raise Gone("The message is no longer there.")
        [(_, _, message_id, octets)] = rows
        position = self._removals.take_out(transaction, mailbox_id, rows, unbroken=True)
        self._ledger.release(transaction, octets, 1)
        (appended,) = self._arrivals.insert(transaction, target_id, [filed])
        self._removals.remove_unused(transaction, [message_id])
        if self._ledger.follower is not None:
            self._ledger.follower.left(transaction, mailbox_id, position.name, [uid])
        return appended
