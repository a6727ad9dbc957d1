"""Statements of SQLAlchemy Core, compiled once, run on the driver's connection.

`prepare` is for the top of a module. A statement is compiled when it is first run, which costs some 100 microseconds:
of the hundreds that a process knows it runs few, and it is to start quickly; who serves people has all of them compiled
before the first comes (`compile_all`). From then on a point read through `Prepared` costs about 10, where an Engine's
execute costs 50 to 100 more. Rows come as plain tuples, all of them read when a call returns: no cursor outlives it. A
Boolean column comes as 0 or 1. Instead of IN with a list, take a range or json_each.

Raises: the taxonomy's errors for a full disk, damaged or locked files, and AlreadyExists for a broken unique key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any
from weakref import WeakSet

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
        return Prepared(statement).rows(self, **parameters)


class Prepared:
    """One statement, compiled when it is first used. Shared by all connections and threads."""

    __slots__ = ("__weakref__", "_constants", "_names", "_pick", "_statement", "sql")

    sql: str
    _constants: Mapping[str, Any]
    _names: frozenset[str]
    _pick: Callable[[Mapping[str, Any]], tuple[Any, ...]]

    def __init__(self, statement: ClauseElement) -> None:
        self._statement: ClauseElement | None = statement

    def __getattr__(self, name: str) -> Any:
        """Called for what is not there: before the statement is compiled, all but itself."""
        statement = self._statement
        if statement is not None:
            self._compile(statement)
        return object.__getattribute__(self, name)

    def compile(self) -> None:
        """Now, if it was not yet."""
        statement = self._statement
        if statement is not None:
            self._compile(statement)

    def _compile(self, statement: ClauseElement) -> None:
        """Several threads may do it at once; each writes the same."""
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
        self._constants = constants
        self._names = frozenset(order) - constants.keys()
        self._pick = _picker(order)
        self.sql = str(compiled)
        self._statement = None  # its tree takes more memory than all of the rest

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
        bound = self._bound_all(list(parameters))
        try:
            touched: int = connection.driver.executemany(self.sql, bound).rowcount
        except Error as error:
            raise translated(error) from None
        return max(touched, 0)

    def _bound_all(self, parameters: list[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
        if not self._constants and set(map(len, parameters)) == {len(self._names)}:
            try:
                return list(map(self._pick, parameters))
            except KeyError:  # it is told which
                pass
        return [self._bound(each) for each in parameters]

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


_known: WeakSet[Prepared] = WeakSet()  # that `compile_all` has not seen


def prepare(statement: ClauseElement) -> Prepared:
    """A statement to be run often; its `bindparam`s (or the columns of an insert) become the names of parameters."""
    prepared = Prepared(statement)
    _known.add(prepared)
    return prepared


def compile_all() -> None:
    """Compile every statement of the modules that are imported: 90 milliseconds for 650, and nobody's first command
    waits for its own. May be called again, when more are imported."""
    while _known:
        _known.pop().compile()


def _picker(order: tuple[str, ...]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    if not order:
        return lambda _: ()
    if len(order) == 1:
        only = order[0]
        return lambda parameters: (parameters[only],)
    return itemgetter(*order)
