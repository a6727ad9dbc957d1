"""The packed picture of a mailbox: (uid, flags, modseq) of every message at one modseq, read in one go.

A cold view of 200,000 messages is one row of some 10 KB and what changed since; the rows themselves would take 300 ms.
Flags and modseqs stay packed (`storage.mail.packing`) until somebody wants them. A snapshot that cannot be one, or is
of an earlier format, is ignored and made anew.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import bindparam, select
from sqlalchemy.dialects.sqlite import insert

from storage.database.database import Connection, Database
from storage.database.prepared import prepare
from storage.mail.packing import Packed, pack
from storage.schema.account import snapshot
from storage.values import AccountId, MailboxId

ROWS = "IQQ"  # uids, flags, modseqs
COLUMNS = "QQqqh"  # message ids, sizes, internal dates, sent dates, zones of the internal dates

_this = (snapshot.c.account_id == bindparam("account"), snapshot.c.mailbox_id == bindparam("mailbox"))
_select_rows = prepare(select(snapshot.c.modseq, snapshot.c.rows).where(*_this))
_select_both = prepare(select(snapshot.c.rows, snapshot.c.columns).where(*_this, snapshot.c.columns.is_not(None)))
_insert = insert(snapshot)
_replace = prepare(
    _insert.on_conflict_do_update(
        index_elements=[snapshot.c.account_id, snapshot.c.mailbox_id],
        set_={name: _insert.excluded[name] for name in ("modseq", "rows", "columns")},
        where=snapshot.c.modseq <= _insert.excluded.modseq,
    )
)


@dataclass(frozen=True, slots=True)
class Picture:
    """Arrays of one length; `columns` if they are known for all of them."""

    modseq: int
    rows: list[array[int]]
    columns: list[array[int]] | None = None


class Found(NamedTuple):
    """A snapshot as it was found, without its columns: its modseq, and what packs UIDs, flags and modseqs."""

    modseq: int
    rows: Packed


class Snapshots:
    """Of one account."""

    def __init__(self, database: Database, account_id: AccountId) -> None:
        self._database = database
        self._account_id = account_id

    def rows(self, connection: Connection, mailbox_id: MailboxId) -> Found | None:
        """The last snapshot, without its columns."""
        row = _select_rows.one(connection, account=self._account_id, mailbox=mailbox_id)
        if row is None:
            return None
        packed = Packed.of(row[1], ROWS)
        return Found(row[0], packed) if packed is not None else None

    def columns(self, connection: Connection, mailbox_id: MailboxId) -> tuple[array[int], list[array[int]]] | None:
        """UIDs of the last snapshot and its columns, if it has them."""
        row = _select_both.one(connection, account=self._account_id, mailbox=mailbox_id)
        if row is None:
            return None
        rows, columns = Packed.of(row[0], ROWS), Packed.of(row[1], COLUMNS)
        if rows is None or columns is None or rows.count != columns.count:
            return None
        return rows.array(0), [columns.array(number) for number in range(len(COLUMNS))]

    def save(self, mailbox_id: MailboxId, picture: Picture) -> None:
        """Keep it, unless there is a newer one."""
        rows = pack(picture.rows)
        columns = pack(picture.columns) if picture.columns is not None else None

        self._database.write(
            lambda transaction: _replace.run(
                transaction,
                account_id=self._account_id,
                mailbox_id=mailbox_id,
                modseq=picture.modseq,
                rows=rows,
                columns=columns,
            ),
            durable=False,
        )
