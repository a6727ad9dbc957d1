r"""EXPUNGE: takes messages out of a mailbox, and removes what stands in no mailbox any more.

The last membership, the message's rows and an `unlink` row that names its file go in one FULL commit; the file is
removed after it, in the background. What a crash leaves is in `unlink` and is removed when the account is opened next.

Raises: NotFound, Unavailable. Standards: RFC 9051 §6.4.3, §6.4.9; RFC 7162 §3.2.3 (tombstones).
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import bindparam, delete, func, insert, select

from storage.background import Background
from storage.backup import lease
from storage.database.database import Transaction
from storage.database.prepared import Row, prepare
from storage.errors import Unavailable
from storage.files.durable import fsync_directory
from storage.files.maildir import Maildir
from storage.files.recent import Shelf
from storage.mail.content import delete_content
from storage.mail.ledger import Delta, Ledger, Position
from storage.mail.memberships import Memberships, is_unbroken, rest_of
from storage.mail.outcomes import Expunged
from storage.mail.tombstones import Tombstones
from storage.schema.account import membership, message, unlink
from storage.values import DELETED, SEEN, UID_MAX, MailboxId, UidSet

FILES = 100  # removed between two commits
_AT_ONCE = 3000  # messages that are taken out in one commit where each stands elsewhere, too: 15 ms
_LAST = 5  # times as much if it does not
_LOOK_AFTER = 1000  # new tombstones of a mailbox, the number of its old ones is looked at

_ids = select(func.json_each(bindparam("ids")).table_valued("value").c.value)
_these_messages = (message.c.account_id == bindparam("account"), message.c.message_id.in_(_ids))
_select_dying = prepare(
    select(message.c.message_id, message.c.file).where(
        *_these_messages,
        ~select(membership.c.uid)
        .where(membership.c.account_id == message.c.account_id, membership.c.message_id == message.c.message_id)
        .exists(),
    )
)
_delete_messages = prepare(delete(message).where(*_these_messages))
_insert_unlink = prepare(insert(unlink))
_select_unlink = prepare(
    select(unlink.c.file).where(unlink.c.account_id == bindparam("account")).limit(bindparam("most"))
)
_delete_unlink = prepare(
    delete(unlink).where(unlink.c.account_id == bindparam("account"), unlink.c.file == bindparam("name"))
)


@dataclass(frozen=True, slots=True)
class _Slice:
    uids: list[int]
    modseq: int
    rest: UidSet
    cost: int = 100  # as much as removing so many messages that stand elsewhere, too


class Removals:
    """What leaves one account."""

    def __init__(
        self,
        ledger: Ledger,
        memberships: Memberships,
        tombstones: Tombstones,
        maildir: Maildir,
        recent: Shelf,
        background: Background,
    ) -> None:
        self._ledger = ledger
        self._memberships = memberships
        self._tombstones = tombstones
        self._maildir = maildir
        self._recent = recent
        self._background = background
        self._new_tombstones: dict[MailboxId, int] = {}

    def expunge(
        self, mailbox_id: MailboxId, uids: UidSet | None, *, only_deleted: bool, by_server: bool = False
    ) -> Expunged:
        """Those of `uids` (None: all) that are \\Deleted, or all of them. `by_server`: see `Ledger.advance`."""
        rest = UidSet(((1, UID_MAX),)) if uids is None else uids
        gone: list[int] = []
        modseq = 0
        while rest:
            asked = rest

            def work(transaction: Transaction, asked: UidSet = asked) -> _Slice:
                return self._expunge_some(transaction, mailbox_id, asked, DELETED if only_deleted else 0, by_server)

            part = self._ledger.database.write(work)
            gone += part.uids
            modseq = part.modseq or modseq
            rest = part.rest
        self.count_tombstones(mailbox_id, len(gone))
        return Expunged(gone, modseq)

    def _expunge_some(
        self, transaction: Transaction, mailbox_id: MailboxId, uids: UidSet, having: int, by_server: bool
    ) -> _Slice:
        """As many slices as make one commit: each waits for the disk. Each has a modseq of its own."""
        gone: list[int] = []
        modseq = cost = 0
        rest = uids
        while rest and cost < _AT_ONCE:
            part = self._expunge(transaction, mailbox_id, rest, having, by_server)
            gone += part.uids
            modseq = part.modseq or modseq
            rest = part.rest
            cost += part.cost
        return _Slice(gone, modseq, rest)

    def _expunge(
        self, transaction: Transaction, mailbox_id: MailboxId, uids: UidSet, having: int, by_server: bool
    ) -> _Slice:
        rows = self._memberships.full(transaction, mailbox_id, uids, having=having)
        rest = rest_of(uids, rows)
        if not rows:
            return _Slice([], 0, rest)
        gone = [row[0] for row in rows]
        position = self.take_out(
            transaction,
            mailbox_id,
            rows,
            unbroken=not having and is_unbroken(uids, rows, len(rows)),
            by_server=by_server,
        )
        if not by_server:
            self._ledger.release(transaction, sum(row[3] for row in rows), len(rows))
        died = self.remove_unused(transaction, [row[2] for row in rows])
        if self._ledger.follower is not None:
            self._ledger.follower.left(transaction, mailbox_id, position.name, gone)
        return _Slice(gone, position.modseq, rest, max(100, len(gone) + died * (_LAST - 1)))

    def count_tombstones(self, mailbox_id: MailboxId, count: int) -> None:
        """Once in a while the oldest tombstones of a mailbox are forgotten."""
        count += self._new_tombstones.pop(mailbox_id, 0)
        if count < _LOOK_AFTER:
            self._new_tombstones[mailbox_id] = count
            return

        def step() -> bool:
            database = self._ledger.database
            return database.write(lambda transaction: self._tombstones.forget_old(transaction, mailbox_id))

        self._background.submit((self._ledger.account_id, "tombstones", mailbox_id), step)

    def take_out(
        self,
        transaction: Transaction,
        mailbox_id: MailboxId,
        rows: Sequence[Row],
        *,
        unbroken: bool,
        by_server: bool = False,
    ) -> Position:
        """Delete memberships (uid, flags, message id, size) and leave tombstones; where the mailbox stands then."""
        uids = [row[0] for row in rows]
        position = self._ledger.advance(
            transaction,
            mailbox_id,
            messages=-len(rows),
            unseen=-sum(not row[1] & SEEN for row in rows),
            deleted=-sum(bool(row[1] & DELETED) for row in rows),
            octets=-sum(row[3] for row in rows),
            by_server=by_server,
        )
        self._memberships.delete(transaction, mailbox_id, uids, unbroken=unbroken)
        self._tombstones.insert(transaction, mailbox_id, position.modseq, uids)
        self._ledger.changed(transaction, mailbox_id, Delta(position.modseq, vanished=array("I", uids)))
        return position

    def remove_unused(self, transaction: Transaction, message_ids: Sequence[int]) -> int:
        """Delete those messages that no membership names; their files go after the commit. How many those were."""
        account_id = self._ledger.account_id
        dying = _select_dying.rows(transaction, account=account_id, ids=json.dumps(message_ids))
        if not dying:
            return 0
        ids = json.dumps([row[0] for row in dying])
        _insert_unlink.run_many(transaction, [{"account_id": account_id, "file": row[1]} for row in dying])
        delete_content(transaction, account_id, ids)
        _delete_messages.run(transaction, account=account_id, ids=ids)
        transaction.after_commit(partial(self._recent.drop, [row[1] for row in dying]))
        transaction.after_commit(self.schedule)
        return len(dying)

    def schedule(self) -> None:
        """Have the files of `unlink` removed soon."""
        self._background.submit((self._ledger.account_id, "files"), self.remove_files)

    def has_files(self) -> bool:
        """Whether `unlink` names files."""
        return bool(self._files(1))

    def _files(self, most: int) -> list[str]:
        with self._ledger.database.reading() as connection:
            return [row[0] for row in _select_unlink.rows(connection, account=self._ledger.account_id, most=most)]

    def remove_files(self) -> bool:
        """Remove some of the files that `unlink` names. True: there may be more.

        While a backup copies the account they stay, and so do their rows.
        """
        account_id, names = self._ledger.account_id, self._files(FILES)
        if lease.is_account_held(self._maildir.path.parent):  # asked after the names: no later snapshot has them
            self._background.submit_later((account_id, "files"), self._remove_later, lease.RETRY)
            return False
        for name in names:
            self._maildir.remove(name)
        if names:
            self._recent.drop(names)  # once more: one may have been read in between
            fsync_directory(self._maildir.path / "cur")  # before the rows go that would remove them again
            rows = [{"account": account_id, "name": name} for name in names]
            self._ledger.database.write(lambda transaction: _delete_unlink.run_many(transaction, rows), durable=False)
        return len(names) == FILES

    def _remove_later(self) -> bool:
        try:
            return self.remove_files()
        except Unavailable:  # it was closed meanwhile: who opens it next takes this up
            return False
