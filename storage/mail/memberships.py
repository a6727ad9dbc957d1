"""Rows of `membership` by UID set, in slices of bounded size: what STORE, COPY, MOVE and EXPUNGE work on.

A slice is read and changed in one transaction of at most `ROWS` rows; the caller goes on with what `rest_of` leaves, so
that other writers get in between. A slice is one range of which so many rows are read, or as many UIDs out of several
ranges.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import bindparam, delete, func, insert, select, update

from storage.database.database import Connection, Transaction
from storage.database.prepared import Row, prepare
from storage.schema.account import membership, message, with_message
from storage.values import AccountId, MailboxId, UidSet

ROWS = 1000  # of one transaction

_in_mailbox = (membership.c.account_id == bindparam("account"), membership.c.mailbox_id == bindparam("mailbox"))
_in_range = membership.c.uid.between(bindparam("first"), bindparam("last"))
_flag_columns = (membership.c.uid, membership.c.flags, membership.c.modseq)
_full_columns = (membership.c.uid, membership.c.flags, membership.c.message_id, message.c.size)
_has_bits = membership.c.flags.op("&")(bindparam("bits")) != 0

_uid_list = select(func.json_each(bindparam("uids")).table_valued("value").c.value)

_flags_in_range = prepare(select(*_flag_columns).where(*_in_mailbox, _in_range).order_by(membership.c.uid).limit(ROWS))
_flags_of_one = prepare(select(*_flag_columns).where(*_in_mailbox, membership.c.uid == bindparam("uid")))
_flags_in_list = prepare(
    select(*_flag_columns).where(*_in_mailbox, membership.c.uid.in_(_uid_list)).order_by(membership.c.uid)
)
_full_in_range = {
    marked: prepare(
        select(*_full_columns)
        .select_from(with_message)
        .where(*_in_mailbox, _in_range, *((_has_bits,) if marked else ()))
        .order_by(membership.c.uid)
        .limit(ROWS)
    )
    for marked in (False, True)
}
_full_in_list = {
    marked: prepare(
        select(*_full_columns)
        .select_from(with_message)
        .where(*_in_mailbox, membership.c.uid.in_(_uid_list), *((_has_bits,) if marked else ()))
        .order_by(membership.c.uid)
    )
    for marked in (False, True)
}

_new_flags = {
    "flags": membership.c.flags.op("&")(bindparam("keep")).op("|")(bindparam("bits")),
    "modseq": bindparam("next_modseq"),
}
_set_one = prepare(update(membership).where(*_in_mailbox, membership.c.uid == bindparam("message")).values(_new_flags))
_set_in_range = prepare(update(membership).where(*_in_mailbox, _in_range).values(_new_flags))
_set_in_list = prepare(update(membership).where(*_in_mailbox, membership.c.uid.in_(_uid_list)).values(_new_flags))
_delete_in_range = prepare(delete(membership).where(*_in_mailbox, _in_range))
_delete_in_list = prepare(delete(membership).where(*_in_mailbox, membership.c.uid.in_(_uid_list)))
_insert = prepare(insert(membership))


class Memberships:
    """The rows of one account."""

    __slots__ = ("_account_id",)

    def __init__(self, account_id: AccountId) -> None:
        self._account_id = account_id

    def flags(self, connection: Connection, mailbox_id: MailboxId, uids: UidSet) -> list[Row]:
        """(uid, flags, modseq) of the messages in the first slice of a set, ascending."""
        scope = {"account": self._account_id, "mailbox": mailbox_id}
        piece = _first(uids)
        if piece[0] == piece[-1]:
            return _flags_of_one.rows(connection, **scope, uid=piece[0])
        if isinstance(piece, list):
            return _flags_in_list.rows(connection, **scope, uids=json.dumps(piece))
        first, last = piece
        return _flags_in_range.rows(connection, **scope, first=first, last=last)

    def full(self, connection: Connection, mailbox_id: MailboxId, uids: UidSet, *, having: int = 0) -> list[Row]:
        """(uid, flags, message id, size) of the first slice of a set; of those that have some of the flags `having`."""
        scope = {"account": self._account_id, "mailbox": mailbox_id}
        marked = having != 0
        if marked:
            scope["bits"] = having
        piece = _first(uids)
        if isinstance(piece, list):
            return _full_in_list[marked].rows(connection, **scope, uids=json.dumps(piece))
        first, last = piece
        return _full_in_range[marked].rows(connection, **scope, first=first, last=last)

    def set_flags(
        self,
        transaction: Transaction,
        mailbox_id: MailboxId,
        uids: Sequence[int],
        *,
        keep: int,
        bits: int,
        modseq: int,
        unbroken: bool,
    ) -> None:
        """flags = flags & keep | bits. `unbroken`: there are no other messages between the first and the last one."""
        values = {
            "account": self._account_id, "mailbox": mailbox_id, "keep": keep, "bits": bits, "next_modseq": modseq,
        }  # fmt: skip
        if len(uids) == 1:
            _set_one.run(transaction, **values, message=uids[0])
        elif unbroken:
            _set_in_range.run(transaction, **values, first=uids[0], last=uids[-1])
        else:
            _set_in_list.run(transaction, **values, uids=json.dumps(list(uids)))

    def delete(
        self, transaction: Transaction, mailbox_id: MailboxId, uids: Sequence[int], *, unbroken: bool = False
    ) -> None:
        """Take messages out of a mailbox."""
        scope = {"account": self._account_id, "mailbox": mailbox_id}
        if unbroken or len(uids) == 1:
            _delete_in_range.run(transaction, **scope, first=uids[0], last=uids[-1])
        else:
            _delete_in_list.run(transaction, **scope, uids=json.dumps(list(uids)))

    def insert(
        self,
        transaction: Transaction,
        mailbox_id: MailboxId,
        rows: Sequence[tuple[int, int, int]],
        *,
        modseq: int,
        saved: int,
    ) -> None:
        """Put messages into a mailbox: (uid, message id, flags)."""
        common = {"account_id": self._account_id, "mailbox_id": mailbox_id, "modseq": modseq, "saved": saved}
        _insert.run_many(
            transaction,
            [{**common, "uid": uid, "message_id": message_id, "flags": flags} for uid, message_id, flags in rows],
        )


def rest_of(uids: UidSet, rows: Sequence[Row]) -> UidSet:
    """What the first slice of a set, which gave these rows, leaves of it."""
    piece = _first(uids)
    last = piece[-1]
    if not isinstance(piece, list) and len(rows) == ROWS:
        last = rows[-1][0]
    return UidSet(tuple((max(low, last + 1), high) for low, high in uids.ranges if high > last))


def is_unbroken(uids: UidSet, rows: Sequence[Row], count: int) -> bool:
    """Whether `count` messages chosen from a slice's rows are all there is between the first and the last of them."""
    return not isinstance(_first(uids), list) and count == len(rows)


def _first(uids: UidSet) -> tuple[int, int] | list[int]:
    """The first slice: a range, or single UIDs out of several ranges."""
    first, last = uids.ranges[0]
    if len(uids.ranges) == 1 or last - first >= ROWS:
        return first, last
    listed: list[int] = []
    for low, high in uids.ranges:
        if len(listed) + high - low + 1 > ROWS:
            break
        listed += range(low, high + 1)
    return listed
