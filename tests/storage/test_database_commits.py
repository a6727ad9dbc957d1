"""What a process knows of a database counts until somebody commits: whoever does, and on whatever thread."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import BigInteger, Column, MetaData, Table, func, insert, select

from storage.clock import FixedClock, SystemClock
from storage.database.commits import PLACES, TRUSTED, Commits, Place
from storage.database.database import Database
from storage.database.migrations import Schema
from storage.database.prepared import prepare
from storage.values import AccountId

ACCOUNT = AccountId(77)
KEY = b"k" * 32
ROUNDS = 300
metadata = MetaData()
thing = Table("thing", metadata, Column("number", BigInteger, primary_key=True, autoincrement=False))
SCHEMA = Schema("test", 1, metadata)
INSERT = prepare(insert(thing))
COUNT = prepare(select(func.count()).select_from(thing))


class Keeper:
    """Keeps how many rows there are, and reads them again when somebody may have committed."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.version, self.rows, self.reads = -1, 0, 0

    def look(self) -> int:
        version = self.database.data_version()
        if version != self.version:
            with self.database.reading() as connection:
                [(self.rows,)] = COUNT.rows(connection)
            self.version = version
            self.reads += 1
        return self.rows


def put(database: Database, number: int) -> None:
    database.write(lambda transaction: INSERT.run(transaction, number=number), durable=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    Database.create(tmp_path / "test.db", KEY, SCHEMA, SystemClock()).close()
    return tmp_path


@pytest.fixture
def opened(data: Path) -> Iterator[Callable[..., Database]]:
    databases = []

    def of(commits: Place | None, clock: FixedClock | None = None) -> Database:
        database = Database(data / "test.db", KEY, SCHEMA, clock or FixedClock(), commits=commits)
        databases.append(database)
        return database

    yield of
    for database in databases:
        database.close()


OTHER = """
import os, random, sys, time
from pathlib import Path
from storage.clock import FixedClock
from storage.database.commits import Commits
from storage.database.database import Database
from tests.storage.test_database_commits import ACCOUNT, KEY, SCHEMA, put

data, rounds, chance = Path(sys.argv[1]), int(sys.argv[2]), random.Random(1)
database = Database(data / "test.db", KEY, SCHEMA, FixedClock(), commits=Commits(data).of(ACCOUNT))
for number in range(1, rounds + 1):
    os.read(0, 1)
    until = time.perf_counter() + chance.random() * 1e-4
    while time.perf_counter() < until:
        pass
    put(database, number)
    os.write(1, b".")
database.close()
"""


def test_what_another_process_committed_is_seen_when_it_says_so(data: Path, opened: Callable[..., Database]) -> None:
    keeper = Keeper(opened(Commits(data).of(ACCOUNT)))  # its clock stands still: nothing is asked by time
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    command = [sys.executable, "-c", OTHER, str(data), str(ROUNDS)]
    chance = random.Random(2)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=environment) as other:
        assert other.stdin is not None and other.stdout is not None
        for number in range(1, ROUNDS + 1):
            other.stdin.write(b".")
            until = time.perf_counter() + chance.random() * 3e-4
            while time.perf_counter() < until:  # looks beside its commit, before and after its mark
                assert keeper.look() in (number - 1, number)
            assert other.stdout.read(1) == b"."
            assert keeper.look() == number
            reads = keeper.reads
            assert keeper.look() == number and keeper.reads == reads


def test_threads_see_what_they_wrote_though_others_commit_for_them(data: Path, opened: Callable[..., Database]) -> None:
    database = opened(Commits(data).of(ACCOUNT))

    def write(thread: int) -> bool:
        keeper, seen = Keeper(database), True
        for number in range(25):
            before = keeper.look()
            put(database, thread * 100 + number)
            seen &= keeper.look() > before
        return seen

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(write, range(4)))


def test_accounts_that_share_a_place_ask_in_vain_and_miss_nothing(data: Path, opened: Callable[..., Database]) -> None:
    mine, others = Commits(data), Commits(data)
    keeper = Keeper(opened(mine.of(ACCOUNT)))
    keeper.look()
    others.of(AccountId(ACCOUNT + PLACES)).mark()
    put(opened(others.of(ACCOUNT)), 1)
    assert keeper.look() == 1
    others.of(AccountId(ACCOUNT + 1)).mark()
    place, answers = mine.of(ACCOUNT), iter([(number, True) for number in range(9)])
    assert [place.version(0.0, lambda: next(answers)) for _ in range(3)] == [0, 0, 0]
    others.of(AccountId(ACCOUNT + PLACES)).mark()
    assert place.version(0.0, lambda: next(answers)) == 1

    def meanwhile() -> tuple[int, bool]:
        others.of(ACCOUNT).mark()
        return 7, True

    others.of(ACCOUNT).mark()
    assert place.version(0.0, meanwhile) == 7
    assert place.version(0.0, lambda: (8, True)) == 8  # the commit while it was asked was not among what it knew


def test_a_commit_that_nobody_marked_is_seen_after_a_second(data: Path, opened: Callable[..., Database]) -> None:
    clock = FixedClock()
    keeper = Keeper(opened(Commits(data).of(ACCOUNT), clock))
    keeper.look()
    put(opened(None), 1)  # as a process does that is killed before it says so
    assert keeper.look() == 0
    clock.advance(TRUSTED)
    assert keeper.look() == 1


def test_without_a_table_the_database_is_asked_each_time(data: Path, opened: Callable[..., Database]) -> None:
    (data / "run" / "commits").mkdir()
    here = Commits(data)
    database = opened(here.of(ACCOUNT))
    keeper = Keeper(database)
    for number in range(1, 4):
        put(database, number)  # its mark is left out
        assert keeper.look() == number
    (data / "run" / "commits").rmdir()
    put(database, 4)  # now it can be made
    assert keeper.look() == 4
    assert [path.name for path in (data / "run").iterdir()] == ["commits"]
    assert Keeper(opened(Commits(data).of(ACCOUNT))).look() == 4


def test_what_was_killed_while_it_made_the_table_leaves_nothing_for_good(data: Path) -> None:
    old, new = data / "run" / "commits.00ff", data / "run" / "commits.11ff"
    for left, made in ((old, 1000.0), (new, 1090.0)):
        left.touch()
        os.utime(left, (made, made))
    table = Commits(data, 1100.0)
    assert sorted(path.name for path in (data / "run").iterdir()) == ["commits", new.name]
    assert table.places is not None


def test_what_is_asked_within_a_snapshot_is_not_kept(data: Path, opened: Callable[..., Database]) -> None:
    """There SQLite says what the snapshot is of, and not what somebody committed meanwhile."""
    commits = Commits(data)
    database, other = opened(commits.of(ACCOUNT)), opened(commits.of(ACCOUNT))
    keeper = Keeper(database)
    with database.snapshot():
        assert keeper.look() == 0
        put(other, 1)
        assert keeper.look() == 0
    assert keeper.look() == 1
