"""Statements of SQLAlchemy Core, compiled once, run on the driver's connection.

`prepare` costs some 100 microseconds and is for the top of a module; a point read through `Prepared` then costs about
10, where an Engine's execute costs 50 to 100 more. Rows come as plain tuples, all of them read when a call returns: no
cursor outlives it. A Boolean column comes as 0 or 1. Instead of IN with a list, take a range or json_each.

Raises: the taxonomy's errors for a full disk, damaged or locked files, and AlreadyExists for a broken unique key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

from sqlalchemy import types
from sqlalchemy.sql.elements import ClauseElement

from storage.database.driver import Driver, Error, compile_statement
from storage.database.errors import translated

Row = tuple[Any, ...]

_PLAIN = (types.Integer, types.String, types.LargeBinary, types.Float, types.Boolean, types.NullType)


class Connection:
    """What statements run on: one connection of the driver, for as long as its context or its work lasts."""

    __slots__ = ("driver",)

    def __init__(self, driver: Driver) -> None:
        self.driver: Driver = driver

    def execute(self, statement: ClauseElement, **parameters: Any) -> list[Row]:
        """Run a statement that is made at run time: compiled each time, so not for hot paths."""
        return prepare(statement).rows(self, **parameters)


class Prepared:
    """One compiled statement. Immutable, shared by all connections and threads."""

    __slots__ = ("_constants", "_names", "_pick", "sql")

    def __init__(self, sql: str, order: tuple[str, ...], constants: Mapping[str, Any]) -> None:
        self.sql = sql
        self._constants = dict(constants)
        self._names = frozenset(order) - self._constants.keys()
        self._pick = _picker(order)

    def rows(self, connection: Connection, /, **parameters: Any) -> list[Row]:
        """All rows that it gives."""
        try:
            rows: list[Row] = connection.driver.execute(self.sql, self._bound(parameters)).fetchall()
        except Error as error:
            raise translated(error) from None
        return rows

    def one(self, connection: Connection, /, **parameters: Any) -> Row | None:
        """The first row, or None; the statement is finished either way."""
        try:
            rows: list[Row] = connection.driver.execute(self.sql, self._bound(parameters)).fetchall()
        except Error as error:
            raise translated(error) from None
        return rows[0] if rows else None

    def run(self, connection: Connection, /, **parameters: Any) -> int:
        """Run it for its effect; how many rows it touched."""
        try:
            count: int = connection.driver.execute(self.sql, self._bound(parameters)).rowcount
        except Error as error:
            raise translated(error) from None
        return count

    def run_many(self, connection: Connection, parameters: Iterable[Mapping[str, Any]], /) -> int:
        """Run it once for each mapping; how many rows it touched in all."""
        try:
            count: int = connection.driver.executemany(self.sql, [self._bound(each) for each in parameters]).rowcount
        except Error as error:
            raise translated(error) from None
        return max(count, 0)

    def _bound(self, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
        if len(parameters) != len(self._names):
            self._complain(parameters)
        try:
            return self._pick({**self._constants, **parameters} if self._constants else parameters)
        except KeyError:
            self._complain(parameters)
            raise

    def _complain(self, parameters: Mapping[str, Any]) -> None:
        missing, unknown = self._names - parameters.keys(), parameters.keys() - self._names
        if missing or unknown:
            raise TypeError(f"parameters missing: {sorted(missing)}, unknown: {sorted(unknown)}")

    def __repr__(self) -> str:
        return f"Prepared({self.sql!r})"


def prepare(statement: ClauseElement) -> Prepared:
    """Compile a statement; its `bindparam`s (or the columns of an insert) become the names of parameters."""
    compiled = compile_statement(statement)
    if compiled.post_compile_params or compiled.literal_execute_params:
        raise TypeError("a statement with IN over a list cannot be prepared: use a range or json_each")
    order = tuple(compiled.positiontup or ())
    constants: dict[str, Any] = {}
    for name, bind in compiled.binds.items():
        if not isinstance(bind.type, _PLAIN):
            raise TypeError(f"parameter {name} has a type that needs conversion: {bind.type!r}")
        if not bind.required and name in order:
            constants[name] = bind.effective_value
    return Prepared(str(compiled), order, constants)


def _picker(order: tuple[str, ...]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    if not order:
        return lambda _: ()
    if len(order) == 1:
        only = order[0]
        return lambda parameters: (parameters[only],)
    return itemgetter(*order)
