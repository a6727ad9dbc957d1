"""An account of an earlier version is one of this version once it was opened, with what was in it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from sqlalchemy import MetaData

from storage.clock import FixedClock
from storage.database.database import Database
from storage.database.migrations import Schema, pending
from storage.mail.account import SCHEMA
from storage.schema import account as schema

KEY = b"k" * 32
ADDED = {6: {"field_column"}}  # tables, by the version that has them first


def version_before(version: int) -> Schema:
    metadata = MetaData()
    for table in schema.metadata.sorted_tables:
        if table.name not in set().union(*(names for since, names in ADDED.items() if since >= version)):
            table.to_metadata(metadata)
    return Schema("account", version - 1, metadata, schema.EXTRA_SQL)


def test_an_account_of_version_5_gets_columns_of_fields(tmp_path: Path) -> None:
    path = tmp_path / "account.db"
    with (
        closing(Database.create(path, KEY, version_before(6), FixedClock())) as database,
        database.reading() as connection,
    ):
        before = connection.driver.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
    assert pending(path, KEY, SCHEMA)
    with closing(Database.open(path, KEY, SCHEMA, FixedClock())) as database, database.reading() as connection:
        after = connection.driver.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
        assert {name for name, _ in set(after) - set(before)} == {"field_column", "sqlite_autoindex_field_column_1"}
        assert set(before) <= set(after)
    assert not pending(path, KEY, SCHEMA)
