r"""STORE: changes flags of messages, each slice in one transaction, and says what changed.

UNCHANGEDSINCE is checked in the transaction that writes. A message whose flags are already what they shall be is not
touched and keeps its modseq. Commits are NORMAL (see storage.mail.ledger): a crash of the process loses nothing, a
power loss may undo the last changes of flags.

Raises: NotFound, LimitReached (too many keywords), Busy (`store_now`), Unavailable.
Standards: RFC 9051 §6.4.6, RFC 7162 §3.1.3.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from storage.database.database import Busy, Transaction
from storage.mail.flag_changes import LONGEST, NOTHING, FlagChanges, written
from storage.mail.keywords import KEYWORD_BITS, Keywords
from storage.mail.ledger import BlockUsedUp, Delta, Ledger
from storage.mail.memberships import ROWS, Memberships, is_unbroken, rest_of
from storage.mail.opinions import Opinions, concerns
from storage.mail.outcomes import How, Stored
from storage.values import DELETED, SEEN, MailboxId, UidSet

_NEVER = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Change:
    """What a STORE wants done."""

    how: How
    flags: int
    keywords: Sequence[str]
    unchanged_since: int | None
    only: int = -1  # bits that may change; others stay, whatever is asked


@dataclass(frozen=True, slots=True)
class _Slice:
    changed: list[tuple[int, int, int]]
    modified: list[int]
    rest: UidSet


class Flags:
    """The flags of one account's messages."""

    def __init__(
        self,
        ledger: Ledger,
        keywords: Keywords,
        memberships: Memberships,
        changes: FlagChanges,
        opinions: Opinions,
    ) -> None:
        self._ledger = ledger
        self._keywords = keywords
        self._memberships = memberships
        self._changes = changes
        self._opinions = opinions

    def store(self, mailbox_id: MailboxId, uids: UidSet, change: Change) -> Stored:
        """All of `uids`, in as many transactions as it takes."""
        changed: list[tuple[int, int, int]] = []
        modified: list[tuple[int, int]] = []
        while uids:
            asked = uids

            def work(transaction: Transaction, durable: bool, asked: UidSet = asked) -> _Slice:
                return self._store(transaction, mailbox_id, asked, change, durable)

            part = self._ledger.write_flags(work)
            changed += part.changed
            modified += UidSet.of(part.modified).ranges  # of one slice at a time: sorting all holds up other threads
            uids = part.rest
        return _stored(changed, UidSet.of_ranges(modified))

    def store_now(self, mailbox_id: MailboxId, uids: UidSet, change: Change) -> Stored:
        """At once or not at all: raises Busy where it would wait, or take more than one transaction."""
        if len(uids) > ROWS:
            raise Busy

        def work(transaction: Transaction) -> _Slice:
            return self._store(transaction, mailbox_id, uids, change, durable=False)

        try:
            part = self._ledger.database.write_now(work)
        except BlockUsedUp:
            raise Busy from None
        return _stored(part.changed, UidSet.of(part.modified))

    def _store(
        self, transaction: Transaction, mailbox_id: MailboxId, uids: UidSet, change: Change, durable: bool
    ) -> _Slice:
        keep, bits = self._masks(transaction, mailbox_id, change)
        rows = self._memberships.flags(transaction, mailbox_id, uids)
        since = _NEVER if change.unchanged_since is None else change.unchanged_since
        modified = [] if since == _NEVER else [uid for uid, _, modseq in rows if modseq > since]
        different = [
            (uid, old, new) for uid, old, modseq in rows if (new := old & keep | bits) != old and modseq <= since
        ]
        rest = rest_of(uids, rows)
        if not different:
            return _Slice([], modified, rest)
        changed = [uid for uid, _, _ in different]
        unbroken = is_unbroken(uids, rows, len(changed))
        modseq = self._advance(transaction, mailbox_id, different, written(changed, unbroken), durable)
        self._memberships.set_flags(
            transaction,
            mailbox_id,
            changed,
            keep=keep,
            bits=bits,
            modseq=modseq,
            unbroken=unbroken,
        )
        if concerns(change.keywords) or (change.how == "replace" and _lose_keywords(different)):
            added = () if change.how == "remove" else change.keywords
            self._opinions.marked(transaction, mailbox_id, added, different)
        delta = Delta(modseq, array("I", changed), array("Q", [new for _, _, new in different]))
        self._ledger.changed(transaction, mailbox_id, delta)
        return _Slice([(uid, new, modseq) for uid, _, new in different], modified, rest)

    def _advance(
        self,
        transaction: Transaction,
        mailbox_id: MailboxId,
        different: Sequence[tuple[int, int, int]],
        changes: str,
        durable: bool,
    ) -> int:
        """The modseq of what is `different`: (uid, old flags, new flags)."""
        apart = len(changes) > LONGEST
        modseq, length = self._ledger.advance_flags(
            transaction,
            mailbox_id,
            NOTHING if apart else changes,
            durable=durable,
            unseen=sum((old & SEEN) - (new & SEEN) for _, old, new in different),
            deleted=sum((new & DELETED) - (old & DELETED) for _, old, new in different) // DELETED,
        )
        entry = f"{modseq}{changes}" if apart else ""
        if length > LONGEST:
            self._changes.put_aside(transaction, mailbox_id, entry)
        elif apart:
            self._changes.write(transaction, mailbox_id, modseq, entry)
        return modseq

    def _masks(self, transaction: Transaction, mailbox_id: MailboxId, change: Change) -> tuple[int, int]:
        """Of the change, whose keywords get their bits here."""
        if change.how == "remove":
            bits = self._keywords.known(transaction, mailbox_id, change.keywords)
        else:
            bits = self._keywords.defined(transaction, mailbox_id, change.keywords)
        return masks(change.how, change.flags | bits, change.only)


def masks(how: How, bits: int, only: int) -> tuple[int, int]:
    """(keep, bits) of flags & keep | bits."""
    if how == "remove":
        return ~(bits & only), 0
    return (~only if how == "replace" else -1), bits & only


def _lose_keywords(different: Sequence[tuple[int, int, int]]) -> bool:
    """Whether any of (uid, old flags, new flags) has a keyword less."""
    return any(old & ~new & KEYWORD_BITS for _, old, new in different)


def _stored(changed: list[tuple[int, int, int]], modified: UidSet) -> Stored:
    return Stored(modified, changed, changed[-1][2] if changed else 0)
