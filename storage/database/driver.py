"""The one place that speaks with SQLCipher: connections (`storage.database.opening`), keys, and the dialect.

SQLAlchemy Core gives the tables, the statements and their compiler; there is no Engine: a server keeps thousands of
small databases open, and an engine with its pool costs each of them more than the database does.
"""

from __future__ import annotations

import threading
from typing import Any

from sqlalchemy import PrimaryKeyConstraint, types
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler, SQLiteDDLCompiler, SQLiteDialect, SQLiteTypeCompiler

from storage.database.opening import BUSY_TIMEOUT, SMALL_CACHE, Driver, Error, connect
from storage.keys.sealing import derive

__all__ = [
    "BUSY_TIMEOUT",
    "DIALECT",
    "SMALL_CACHE",
    "Driver",
    "Error",
    "compile_statement",
    "connect",
    "database_key",
]


class _Types(SQLiteTypeCompiler):
    def visit_BIGINT(self, type_: types.BigInteger, **kw: Any) -> str:  # noqa: N802
        """An INTEGER of SQLite has 64 bits, and INTEGER PRIMARY KEY needs no index of its own."""
        return "INTEGER"


class _Definitions(SQLiteDDLCompiler):
    def visit_primary_key_constraint(self, constraint: PrimaryKeyConstraint, **kw: Any) -> str:
        """A table whose `info` names a column as `rowid` has that column alone as its key: no index beside the rows."""
        rowid = constraint.table.info.get("rowid")
        if rowid:
            return f"PRIMARY KEY ({rowid})"
        return str(super().visit_primary_key_constraint(constraint, **kw))  # type: ignore[no-untyped-call]


class _Statements(SQLiteCompiler):
    def limit_clause(self, select: Any, **kw: Any) -> str:
        """A limit that is known stands in the statement: what is bound there has SQLite prepare it anew each time."""
        parts = []
        for word, clause in (("LIMIT", select._limit_clause), ("OFFSET", select._offset_clause)):
            if clause is not None:
                value = getattr(clause, "effective_value", None)
                parts.append(f" {word} {self.process(clause, **kw) if value is None else int(value)}")
        if select._limit_clause is None:
            parts.insert(0, " LIMIT -1")
        return "\n" + "".join(parts)


class Dialect(SQLiteDialect):
    supports_statement_cache = False
    statement_compiler = _Statements
    type_compiler_cls = _Types
    ddl_compiler = _Definitions


DIALECT = Dialect(paramstyle="qmark")


def database_key(key: bytes, name: str) -> bytes:
    """The key of one kind of database; what a tenant's or account's key seals otherwise is under other keys."""
    return derive(key, "database", name)


_compiling = threading.Lock()


def compile_statement(statement: Any) -> Any:
    """SQL of the dialect, with its binds; statements are compiled when they are first run, maybe on several threads."""
    with _compiling:
        return statement.compile(dialect=DIALECT)
