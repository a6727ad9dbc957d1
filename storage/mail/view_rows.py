"""What a view of a mailbox reads: where the mailbox stands, and the narrow rows of what changed."""

from __future__ import annotations

from array import array
from typing import NamedTuple

from sqlalchemy import bindparam, select

from storage.database.database import Connection, Database
from storage.database.prepared import Row, prepare
from storage.errors import Gone
from storage.mail.keywords import Keywords
from storage.mail.ledger import LIVE
from storage.mail.snapshots import Snapshots
from storage.mail.tombstones import Tombstones
from storage.schema.account import mailbox, membership, message
from storage.values import AccountId, MailboxId

_state = prepare(
    select(mailbox.c.highest_modseq, mailbox.c.uidnext, mailbox.c.uidvalidity, mailbox.c.expunged_horizon).where(
        mailbox.c.account_id == bindparam("account"),
        mailbox.c.mailbox_id == bindparam("mailbox"),
        mailbox.c.name >= LIVE,
    )
)
_in_mailbox = (membership.c.account_id == bindparam("account"), membership.c.mailbox_id == bindparam("mailbox"))
_narrow = select(membership.c.uid, membership.c.flags, membership.c.modseq).where(*_in_mailbox)
_all = prepare(_narrow.order_by(membership.c.uid))
# Without ORDER BY: SQLite would rather read the whole mailbox by UID than sort what the index by modseq gives.
_changed = prepare(_narrow.where(membership.c.modseq > bindparam("after")))
_changed_uids = prepare(select(membership.c.uid).where(*_in_mailbox, membership.c.modseq > bindparam("after")))
_columns = prepare(
    select(
        membership.c.uid,
        membership.c.message_id,
        message.c.size,
        message.c.internal_date,
        message.c.sent_date,
        message.c.internal_zone,
    )
    .select_from(
        membership.join(
            message,
            (message.c.account_id == membership.c.account_id) & (message.c.message_id == membership.c.message_id),
        )
    )
    .where(*_in_mailbox, membership.c.uid > bindparam("after"))
    .order_by(membership.c.uid)
    .limit(bindparam("most"))
)


class MailboxState(NamedTuple):
    highest_modseq: int
    uidnext: int
    uidvalidity: int
    expunged_horizon: int


class Changed(NamedTuple):
    """What became of a mailbox since a modseq."""

    state: MailboxState
    rows: list[Row]  # uid, flags, modseq; by uid
    vanished: list[int]


class ViewRows:
    """Reads for the views of one account."""

    def __init__(self, database: Database, account_id: AccountId, keywords: Keywords, tombstones: Tombstones) -> None:
        self.database = database
        self.snapshots = Snapshots(database, account_id)
        self._account_id = account_id
        self._keywords = keywords
        self._tombstones = tombstones

    def state(self, connection: Connection, mailbox_id: MailboxId) -> MailboxState:
        """Raises Gone if the mailbox was deleted."""
        row = _state.one(connection, account=self._account_id, mailbox=mailbox_id)
        if row is None:
            raise Gone("The mailbox was deleted.")
        return MailboxState(*row)

    def keywords(self, connection: Connection, mailbox_id: MailboxId) -> dict[int, str]:
        return self._keywords.names(connection, mailbox_id)

    def changed_since(self, mailbox_id: MailboxId, modseq: int) -> Changed | None:
        """Changes after `modseq`; None if it lies before the horizon."""
        with self.database.snapshot() as connection:
            state = self.state(connection, mailbox_id)
            if modseq < state.expunged_horizon:
                return None
            rows = sorted(_changed.rows(connection, account=self._account_id, mailbox=mailbox_id, after=modseq))
            vanished = self._tombstones.between(connection, mailbox_id, modseq, state.highest_modseq)
            return Changed(state, rows, vanished)

    def uids_changed_since(self, mailbox_id: MailboxId, modseq: int, highest: int) -> tuple[list[int], list[int]]:
        """UIDs that are there and changed after `modseq`, and UIDs that were expunged after it up to `highest`."""
        with self.database.snapshot() as connection:
            rows = _changed_uids.rows(connection, account=self._account_id, mailbox=mailbox_id, after=modseq)
            return sorted(row[0] for row in rows), self._tombstones.between(connection, mailbox_id, modseq, highest)

    def vanished_since(self, mailbox_id: MailboxId, modseq: int, highest: int) -> list[int]:
        with self.database.snapshot() as connection:
            return self._tombstones.between(connection, mailbox_id, modseq, highest)

    def everything(self, connection: Connection, mailbox_id: MailboxId) -> list[array[int]]:
        """UIDs, flags and modseqs of all messages, from the rows."""
        rows = _all.rows(connection, account=self._account_id, mailbox=mailbox_id)
        if not rows:
            return [array("I"), array("Q"), array("Q")]
        uids, flags, modseqs = zip(*rows, strict=True)
        return [array("I", uids), array("Q", flags), array("Q", modseqs)]

    def columns(self, connection: Connection, mailbox_id: MailboxId, after: int, most: int) -> list[Row]:
        """(uid, message id, size, internal date, sent date, zone) of messages after a UID."""
        return _columns.rows(connection, account=self._account_id, mailbox=mailbox_id, after=after, most=most)
