"""How far somebody has come who follows the chain: the number of the last record that he dealt with."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects.sqlite import insert as upsert

from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.schema.audit import info

_get = prepare(select(info.c.value).where(info.c.name == bindparam("which")))
_get_all = prepare(select(info.c.name, info.c.value))
_remove = prepare(delete(info).where(info.c.name == bindparam("which")))
_new = upsert(info)
_set = prepare(_new.on_conflict_do_update(index_elements=["name"], set_={"value": _new.excluded.value}))


class Positions:
    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, name: str) -> int:
        with self._database.reading() as connection:
            row = _get.one(connection, which=name)
        return 0 if row is None else int(row[0])

    def under(self, prefix: str) -> dict[str, int]:
        """Those whose names begin so, by the rest of their names."""
        with self._database.reading() as connection:
            rows = _get_all.rows(connection)
        return {row[0].removeprefix(prefix): int(row[1]) for row in rows if row[0].startswith(prefix)}

    def set(self, name: str, number: int | None) -> None:
        """None: nobody follows it there any more."""

        def work(transaction: Transaction) -> None:
            if number is None:
                _remove.run(transaction, which=name)
            else:
                _set.run(transaction, name=name, value=str(number))

        self._database.write(work)
