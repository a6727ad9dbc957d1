"""Rows that age: the time at which a row's period began, for each table whose rows go by age.

`oldest` asks for the age of what is left; `remove` deletes what began before a time. Neither looks at rows of tenants
that a legal hold covers. Both may be repeated.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Table, bindparam, delete, func, select

from storage.database.database import Database
from storage.database.prepared import prepare
from storage.values import TenantId


class Rows:
    """Of one table. `began` is in seconds; a row of which it is NULL does not age."""

    def __init__(
        self,
        table: Table,
        began: ColumnElement[Any],
        *where: ColumnElement[bool],
        tenant: ColumnElement[int] | None = None,
    ) -> None:
        """`where` are the rows that age at all, `tenant` is the column that says whose a row is."""
        self.table = table
        held = select(func.json_each(bindparam("held")).table_valued("value").c.value)
        spared = () if tenant is None else (tenant.is_(None) | tenant.not_in(held),)
        self._oldest = prepare(select(func.min(began)).where(*where, *spared))
        self._delete = prepare(delete(table).where(*where, began < bindparam("before"), *spared))
        self._has_tenant = tenant is not None

    def oldest(self, database: Database, held: Collection[TenantId] = ()) -> int | None:
        with database.reading() as connection:
            row = self._oldest.one(connection, **self._spared(held))
        return None if row is None or row[0] is None else int(row[0])

    def remove(self, database: Database, before: int, held: Collection[TenantId] = ()) -> int:
        """How many rows were removed."""
        values = {"before": before, **self._spared(held)}
        return database.write(lambda transaction: self._delete.run(transaction, **values))

    def _spared(self, held: Collection[TenantId]) -> dict[str, Any]:
        return {"held": json.dumps(sorted(held))} if self._has_tenant else {}


def earliest(times: Collection[int | None]) -> int | None:
    return min((time for time in times if time is not None), default=None)
