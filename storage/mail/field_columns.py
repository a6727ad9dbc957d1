"""Columns of header fields and of threads: what many messages of a mailbox are asked for at once, in some rows.

Messages are taken together by their ids, 4,096 at a time, when all of them are indexed and more have come behind. A
column is there whole or not at all, and what it says of a message is what the message's own rows say: a field that has
no column, or messages that are in none, are looked for there.

Erasure: with a message the columns that it is in are deleted, when its searchable text is forgotten or just before.
They are made again when the index was purged, some hours later.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from sqlalchemy import bindparam, delete, func, select
from sqlalchemy.dialects.sqlite import insert

from storage.database.database import Database, Transaction
from storage.database.prepared import Connection, prepare
from storage.errors import Corrupt
from storage.mail.packed_columns import SHIFT, SPAN, TEXTS_MAX, FieldColumn, ThreadColumn
from storage.mail.search_text import SearchTexts, unpack_all
from storage.mail.trigrams import Part
from storage.schema.account import content, field_column, message
from storage.values import AccountId

LEAST = 1024  # messages of a span that are worth a column
_SHARED = 64  # … and of those that have a field
_VALUES_MAX = 128 * 1024  # octets of the different values of one field in a span
_LONG: Final = {b"CONTENT-TYPE": 512 * 1024}  # whom mail clients ask who has attachments
_COLUMNS_MAX = 64  # fields of a span that have a column
_NAMES_MAX = 2000  # that are counted while a span is read
_NAME_MAX = 76  # octets of a field's name
_MEMORY = 32 * 1024 * 1024  # octets that the fields of a span take while it is read, about …
_EACH = 256  # … so many for each value beside its own
_LINES_MAX = 128 * SPAN  # of the headers of a span: with more of them fields have no columns
_READ = 64  # messages read at a time
_PIECE = 512 * 1024  # octets of columns that are deleted in one transaction, about
_ELSEWHERE: Final = frozenset({b"SUBJECT", b"FROM", b"TO", b"CC", b"BCC"})  # the index finds these by themselves
_THREADS = ""  # the name of the column of threads

_own = field_column.c.account_id == bindparam("account")
_named = prepare(
    select(field_column.c.span, field_column.c.packed).where(
        _own,
        field_column.c.name == bindparam("name"),
        field_column.c.span.between(bindparam("first"), bindparam("last")),
    )
)
_spans = prepare(select(field_column.c.span).where(_own, field_column.c.name == bindparam("name")))
_replace = prepare(
    (_insert := insert(field_column)).on_conflict_do_update(
        index_elements=[field_column.c.account_id, field_column.c.name, field_column.c.span],
        set_={"packed": _insert.excluded.packed},
    )
)
_delete = prepare(
    delete(field_column).where(
        _own, field_column.c.span.in_(select(func.json_each(bindparam("spans")).table_valued("value").c.value))
    )
)
_sizes = prepare(
    select(field_column.c.name, func.length(field_column.c.packed)).where(
        _own, field_column.c.span == bindparam("span"), field_column.c.name != _THREADS
    )
)
_delete_some = prepare(
    delete(field_column).where(
        _own,
        field_column.c.span == bindparam("span"),
        field_column.c.name.in_(select(func.json_each(bindparam("names")).table_valued("value").c.value)),
    )
)
_in_span = (
    message.c.account_id == bindparam("account"),
    message.c.message_id.between(bindparam("first"), bindparam("last")),
)
_next = prepare(
    select(func.min(message.c.message_id)).where(
        message.c.account_id == bindparam("account"), message.c.message_id >= bindparam("first")
    )
)
_ids = prepare(select(message.c.message_id, message.c.indexed).where(*_in_span).order_by(message.c.message_id))
_threads_of = prepare(
    select(
        content.c.message_id,
        content.c.message_id_field,
        content.c.references,
        content.c.base_subject,
        content.c.reply_or_forward,
    ).where(
        content.c.account_id == bindparam("account"),
        content.c.message_id.in_(select(func.json_each(bindparam("ids")).table_valued("value").c.value)),
    )
)


@dataclass(frozen=True, slots=True)
class Span:
    """The columns of one span, as they were read."""

    number: int
    message_ids: list[int]
    columns: dict[str, bytes]


class FieldColumns:
    """Of one account."""

    def __init__(
        self,
        database: Database,
        account_id: AccountId,
        texts: SearchTexts,
        complete: Callable[[], object] = lambda: None,
    ) -> None:
        self._complete = complete  # see SearchIndex
        self._database = database
        self._account_id = account_id
        self._texts = texts

    def containing(
        self, connection: Connection, name: str, needle: str, first: int, last: int
    ) -> tuple[set[int], list[tuple[int, int]]]:
        """Messages that have `needle` in a field (both searchable texts), and the ids between `first` and `last` of
        which nothing is known. What was found may be outside these."""
        found: set[int] = set()
        unknown, after = [], first
        rows = _named.rows(connection, account=self._account_id, name=name, first=first >> SHIFT, last=last >> SHIFT)
        octets = needle.encode()
        for number, packed in sorted(rows):
            column = FieldColumn.unpacked(packed)
            if column is None:
                continue
            begin = number << SHIFT
            found.update([begin + offset for offset in column.containing(octets)])
            if after < begin:
                unknown.append((after, begin - 1))
            after = begin + SPAN
        if after <= last:
            unknown.append((after, last))
        return found, unknown

    def threaded(self) -> set[int]:
        """The spans that have a column of threads."""
        with self._database.reading() as connection:
            return {row[0] for row in _spans.rows(connection, account=self._account_id, name=_THREADS)}

    def threads(self, number: int) -> ThreadColumn | None:
        """What threads are made of, of the messages of a span; None if it has no column."""
        with self._database.reading() as connection:
            rows = _named.rows(connection, account=self._account_id, name=_THREADS, first=number, last=number)
        return ThreadColumn.unpacked(rows[0][1]) if rows and rows[0][1] else None

    def thread_rows(self, message_ids: Sequence[int]) -> list[tuple[int, str, str, str, bool]]:
        """The same of some messages, from their own rows: id, Message-ID, references, base subject, whether reply."""
        self._complete()
        with self._database.reading() as connection:
            return self._thread_rows(connection, message_ids)

    def _thread_rows(self, connection: Connection, message_ids: Sequence[int]) -> list[tuple[int, str, str, str, bool]]:
        return _threads_of.rows(connection, account=self._account_id, ids=json.dumps(list(message_ids)))

    def next_without(self, number: int, there: Collection[int]) -> int | None:
        """The first span from `number` on that has messages and is not in `there`; None: no messages come any more."""
        with self._database.reading() as connection:
            while True:
                while number in there:
                    number += 1
                row = _next.one(connection, account=self._account_id, first=number << SHIFT)
                if row is None or row[0] is None:
                    return None
                number = row[0] >> SHIFT
                if number not in there:
                    return number

    def read(self, number: int) -> Span | None:
        """What the columns of a span are made of; None if they are not worth it, or cannot be made."""
        first = number << SHIFT
        with self._database.reading() as connection:
            rows = _ids.rows(connection, account=self._account_id, first=first, last=first + SPAN - 1)
        if len(rows) < LEAST or not all(is_indexed for _, is_indexed in rows):
            return None
        message_ids = [row[0] for row in rows]
        fields, threads, octets = _Fields(), list[tuple[int, str, str, str, bool]](), 0
        for start in range(0, len(message_ids), _READ):
            wanted = message_ids[start : start + _READ]
            with self._database.reading() as connection:
                texts = self._texts.packed(connection, Part.HEADER, wanted)
                of_these = self._thread_rows(connection, wanted)
            if not len(texts) == len(of_these) == len(wanted):
                return None
            octets += sum(len(own) + len(chain) + len(base) for _, own, chain, base, _ in of_these)
            if octets <= TEXTS_MAX:
                threads += of_these
            try:
                for message_id, text in unpack_all(texts):
                    fields.add(message_id - first, text)
            except Corrupt:
                return None
        columns = {name: column.packed() for name, column in fields.columns()}
        whole = len(threads) == len(message_ids)
        thread = ThreadColumn.of((row[0] - first, *row[1:]) for row in sorted(threads)) if whole else None
        columns[_THREADS] = thread.packed() if thread is not None else b""
        return Span(number, message_ids, columns)

    def keep(self, transaction: Transaction, span: Span) -> None:
        """Insert the columns, unless a message has left the span meanwhile."""
        first = span.number << SHIFT
        rows = _ids.rows(transaction, account=self._account_id, first=first, last=first + SPAN - 1)
        if [row[0] for row in rows] == span.message_ids:
            for name, packed in span.columns.items():
                _replace.run(transaction, account_id=self._account_id, name=name, span=span.number, packed=packed)

    def forget(self, transaction: Transaction, message_ids: Iterable[int]) -> bool:
        """Delete the columns that these messages are in; whether there were any."""
        spans = self._made(transaction, message_ids)
        if spans:
            _delete.run(transaction, account=self._account_id, spans=json.dumps(spans))
        return bool(spans)

    def forget_apart(self, message_ids: Iterable[int]) -> None:
        """The same, each span by itself, and a large one in pieces: a transaction overwrites all pages that it frees.

        What says that a span has columns goes last, so whoever comes after a crash finds what is left.
        """
        with self._database.reading() as connection:
            spans = self._made(connection, message_ids)
        for span in spans:
            for names in self._pieces(span):
                self._database.write(partial(self._forget_some, span=span, names=names), durable=False)
            self._database.write(partial(self.forget, message_ids=[span << SHIFT]), durable=False)

    def _pieces(self, span: int) -> list[list[str]]:
        """The names of a span's columns, but for those that are few enough to go with that of threads."""
        with self._database.reading() as connection:
            rows = _sizes.rows(connection, account=self._account_id, span=span)
        pieces: list[list[str]] = []
        names, octets = list[str](), 0
        for name, size in rows:
            if names and octets + size > _PIECE:
                pieces.append(names)
                names, octets = [], 0
            names.append(name)
            octets += size
        return pieces

    def _forget_some(self, transaction: Transaction, span: int, names: list[str]) -> None:
        _delete_some.run(transaction, account=self._account_id, span=span, names=json.dumps(names))

    def _made(self, connection: Connection, message_ids: Iterable[int]) -> list[int]:
        """The spans of these messages that have columns: each span that was read has one of threads."""
        wanted = {message_id >> SHIFT for message_id in message_ids}
        there = _spans.rows(connection, account=self._account_id, name=_THREADS)
        return sorted(wanted.intersection(row[0] for row in there))


class _Fields:
    """The values of the fields of a span, while it is read. Fields with too many of them are given up.

    Anybody can send headers of thousands of fields: what they take is bounded for all of them together, too.
    """

    def __init__(self) -> None:
        self._having: dict[bytes, dict[bytes, list[int]] | None] = {}
        self._octets: dict[bytes, int] = {}
        self._memory = self._lines = 0

    def add(self, offset: int, text: bytes) -> None:
        """The header of one message: lines up to the first empty one, as HEADER looks through them."""
        text = b"\n" + text
        end = text.find(b"\n\n")
        text = text if end < 0 else text[:end]
        self._lines += text.count(b"\n")
        if self._lines > _LINES_MAX:
            self._having.clear()
            return
        for line in text.split(b"\n"):
            name, colon, value = line.partition(b":")
            if not colon or len(name) > _NAME_MAX or name in _ELSEWHERE or not name.isascii():
                continue
            having = self._having.get(name)
            if having is None:
                if name in self._having or len(self._having) >= _NAMES_MAX:
                    continue
                having = self._having[name] = {}
                self._octets[name] = 0
            offsets = having.get(value)
            if offsets is None:
                self._octets[name] += len(value)
                self._memory += len(value) + _EACH
                if self._octets[name] > _LONG.get(name, _VALUES_MAX) or self._memory > _MEMORY:
                    self._memory -= self._octets[name] + (len(having) + 1) * _EACH
                    self._having[name] = None
                    continue
                having[value] = [offset]
            elif offsets[-1] != offset:
                offsets.append(offset)

    def columns(self) -> Iterable[tuple[str, FieldColumn]]:
        """Of the fields that most messages have."""
        counted = [
            (sum(map(len, having.values())), name, having)
            for name, having in self._having.items()
            if having is not None
        ]
        counted.sort(key=lambda each: each[:2], reverse=True)
        for count, name, having in counted[:_COLUMNS_MAX]:
            if count >= _SHARED:
                yield name.decode("ascii"), FieldColumn.of(having)
