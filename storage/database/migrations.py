"""What a kind of database looks like, and how a file of an older version becomes one of this version.

A file carries its version in `PRAGMA user_version`. `Database` migrates it when it is first opened, under the file's
exclusive lease: nobody else has it open, least of all a process that runs an older program. Each step is one
transaction that also raises the version, or a series of them that goes on where it was interrupted; so a crash leaves
the version before or the version after, and opening it again finishes the work.

Raises: Unavailable (the file is newer than this program, or still in use elsewhere), StorageFull, Corrupt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Column, MetaData, Table
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable

from storage.database.driver import Driver, Error, compile_statement, connect, database_key
from storage.database.errors import translated
from storage.database.prepared import Connection
from storage.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Step:
    """From version - 1 to `version`. `work` is called in transactions of its own until it returns False: no more.

    Every call must be short (some 1,000 rows) and find by itself where the one before it stopped.
    """

    version: int
    work: Callable[[Connection], bool]


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one kind of database, and its way there from older versions."""

    name: str  # account, tenant, control …: also separates the databases' keys
    version: int
    metadata: MetaData
    extra_sql: Sequence[str] = ()  # virtual tables and triggers
    steps: Sequence[Step] = field(default=())
    _definitions: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        versions = [step.version for step in self.steps]
        if versions != sorted(set(versions)) or any(not 1 < version <= self.version for version in versions):
            raise ValueError(f"schema {self.name}: its steps are not in order")

    def definitions(self) -> Sequence[str]:
        """The statements that make an empty database of this version. To write them takes as long as to run them, so
        that is done once."""
        if not self._definitions:
            tables = self.metadata.sorted_tables
            self._definitions[:] = [*_creation(tables), *self.extra_sql]
        return self._definitions


def new_tables(
    version: int,
    *tables: Table,
    columns: Sequence[Column[Any]] = (),
    then: Callable[[Connection], bool] | None = None,
) -> Step:
    """The step that makes tables, with their indexes, and columns, with their defaults, which the version before
    did not have. `then`: what is to be done in the same transaction; there is no second one."""

    @cache
    def statements() -> Sequence[str]:
        added = [f"ALTER TABLE {c.table.name} ADD COLUMN {compile_statement(CreateColumn(c))}" for c in columns]
        return _creation(tables, added)

    def work(connection: Connection) -> bool:
        for statement in statements():
            connection.driver.execute(statement)
        return then is not None and then(connection)

    return Step(version, work)


def _creation(tables: Sequence[Table], between: Sequence[str] = ()) -> list[str]:
    """What makes tables and then their indexes; `between` comes after the tables."""
    statements = [str(compile_statement(CreateTable(table))) for table in tables]
    indexes = [str(compile_statement(CreateIndex(i))) for t in tables for i in sorted(t.indexes, key=_name)]
    return [*statements, *between, *indexes]


def version_of(driver: Driver) -> int:
    try:
        return int(driver.execute("PRAGMA user_version").fetchone()[0])
    except Error as error:
        raise translated(error) from None


def needs_migration(driver: Driver, schema: Schema) -> bool:
    """False if the file is of this version. Raises Unavailable if it is newer."""
    version = version_of(driver)
    if version > schema.version:
        raise Unavailable(
            "This data was written by a newer version of Cleanmail; install that version again.",
            detail=f"{schema.name} database has version {version}, this program knows {schema.version}",
        )
    return version < schema.version


def migrate(driver: Driver, schema: Schema) -> None:
    """Take every step that is missing. The caller holds the file's exclusive lease."""
    version = version_of(driver)
    connection = Connection(driver)
    for step in schema.steps:
        if step.version <= version:
            continue
        while _once(connection, step):
            pass
    if version < schema.version:  # a version that changed nothing in the file
        _in_transaction(connection, lambda c: _set_version(c, schema.version))


def pending(path: Path, key: bytes, schema: Schema) -> bool:
    """Whether opening this file would migrate it: for `upgrade --check`, which changes nothing.

    Raises: Unavailable (newer file), NotFound, Corrupt.
    """
    driver = connect(path, database_key(key, schema.name))
    try:
        return needs_migration(driver, schema)
    finally:
        driver.close()


def _once(connection: Connection, step: Step) -> bool:
    def work(connection: Connection) -> bool:
        more = step.work(connection)
        if not more:
            _set_version(connection, step.version)
        return more

    return _in_transaction(connection, work)


def _in_transaction(connection: Connection, work: Callable[[Connection], bool]) -> bool:
    driver = connection.driver
    try:
        driver.execute("PRAGMA synchronous = FULL")
        driver.execute("BEGIN IMMEDIATE")
        try:
            more = work(connection)
            driver.execute("COMMIT")
        except BaseException:
            if driver.in_transaction:
                driver.execute("ROLLBACK")
            raise
    except Error as error:
        raise translated(error) from None
    return more


def _set_version(connection: Connection, version: int) -> bool:
    connection.driver.execute(f"PRAGMA user_version = {int(version)}")
    return False


def _name(index: object) -> str:
    return str(getattr(index, "name", ""))
