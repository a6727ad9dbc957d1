"""Rows of `membership` by UID set, in slices of bounded size: what STORE, COPY, MOVE and EXPUNGE work on.

A slice is read and changed in one transaction of at most `ROWS` rows; the caller goes on with what `rest_of` leaves, so
that other writers get in between.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import bindparam, delete, func, insert, select, update

from storage.database.database import Connection, Transaction
from storage.database.prepared import Row, prepare
from storage.schema.account import membership, message
from storage.values import AccountId, MailboxId, UidSet

ROWS = 1000  # of one transaction
_RANGES = 1000  # of one statement
_FEW = 4  # so few ranges are asked for one by one

_in_mailbox = (membership.c.account_id == bindparam("account"), membership.c.mailbox_id == bindparam("mailbox"))
_in_range = membership.c.uid.between(bindparam("first"), bindparam("last"))
_flag_columns = (membership.c.uid, membership.c.flags, membership.c.modseq)
_full_columns = (membership.c.uid, membership.c.flags, membership.c.message_id, message.c.size)
_with_message = membership.join(
    message, (message.c.account_id == membership.c.account_id) & (message.c.message_id == membership.c.message_id)
)
_has_bits = membership.c.flags.op("&")(bindparam("bits")) != 0

_range = func.json_each(bindparam("ranges")).table_valued("key", "value", name="spans")
_in_ranges = membership.c.uid.between(
    func.json_extract(_range.c.value, "$[0]"), func.json_extract(_range.c.value, "$[1]")
)
_uid_list = select(func.json_each(bindparam("uids")).table_valued("value").c.value)

_flags_in_range = prepare(
    select(*_flag_columns).where(*_in_mailbox, _in_range).order_by(membership.c.uid).limit(bindparam("most"))
)
_flags_in_ranges = prepare(
    select(*_flag_columns)
    .select_from(_range.join(membership, _in_ranges))
    .where(*_in_mailbox)
    .order_by(_range.c.key, membership.c.uid)
    .limit(bindparam("most"))
)
_full_in_range = {
    marked: prepare(
        select(*_full_columns)
        .select_from(_with_message)
        .where(*_in_mailbox, _in_range, *((_has_bits,) if marked else ()))
        .order_by(membership.c.uid)
        .limit(bindparam("most"))
    )
    for marked in (False, True)
}
_full_in_ranges = {
    marked: prepare(
        select(*_full_columns)
        .select_from(_range.join(_with_message, _in_ranges))
        .where(*_in_mailbox, *((_has_bits,) if marked else ()))
        .order_by(_range.c.key, membership.c.uid)
        .limit(bindparam("most"))
    )
    for marked in (False, True)
}

_new_flags = {
    "flags": membership.c.flags.op("&")(bindparam("keep")).op("|")(bindparam("bits")),
    "modseq": bindparam("next_modseq"),
}
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

    def flags(self, connection: Connection, mailbox_id: MailboxId, uids: UidSet, most: int = ROWS) -> list[Row]:
        """(uid, flags, modseq) of the first `most` messages in a set, ascending."""
        scope = {"account": self._account_id, "mailbox": mailbox_id}
        if len(uids.ranges) > _FEW:
            spans = json.dumps(uids.ranges[:_RANGES])
            return _flags_in_ranges.rows(connection, **scope, ranges=spans, most=most)
        rows: list[Row] = []
        for first, last in uids.ranges:
            rows += _flags_in_range.rows(connection, **scope, first=first, last=last, most=most - len(rows))
            if len(rows) >= most:
                break
        return rows

    def full(
        self, connection: Connection, mailbox_id: MailboxId, uids: UidSet, *, having: int = 0, most: int = ROWS
    ) -> list[Row]:
        """(uid, flags, message id, size) of the first `most` messages in a set; those with one of some flags only."""
        scope = {"account": self._account_id, "mailbox": mailbox_id}
        if having:
            scope["bits"] = having
        if len(uids.ranges) > _FEW:
            spans = json.dumps(uids.ranges[:_RANGES])
            return _full_in_ranges[bool(having)].rows(connection, **scope, ranges=spans, most=most)
        rows: list[Row] = []
        for first, last in uids.ranges:
            statement = _full_in_range[bool(having)]
            rows += statement.rows(connection, **scope, first=first, last=last, most=most - len(rows))
            if len(rows) >= most:
                break
        return rows

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
        if unbroken or len(uids) == 1:
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


def rest_of(uids: UidSet, rows: Sequence[Row], most: int = ROWS) -> UidSet:
    """What a slice has left of a set: what lies behind its last row, or behind the ranges that it asked for."""
    if len(rows) < most:
        return UidSet(uids.ranges[_RANGES:]) if len(uids.ranges) > _RANGES else UidSet()
    last = rows[-1][0]
    return UidSet(tuple((max(low, last + 1), high) for low, high in uids.ranges if high > last))


def is_unbroken(uids: UidSet, rows: Sequence[Row], count: int) -> bool:
    """Whether `count` messages chosen from a slice's rows are all there is between the first and the last of them."""
    return len(uids.ranges) == 1 and count == len(rows)
