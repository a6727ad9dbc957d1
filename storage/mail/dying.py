"""Mailboxes that were deleted and still have messages: hidden in one commit, emptied in the background.

A hidden mailbox has a name that no client can write, so that its own name is free at once and nothing finds it any
more.
"""

from __future__ import annotations

from sqlalchemy import bindparam, delete, select, update

from storage.background import Background
from storage.database.database import Transaction
from storage.database.prepared import prepare
from storage.mail.annotations import forget_all as forget_annotations
from storage.mail.flag_changes import FlagChanges
from storage.mail.keywords import Keywords
from storage.mail.ledger import LIVE, Ledger
from storage.mail.memberships import Memberships
from storage.mail.removals import Removals
from storage.mail.tombstones import Tombstones
from storage.schema.account import mailbox, snapshot
from storage.values import UID_MAX, MailboxId, UidSet

_mine = mailbox.c.account_id == bindparam("account")
_this = (_mine, mailbox.c.mailbox_id == bindparam("mailbox"))
_hide = prepare(
    update(mailbox)
    .where(*_this)
    .values(name=bindparam("hidden"), special_use="", highest_modseq=mailbox.c.highest_modseq + 1)
    .returning(mailbox.c.bytes, mailbox.c.messages, mailbox.c.highest_modseq)
)
_next = prepare(select(mailbox.c.mailbox_id).where(_mine, mailbox.c.name < LIVE).limit(1))
_delete_mailbox = prepare(delete(mailbox).where(*_this))
_delete_snapshot = prepare(
    delete(snapshot).where(snapshot.c.account_id == bindparam("account"), snapshot.c.mailbox_id == bindparam("mailbox"))
)


class DyingMailboxes:
    """Of one account."""

    def __init__(
        self,
        ledger: Ledger,
        keywords: Keywords,
        memberships: Memberships,
        tombstones: Tombstones,
        changes: FlagChanges,
        removals: Removals,
        background: Background,
    ) -> None:
        self._ledger = ledger
        self._keywords = keywords
        self._memberships = memberships
        self._tombstones = tombstones
        self._changes = changes
        self._removals = removals
        self._background = background

    def hide(self, transaction: Transaction, mailbox_id: MailboxId) -> None:
        """From the commit on the mailbox does not exist; its quota is given back."""
        row = _hide.one(transaction, account=self._ledger.account_id, mailbox=mailbox_id, hidden=f"\0{mailbox_id}")
        assert row is not None
        octets, messages, modseq = row
        self._ledger.release(transaction, octets, messages)
        forget_annotations(transaction, self._ledger.account_id, mailbox_id)
        transaction.changed(mailbox_id, modseq)
        transaction.after_commit(self.schedule)

    def schedule(self) -> None:
        self._background.submit((self._ledger.account_id, "mailboxes"), self.empty)

    def has_any(self) -> bool:
        return self._next() is not None

    def _next(self) -> MailboxId | None:
        with self._ledger.database.reading() as connection:
            row = _next.one(connection, account=self._ledger.account_id)
        return MailboxId(row[0]) if row is not None else None

    def empty(self) -> bool:
        """Remove some of what hidden mailboxes hold. True: there is more."""
        mailbox_id = self._next()
        if mailbox_id is None:
            return False
        self._ledger.database.write(lambda transaction: self._empty(transaction, mailbox_id))
        return True

    def _empty(self, transaction: Transaction, mailbox_id: MailboxId) -> None:
        rows = self._memberships.full(transaction, mailbox_id, UidSet(((1, UID_MAX),)))
        if rows:
            self._memberships.delete(transaction, mailbox_id, [row[0] for row in rows], unbroken=True)
            self._removals.remove_unused(transaction, [row[2] for row in rows])
            return
        if self._tombstones.forget_all(transaction, mailbox_id):
            return
        scope = {"account": self._ledger.account_id, "mailbox": mailbox_id}
        _delete_snapshot.run(transaction, **scope)
        self._changes.forget_all(transaction, mailbox_id)
        self._keywords.forget(transaction, mailbox_id)
        _delete_mailbox.run(transaction, **scope)
