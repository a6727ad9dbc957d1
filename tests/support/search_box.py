"""An account database with messages and a search index over them, without files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Boolean, Integer, LargeBinary, Table, insert, text

from storage.clock import FixedClock
from storage.database.database import Database
from storage.database.migrations import Schema
from storage.errors import Gone
from storage.mail.search_index import SearchIndex
from storage.mail.sought import Sought
from storage.mime.message import read_message
from storage.mime.text import search_text
from storage.schema import account as schema
from storage.values import AccountId, MessageId

ACCOUNT = AccountId(7)
SCHEMA = Schema("account", schema.VERSION, schema.metadata, schema.EXTRA_SQL)


def row(table: Table, **values: Any) -> dict[str, Any]:
    """A row with zeros and empty values where nothing is said."""
    found: dict[str, Any] = {"account_id": ACCOUNT}
    for column in table.columns:
        if column.name in values:
            found[column.name] = values[column.name]
        elif column.name not in found:
            if isinstance(column.type, (BigInteger, Integer, Boolean)):
                found[column.name] = 0
            elif isinstance(column.type, LargeBinary):
                found[column.name] = b""
            else:
                found[column.name] = None if column.nullable else ""
    return found


class Box:
    """Messages with an index over them."""

    def __init__(self, path: Path) -> None:
        self.clock = FixedClock()
        self.database = Database.create(path, b"k" * 32, SCHEMA, self.clock)
        self.messages: dict[int, bytes] = {}
        self.reads = 0
        self.index = SearchIndex(self.database, ACCOUNT, self.read, self.clock)

    def read(self, message_id: MessageId) -> bytes:
        self.reads += 1
        try:
            return self.messages[message_id]
        except KeyError:
            raise Gone from None

    def add(self, octets: bytes, message_id: int = 0) -> int:
        message_id = message_id or len(self.messages) + 1
        self.messages[message_id] = octets
        found = search_text(read_message(octets))
        fields = {name: getattr(found, name) for name in ("subject", "from_", "to_", "cc", "bcc")}

        def work(transaction: Any) -> None:
            transaction.execute(insert(schema.message).values(row(schema.message, message_id=message_id)))
            transaction.execute(insert(schema.content).values(row(schema.content, message_id=message_id, **fields)))

        self.database.write(work, durable=False)
        return message_id

    def delete(self, message_id: int) -> None:
        del self.messages[message_id]
        self.write(f"DELETE FROM message WHERE message_id = {message_id}")
        self.write(f"DELETE FROM content WHERE message_id = {message_id}")

    def write(self, sql: str) -> None:
        self.database.write(lambda transaction: transaction.execute(text(sql)), durable=False)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self.database.reading() as connection:
            return connection.execute(text(sql))

    def fill_index(self) -> None:
        while self.index.work():
            pass

    def search(self, key: str, needle: str, name: str = "", index: SearchIndex | None = None) -> set[int]:
        lookup = (index or self.index).lookup(key, needle, Sought.of(self.messages), name)
        while not lookup.step():
            pass
        return lookup.matches
