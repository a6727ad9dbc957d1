"""Reading, shared commits, failures of one work, locking between processes, and what a SIGKILL leaves."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import pytest
from sqlalchemy import BigInteger, Column, MetaData, Table, Text, bindparam, func, insert, select, text, update

import storage
from storage.clock import FixedClock, SystemClock
from storage.database.checkpointer import Checkpointer
from storage.database.database import Connection, Database, Transaction
from storage.database.migrations import Schema, Step, pending
from storage.database.prepared import Prepared, compile_all, prepare
from storage.errors import AlreadyExists, Busy, CleanmailError, Corrupt, NotFound, StorageFull, Unavailable
from storage.values import MailboxId, ModSeq

KEY = b"k" * 32
ROOT = Path(__file__).parents[2]
metadata = MetaData()
thing = Table(
    "thing",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
)
SCHEMA = Schema("test", 1, metadata)
INSERT = prepare(insert(thing))
NUMBERS = prepare(select(thing.c.number).order_by(thing.c.number))
NAME = prepare(select(thing.c.name).where(thing.c.number == bindparam("which")))
RENAME = prepare(update(thing).where(thing.c.number == bindparam("which")).values(name=bindparam("new")))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test #1 ü.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    database = Database.create(path, KEY, SCHEMA, SystemClock())
    yield database
    database.close()


def put(number: int, name: str = "n") -> Callable[[Transaction], int]:
    return lambda transaction: INSERT.run(transaction, number=number, name=name)


def numbers(database: Database) -> list[int]:
    with database.reading() as connection:
        return [row[0] for row in NUMBERS.rows(connection)]


def together(database: Database, *writers: Callable[[], object]) -> None:
    """Call the writers on threads of their own while a transaction is open, so that the next one takes them all up."""
    threads = [threading.Thread(target=writer) for writer in writers]

    def hold(_: Transaction) -> None:
        for count, thread in enumerate(threads, 1):
            thread.start()
            while database.waiting < count:
                threading.Event().wait(0.001)

    database.write(hold)
    for thread in threads:
        thread.join()


class Caught:
    """The result or the exception of a call on another thread."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self.result: object = None
        self.error: BaseException | None = None

    def __call__(self) -> None:
        try:
            self.result = self._call()
        except BaseException as error:
            self.error = error


# Statements


def test_a_prepared_statement_gives_rows(database: Database) -> None:
    assert database.write(put(1, "one")) == 1
    assert database.write(lambda t: INSERT.run_many(t, [{"number": n, "name": str(n)} for n in (2, 3)])) == 2
    with database.reading() as connection:
        assert NAME.one(connection, which=1) == ("one",) and NAME.one(connection, which=9) is None
        assert connection.execute(select(func.count()).select_from(thing)) == [(3,)]
        assert prepare(text("SELECT :a + :b, :a")).rows(connection, a=1, b=2) == [(3, 1)]
        paged = prepare(select(thing.c.number).where(thing.c.number > 1).order_by(thing.c.number).limit(1))
        assert paged.rows(connection) == [(2,)]
        assert "?" not in paged.sql.split("LIMIT")[1]  # bound, it would have SQLite prepare the statement each time
        later = prepare(select(thing.c.number).order_by(thing.c.number).limit(2).offset(bindparam("skip")))
        assert later.rows(connection, skip=1) == [(2,), (3,)]


@pytest.mark.parametrize("wrong", [{}, {"which": 1, "other": 2}, {"other": 1}])
def test_missing_and_unknown_parameters_are_mistakes(database: Database, wrong: dict[str, Any]) -> None:
    with database.reading() as connection, pytest.raises(TypeError, match="parameters"):
        NAME.one(connection, **wrong)


def test_a_statement_over_a_list_cannot_be_prepared(database: Database) -> None:
    statement = Prepared(select(thing.c.name).where(thing.c.number.in_([1, 2])))  # so `compile_all` does not see it
    with database.reading() as connection, pytest.raises(TypeError, match="IN"):
        statement.rows(connection)


def test_every_statement_of_the_product_compiles() -> None:
    """They are compiled when they are first run: a mistake in one that is seldom run is to be seen here."""
    modules = [import_module(found.name) for found in walk_packages(storage.__path__, "storage.")]
    statements = {id(value): value for module in modules for value in vars(module).values() if type(value) is Prepared}
    assert len(statements) > 600
    assert all(statement.sql for statement in statements.values())


def test_statements_are_compiled_before_somebody_waits_for_them() -> None:
    statement = prepare(text("SELECT :number"))
    assert statement._statement is not None
    compile_all()
    assert statement._statement is None


def test_a_statement_that_many_threads_use_first_is_the_same_for_each() -> None:
    for _ in range(20):
        statement = prepare(select(thing.c.number).where(thing.c.number == bindparam("which")))
        together = threading.Barrier(4)

        def first(statement: Prepared = statement, together: threading.Barrier = together) -> str:
            together.wait()
            return statement.sql

        with ThreadPoolExecutor(4) as threads:
            seen = {done.result() for done in [threads.submit(first) for _ in range(4)]}
        assert seen == {"SELECT thing.number \nFROM thing \nWHERE thing.number = ?"}


def test_reading_may_be_entered_again_and_a_snapshot_stands_still(database: Database) -> None:
    with database.reading(), database.reading() as connection:
        assert NUMBERS.rows(connection) == []
    with database.snapshot() as connection:
        assert NUMBERS.rows(connection) == []
        database.write(put(1))
        assert NUMBERS.rows(connection) == []
    assert numbers(database) == [1]


def test_who_reads_apart_sees_one_state_and_holds_up_no_reader_but_the_closing(database: Database) -> None:
    database.write(put(1))
    with ThreadPoolExecutor(2) as others, database.apart() as connection:
        assert NUMBERS.rows(connection) == [(1,)]
        others.submit(database.write, put(2)).result(10)
        assert others.submit(numbers, database).result(10) == [1, 2]
        assert NUMBERS.rows(connection) == [(1,)]
        closing = others.submit(database.close)
        assert NUMBERS.rows(connection) == [(1,)] and not closing.done()
    closing.result(10)
    with pytest.raises(Unavailable), database.apart():
        pass


def test_data_version_changes_with_commits_only(database: Database) -> None:
    before = database.data_version()
    assert database.data_version() == before
    database.write(put(1))
    assert database.data_version() != before


# Creating and opening


def test_open_finds_what_was_written(database: Database, path: Path) -> None:
    database.write(put(1))
    database.close()
    again = Database.open(path, KEY, SCHEMA, SystemClock())
    assert numbers(again) == [1]
    again.close()
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, path.name + ".lock"]


def test_the_file_shows_nothing(database: Database, path: Path) -> None:
    database.write(put(1, "unmistakable"))
    database.close()
    content = path.read_bytes()
    assert b"unmistakable" not in content and b"CREATE TABLE" not in content and not content.startswith(b"SQLite")


def test_create_fills_in_the_same_step_and_never_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new.db"

    def failing(_: Transaction) -> None:
        raise ValueError

    with pytest.raises(ValueError):
        Database.create(path, KEY, SCHEMA, SystemClock(), fill=failing)
    assert not path.exists()
    database = Database.create(path, KEY, SCHEMA, SystemClock(), fill=put(7))
    assert numbers(database) == [7]
    with pytest.raises(AlreadyExists):
        Database.create(path, KEY, SCHEMA, SystemClock())
    database.close()


def test_only_create_makes_a_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Database.open(tmp_path / "none.db", KEY, SCHEMA, SystemClock())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("schema", [SCHEMA, Schema("other", 1, metadata)])
def test_a_wrong_key_and_a_wrong_kind_are_told(database: Database, path: Path, schema: Schema) -> None:
    database.close()
    key = KEY if schema.name == "other" else b"x" * 32
    with pytest.raises(Corrupt):
        Database.open(path, key, schema, SystemClock())


def test_damage_is_told(database: Database, path: Path) -> None:
    for number in range(500):
        database.write(put(number, "n" * 100), durable=False)
    database.close()
    content = bytearray(path.read_bytes())
    for offset in range(4096 * 3, len(content), 4096):
        content[offset + 100] ^= 1
    path.write_bytes(content)
    damaged = Database.open(path, KEY, SCHEMA, SystemClock())
    with pytest.raises(Corrupt), damaged.reading() as connection:
        NUMBERS.rows(connection)
    damaged.close()


def test_a_closed_database_says_so(database: Database) -> None:
    database.close()
    database.close()
    uses: list[Callable[[], int]] = [
        lambda: database.write(put(1)),
        lambda: database.write_now(put(1)),
        database.data_version,
    ]
    for use in uses:
        with pytest.raises(Unavailable):
            use()


def test_close_waits_for_the_works_before_it(database: Database, path: Path) -> None:
    together(database, lambda: database.write(put(1)), database.close)
    again = Database.open(path, KEY, SCHEMA, SystemClock())
    assert numbers(again) == [1]
    again.close()


# Writers


def test_waiting_writers_share_one_commit(path: Path) -> None:
    batches: list[Mapping[MailboxId, ModSeq]] = []
    database = Database.create(path, KEY, SCHEMA, SystemClock(), on_changed=batches.append)
    synced: list[str] = []

    def work(number: int) -> Callable[[Transaction], int]:
        def act(transaction: Transaction) -> int:
            transaction.changed(MailboxId(5), ModSeq(number))
            transaction.before_commit(lambda: synced.append("directory"), key="directory")
            transaction.before_commit(lambda: synced.append("own"))
            return put(number)(transaction)

        return act

    together(database, *[partial(database.write, work(number)) for number in range(1, 8)])
    assert numbers(database) == list(range(1, 8))
    assert batches == [{MailboxId(5): ModSeq(7)}]  # one commit, one announcement, the last modseq
    assert sorted(synced) == ["directory"] + ["own"] * 7
    database.close()


def test_only_the_failing_work_of_a_batch_is_undone(database: Database) -> None:
    def failing(transaction: Transaction) -> None:
        put(100)(transaction)
        raise ValueError("mine")

    ran: list[int] = []

    def succeeding(transaction: Transaction) -> None:
        put(2)(transaction)
        transaction.after_commit(lambda: ran.append(2))

    bad = Caught(lambda: database.write(failing))
    double = Caught(lambda: database.write(put(1)))
    together(database, lambda: database.write(put(1)), bad, lambda: database.write(succeeding), double)
    assert numbers(database) == [1, 2] and ran == [2]
    assert isinstance(bad.error, ValueError) and isinstance(double.error, AlreadyExists)


def test_a_single_failing_work_is_undone(database: Database) -> None:
    def failing(transaction: Transaction) -> None:
        put(1)(transaction)
        raise ValueError

    with pytest.raises(ValueError):
        database.write(failing)
    database.write(put(2))
    assert numbers(database) == [2]


def test_what_fails_before_the_commit_undoes_the_whole_batch(database: Database) -> None:
    def no_space() -> None:
        raise StorageFull

    def work(transaction: Transaction) -> None:
        put(1)(transaction)
        transaction.before_commit(no_space)

    first, second = Caught(lambda: database.write(work)), Caught(lambda: database.write(put(2)))
    together(database, first, second)
    assert numbers(database) == []
    assert isinstance(first.error, StorageFull) and isinstance(second.error, StorageFull)
    assert first.error is not second.error


def test_what_fails_after_the_commit_undoes_nothing(database: Database) -> None:
    def work(transaction: Transaction) -> str:
        put(1)(transaction)
        transaction.after_commit(lambda: 1 // 0)
        return "done"

    assert database.write(work) == "done" and numbers(database) == [1]


def test_an_interrupted_leader_leaves_nothing_open(database: Database) -> None:
    def interrupted(transaction: Transaction) -> None:
        put(1)(transaction)
        raise KeyboardInterrupt

    first, second = Caught(lambda: database.write(interrupted)), Caught(lambda: database.write(put(2)))
    together(database, first, second)
    assert isinstance(first.error, KeyboardInterrupt)
    assert isinstance(second.error, Unavailable)
    database.write(put(3))
    assert numbers(database) == [3]


def test_a_work_must_not_write_again(database: Database) -> None:
    with pytest.raises(RuntimeError, match="part of"):
        database.write(lambda _: database.write(put(1)))


def test_a_long_batch_leaves_the_rest_to_the_next(database: Database) -> None:
    def slow(number: int) -> Callable[[Transaction], int]:
        def work(transaction: Transaction) -> int:
            deadline = time.monotonic() + 0.06
            while time.monotonic() < deadline:
                pass
            return put(number)(transaction)

        return work

    writers = [Caught(partial(database.write, slow(number))) for number in range(1, 4)]
    together(database, *writers)
    assert numbers(database) == [1, 2, 3] and [w.result for w in writers] == [1, 1, 1]


def test_write_now_writes_or_says_busy(database: Database, path: Path) -> None:
    assert database.write_now(put(1)) == 1
    outcome: list[object] = []

    def meanwhile(_: Transaction) -> None:
        caught = Caught(lambda: database.write_now(put(2)))
        thread = threading.Thread(target=caught)
        thread.start()
        thread.join()
        outcome.append(caught.error)

    database.write(meanwhile)
    assert isinstance(outcome[0], Busy) and numbers(database) == [1]
    other = Database.open(path, KEY, SCHEMA, SystemClock())

    def elsewhere(_: Transaction) -> None:
        with pytest.raises(Busy):
            other.write_now(put(3))

    database.write(elsewhere)
    assert other.write_now(put(3)) == 1 and numbers(database) == [1, 3]
    other.close()


def test_a_writer_that_finds_the_lock_taken_waits_for_it(database: Database, path: Path) -> None:
    other = Database.open(path, KEY, SCHEMA, SystemClock())
    waiting = Caught(lambda: other.write(put(2)))
    thread = threading.Thread(target=waiting)

    def first(transaction: Transaction) -> None:
        thread.start()
        put(1)(transaction)

    database.write(first)
    thread.join()
    assert waiting.error is None and numbers(database) == [1, 2]
    other.close()


def test_a_writer_does_not_wait_for_ever(database: Database, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.database.database.PATIENCE", 0.05)
    other = Database.open(path, KEY, SCHEMA, SystemClock())

    def long(transaction: Transaction) -> None:
        with pytest.raises(Unavailable, match="locked"):
            other.write(put(2))
        put(1)(transaction)

    database.write(long)
    assert other.write(put(3)) == 1  # the wait that was given up has let go of the lock
    assert numbers(database) == [1, 3]
    other.close()


def test_a_full_disk_keeps_nothing_and_recovers(database: Database) -> None:
    database.write(lambda t: t.driver.execute("PRAGMA max_page_count = 20").fetchall())
    with pytest.raises(StorageFull):
        for number in range(100):
            database.write(put(number, "n" * 5000))
    kept = numbers(database)
    assert kept == list(range(len(kept)))
    big = Caught(lambda: database.write(put(1000, "n" * 50_000)))
    small = Caught(lambda: database.write(lambda t: RENAME.run(t, which=0, new="m")))
    together(database, big, small)
    assert isinstance(big.error, StorageFull)
    database.write(lambda t: t.driver.execute("PRAGMA max_page_count = 100000").fetchall())
    database.write(put(1000))
    assert numbers(database) == [*kept, 1000]


def test_many_threads(database: Database) -> None:
    def writer(start: int) -> None:
        for number in range(start, start + 25):
            database.write(put(number), durable=number % 2 == 0)

    threads = [threading.Thread(target=writer, args=(1000 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers(database) == sorted(n for start in range(0, 8000, 1000) for n in range(start, start + 25))


# Other processes

PRELUDE = """
import os, signal, sys
sys.path[:0] = [{root!r}, {tests!r}]
from pathlib import Path
from test_storage_database import *
path, start = Path(sys.argv[1]), int(sys.argv[2])
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
"""


def process(body: str, path: Path, start: int = 0) -> subprocess.Popen[str]:
    prelude = PRELUDE.format(root=str(ROOT), tests=str(Path(__file__).parent))
    code = prelude + textwrap.dedent(body)
    return subprocess.Popen([sys.executable, "-c", code, str(path), str(start)], stdout=subprocess.PIPE, text=True)


def test_processes_write_side_by_side(database: Database, path: Path) -> None:
    body = """
        database = Database.open(path, KEY, SCHEMA, SystemClock())
        for number in range(start, start + 100):
            database.write(put(number), durable=False)
        database.close()
    """
    children = [process(body, path, start) for start in (1000, 2000)]
    for number in range(100):
        database.write(put(number), durable=False)
    assert [child.wait() for child in children] == [0, 0]
    for child in children:
        assert child.stdout is not None
        child.stdout.close()
    assert numbers(database) == [n for start in (0, 1000, 2000) for n in range(start, start + 100)]


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        ("database.write(lambda t: (put(2)(t), die()))", [1]),
        ("database.write(lambda t: (put(2)(t), t.before_commit(die)))", [1]),
        ("database.write(lambda t: (put(2)(t), t.after_commit(die)))", [1, 2]),
        ("database.write(lambda t: put(2)(t), durable=False); die()", [1, 2]),
        ("database.write(put(2)); database.checkpoint(); die()", [1, 2]),
    ],
)
def test_a_kill_at_each_step_of_a_write(database: Database, path: Path, step: str, kept: list[int]) -> None:
    child = process(f"database = Database.open(path, KEY, SCHEMA, SystemClock()); database.write(put(1)); {step}", path)
    assert child.wait() == -9
    assert child.stdout is not None
    child.stdout.close()
    assert numbers(database) == kept
    database.write(put(3))  # its locks ended with it
    assert numbers(database) == [*kept, 3]


def test_what_was_acknowledged_before_a_kill_is_there(database: Database, path: Path) -> None:
    body = """
        database = Database.open(path, KEY, SCHEMA, SystemClock())
        def writer(start):
            for number in range(start, start + 10_000):
                database.write(put(number))
                os.write(1, f"{number}\\n".encode())
        for n in range(4):
            threading.Thread(target=writer, args=(n * 10_000,)).start()
    """
    child = process(body, path)
    assert child.stdout is not None
    with child.stdout as output:
        acknowledged = [int(next(output)) for _ in range(200)]
        child.kill()
        acknowledged += [int(line) for line in output if line.endswith("\n")]
    child.wait()
    present = numbers(database)
    assert set(acknowledged) <= set(present) and len(present) <= len(acknowledged) + 4


@pytest.mark.parametrize("step", ["fill=die", "fill=lambda t: (put(1)(t), t.before_commit(die))"])
def test_a_kill_while_a_database_is_made(tmp_path: Path, step: str) -> None:
    path = tmp_path / "new.db"
    child = process(f"Database.create(path, KEY, SCHEMA, SystemClock(), {step})", path)
    assert child.wait() == -9
    assert child.stdout is not None
    child.stdout.close()
    assert not path.exists()
    Database.create(path, KEY, SCHEMA, SystemClock(), fill=put(1)).close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new.db", "new.db.lock"]


# Checkpoints


def test_the_checkpointer_empties_logs_while_others_work(path: Path) -> None:
    clock = FixedClock()
    checkpointer = Checkpointer(clock, age=10, commits=50)
    database = Database.create(path, KEY, SCHEMA, clock, checkpointer=checkpointer)
    size = path.stat().st_size
    for number in range(20):
        database.write(put(number, "n" * 2000))
    assert checkpointer.checkpoint_due() == 0 and path.stat().st_size == size
    clock.advance(11)
    assert checkpointer.checkpoint_due() == 1 and path.stat().st_size > size
    assert checkpointer.checkpoint_due() == 0
    for number in range(100, 151):
        database.write(put(number), durable=False)
    assert checkpointer.checkpoint_due() == 1
    database.write(put(999))
    database.close()
    clock.advance(11)
    assert checkpointer.checkpoint_due() == 0


def test_the_checkpointer_runs_by_itself(path: Path) -> None:
    checkpointer = Checkpointer(SystemClock(), interval=0.001, age=0)
    checkpointer.start()
    database = Database.create(path, KEY, SCHEMA, SystemClock(), checkpointer=checkpointer)
    size = path.stat().st_size
    database.write(put(1, "n" * 20_000))
    deadline = time.monotonic() + 10
    while path.stat().st_size == size and time.monotonic() < deadline:
        threading.Event().wait(0.001)
    assert path.stat().st_size > size
    checkpointer.stop()
    database.close()


# Migrations


def step_two(connection: Connection) -> bool:
    connection.execute(text("ALTER TABLE thing ADD COLUMN size INTEGER"))
    return False


def step_three(connection: Connection) -> bool:
    """A few rows each time, found by what is still missing."""
    few = text("UPDATE thing SET size = 1 WHERE number IN (SELECT number FROM thing WHERE size IS NULL LIMIT 3)")
    return prepare(few).run(connection) > 0


def interrupted(connection: Connection) -> bool:
    if connection.execute(text("SELECT count(*) FROM thing WHERE size IS NOT NULL")) == [(6,)]:
        raise Unavailable(detail="interrupted")
    return step_three(connection)


def schema_of(version: int, third: Callable[[Connection], bool] = step_three) -> Schema:
    steps = [step for step in (Step(2, step_two), Step(3, third)) if step.version <= version]
    return Schema("test", version, metadata, (), steps)


def test_an_older_file_is_migrated_when_it_is_opened(database: Database, path: Path) -> None:
    database.write(lambda t: INSERT.run_many(t, [{"number": n, "name": ""} for n in range(10)]))
    database.close()
    assert pending(path, KEY, schema_of(3)) and not pending(path, KEY, SCHEMA)
    with pytest.raises(CleanmailError):
        Database.open(path, KEY, schema_of(3, interrupted), SystemClock())
    assert pending(path, KEY, schema_of(3))
    migrated = Database.open(path, KEY, schema_of(3), SystemClock())
    with migrated.reading() as connection:
        assert connection.execute(text("SELECT sum(size) FROM thing")) == [(10,)]
    assert not pending(path, KEY, schema_of(3))
    migrated.close()


def test_a_version_without_steps_only_raises_the_number(database: Database, path: Path) -> None:
    database.close()
    Database.open(path, KEY, Schema("test", 5, metadata), SystemClock()).close()
    assert not pending(path, KEY, Schema("test", 5, metadata))


def test_a_newer_file_is_refused(database: Database, path: Path) -> None:
    database.close()
    Database.open(path, KEY, schema_of(2), SystemClock()).close()
    for refused in (lambda: Database.open(path, KEY, SCHEMA, SystemClock()), lambda: pending(path, KEY, SCHEMA)):
        with pytest.raises(Unavailable, match="newer version"):
            refused()


def test_nothing_is_migrated_while_an_older_program_has_it_open(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.database.database.PATIENCE", 0.05)
    database.write(put(1))
    with pytest.raises(Unavailable, match="lease"):
        Database.open(path, KEY, schema_of(2), SystemClock())
    assert numbers(database) == [1]
    database.close()
    Database.open(path, KEY, schema_of(2), SystemClock()).close()


def test_processes_that_open_an_older_file_migrate_it_once(database: Database, path: Path) -> None:
    database.close()
    body = "Database.open(path, KEY, schema_of(3), SystemClock()).close()"
    children = [process(body, path) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    for child in children:
        assert child.stdout is not None
        child.stdout.close()


@pytest.mark.parametrize("versions", [(3, 2), (2, 2), (1,), (9,)])
def test_steps_have_to_be_in_order(versions: tuple[int, ...]) -> None:
    with pytest.raises(ValueError):
        Schema("test", 5, metadata, (), [Step(v, step_two) for v in versions])
