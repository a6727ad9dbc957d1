"""APPEND and delivery: a message's file, its rows and its place in a mailbox.

The file is written, linked and fsynced before the write lock is taken; the directory is fsynced once for all messages
that share a commit, then the rows are committed. When `append` returns, the message is durable. When it raises, nothing
of it is visible and its files are gone or left to `storage.sweep`.

Raises: NotFound (no such mailbox), AlreadyExists (its delivery id is there), OverQuota, StorageFull, Unavailable.
Standards: RFC 9051 §6.3.12, §2.3.1.1 (UIDs ascend).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from sqlalchemy import insert

from storage.background import Background
from storage.clock import Clock
from storage.database.database import Transaction
from storage.database.prepared import prepare
from storage.errors import CleanmailError, NotFound, Unavailable
from storage.files.maildir import Maildir
from storage.files.metadata import FileMeta
from storage.keys.sealing import Key
from storage.locks import new_lock
from storage.mail.completion import INCOMPLETE, Completion
from storage.mail.content import Content, Unread, content_of, insert_content, unread
from storage.mail.keywords import Keywords
from storage.mail.ledger import Delta, Ledger
from storage.mail.outcomes import Appended, NewMessage
from storage.notes.message import MAILBOX as NOTES
from storage.notes.message import NoteMessage, is_note, read_note
from storage.schema.account import membership, message
from storage.values import DELETED, SEEN, AccountId, MailboxId, MessageId, Uid

IDS = 50  # message ids that one process takes at a time
_DROPPED = 100  # files in one step of the background

_insert_message = prepare(insert(message))
_insert_membership = prepare(insert(membership))


class MessageIds:
    """Numbers of messages, known before their files are written. A block is taken from the counter at a time.

    The block's commit may be NORMAL: a row that uses one of its numbers is committed FULL, and brings it to the disk.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = new_lock()
        self._free = range(0)

    def take(self) -> MessageId:
        with self._lock:
            if not self._free:
                first = self._ledger.database.write(
                    lambda transaction: self._ledger.take(transaction, "message_id", IDS), durable=False
                )
                self._free = range(first, first + IDS)
            number, self._free = self._free[0], self._free[1:]
        return MessageId(number)


@dataclass(frozen=True, slots=True)
class Filed:
    """A message whose file is in place and whose rows are still to come."""

    message_id: MessageId
    file: str
    internal_date: int
    content: Content | Unread
    threads: tuple[bytes, ...]  # hashes, see storage.mail.threads; none of what is unread
    flags: int
    keywords: Sequence[str]
    delivery_id: str | None
    overrun: bool = False  # see NewMessage
    saved: int | None = None
    is_note: bool = False  # it says so
    note: NoteMessage | None = None  # what it says, if it has been read
    internal_zone: int = 0


class Arrivals:
    """New messages of one account."""

    def __init__(
        self,
        ledger: Ledger,
        keywords: Keywords,
        completion: Completion,
        maildir: Maildir,
        key: Key,
        incarnation: str,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._keywords = keywords
        self._threads = completion.threads
        self._completion = completion
        self._maildir = maildir
        self._key = key
        self._incarnation = incarnation
        self._clock = clock
        self._ids = MessageIds(ledger)

    def append(
        self,
        mailbox_id: MailboxId,
        mailbox: str,
        messages: Iterable[NewMessage],
        *,
        many: bool = False,
        by_server: bool = False,
        sure: bool = True,
        read_later: bool = False,
    ) -> list[Appended]:
        """All of them in one commit, or none. `mailbox` is the name that the files will remember.

        It may be another one by now; not with `sure` false: then NotFound is raised.

        `messages` may be made one after the other: each is let go of when its file is written, and what is raised in
        between leaves nothing of those before.

        `many`: the files are brought to the disk all together, not one by one. `by_server`: see `Ledger.advance`; the
        owner's quota is not charged. `read_later`: the messages are incomplete (storage.mail.completion).
        """
        filed: list[Filed] = []
        try:
            for new in messages:
                filed.append(self.file(mailbox, new, at_once=not many, read_later=read_later))
            if many:
                self._maildir.sync_all()
        except Exception:
            self.drop(filed)
            raise
        return self.commit(mailbox_id, filed, by_server=by_server, called=None if sure else mailbox)

    def commit(
        self, mailbox_id: MailboxId, filed: Sequence[Filed], *, by_server: bool = False, called: str | None = None
    ) -> list[Appended]:
        """The rows of messages whose files were written by `file`, or none and no files."""
        try:
            if not all(isinstance(each.content, Unread) for each in filed):
                with suppress(Unavailable):  # one that cannot be read for now does not keep others out
                    self._completion.ensure_most()  # what came before has its thread first
            appended = self._ledger.database.write(
                lambda transaction: self.insert(transaction, mailbox_id, filed, by_server=by_server, called=called)
            )
        except Exception:  # an interrupt may come after the commit: it leaves the files alone
            self.drop(filed)
            raise
        self.settle(filed)
        return appended

    def require_space(self, octets: int, messages: int) -> None:
        """Raises OverQuota where so much could not be committed now."""
        self._ledger.require_space(octets, messages)

    def drop_later(self, filed: Sequence[Filed], background: Background) -> None:
        """`drop`, where nobody may wait for it."""
        waiting = [*filed]

        def step() -> bool:
            self.drop(waiting[-_DROPPED:])
            del waiting[-_DROPPED:]
            return bool(waiting)

        if waiting:
            background.submit((self._ledger.account_id, "uncommitted", waiting[0].file), step)

    def settle(self, filed: Sequence[Filed]) -> None:
        """After the commit of their rows. Who reads a message later moves its file, too."""
        for each in filed:
            if isinstance(each.content, Content):
                with suppress(CleanmailError):  # it is read from new/ as well
                    self._maildir.settle(each.file)

    def append_in(self, transaction: Transaction, mailbox_id: MailboxId, mailbox: str, new: NewMessage) -> Appended:
        """In the transaction of somebody else: the file is written under the write lock. The follower is not told."""
        filed = self.file(mailbox, new, message_id=MessageId(self._ledger.take(transaction, "message_id")))
        try:
            (appended,) = self.insert(transaction, mailbox_id, [replace(filed, is_note=False, note=None)])
        except BaseException:
            self.drop([filed])
            raise
        transaction.after_commit(lambda: self._maildir.settle(filed.file))
        return appended

    def file(
        self,
        mailbox: str,
        new: NewMessage,
        *,
        at_once: bool = True,
        message_id: MessageId | None = None,
        read_later: bool = False,
    ) -> Filed:
        """Read the message, write its file and link it."""
        kept = unread(new.data, new.prefix) if read_later else new.content or content_of(new.data, new.prefix)
        message_id = self._ids.take() if message_id is None else message_id
        internal_date = self._clock.now() if new.internal_date is None else new.internal_date
        hashes: tuple[bytes, ...] = ()
        if isinstance(kept, Content):
            hashes = self._threads.hashes(kept.derived.message_id_field, kept.derived.references)
        says_note, note = is_note(new.data), read_note(new.data) if mailbox == NOTES else None
        name = self._maildir.new_name(self._incarnation)
        meta = FileMeta(
            self._ledger.account_id,
            message_id,
            internal_date,
            mailbox,
            new.flags,
            tuple(new.keywords),
            new.delivery_id,
            new.prefix,
            new.internal_zone,
        )
        self._maildir.put(name, self._key, meta, new.data, at_once=at_once)
        return Filed(
            message_id,
            name,
            internal_date,
            kept,
            hashes,
            new.flags,
            new.keywords,
            new.delivery_id,
            new.overrun,
            new.saved,
            says_note,
            note,
            new.internal_zone,
        )

    def insert(
        self,
        transaction: Transaction,
        mailbox_id: MailboxId,
        filed: Sequence[Filed],
        *,
        by_server: bool = False,
        called: str | None = None,
    ) -> list[Appended]:
        """The rows of messages whose files are linked; the directory is fsynced before the commit.

        `called`: NotFound if the mailbox is not called so.
        """
        maildir = self._maildir
        transaction.before_commit(maildir.sync_new, key=("new", maildir.path))
        flags = array(
            "Q", (each.flags | self._keywords.defined(transaction, mailbox_id, each.keywords) for each in filed)
        )
        octets = sum(each.content.size for each in filed)
        count = len(filed)
        position = self._ledger.advance(
            transaction,
            mailbox_id,
            uids=count,
            messages=count,
            unseen=sum(not each & SEEN for each in flags),
            deleted=sum(bool(each & DELETED) for each in flags),
            octets=octets,
            by_server=by_server,
        )
        if called is not None and position.name != called:
            raise NotFound("There is no such mailbox.")
        if not by_server:
            self._ledger.charge(transaction, octets, count, overrun=all(each.overrun for each in filed))
        uids = array("I", range(position.first_uid, position.first_uid + count))
        now = self._clock.now()
        for each, uid, bits in zip(filed, uids, flags, strict=True):
            self._insert_message(transaction, each, now)
            _insert_membership.run(
                transaction,
                account_id=self._ledger.account_id,
                mailbox_id=mailbox_id,
                uid=uid,
                message_id=each.message_id,
                flags=bits,
                modseq=position.modseq,
                saved=now if each.saved is None else each.saved,
            )
        incomplete = [each for each in filed if isinstance(each.content, Unread)]
        if incomplete:
            octets = sum(each.content.size for each in incomplete)
            self._completion.note(transaction, [each.message_id for each in incomplete], octets)
        self._ledger.changed(transaction, mailbox_id, Delta(position.modseq, uids, flags))
        self._tell_follower(transaction, mailbox_id, position.name, [*zip(uids, filed, strict=True)])
        return [
            Appended(Uid(uid), position.uidvalidity, position.modseq, each.message_id)
            for each, uid in zip(filed, uids, strict=True)
        ]

    def _tell_follower(
        self, transaction: Transaction, mailbox_id: MailboxId, name: str, messages: Sequence[tuple[int, Filed]]
    ) -> None:
        follower = self._ledger.follower
        if follower is None:
            return
        read = [(uid, each.note) for uid, each in messages if each.note is not None]
        if read:
            follower.arrived(transaction, mailbox_id, name, read)
        # Another process may have given the mailbox its name since this one looked.
        unread = [uid for uid, each in messages if each.is_note and each.note is None]
        if unread:
            follower.transferred(transaction, mailbox_id, name, unread)

    def _insert_message(self, transaction: Transaction, filed: Filed, now: int) -> None:
        account_id, kept, message_id = self._ledger.account_id, filed.content, filed.message_id
        _insert_message.run(
            transaction,
            account_id=account_id,
            message_id=message_id,
            file=filed.file,
            size=kept.size,
            internal_date=filed.internal_date,
            internal_zone=filed.internal_zone,
            sent_date=kept.sent(filed.internal_date),
            email_id=email_id(account_id, message_id),
            thread_id=self._threads.thread_of(transaction, filed.threads, message_id)
            if isinstance(kept, Content)
            else INCOMPLETE,
            delivery_id=filed.delivery_id,
            indexed=False,
            created=now,
        )
        if isinstance(kept, Content):
            insert_content(transaction, account_id, message_id, kept)

    def drop(self, filed: Sequence[Filed]) -> None:
        """Their rows did not come to be. What cannot be removed now is left to the sweep."""
        for each in filed:
            with suppress(CleanmailError):
                self._maildir.remove(each.file)


def email_id(account_id: AccountId, message_id: MessageId) -> str:
    """EMAILID (RFC 8474 §5.1): of the message wherever it stands in this account."""
    return f"M{account_id:x}-{message_id:x}"
