"""Every commit is as durable as it was asked to be, whatever the one before it on the same connection was."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import BigInteger, Column, MetaData, Table, insert

from storage.clock import SystemClock
from storage.database.database import Database, Transaction
from storage.database.migrations import Schema
from storage.database.prepared import prepare

metadata = MetaData()
thing = Table("thing", metadata, Column("number", BigInteger, primary_key=True, autoincrement=False))
INSERT = prepare(insert(thing))
NORMAL, FULL = 1, 2  # as SQLite numbers them


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.create(tmp_path / "test.db", b"k" * 32, Schema("test", 1, metadata), SystemClock())
    yield database
    database.close()


def put(transaction: Transaction, numbers: Iterator[int] = itertools.count()) -> int:  # noqa: B008 - goes on
    """Writes something; how its commit is going to be."""
    INSERT.run(transaction, number=next(numbers))
    [(level,)] = transaction.driver.execute("PRAGMA synchronous").fetchall()
    return int(level)


def test_commits_take_turns(database: Database) -> None:
    asked = [True, True, False, False, True, False, True]
    levels = [database.write(put, durable=durable) for durable in asked]
    assert levels == [FULL if durable else NORMAL for durable in asked]


def test_a_write_at_once_does_not_make_the_next_one_less_durable(database: Database) -> None:
    assert [database.write_now(put), database.write(put), database.write_now(put)] == [NORMAL, FULL, NORMAL]


def test_a_new_connection_knows_nothing_of_the_old_one(database: Database) -> None:
    assert database.write(put, durable=False) == NORMAL
    while not database.rest():
        pass
    assert [database.write(put, durable=False), database.write(put)] == [NORMAL, FULL]


def test_a_failed_write_leaves_the_next_one_as_it_was_asked_for(database: Database) -> None:
    def fail(transaction: Transaction) -> None:
        put(transaction)
        raise ValueError

    with pytest.raises(ValueError):
        database.write(fail, durable=False)
    assert database.write(put) == FULL
