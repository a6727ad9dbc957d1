"""The searchable text of messages: header and body decoded and casemapped, kept compressed in rows of their own.

One row costs a twentieth of what decrypting and decoding the file costs; that is what lets SEARCH verify thousands of
candidates, and scan for needles that the index cannot narrow (two Chinese characters are a word). Rows are written when
a message is indexed and deleted with it. A message without rows is read from its file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import zstandard
from sqlalchemy import bindparam, delete, func, insert, select

from storage.database.database import Transaction
from storage.database.prepared import Connection, prepare
from storage.errors import Corrupt, Gone, NotFound
from storage.mail.trigrams import FIELDS, FieldName, Part, condensed, searchable
from storage.mime.message import read_message
from storage.mime.text import search_text as text_of
from storage.schema.account import content, search_text
from storage.values import AccountId, MessageId

_UNPACKED_MAX = 64 * 1024 * 1024

_ids = select(func.json_each(bindparam("ids")).table_valued("value").c.value)
_own_content = content.c.account_id == bindparam("account_id")
_own_text = search_text.c.account_id == bindparam("account_id")
_field_rows = {
    field: prepare(select(content.c.message_id, content.c[field]).where(_own_content, content.c.message_id.in_(_ids)))
    for field in FIELDS
}
_all_fields = prepare(
    select(content.c.message_id, *(content.c[field] for field in FIELDS)).where(
        _own_content, content.c.message_id.in_(_ids)
    )
)
_both_parts = prepare(
    select(search_text.c.message_id, search_text.c.text).where(_own_text, search_text.c.message_id.in_(_ids))
)
_one_part = prepare(
    select(search_text.c.message_id, search_text.c.text).where(
        _own_text, search_text.c.message_id.in_(_ids), search_text.c.part == bindparam("part")
    )
)
_insert = prepare(insert(search_text))
_delete = prepare(delete(search_text).where(_own_text, search_text.c.message_id == bindparam("message_id")))


@dataclass(frozen=True, slots=True)
class Packed:
    """The searchable text of one message, as it is indexed and as it is kept; in the order of Part."""

    indexed: tuple[str, str]
    rows: tuple[bytes, bytes]

    @property
    def size(self) -> int:
        return sum(map(len, self.indexed))


class SearchTexts:
    """Searchable texts of one account. `read` gives the whole octets of a message with its prefix, or raises Gone."""

    def __init__(self, account_id: AccountId, read: Callable[[MessageId], bytes]) -> None:
        self._account_id = account_id
        self._read = read

    def fields(self, connection: Connection, message_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
        """All short fields of messages, in the order of FIELDS."""
        rows = _all_fields.rows(connection, account_id=self._account_id, ids=json.dumps(message_ids))
        return {row[0]: tuple(searchable(text) for text in row[1:]) for row in rows}

    def field(self, connection: Connection, field: FieldName, message_ids: Sequence[int]) -> list[tuple[int, bytes]]:
        """One short field of each message."""
        rows = _field_rows[field].rows(connection, account_id=self._account_id, ids=json.dumps(message_ids))
        return [(message_id, searchable(text).encode()) for message_id, text in rows]

    def packed(self, connection: Connection, part: Part | None, message_ids: Sequence[int]) -> list[tuple[int, bytes]]:
        """Rows of messages that have them, still packed; of both parts if `part` is None."""
        wanted = {"account_id": self._account_id, "ids": json.dumps(message_ids)}
        if part is None:
            return _both_parts.rows(connection, **wanted)
        return _one_part.rows(connection, part=int(part), **wanted)

    def kept(self, connection: Connection, message_ids: Sequence[int]) -> dict[int, tuple[str, str]]:
        """Both parts of messages that have their rows; not of those whose rows cannot be read."""
        parts = [dict(_readable(self.packed(connection, part, message_ids))) for part in Part]
        return {each: (parts[0][each], parts[1][each]) for each in message_ids if all(each in part for part in parts)}

    def from_file(self, message_id: int) -> tuple[str, str] | None:
        """Both parts read from the message itself; None if it is gone or cannot be read (`storage.check` tells)."""
        try:
            data = self._read(MessageId(message_id))
        except (Gone, NotFound, Corrupt):
            return None
        found = text_of(read_message(data))
        return searchable(found.headers), searchable(found.body)

    def keep(self, transaction: Transaction, message_id: int, packed: Packed) -> None:
        """Insert the rows of one message."""
        for part in Part:
            _insert.run(
                transaction,
                account_id=self._account_id,
                message_id=message_id,
                part=int(part),
                text=packed.rows[part],
            )

    def forget(self, transaction: Transaction, message_ids: Iterable[int]) -> None:
        """Delete the rows of messages."""
        for message_id in message_ids:
            _delete.run(transaction, account_id=self._account_id, message_id=message_id)


def pack(texts: tuple[str, str]) -> Packed:
    compressor = zstandard.ZstdCompressor(level=3)
    indexed = (condensed(texts[0]), condensed(texts[1]))
    return Packed(indexed, (compressor.compress(texts[0].encode()), compressor.compress(texts[1].encode())))


def _readable(rows: Iterable[tuple[int, bytes]]) -> Iterable[tuple[int, str]]:
    for row in rows:
        with suppress(Corrupt):
            [(message_id, octets)] = unpack_all([row])
            yield message_id, octets.decode("utf-8", "replace")


def unpack_all(rows: Iterable[tuple[int, bytes]]) -> Iterable[tuple[int, bytes]]:
    """The texts of packed rows as UTF-8. Raises Corrupt."""
    decompressor = zstandard.ZstdDecompressor()
    for message_id, row in rows:
        try:
            yield message_id, decompressor.decompress(row, max_output_size=_UNPACKED_MAX)
        except zstandard.ZstdError:
            raise Corrupt(detail=f"search text of message {message_id}") from None
