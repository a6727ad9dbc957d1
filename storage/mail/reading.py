"""Reading messages: rows for FETCH in slices, octets from the files.

`fetch_rows` joins only the tables that the columns need; what reading a message gives is made up for messages that were
not read yet (storage.mail.completion). `read` and `read_span` count octets of the whole message: the
header fields that we added come first.

Raises: Gone (expunged meanwhile), Corrupt (a row without its file, or a file that does not verify), Unavailable.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache

from sqlalchemy import FromClause, bindparam, exists, func, select

from storage.database.database import Database
from storage.database.prepared import Prepared, Row, prepare
from storage.errors import Busy, Corrupt, Gone, NotFound, StorageFull
from storage.files.maildir import Maildir
from storage.files.metadata import FileMeta
from storage.files.recent import Shelf
from storage.keys.sealing import Key
from storage.mail.completion import INCOMPLETE, Completion
from storage.mail.content import TABLES
from storage.mail.ledger import LIVE
from storage.schema.account import mailbox, membership, message, opinion, with_message
from storage.values import DELETED, SEEN, AccountId, MailboxId, MessageId

_in_mailbox = (membership.c.account_id == bindparam("account"), membership.c.mailbox_id == bindparam("mailbox"))
_apart = membership.c.uid.in_(select(func.json_each(bindparam("uids")).table_valued("value").c.value))
_file = prepare(
    select(message.c.file).where(
        message.c.account_id == bindparam("account"), message.c.message_id == bindparam("message")
    )
)
_deleted_octets = prepare(
    select(func.coalesce(func.sum(message.c.size), 0))
    .select_from(with_message)
    .where(*_in_mailbox, membership.c.flags.op("&")(DELETED) != 0)
)
_delivered = prepare(
    select(message.c.message_id).where(
        message.c.account_id == bindparam("account"), message.c.delivery_id == bindparam("delivery")
    )
)
_elsewhere = [~mailbox.c.special_use.contains(use) for use in ("\\Junk", "\\Trash", "\\Drafts", "\\Sent")]
_read_and_kept = prepare(
    select(membership.c.message_id)
    .select_from(
        membership.join(
            mailbox,
            (mailbox.c.account_id == membership.c.account_id) & (mailbox.c.mailbox_id == membership.c.mailbox_id),
        )
    )
    .where(
        membership.c.account_id == bindparam("account"),
        membership.c.flags.op("&")(SEEN) != 0,
        mailbox.c.name >= LIVE,
        *_elsewhere,
        ~exists(
            select(opinion.c.message_id).where(
                opinion.c.account_id == membership.c.account_id,
                opinion.c.message_id == membership.c.message_id,
                opinion.c.spam.is_(True),
            )
        ),
    )
    .order_by(membership.c.message_id.desc())
    .limit(bindparam("most"))
)


_READ = frozenset(column.name for table in TABLES for column in table.c if not column.primary_key) | {"thread_id"}


@cache
def is_read_out(columns: tuple[str, ...]) -> bool:
    """Whether one of them is what reading the message gives."""
    return not _READ.isdisjoint(columns)


@cache
def _slice(columns: tuple[str, ...], *, apart: bool = False) -> tuple[Prepared, int, str | None]:
    """The statement that reads these columns for a range of UIDs, or for some that lie apart; which of them tells what
    is incomplete, and by what.

    None of them does: -1.
    """
    tables = [next(each for each in (membership, message, *TABLES) if name in each.c) for name in columns]
    chosen = [table.c[name] for table, name in zip(tables, columns, strict=True)]
    joins: FromClause = membership
    for table in dict.fromkeys(tables):
        if table is not membership:
            joins = joins.join(
                table,
                (table.c.account_id == membership.c.account_id) & (table.c.message_id == membership.c.message_id),
                isouter=table is not message,
            )
    statement = prepare(
        select(*chosen)
        .select_from(joins)
        .where(*_in_mailbox, _apart if apart else membership.c.uid.between(bindparam("first"), bindparam("last")))
        .order_by(membership.c.uid)
    )
    told_by = next((place for place, table in enumerate(tables) if table in TABLES), -1)
    if told_by < 0 and "thread_id" in columns:
        return statement, columns.index("thread_id"), INCOMPLETE
    return statement, told_by, None


class Reading:
    """The messages of one account, as they are read."""

    def __init__(
        self,
        database: Database,
        account_id: AccountId,
        maildir: Maildir,
        key: Key,
        recent: Shelf,
        completion: Completion,
    ) -> None:
        self._database = database
        self._account_id = account_id
        self._maildir = maildir
        self._key = key
        self._recent = recent
        self._completion = completion

    def fetch_rows(
        self, mailbox_id: MailboxId, first: int, last: int, columns: tuple[str, ...], *, at_once: bool = False
    ) -> list[Row]:
        """Columns of membership, message and the content tables, by UID.

        `at_once`: raises Busy where messages would have to be completed first, for which files are read.
        """
        statement, told_by, lack = _slice(columns)
        asked = {"account": self._account_id, "mailbox": mailbox_id}
        with self._database.reading() as connection:
            rows = statement.rows(connection, **asked, first=first, last=last)
        if told_by < 0 or lack not in [row[told_by] for row in rows]:
            return rows
        if at_once:
            raise Busy
        try:
            self._completion.ensure()
            with self._database.reading() as connection:
                rows = statement.rows(connection, **asked, first=first, last=last)
        except StorageFull:
            rows = self._completion.without_room(
                mailbox_id, first, last, lambda view, start, end: statement.rows(view, **asked, first=start, last=end)
            )
        return [row for row in rows if row[told_by] != lack]  # but of messages whose rows are lost

    def fetch_apart(
        self, mailbox_id: MailboxId, uids: Sequence[int], columns: tuple[str, ...], *, at_once: bool = False
    ) -> list[Row]:
        """The same of some messages that lie far apart."""
        statement, told_by, lack = _slice(columns, apart=True)
        with self._database.reading() as connection:
            rows = statement.rows(connection, account=self._account_id, mailbox=mailbox_id, uids=json.dumps(list(uids)))
        if told_by < 0 or lack not in [row[told_by] for row in rows]:
            return rows
        if at_once:
            raise Busy
        return [row for uid in uids for row in self.fetch_rows(mailbox_id, uid, uid, columns)]

    def read(self, message_id: MessageId, file: str) -> bytes:
        """All octets of a message whose row was just read; once more, if somebody reads it soon after."""
        recent = self._recent
        octets = recent.get(file)
        if octets is None:
            removals = recent.removals
            octets = self._read(message_id, file)
            recent.put(file, octets, removals)
        return octets

    def _read(self, message_id: MessageId, file: str) -> bytes:
        try:
            return self._maildir.read_message(file, self._key)
        except NotFound:
            raise self._missing(message_id) from None

    def read_message(self, message_id: MessageId) -> bytes:
        """All octets of a message that is known by its id alone, from its file."""
        return self._read(message_id, self._file(message_id))

    def read_file(self, message_id: MessageId) -> tuple[FileMeta, bytes]:
        """What the file of a message says about itself, and the message without the added header fields."""
        try:
            return self._maildir.read(self._file(message_id), self._key)
        except NotFound:
            raise self._missing(message_id) from None

    def read_original(self, message_id: MessageId, most: int) -> tuple[FileMeta, bytes]:
        """What the file of a message says about itself, and so many octets of the message without the added fields."""
        file = self._file(message_id)
        try:
            return self._maildir.read_meta(file, self._key), self._maildir.read_span(file, self._key, 0, most)
        except NotFound:
            raise self._missing(message_id) from None

    def read_and_kept(self, most: int) -> list[MessageId]:
        r"""The newest that are \Seen and lie in neither Junk, Trash, Drafts nor Sent; none just called spam."""
        with self._database.reading() as connection:
            rows = _read_and_kept.rows(connection, account=self._account_id, most=most)
        return [MessageId(row[0]) for row in rows]

    def read_span(self, message_id: MessageId, file: str, start: int, end: int) -> bytes:
        """The octets [start, end) of a message; of a large one only the chunks that hold them are read."""
        try:
            prefix = self._maildir.read_meta(file, self._key).prefix
            if not prefix:
                return self._maildir.read_span(file, self._key, start, end)
            added = len(prefix)
            own = self._maildir.read_span(file, self._key, max(0, start - added), max(0, end - added))
        except NotFound:
            raise self._missing(message_id) from None
        return prefix[start:end] + own

    def deleted_octets(self, mailbox_id: MailboxId) -> int:
        """DELETED-STORAGE (RFC 9208 §4.1.4)."""
        with self._database.reading() as connection:
            row = _deleted_octets.one(connection, account=self._account_id, mailbox=mailbox_id)
        return int(row[0]) if row else 0

    def delivered(self, delivery_ids: list[str]) -> set[str]:
        """Those of the ids under which a message is stored."""
        with self._database.reading() as connection:
            return {
                each for each in delivery_ids if _delivered.one(connection, account=self._account_id, delivery=each)
            }

    def _file(self, message_id: MessageId) -> str:
        with self._database.reading() as connection:
            row = _file.one(connection, account=self._account_id, message=message_id)
        if row is None:
            raise Gone("The message is no longer there.")
        return str(row[0])

    def _missing(self, message_id: MessageId) -> Gone | Corrupt:
        try:
            self._file(message_id)
        except Gone as gone:
            return gone
        return Corrupt(detail=f"account {self._account_id}: message {message_id} has no file")
