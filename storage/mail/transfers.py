"""COPY and MOVE: messages into another mailbox of the account by rows alone, or into another account anew.

Within an account no file is touched; the target's quota is charged in the inserting transaction. MOVE takes each slice
out of the source and into the target in one commit. A COPY that fails midway takes back what it copied (RFC 9051
§6.4.7), but not what it said of spam (`storage.mail.opinions`). Commits are FULL, since UIDs are given out.

Raises: NotFound, OverQuota, LimitReached, Gone (to another account: expunged meanwhile), Unavailable.
Standards: RFC 9051 §6.4.7, §6.4.8; RFC 6851 §3.3; RFC 4315 §3.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from storage.clock import Clock
from storage.database.database import Transaction
from storage.database.prepared import Row
from storage.errors import CleanmailError
from storage.mail.keywords import KEYWORD_BITS, Keywords
from storage.mail.ledger import Delta, Ledger, Position
from storage.mail.memberships import Memberships, is_unbroken, rest_of
from storage.mail.opinions import Opinions
from storage.mail.outcomes import Copied
from storage.mail.removals import Removals
from storage.values import DELETED, SEEN, MailboxId, UidSet


@dataclass(frozen=True, slots=True)
class _Slice:
    pairs: list[tuple[int, int]]
    uidvalidity: int
    rest: UidSet


class Transfers:
    """Between the mailboxes of one account."""

    def __init__(
        self,
        ledger: Ledger,
        keywords: Keywords,
        memberships: Memberships,
        removals: Removals,
        opinions: Opinions,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._keywords = keywords
        self._memberships = memberships
        self._removals = removals
        self._opinions = opinions
        self._clock = clock

    def copy(self, source_id: MailboxId, uids: UidSet, target_id: MailboxId) -> Copied:
        """All or nothing."""
        pairs: list[tuple[int, int]] = []
        try:
            return self._each_slice(uids, pairs, partial(self._copy, source_id, target_id))
        except BaseException:
            if pairs:
                with suppress(CleanmailError):
                    self._removals.expunge(target_id, UidSet.of(uid for _, uid in pairs), only_deleted=False)
            raise

    def move(self, source_id: MailboxId, uids: UidSet, target_id: MailboxId) -> Copied:
        """Each message is in one mailbox or the other at any time; what a failure leaves is where it was."""
        return self._each_slice(uids, [], partial(self._move, source_id, target_id))

    def _each_slice(self, uids: UidSet, pairs: list[tuple[int, int]], work: Callable[..., _Slice]) -> Copied:
        uidvalidity = 0
        while uids:
            part = self._ledger.database.write(partial(work, uids=uids))
            pairs += part.pairs
            uidvalidity = part.uidvalidity or uidvalidity
            uids = part.rest
        return Copied(uidvalidity, pairs)

    def _copy(self, source_id: MailboxId, target_id: MailboxId, transaction: Transaction, uids: UidSet) -> _Slice:
        rows = self._memberships.full(transaction, source_id, uids)
        if not rows:
            return _Slice([], 0, rest_of(uids, rows))
        self._ledger.charge(transaction, sum(row[3] for row in rows), len(rows))
        position = self._put_in(transaction, source_id, rows, target_id)
        self._tell_follower(transaction, target_id, position, len(rows))
        return _slice(uids, rows, position)

    def _move(self, source_id: MailboxId, target_id: MailboxId, transaction: Transaction, uids: UidSet) -> _Slice:
        rows = self._memberships.full(transaction, source_id, uids)
        if not rows:
            return _Slice([], 0, rest_of(uids, rows))
        before = self._removals.take_out(transaction, source_id, rows, unbroken=is_unbroken(uids, rows, len(rows)))
        position = self._put_in(transaction, source_id, rows, target_id)
        if self._ledger.follower is not None:
            self._ledger.follower.left(transaction, source_id, before.name, [row[0] for row in rows])
        self._tell_follower(transaction, target_id, position, len(rows))
        return _slice(uids, rows, position)

    def _tell_follower(self, transaction: Transaction, target_id: MailboxId, position: Position, count: int) -> None:
        if self._ledger.follower is not None:
            uids = range(position.first_uid, position.first_uid + count)
            self._ledger.follower.transferred(transaction, target_id, position.name, uids)

    def _put_in(
        self, transaction: Transaction, source_id: MailboxId, rows: list[Row], target_id: MailboxId
    ) -> Position:
        """New memberships of the messages in (uid, flags, message id, size)."""
        flags = self._flags_there(transaction, source_id, rows, target_id)
        position = self._ledger.advance(
            transaction,
            target_id,
            uids=len(rows),
            messages=len(rows),
            unseen=sum(not each & SEEN for each in flags),
            deleted=sum(bool(each & DELETED) for each in flags),
            octets=sum(row[3] for row in rows),
        )
        uids = array("I", range(position.first_uid, position.first_uid + len(rows)))
        self._memberships.insert(
            transaction,
            target_id,
            [(uid, row[2], bits) for uid, row, bits in zip(uids, rows, flags, strict=True)],
            modseq=position.modseq,
            saved=self._clock.now(),
        )
        self._opinions.transferred(transaction, source_id, target_id, rows)
        self._ledger.changed(transaction, target_id, Delta(position.modseq, uids, array("Q", flags)))
        return position

    def _flags_there(
        self, transaction: Transaction, source_id: MailboxId, rows: list[Row], target_id: MailboxId
    ) -> list[int]:
        """Their flags in the target, where a keyword may have another bit."""
        flags = [row[1] for row in rows]
        if source_id == target_id or not any(bits & KEYWORD_BITS for bits in flags):
            return flags
        names = self._keywords.names(transaction, source_id)
        there = {bits: self._keywords.translated(transaction, bits, names, target_id) for bits in set(flags)}
        return [there[bits] for bits in flags]


def _slice(uids: UidSet, rows: list[Row], position: Position) -> _Slice:
    pairs = [(row[0], uid) for uid, row in enumerate(rows, position.first_uid)]
    return _Slice(pairs, position.uidvalidity, rest_of(uids, rows))
