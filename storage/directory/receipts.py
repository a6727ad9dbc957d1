"""What retention did, in control.db: one receipt for each class of data and run. Durable on return.

Raises: StorageFull, Unavailable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, func, insert, select

from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.schema.contracts import receipt

_COLUMNS = (
    receipt.c.data_class,
    receipt.c.time,
    receipt.c.cut_off,
    receipt.c.removed,
    receipt.c.oldest,
    receipt.c.failed,
    receipt.c.overdue,
    receipt.c.receipt_id,
)
_INSERT = prepare(insert(receipt))
_LAST = prepare(
    select(*_COLUMNS).where(
        receipt.c.receipt_id.in_(select(func.max(receipt.c.receipt_id)).group_by(receipt.c.data_class))
    )
)
_NEWEST = prepare(
    select(*_COLUMNS)
    .where(receipt.c.time >= bindparam("since"))
    .order_by(receipt.c.receipt_id.desc())
    .limit(bindparam("most"))
)
_NEWEST_OF = prepare(
    select(*_COLUMNS)
    .where(receipt.c.data_class == bindparam("which"), receipt.c.time >= bindparam("since"))
    .order_by(receipt.c.time.desc(), receipt.c.receipt_id.desc())
    .limit(bindparam("most"))
)


@dataclass(frozen=True, slots=True)
class Receipt:
    """Of one run for one class of data."""

    data_class: str  # the name of a storage.register.values.DataClass
    time: int  # when it ran
    cut_off: int  # what is older was removed; 0: its time does not go by days
    removed: int
    oldest: int | None  # of what is left; None: nothing is left, or it has no age
    failed: int  # parts that could not be looked at
    overdue: bool  # something is older than its ceiling
    receipt_id: int = 0


class Receipts:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(self, receipts: Sequence[Receipt]) -> None:
        """Those of one run, all or none."""
        rows = [
            {
                "receipt_id": None,  # the next
                "data_class": each.data_class,
                "time": each.time,
                "cut_off": each.cut_off,
                "removed": each.removed,
                "oldest": each.oldest,
                "failed": each.failed,
                "overdue": int(each.overdue),
            }
            for each in receipts
        ]

        def work(transaction: Transaction) -> None:
            for row in rows:
                _INSERT.run(transaction, **row)

        if rows:
            self._database.write(work)

    def last(self) -> dict[str, Receipt]:
        """The newest of each class, by its name."""
        with self._database.reading() as connection:
            found = [_receipt(row) for row in _LAST.rows(connection)]
        return {each.data_class: each for each in found}

    def newest(self, most: int, *, data_class: str = "", since: int = 0) -> list[Receipt]:
        """The newest first."""
        with self._database.reading() as connection:
            if data_class:
                rows = _NEWEST_OF.rows(connection, which=data_class, since=since, most=most)
            else:
                rows = _NEWEST.rows(connection, since=since, most=most)
        return [_receipt(row) for row in rows]


def _receipt(row: tuple[Any, ...]) -> Receipt:
    data_class, time, cut_off, removed, oldest, failed, overdue, receipt_id = row
    return Receipt(data_class, time, cut_off, removed, oldest, failed, bool(overdue), receipt_id)
