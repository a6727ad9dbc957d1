"""A message that is about to be stored: read once, for all mailboxes and accounts that it goes to.

`content_of` gives the rows of the four content tables; each reader has its own (storage.schema.account). Never fails on
any message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, bindparam, delete, func, insert, select

from storage.database.database import Transaction
from storage.database.prepared import Prepared, prepare
from storage.mime.content import Derived, derive, sent_in
from storage.mime.dates import SentDate
from storage.mime.message import read_message
from storage.schema.account import content, listing, rendered, trace_fields
from storage.values import AccountId, MessageId

TABLES: tuple[Table, ...] = (content, rendered, listing, trace_fields)

_inserts = tuple(prepare(insert(table)) for table in TABLES)
_columns = tuple(
    tuple(column.name for column in table.columns if column.name not in ("account_id", "message_id", "prefix"))
    for table in TABLES
)


def _delete_from(table: Table) -> Prepared:
    ids = select(func.json_each(bindparam("ids")).table_valued("value").c.value)
    return prepare(delete(table).where(table.c.account_id == bindparam("account"), table.c.message_id.in_(ids)))


_deletes = tuple(_delete_from(table) for table in TABLES)


@dataclass(frozen=True, slots=True)
class Content:
    """What is kept of one message beside its file."""

    prefix: bytes
    size: int  # RFC 822 size, with the prefix
    derived: Derived

    def sent(self, otherwise: int) -> int:
        """The Date field as Unix seconds, or the time given (RFC 5256 §2.2)."""
        return self.derived.sent.seconds if self.derived.sent else otherwise


@dataclass(frozen=True, slots=True)
class Unread:
    """Of a message that is read later (storage.mail.completion): what its row needs."""

    size: int
    date: SentDate | None

    def sent(self, otherwise: int) -> int:
        """As of `Content`."""
        return self.date.seconds if self.date else otherwise


def unread(data: bytes, prefix: bytes = b"") -> Unread:
    whole = prefix + data if prefix else data
    return Unread(len(whole), sent_in(whole))


def content_of(data: bytes, prefix: bytes = b"") -> Content:
    """Reads a message; `prefix` are header fields that we put in front of it."""
    whole = prefix + data if prefix else data
    return Content(prefix, len(whole), derive(read_message(whole)))


def insert_content(transaction: Transaction, account_id: AccountId, message_id: MessageId, kept: Content) -> None:
    """The rows of one message."""
    derived = kept.derived
    for table, statement, names in zip(TABLES, _inserts, _columns, strict=True):
        row: dict[str, Any] = {name: getattr(derived, name) for name in names}
        if table is trace_fields:
            row["prefix"] = kept.prefix
        statement.run(transaction, account_id=account_id, message_id=message_id, **row)


def delete_content(transaction: Transaction, account_id: AccountId, message_ids: str) -> None:
    """The rows of messages that die; `message_ids` is a JSON array."""
    for statement in _deletes:
        statement.run(transaction, account=account_id, ids=message_ids)
