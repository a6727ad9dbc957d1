"""What a view of a mailbox reads: where the mailbox stands, and the narrow rows of what changed."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import bindparam, func, select

from storage.database.database import Connection, Database
from storage.database.prepared import Prepared, Row, prepare
from storage.errors import Gone
from storage.mail.answers import Remembered
from storage.mail.flag_changes import FlagChanges
from storage.mail.keywords import Keywords
from storage.mail.ledger import LIVE
from storage.mail.snapshots import Snapshots
from storage.mail.tombstones import FEW, Tombstones
from storage.schema.account import mailbox, membership, message, with_message
from storage.values import UID_MAX, AccountId, MailboxId

_this = (
    mailbox.c.account_id == bindparam("account"),
    mailbox.c.mailbox_id == bindparam("mailbox"),
    mailbox.c.name >= LIVE,
)
_state = prepare(
    select(mailbox.c.highest_modseq, mailbox.c.uidnext, mailbox.c.uidvalidity, mailbox.c.expunged_horizon).where(*_this)
)
_SLICE = 4000  # rows that are put into arrays in one go: that keeps the interpreter, and so the event loop
_FEW = 100  # messages of a range that are looked up one by one
_in_mailbox = (membership.c.account_id == bindparam("account"), membership.c.mailbox_id == bindparam("mailbox"))
_narrow = select(membership.c.uid, membership.c.flags, membership.c.modseq).where(*_in_mailbox)
_in_range = prepare(
    _narrow.where(membership.c.uid.between(bindparam("first"), bindparam("last")))
    .order_by(membership.c.uid)
    .limit(_SLICE)
)
_uids = select(func.json_each(bindparam("uids")).table_valued("value").c.value)
_in_list = prepare(_narrow.where(membership.c.uid.in_(_uids)).order_by(membership.c.uid))
_state_and_changes = prepare(
    select(
        mailbox.c.highest_modseq,
        mailbox.c.uidnext,
        mailbox.c.uidvalidity,
        mailbox.c.expunged_horizon,
        mailbox.c.flag_horizon,
        mailbox.c.flag_changes,
        mailbox.c.messages,
    ).where(*_this)
)
_columns = prepare(
    select(
        membership.c.uid,
        membership.c.message_id,
        message.c.size,
        message.c.internal_date,
        message.c.sent_date,
        message.c.internal_zone,
    )
    .select_from(with_message)
    .where(*_in_mailbox, membership.c.uid > bindparam("after"))
    .order_by(membership.c.uid)
    .limit(bindparam("most"))
)


class FarBehind(Exception):  # noqa: N818
    """Another process wrote so much, or so long ago, that it should be read on another thread
    (`MailboxView.prepare_changes`)."""


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


class Anew(NamedTuple):
    """All of a mailbox, where nobody knows any more what became of it since a modseq."""

    state: MailboxState
    uids: array[int]
    flags: array[int]
    modseqs: array[int]
    changed: array[int]
    vanished: array[int]


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
        changes: FlagChanges,
        remembered: Remembered,
    ) -> None:
        self.database = database
        self.remembered = remembered  # what all views share the room for answers by
        self.snapshots = Snapshots(database, account_id)
        self._account_id = account_id
        self._keywords = keywords
        self._tombstones = tombstones
        self._changes = changes

    def state(self, connection: Connection, mailbox_id: MailboxId) -> MailboxState:
        """Raises Gone if the mailbox was deleted."""
        return MailboxState(*self._one(_state, connection, mailbox_id))

    def _one(self, statement: Prepared, connection: Connection, mailbox_id: MailboxId) -> Row:
        row = statement.one(connection, account=self._account_id, mailbox=mailbox_id)
        if row is None:
            raise Gone("The mailbox was deleted.")
        return row

    def keywords(self, connection: Connection, mailbox_id: MailboxId) -> dict[int, str]:
        return self._keywords.names(connection, mailbox_id)

    def few_since(self, connection: Connection, mailbox_id: MailboxId, modseq: int, count: int) -> bool:
        """Whether no more than some hundred messages came, changed or went after `modseq`, when there were `count`."""
        *_, flag_horizon, latest, messages = self._one(_state_and_changes, connection, mailbox_id)
        return (
            modseq >= flag_horizon
            and messages - count <= FEW
            and self._changes.are_few(connection, mailbox_id, modseq, latest, FEW)
            and self._tombstones.are_few(connection, mailbox_id, modseq)
        )

    def changed_since(
        self, mailbox_id: MailboxId, modseq: int, uids: array[int], *, many: bool = False, patient: bool = False
    ) -> Changed | Anew:
        """Changes after `modseq`, when the mailbox had these UIDs; if nobody knows all of them any more, all of it.

        `many`: no other session waits meanwhile. `patient`: raises FarBehind rather than read all of it.
        """
        last = uids[-1] if uids else 0
        with self.database.apart() if many else self.database.snapshot() as connection:
            *where, flag_horizon, latest, _messages = self._one(_state_and_changes, connection, mailbox_id)
            state = MailboxState(*where)
            if modseq < max(state.expunged_horizon, flag_horizon):
                if patient:
                    raise FarBehind
                return self._anew(connection, mailbox_id, modseq, uids, state)
            flagged = self._changes.since(connection, mailbox_id, modseq, latest)
            vanished = self._tombstones.between(connection, mailbox_id, modseq, state.highest_modseq)
            arrays = _no_rows()
            for rows in self._listed(connection, mailbox_id, flagged.ranges, last):
                _append(arrays, rows)
            if state.uidnext - 1 > last:
                for rows in self._ranged(connection, mailbox_id, last + 1, UID_MAX):
                    _append(arrays, rows)
            return Changed(state, *arrays, vanished)

    def _anew(
        self, connection: Connection, mailbox_id: MailboxId, modseq: int, known: array[int], state: MailboxState
    ) -> Anew:
        """Too much time has passed: everything is compared."""
        uids, flags, modseqs = self.everything(connection, mailbox_id)
        changed = array("I", [uid for uid, latest in zip(uids, modseqs, strict=True) if latest > modseq])
        return Anew(state, uids, flags, modseqs, changed, array("I", sorted(set(known).difference(uids))))

    def _listed(
        self, connection: Connection, mailbox_id: MailboxId, ranges: Iterable[tuple[int, int]], last: int
    ) -> Iterator[list[Row]]:
        """Rows of messages in ascending ranges, up to `last`, in slices."""
        few: list[int] = []
        for first, high in ranges:
            end = min(high, last)
            if end - first < _FEW:
                few += range(first, end + 1)
            if few and (end - first >= _FEW or len(few) >= _SLICE):
                yield _in_list.rows(connection, account=self._account_id, mailbox=mailbox_id, uids=json.dumps(few))
                few = []
            if end - first >= _FEW:
                yield from self._ranged(connection, mailbox_id, first, end)
        if few:
            yield _in_list.rows(connection, account=self._account_id, mailbox=mailbox_id, uids=json.dumps(few))

    def _ranged(self, connection: Connection, mailbox_id: MailboxId, first: int, last: int) -> Iterator[list[Row]]:
        """Rows of messages from one UID to another, in slices."""
        scope = {"account": self._account_id, "mailbox": mailbox_id, "last": last}
        while True:
            rows = _in_range.rows(connection, **scope, first=first)
            if rows:
                yield rows
            if len(rows) < _SLICE:
                return
            first = rows[-1][0] + 1

    def vanished_since(self, mailbox_id: MailboxId, modseq: int, highest: int) -> list[int] | None:
        """None: nobody knows all of them any more; tombstones are forgotten without a new modseq."""
        with self.database.snapshot() as connection:
            row = _state.one(connection, account=self._account_id, mailbox=mailbox_id)
            if row is None or modseq < MailboxState(*row).expunged_horizon:
                return None
            return self._tombstones.between(connection, mailbox_id, modseq, highest)

    def everything(self, connection: Connection, mailbox_id: MailboxId) -> list[array[int]]:
        """UIDs, flags and modseqs of all messages, from the rows."""
        arrays = _no_rows()
        for rows in self._ranged(connection, mailbox_id, 1, UID_MAX):
            _append(arrays, rows)
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
