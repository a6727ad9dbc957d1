"""What was expunged from a mailbox and when, so that clients that come back learn of it (QRESYNC).

Each mailbox keeps its last `KEPT` tombstones and forgets older ones in the background; up to its horizon nobody knows
any more what was expunged, and a client from before it is told of every UID that is not there.

Standards: RFC 7162 §3.2.3, §3.2.10.2.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import BigInteger, Text, bindparam, delete, func, insert, select, update

from storage.database.database import Connection, Transaction
from storage.database.prepared import prepare
from storage.schema.account import expunged, mailbox, snapshot
from storage.values import AccountId, MailboxId

KEPT = 50_000
_SLICE = 1000  # forgotten in one transaction

_these = (expunged.c.account_id == bindparam("account"), expunged.c.mailbox_id == bindparam("mailbox"))
_insert = prepare(
    insert(expunged).from_select(
        ["account_id", "mailbox_id", "modseq", "uid"],
        select(
            bindparam("account", type_=BigInteger()),
            bindparam("mailbox", type_=BigInteger()),
            bindparam("modseq", type_=BigInteger()),
            func.json_each(bindparam("uids", type_=Text())).table_valued("value").c.value,
        ),
    )
)
_select = prepare(
    select(expunged.c.uid).where(
        *_these, expunged.c.modseq > bindparam("after"), expunged.c.modseq <= bindparam("modseq")
    )
)
FEW = 200
_more = prepare(select(expunged.c.uid).where(*_these, expunged.c.modseq > bindparam("after")).limit(FEW + 1))
_oldest = prepare(
    select(expunged.c.modseq).where(*_these).order_by(expunged.c.modseq).limit(1).offset(bindparam("skip"))
)
_newest = prepare(
    select(expunged.c.modseq).where(*_these).order_by(expunged.c.modseq.desc()).limit(1).offset(bindparam("skip"))
)
_delete = prepare(delete(expunged).where(*_these, expunged.c.modseq <= bindparam("modseq")))
_delete_all = prepare(delete(expunged).where(*_these))
_set_horizon = prepare(
    update(mailbox)
    .where(mailbox.c.account_id == bindparam("account"), mailbox.c.mailbox_id == bindparam("mailbox"))
    .values(expunged_horizon=bindparam("modseq"))
)
# A snapshot from before the horizon cannot be brought up to date.
_delete_snapshot = prepare(
    delete(snapshot).where(
        snapshot.c.account_id == bindparam("account"),
        snapshot.c.mailbox_id == bindparam("mailbox"),
        snapshot.c.modseq < bindparam("modseq"),
    )
)


class Tombstones:
    """Of one account."""

    __slots__ = ("_account_id",)

    def __init__(self, account_id: AccountId) -> None:
        self._account_id = account_id

    def insert(self, transaction: Transaction, mailbox_id: MailboxId, modseq: int, uids: Sequence[int]) -> None:
        scope = {"account": self._account_id, "mailbox": mailbox_id}
        _insert.run(transaction, **scope, modseq=modseq, uids=json.dumps(list(uids)))

    def between(self, connection: Connection, mailbox_id: MailboxId, after: int, modseq: int) -> list[int]:
        """UIDs that were expunged after one modseq and up to another."""
        scope = {"account": self._account_id, "mailbox": mailbox_id}
        return [row[0] for row in _select.rows(connection, **scope, after=after, modseq=modseq)]

    def are_few(self, connection: Connection, mailbox_id: MailboxId, after: int) -> bool:
        """Whether no more than `FEW` were expunged after a modseq."""
        return len(_more.rows(connection, account=self._account_id, mailbox=mailbox_id, after=after)) <= FEW

    def forget_old(self, transaction: Transaction, mailbox_id: MailboxId, kept: int = KEPT) -> bool:
        """Forget some of those beyond the last `kept` and move the horizon. True: there may be more."""
        scope = {"account": self._account_id, "mailbox": mailbox_id}
        newest = _newest.one(transaction, **scope, skip=kept)
        oldest = _oldest.one(transaction, **scope, skip=_SLICE)
        if newest is None:
            return False
        modseq = min(newest[0], oldest[0]) if oldest is not None else newest[0]
        _set_horizon.run(transaction, **scope, modseq=modseq)
        _delete_snapshot.run(transaction, **scope, modseq=modseq)
        return _delete.run(transaction, **scope, modseq=modseq) > 0

    def forget_all(self, transaction: Transaction, mailbox_id: MailboxId) -> bool:
        """Forget some of those of a mailbox that is deleted. True: there are more."""
        scope = {"account": self._account_id, "mailbox": mailbox_id}
        oldest = _oldest.one(transaction, **scope, skip=_SLICE)
        if oldest is not None:
            _delete.run(transaction, **scope, modseq=oldest[0])
            return True
        _delete_all.run(transaction, **scope)
        return False
