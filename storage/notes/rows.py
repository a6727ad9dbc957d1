"""Rows of notes, and of the messages of their earlier revisions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import zstandard
from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from storage.collections.values import CollectionId, ObjectId, Stored
from storage.database.database import Connection, Transaction
from storage.database.prepared import Row, prepare
from storage.errors import Corrupt
from storage.mail.ledger import Ledger
from storage.notes.message import TEXT_MAX, NoteText
from storage.schema.account import counter, info, membership
from storage.schema.collections import note, note_earlier, object_
from storage.values import AccountId, MailboxId

T = TypeVar("T")

LOOSE_MAX = 1000  # journal entries without notes that are looked at in one go
JOURNAL_MAX = 16 << 20  # octets of a journal entry that is kept for a while

_COUNTER = "note_id"
_TAKEN_IN = "notes_taken_in"

_mine = note.c.account_id == bindparam("account")
_columns = tuple(note.columns)[1:]
_by_identifier = prepare(select(*_columns).where(_mine, note.c.identifier == bindparam("identifier")))
_by_uid = prepare(select(*_columns).where(_mine, note.c.uid == bindparam("uid")))
_by_object = prepare(
    select(*_columns).where(
        _mine, note.c.object_id == bindparam("object"), note.c.collection_id == bindparam("collection")
    )
)
_by_id = prepare(select(*_columns).where(_mine, note.c.note_id == bindparam("note")))
_uids = select(func.json_each(bindparam("uids")).table_valued("value").c.value)
_in_mailbox = (_mine, note.c.mailbox_id == bindparam("mailbox"))
_by_messages = prepare(
    select(*_columns).where(*_in_mailbox, note.c.message_uid.in_(_uids)).order_by(note.c.message_uid)
)
_any_message = prepare(select(note.c.note_id).where(*_in_mailbox, note.c.message_uid.is_not(None)).limit(1))
_insert = prepare(insert(note))
_update = prepare(
    update(note)
    .where(_mine, note.c.note_id == bindparam("note"))
    .values({column: bindparam(f"new_{column.name}") for column in _columns[1:]})
)
_delete = prepare(delete(note).where(_mine, note.c.note_id == bindparam("note")))
_delete_gone = prepare(delete(note).where(_mine, note.c.gone <= bindparam("before")))
_some = prepare(
    select(*_columns)
    .where(_mine, note.c.note_id > bindparam("after"))
    .order_by(note.c.note_id)
    .limit(bindparam("most"))
)

_earlier_mine = note_earlier.c.account_id == bindparam("account")
_earlier_columns = (
    note_earlier.c.mailbox_id, note_earlier.c.message_uid, note_earlier.c.note_id, note_earlier.c.since
)  # fmt: skip
_insert_earlier = prepare(upsert(note_earlier).on_conflict_do_nothing())
_delete_earlier = prepare(
    delete(note_earlier).where(
        _earlier_mine,
        note_earlier.c.mailbox_id == bindparam("mailbox"),
        note_earlier.c.message_uid.in_(_uids),
    )
)
_select_earlier = prepare(
    select(*_earlier_columns, membership.c.flags)
    .select_from(
        note_earlier.outerjoin(
            membership,
            (membership.c.account_id == note_earlier.c.account_id)
            & (membership.c.mailbox_id == note_earlier.c.mailbox_id)
            & (membership.c.uid == note_earlier.c.message_uid),
        )
    )
    .where(_earlier_mine)
    .order_by(note_earlier.c.since, note_earlier.c.message_uid)
)
_any_earlier = prepare(select(note_earlier.c.message_uid).where(_earlier_mine).limit(1))
_is_earlier = prepare(
    select(note_earlier.c.message_uid).where(
        _earlier_mine,
        note_earlier.c.mailbox_id == bindparam("mailbox"),
        note_earlier.c.message_uid == bindparam("uid"),
    )
)
_any_gone = prepare(select(note.c.note_id).where(_mine, note.c.gone.is_not(None)).limit(1))

_begin_counter = prepare(upsert(counter).on_conflict_do_nothing())
_get_info = prepare(select(info.c.value).where(info.c.account_id == bindparam("account"), info.c.name == _TAKEN_IN))
_set_info = upsert(info)
_put_info = prepare(
    _set_info.on_conflict_do_update(
        index_elements=[info.c.account_id, info.c.name], set_={"value": _set_info.excluded.value}
    )
)
_loose = prepare(
    select(object_.c.name, object_.c.uid)
    .where(
        object_.c.account_id == bindparam("account"),
        object_.c.collection_id == bindparam("collection"),
        object_.c.component == "VJOURNAL",
        ~select(note.c.note_id)
        .where(note.c.account_id == object_.c.account_id, note.c.object_id == object_.c.object_id)
        .exists(),
    )
    .order_by(object_.c.object_id)
    .limit(bindparam("most"))
)


@dataclass(frozen=True, slots=True)
class NoteRow:
    """A note as it was read at one moment."""

    note_id: int
    uid: str = field(repr=False)  # of the journal entry
    identifier: str = field(repr=False)  # of the message
    revision: int
    journal_revision: int
    message_revision: int
    collection_id: CollectionId | None
    object_id: ObjectId | None
    mailbox_id: MailboxId | None
    message_uid: int | None
    said: NoteText = field(repr=False)
    created: int
    modified: int
    gone: int | None = None  # since when its message is gone without another
    last_name: str | None = field(default=None, repr=False)  # of the journal entry that went with it
    last_journal: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Earlier:
    """A message of an earlier revision; `flags` None: it is no longer there."""

    mailbox_id: MailboxId
    message_uid: int
    note_id: int
    since: int
    flags: int | None


class NoteRows:
    """Of one account."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._account_id: AccountId = ledger.account_id

    # Notes

    def by_identifier(self, connection: Connection, identifier: str) -> NoteRow | None:
        return _one(_by_identifier.one(connection, account=self._account_id, identifier=identifier))

    def by_uid(self, connection: Connection, uid: str) -> NoteRow | None:
        return _one(_by_uid.one(connection, account=self._account_id, uid=uid))

    def look(
        self,
        uid: str,
        find: Callable[[Connection, MailboxId | None, int | None], T | None],
        place: Callable[[Connection], CollectionId | None],
    ) -> tuple[NoteRow | None, T | None, CollectionId | None]:
        """A note, what `find` finds of its message, and where new ones go, outside of any transaction."""
        with self._ledger.database.reading() as connection:
            row = self.by_uid(connection, uid)
            standing = None if row is None else find(connection, row.mailbox_id, row.message_uid)
            return row, standing, place(connection)

    def by_object(self, connection: Connection, stored: Stored) -> NoteRow | None:
        return _one(
            _by_object.one(
                connection, account=self._account_id, object=stored.object_id, collection=stored.collection_id
            )
        )

    def by_id(self, connection: Connection, note_id: int) -> NoteRow | None:
        return _one(_by_id.one(connection, account=self._account_id, note=note_id))

    def by_messages(self, connection: Connection, mailbox_id: MailboxId, uids: Sequence[int]) -> list[NoteRow]:
        """Those whose current messages are among these."""
        rows = _by_messages.rows(connection, account=self._account_id, mailbox=mailbox_id, uids=json.dumps(list(uids)))
        return [_note(row) for row in rows]

    def has_messages(self, connection: Connection, mailbox_id: MailboxId) -> bool:
        return _any_message.one(connection, account=self._account_id, mailbox=mailbox_id) is not None

    def some(self, connection: Connection, after: int, most: int) -> list[NoteRow]:
        """A slice of those that are there, by their ids."""
        return [_note(row) for row in _some.rows(connection, account=self._account_id, after=after, most=most)]

    def loose_journals(self, connection: Connection, collection_id: CollectionId) -> list[tuple[str, str]]:
        """Journal entries of a collection that are no notes: names and UIDs."""
        rows = _loose.rows(connection, account=self._account_id, collection=collection_id, most=LOOSE_MAX)
        return [(row[0], row[1] or "") for row in rows]

    def take_id(self, transaction: Transaction) -> int:
        _begin_counter.run(transaction, account_id=self._account_id, name=_COUNTER, value=0)
        return self._ledger.take(transaction, _COUNTER)

    def insert(self, transaction: Transaction, row: NoteRow) -> None:
        _insert.run(transaction, account_id=self._account_id, **_values(row))

    def update(self, transaction: Transaction, row: NoteRow) -> None:
        values = _values(row)
        note_id = values.pop("note_id")
        _update.run(
            transaction,
            account=self._account_id,
            note=note_id,
            **{f"new_{name}": value for name, value in values.items()},
        )

    def delete(self, transaction: Transaction, note_id: int) -> None:
        _delete.run(transaction, account=self._account_id, note=note_id)

    def forget_gone(self, transaction: Transaction, before: int) -> None:
        """Those whose messages went before then (Unix seconds) and never came again."""
        _delete_gone.run(transaction, account=self._account_id, before=before)

    # Messages of earlier revisions

    def add_earlier(self, transaction: Transaction, row: NoteRow, since: int) -> None:
        """The current message of `row` is no longer that."""
        _insert_earlier.run(
            transaction,
            account_id=self._account_id,
            mailbox_id=row.mailbox_id,
            message_uid=row.message_uid,
            note_id=row.note_id,
            since=since,
        )

    def drop_earlier(self, transaction: Transaction, mailbox_id: MailboxId, uids: Sequence[int]) -> None:
        _delete_earlier.run(transaction, account=self._account_id, mailbox=mailbox_id, uids=json.dumps(list(uids)))

    def earlier(self, connection: Connection) -> list[Earlier]:
        """All of them, the oldest first."""
        rows = _select_earlier.rows(connection, account=self._account_id)
        return [Earlier(MailboxId(row[0]), row[1], row[2], row[3], row[4]) for row in rows]

    def is_earlier(self, connection: Connection, mailbox_id: MailboxId, uid: int) -> bool:
        return _is_earlier.one(connection, account=self._account_id, mailbox=mailbox_id, uid=uid) is not None

    def has_unsettled(self, connection: Connection) -> bool:
        """Whether `storage.notes.settling` has something to do, now or in a while."""
        return any(each.one(connection, account=self._account_id) is not None for each in (_any_earlier, _any_gone))

    def has_gone(self, connection: Connection) -> bool:
        """Whether a note is remembered whose message went."""
        return _any_gone.one(connection, account=self._account_id) is not None

    # How far the mailbox was taken in

    def taken_in(self, connection: Connection) -> str:
        row = _get_info.one(connection, account=self._account_id)
        return "" if row is None else str(row[0])

    def set_taken_in(self, transaction: Transaction, value: str) -> None:
        _put_info.run(transaction, account_id=self._account_id, name=_TAKEN_IN, value=value)


def _one(row: Row | None) -> NoteRow | None:
    return None if row is None else _note(row)


def _note(row: Row) -> NoteRow:
    values = dict(zip((column.name for column in _columns), row, strict=True))
    title, text, html = values.pop("title"), values.pop("text"), values.pop("html")
    last = values.pop("last_journal")
    return NoteRow(
        **values,
        said=NoteText(title, _unpacked(text).decode(), None if html is None else _unpacked(html).decode()),
        last_journal=None if last is None else _unpacked(last, JOURNAL_MAX),
    )


def _values(row: NoteRow) -> dict[str, object]:
    return {
        "note_id": row.note_id,
        "uid": row.uid,
        "identifier": row.identifier,
        "revision": row.revision,
        "journal_revision": row.journal_revision,
        "message_revision": row.message_revision,
        "collection_id": row.collection_id,
        "object_id": row.object_id,
        "mailbox_id": row.mailbox_id,
        "message_uid": row.message_uid,
        "title": row.said.title,
        "text": _packed(row.said.text.encode()),
        "html": None if row.said.html is None else _packed(row.said.html.encode()),
        "created": row.created,
        "modified": row.modified,
        "gone": row.gone,
        "last_name": row.last_name,
        "last_journal": None if row.last_journal is None else _packed(row.last_journal),
    }


def _packed(octets: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(octets)


def _unpacked(packed: bytes, most: int = 8 * TEXT_MAX) -> bytes:
    try:
        return zstandard.ZstdDecompressor().decompress(packed, max_output_size=most)
    except zstandard.ZstdError:
        raise Corrupt(detail="note: packed text unreadable") from None
