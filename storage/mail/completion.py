"""Reading messages that came by APPEND: a moment later, many in one commit, and before anybody needs what that gives.

APPEND makes durable what its answer promises: the file, and the row with size, dates and flags. What reading the
message gives (`storage.mail.content`, and the thread that it belongs to) follows: the jobs role sees to it before it
indexes messages for SEARCH, when an account is quiet for a second; of very many the process that takes them does. Until
then the message is incomplete: it has no thread id, and no rows of content.

Who reads those rows gets them whole: `Reading` and `SearchIndex`, and the few who have statements of their own, call
`ensure` first or when a row lacks something (tests/storage/test_mail_completion.py knows them all). That reads message
files, so the event loop asks `is_due` and leaves it to a worker; it reads rows `at_once`, or not at all.

When `ensure` returns, everything committed before is complete. A crash leaves messages incomplete, or complete with
their files in new/: both are as good as before. A power loss may undo what was completed, not what was told of it: the
thread of an incomplete message follows from its id and from what was stored before it.

Where the disk is full, who reads rows gets them of a transaction that is not kept (`without_room`).

What is damaged, or lost to the disk, gives an empty message, once, and a line in the log.

Raises: Unavailable (a file cannot be read for now, and the others are complete; or nothing can be written).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import Integer, bindparam, cast, delete, select, update
from sqlalchemy.dialects.sqlite import insert

from storage.background import Background
from storage.database.database import Connection, Database, Transaction
from storage.database.prepared import Row, prepare
from storage.errors import CleanmailError, NotFound, Unavailable
from storage.files.maildir import Maildir
from storage.keys.sealing import Key
from storage.locks import new_lock
from storage.mail.content import Content, content_of, insert_content
from storage.mail.threads import Threads
from storage.schema.account import info, membership, message, with_message
from storage.values import AccountId, MailboxId, MessageId

BATCH = 50  # messages read for one commit …
BATCH_OCTETS = 16 * 1024 * 1024  # … unless they are large
MOST = 500  # that one process leaves incomplete: so long the first who reads waits, where very many are brought at once
MOST_OCTETS = 64 * 1024 * 1024
_UNKEPT = 10  # messages of one transaction that is not kept: SQLite writes to the disk what its cache does not hold

INCOMPLETE = ""  # thread id of a message that was not read yet

_log = logging.getLogger("cleanmail.storage")

_FROM = "incomplete_from"  # row of `info`: only messages with this id or a higher one may be incomplete

_this_info = (info.c.account_id == bindparam("account"), info.c.name == bindparam("which"))
_get = prepare(select(info.c.value).where(*_this_info))
_forget = prepare(delete(info).where(*_this_info))
_set = insert(info)
_note = prepare(
    _set.on_conflict_do_update(
        index_elements=[info.c.account_id, info.c.name],
        set_={"value": _set.excluded.value},
        where=cast(info.c.value, Integer) > cast(_set.excluded.value, Integer),
    )
)
_go_on = prepare(update(info).where(*_this_info).values(value=bindparam("text")))
# They are looked for among those that are not indexed for SEARCH, in that index: where other processes brought most of
# an account, under higher ids, nearly all its messages come behind the first one.
_unindexed = message.alias()
_next = prepare(
    select(message.c.message_id, message.c.file, message.c.size)
    .select_from(
        _unindexed.join(
            message,
            (message.c.account_id == _unindexed.c.account_id) & (message.c.message_id == _unindexed.c.message_id),
        )
    )
    .where(
        _unindexed.c.account_id == bindparam("account"),
        _unindexed.c.indexed.is_(False),
        _unindexed.c.message_id >= bindparam("first"),
        message.c.thread_id == INCOMPLETE,
    )
    .order_by(_unindexed.c.message_id)
    .limit(bindparam("most"))
)
_this = (message.c.account_id == bindparam("account"), message.c.message_id == bindparam("message"))
_still = prepare(select(message.c.message_id).where(*_this, message.c.thread_id == INCOMPLETE))
_within = prepare(
    select(membership.c.uid, message.c.message_id, message.c.file, message.c.size)
    .select_from(with_message)
    .where(
        membership.c.account_id == bindparam("account"),
        membership.c.mailbox_id == bindparam("mailbox"),
        membership.c.uid.between(bindparam("first"), bindparam("last")),
        message.c.thread_id == INCOMPLETE,
    )
    .order_by(membership.c.uid)
)
_complete = prepare(update(message).where(*_this).values(thread_id=bindparam("thread")))


@dataclass(frozen=True, slots=True)
class _Read:
    """An incomplete message that was read."""

    message_id: MessageId
    file: str
    content: Content
    threads: tuple[bytes, ...]


class _NotKept(Exception):  # noqa: N818 - no error: what was read, on its way out of a transaction that is undone
    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows


class Completion:
    """Of one account."""

    def __init__(
        self,
        database: Database,
        account_id: AccountId,
        threads: Threads,
        maildir: Maildir,
        key: Key,
        background: Background,
    ) -> None:
        self._database = database
        self._account_id = account_id
        self.threads = threads
        self._maildir = maildir
        self._key = key
        self._background = background
        self._left = self._left_octets = 0  # messages that came since everything was complete
        self._unsettled: list[str] = []  # files of complete messages that may still lie in new/
        self._complete_as_of: int | None = None  # a state of the database in which everything was
        self._lock = new_lock()  # who comes while somebody reads messages waits, and finds them complete

    def is_due(self) -> bool:
        """Whether a message may be incomplete; some microseconds, and fewer where nobody has committed since."""
        as_of = self._database.data_version()
        if as_of == self._complete_as_of:
            return False
        if self._is_known():
            return True
        self._complete_as_of = as_of
        return False

    def ensure(self) -> None:
        """Everything committed before is complete."""
        if self._is_known():  # asked anew: a process may die before it has said that it committed
            while self.step():
                pass

    def ensure_most(self) -> None:
        """The same, unless very many were brought at once, for which nobody waits who brings another."""
        for _ in range(MOST // BATCH):
            if not self.step():
                break

    def step(self) -> bool:
        """Completes some messages. True: there may be more of those committed before."""
        with self._lock:
            with self._database.reading() as connection:
                first = self._first(connection)
                if first is None:
                    return False
                rows = _next.rows(connection, account=self._account_id, first=first, most=BATCH)
            read, is_all, failed = self._read_some(rows)
            self._database.write(lambda transaction: self._insert(transaction, read), durable=False)
            may_be_more = len(rows) == BATCH or not is_all
            if not may_be_more:
                self._left = self._left_octets = 0
        if read:
            self._unsettled += [each.file for each in read]
            self._background.submit((self._account_id, "files that were read"), self._settle)
        if failed is not None and not (read and may_be_more):
            raise failed
        return may_be_more

    def without_room(
        self, mailbox_id: MailboxId, first: int, last: int, ask: Callable[[Connection, int, int], list[Row]]
    ) -> list[Row]:
        """What `ask` reads of a range of UIDs as if its messages were complete, while nothing can be written."""
        with self._database.reading() as connection:
            lacking = _within.rows(connection, account=self._account_id, mailbox=mailbox_id, first=first, last=last)
        rows: list[Row] = []
        for start in range(0, max(1, len(lacking)), _UNKEPT):  # once, where all are complete by now
            piece = lacking[start : start + _UNKEPT]
            end = last if start + _UNKEPT >= len(lacking) else int(piece[-1][0])
            rows += self._not_kept(piece, first, end, ask)
            first = end + 1
        return rows

    def _not_kept(
        self, lacking: Sequence[Row], first: int, last: int, ask: Callable[[Connection, int, int], list[Row]]
    ) -> list[Row]:
        read = [self._read(message_id, file) for _, message_id, file, _ in lacking]

        def look(transaction: Transaction) -> None:
            self._insert(transaction, read)
            raise _NotKept(ask(transaction, first, last))

        try:
            self._database.write(look, durable=False)
        except _NotKept as told:
            return told.rows
        raise AssertionError("unreachable")

    def note(self, transaction: Transaction, message_ids: Sequence[MessageId], octets: int) -> None:
        """These messages are incomplete. Nearly always it is known already that some are."""
        _note.run(transaction, account_id=self._account_id, name=_FROM, value=str(min(message_ids)))
        self._left += len(message_ids)
        self._left_octets += octets
        if self._left >= MOST or self._left_octets >= MOST_OCTETS:
            self._left = self._left_octets = 0
            transaction.after_commit(lambda: self._background.submit((self._account_id, "reading"), self.step))

    def _is_known(self) -> bool:
        with self._database.reading() as connection:
            return self._first(connection) is not None

    def _first(self, connection: Connection) -> int | None:
        row = _get.one(connection, account=self._account_id, which=_FROM)
        return int(row[0]) if row else None

    def _read_some(self, rows: Sequence[Row]) -> tuple[list[_Read], bool, Unavailable | None]:
        """The first ones, whether they were all, and why one cannot be read for now: the others do not wait for it."""
        read: list[_Read] = []
        octets, failed = 0, None
        for message_id, file, size in rows:
            if octets >= BATCH_OCTETS:
                return read, False, failed
            try:
                read.append(self._read(message_id, file))
                octets += size
            except Unavailable as error:
                failed = error
        return read, True, failed

    def _read(self, message_id: MessageId, file: str) -> _Read:
        try:
            meta, data = self._maildir.read(file, self._key)
            content = content_of(data, meta.prefix)
        except NotFound:  # gone with its row, if somebody removed it
            content = content_of(b"")
        except (MemoryError, Unavailable) as error:
            raise Unavailable(detail=f"account {self._account_id}: message {message_id} is not read yet") from error
        except Exception as error:  # noqa: BLE001 - damaged, or a mistake of ours: it is shown empty, not tried for ever
            why = (error.detail if isinstance(error, CleanmailError) else "") or type(error).__name__
            _log.error("account %d: message %d cannot be read: %s", self._account_id, message_id, why)
            content = content_of(b"")
        derived = content.derived
        return _Read(message_id, file, content, self.threads.hashes(derived.message_id_field, derived.references))

    def _settle(self) -> bool:
        """Moving files waits for the disk where others write: nobody who reads a message has to."""
        for _ in range(min(BATCH, len(self._unsettled))):  # nobody else takes from them
            with suppress(CleanmailError):  # it is read from new/ as well
                self._maildir.settle(self._unsettled.pop())
        return bool(self._unsettled)

    def _insert(self, transaction: Transaction, read: Sequence[_Read]) -> None:
        account_id = self._account_id
        for each in read:
            if _still.one(transaction, account=account_id, message=each.message_id) is None:
                continue  # it is gone, or another process was first
            thread = self.threads.thread_of(transaction, each.threads, each.message_id)
            insert_content(transaction, account_id, each.message_id, each.content)
            _complete.run(transaction, account=account_id, message=each.message_id, thread=thread)
        first = self._first(transaction)
        rows = [] if first is None else _next.rows(transaction, account=account_id, first=first, most=1)
        if rows:
            _go_on.run(transaction, account=account_id, which=_FROM, text=str(rows[0][0]))
        else:
            _forget.run(transaction, account=account_id, which=_FROM)
