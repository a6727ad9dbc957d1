"""The packed picture of a mailbox: (uid, flags, modseq) of every message at one modseq, read in one go.

A cold view of 200,000 messages is one row of 0.5 MB and what changed since; the rows themselves would take 300 ms.
Arrays are stored by octet planes (all lowest octets first), which zstd packs to a tenth and which mostly are zeros
that need no work when they are unpacked. A snapshot that does not unpack is ignored and made anew.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import zstandard
from sqlalchemy import bindparam, select
from sqlalchemy.dialects.sqlite import insert

from storage.database.database import Connection, Database
from storage.database.prepared import prepare
from storage.schema.account import snapshot
from storage.values import AccountId, MailboxId

ROWS = "IQQ"  # uids, flags, modseqs
COLUMNS = "QQqqh"  # message ids, sizes, internal dates, sent dates, zones of the internal dates

_FORMAT = b"\x01"
_LEVEL = 1
_HEAD = len(_FORMAT) + 4

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


class Snapshots:
    """Of one account."""

    def __init__(self, database: Database, account_id: AccountId) -> None:
        self._database = database
        self._account_id = account_id

    def rows(self, connection: Connection, mailbox_id: MailboxId) -> Picture | None:
        """The last snapshot, without its columns."""
        row = _select_rows.one(connection, account=self._account_id, mailbox=mailbox_id)
        if row is None:
            return None
        arrays = unpack(row[1], ROWS)
        return Picture(row[0], arrays) if arrays is not None else None

    def columns(self, connection: Connection, mailbox_id: MailboxId) -> tuple[array[int], list[array[int]]] | None:
        """UIDs of the last snapshot and its columns, if it has them."""
        row = _select_both.one(connection, account=self._account_id, mailbox=mailbox_id)
        if row is None:
            return None
        rows, columns = unpack(row[0], ROWS), unpack(row[1], COLUMNS)
        if rows is None or columns is None or len(rows[0]) != len(columns[0]):
            return None
        return rows[0], columns

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


def pack(arrays: Sequence[array[int]]) -> bytes:
    """Arrays of one length as octets that `unpack` understands on any machine."""
    planes: list[bytes] = []
    for values in arrays:
        octets = _little_endian(values).tobytes()
        planes += [octets[plane :: values.itemsize] for plane in range(values.itemsize)]
    packed = zstandard.ZstdCompressor(level=_LEVEL).compress(b"".join(planes))
    return _FORMAT + len(arrays[0]).to_bytes(4, "big") + packed


def unpack(packed: bytes, codes: str) -> list[array[int]] | None:
    """The arrays, of these type codes; None if these are not the octets of such arrays."""
    if packed[:1] != _FORMAT:
        return None
    count = int.from_bytes(packed[1:_HEAD], "big")
    arrays = [array(code) for code in codes]
    size = count * sum(values.itemsize for values in arrays)
    try:
        planes = zstandard.ZstdDecompressor().decompress(packed[_HEAD:], max_output_size=size)
    except zstandard.ZstdError:
        return None
    if len(planes) != size:
        return None
    zeros, at = bytes(count), 0
    for values in arrays:
        width = values.itemsize
        octets = bytearray(count * width)
        for number in range(width):
            plane = planes[at : at + count]
            at += count
            if plane != zeros:
                octets[number::width] = plane
        values.frombytes(octets)
    return [_little_endian(values) for values in arrays]


def _little_endian(values: array[int]) -> array[int]:
    if sys.byteorder == "little":
        return values
    swapped = values[:]
    swapped.byteswap()
    return swapped
