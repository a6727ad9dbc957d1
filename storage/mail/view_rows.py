"""What a view of a mailbox reads: where the mailbox stands, and the narrow rows of what changed."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import bindparam, literal_column, select

from storage.database.database import Connection, Database
from storage.database.prepared import Row, prepare
from storage.errors import Gone
from storage.mail.answers import Remembered
from storage.mail.keywords import Keywords
from storage.mail.ledger import LIVE
from storage.mail.snapshots import Snapshots
from storage.mail.tombstones import FEW, Tombstones
from storage.schema.account import mailbox, membership, message
from storage.values import AccountId, MailboxId

_state = prepare(
    select(mailbox.c.highest_modseq, mailbox.c.uidnext, mailbox.c.uidvalidity, mailbox.c.expunged_horizon).where(
        mailbox.c.account_id == bindparam("account"),
        mailbox.c.mailbox_id == bindparam("mailbox"),
        mailbox.c.name >= LIVE,
    )
)
_SLICE = 4000  # rows that are put into arrays in one go: that keeps the interpreter, and so the event loop
_in_mailbox = (membership.c.account_id == bindparam("account"), membership.c.mailbox_id == bindparam("mailbox"))
_narrow = select(membership.c.uid, membership.c.flags, membership.c.modseq).where(*_in_mailbox)
_all = prepare(_narrow.where(membership.c.uid > bindparam("after")).order_by(membership.c.uid).limit(_SLICE))
# By an expression: SQLite would rather read the whole mailbox by UID than sort what the index by modseq gives.
_changed = prepare(
    _narrow.where(membership.c.modseq > bindparam("after")).order_by((membership.c.uid + literal_column("0")).desc())
)
_changed_uids = prepare(select(membership.c.uid).where(*_in_mailbox, membership.c.modseq > bindparam("after")))
_more = prepare(select(membership.c.uid).where(*_in_mailbox, membership.c.modseq > bindparam("after")).limit(FEW + 1))
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


class FarBehind(Exception):  # noqa: N818
    """Another process wrote so much that it should be read on another thread (`MailboxView.prepare_changes`)."""


class MailboxState(NamedTuple):
    highest_modseq: int
    uidnext: int
    uidvalidity: int
    expunged_horizon: int


class Changed(NamedTuple):
    """What became of a mailbox since a modseq."""

    state: MailboxState
    uids: array[int]  # ascending
    flags: array[int]
    modseqs: array[int]
    vanished: list[int]


@dataclass(frozen=True, slots=True)
class Changes:
    """UIDs of the view that arrived or changed, and UIDs that left it, since some modseq."""

    changed: list[int]
    vanished: list[int]


@dataclass(frozen=True, slots=True)
class Entry:
    """What one refresh brought: everything after `since` and up to `modseq`."""

    since: int
    modseq: int
    changed: array[int]
    vanished: array[int]

    def __len__(self) -> int:
        return len(self.changed) + len(self.vanished)


class ViewRows:
    """Reads for the views of one account."""

    def __init__(
        self,
        database: Database,
        account_id: AccountId,
        keywords: Keywords,
        tombstones: Tombstones,
        remembered: Remembered,
    ) -> None:
        self.database = database
        self.remembered = remembered  # what all views share the room for answers by
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

    def few_since(self, connection: Connection, mailbox_id: MailboxId, modseq: int) -> bool:
        """Whether no more than some hundred messages changed or went after `modseq`."""
        changed = _more.rows(connection, account=self._account_id, mailbox=mailbox_id, after=modseq)
        return len(changed) <= FEW and self._tombstones.are_few(connection, mailbox_id, modseq)

    def changed_since(self, mailbox_id: MailboxId, modseq: int, *, many: bool = False) -> Changed | None:
        """Changes after `modseq`; None if it lies before the horizon. `many`: no other session waits meanwhile."""
        with self.database.apart() if many else self.database.snapshot() as connection:
            state = self.state(connection, mailbox_id)
            if modseq < state.expunged_horizon:
                return None
            rows = _changed.rows(connection, account=self._account_id, mailbox=mailbox_id, after=modseq)
            vanished = self._tombstones.between(connection, mailbox_id, modseq, state.highest_modseq)
            arrays = _no_rows()
            while rows:  # in slices, from the end on; they are let go of in slices, too
                part = rows[-_SLICE:]
                del rows[-_SLICE:]
                part.reverse()
                _append(arrays, part)
            return Changed(state, *arrays, vanished)

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
        arrays = _no_rows()
        uids = arrays[0]
        more = True
        while more:
            scope = {"account": self._account_id, "mailbox": mailbox_id, "after": uids[-1] if uids else 0}
            rows = _all.rows(connection, **scope)
            _append(arrays, rows)
            more = len(rows) == _SLICE
        return list(arrays)

    def columns(self, connection: Connection, mailbox_id: MailboxId, after: int, most: int) -> list[Row]:
        """(uid, message id, size, internal date, sent date, zone) of messages after a UID."""
        return _columns.rows(connection, account=self._account_id, mailbox=mailbox_id, after=after, most=most)


_Arrays = tuple["array[int]", "array[int]", "array[int]"]


def _no_rows() -> _Arrays:
    return array("I"), array("Q"), array("Q")


def _append(arrays: _Arrays, rows: list[Row]) -> None:
    for values, read in zip(arrays, zip(*rows, strict=True), strict=False):
        values.extend(read)
