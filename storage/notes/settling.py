"""What notes need done a little later: conflicts, what stood in the mailbox before, faces that are missing.

    settle   messages of earlier revisions that no client has removed within GRACE become notes of their own
             ("… (conflict)"), unless the note says the same; what is remembered of removed notes is forgotten
    take_in  note messages that nobody has looked at become notes: of an account of before, of a mailbox that got the
             name Notes, of a large COPY, of an account that was made anew from its files
    mend     a face that is missing, or says something else than its note, is made from the note

Each step is a transaction of its own and may be repeated: whoever opens the account takes up what a crash has left.
Files are read, and written, outside of transactions; what was found is looked at again in the transaction.

Raises: Unavailable, StorageFull, OverQuota; what was done stays done.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from storage.background import Background
from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.errors import CleanmailError, Corrupt, NotFound, OverQuota
from storage.icalendar.contentlines import Malformed
from storage.locks import new_lock
from storage.notes.faces import JournalFaces, MessageFaces, Standing
from storage.notes.journal import read_journal
from storage.notes.message import NoteMessage, read_note, renamed
from storage.notes.notes import GRACE, Notes, same
from storage.notes.rows import Earlier, NoteRow, NoteRows
from storage.values import DELETED, AccountId, MailboxId

_SLICE = 50  # messages or notes of one step

_log = logging.getLogger("cleanmail.storage")


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A note whose faces do not agree, or a journal entry that should be a note and is none."""

    note_id: int | None
    why: str  # a sentence for an operator: ids alone


class Settling:
    """Of one account."""

    def __init__(
        self,
        database: Database,
        account_id: AccountId,
        notes: Notes,
        rows: NoteRows,
        messages: MessageFaces,
        journals: JournalFaces,
        clock: Clock,
        background: Background,
    ) -> None:
        self._database = database
        self._account_id = account_id
        self._notes = notes
        self._rows = rows
        self._messages = messages
        self._journals = journals
        self._clock = clock
        self._background = background
        self._lock = new_lock()
        self._is_waiting = False  # somebody will look again in a while: one timer, however many edits there are

    # When

    def resume(self) -> None:
        """What an earlier process did not come to; for who opens the account."""
        with self._database.reading() as connection:
            unsettled = self._rows.has_unsettled(connection)
            mailbox_id = self._messages.mailbox(connection)
            untaken = mailbox_id is not None and self._rows.taken_in(connection) != str(mailbox_id)
        if unsettled:
            self._background.submit((self._account_id, "notes: settle"), self._settle_quietly)
        if untaken:
            self.take_in_soon()

    def settle_later(self) -> None:
        with self._lock:
            if self._is_waiting:
                return
            self._is_waiting = True
        self._background.submit_later((self._account_id, "notes: settle"), self._settle_quietly, GRACE + 1)

    def take_in_soon(self) -> None:
        self._background.submit((self._account_id, "notes: take in"), self.take_in)

    def _settle_quietly(self) -> bool:
        with self._lock:
            self._is_waiting = False
        with suppress(CleanmailError):  # it was closed meanwhile: who opens it next takes this up
            self.settle()
            if self._has_more_to_come():
                self.settle_later()
        return False

    def _has_more_to_come(self) -> bool:
        """Whether something waits for time to pass, and not for its client to expunge it."""
        with self._database.reading() as connection:
            if self._rows.has_gone(connection):
                return True
            waiting = self._rows.earlier(connection)
        return any(each.flags is not None and not each.flags & DELETED for each in waiting)

    # Conflicts

    def settle(self, patience: int = GRACE) -> int:
        """Everything that has waited so many seconds; how many conflicts became notes.

        Without patience for who has just restored an archive: no client is in the middle of an edit then.
        """
        before = self._clock.now() - patience
        with self._database.reading() as connection:
            if not self._rows.has_unsettled(connection):
                return 0
            waiting = self._rows.earlier(connection)
        count = 0
        for each in waiting:
            if each.since <= before and (each.flags is None or not each.flags & DELETED):
                count += self._settle(each)
        self._database.write(lambda transaction: self._rows.forget_gone(transaction, before))
        return count

    def _settle(self, earlier: Earlier) -> bool:
        """Whether it has become a note of its own."""
        with self._database.reading() as connection:
            standing = self._messages.find(connection, earlier.mailbox_id, earlier.message_uid)
            current = self._messages.mailbox(connection) == earlier.mailbox_id
        data = None
        if standing is not None and current:
            with suppress(NotFound, Corrupt):
                data = self._messages.octets(standing)
        note = None if data is None else read_note(data)

        def work(transaction: Transaction) -> bool:
            if not self._rows.is_earlier(transaction, earlier.mailbox_id, earlier.message_uid):
                return False
            self._rows.drop_earlier(transaction, earlier.mailbox_id, [earlier.message_uid])
            there = self._messages.find(transaction, earlier.mailbox_id, earlier.message_uid)
            if there is None or note is None or data is None:
                return False
            return self._resolve(transaction, earlier, there, note, data)

        return self._database.write(work)

    def _resolve(
        self, transaction: Transaction, earlier: Earlier, standing: Standing, note: NoteMessage, data: bytes
    ) -> bool:
        row = self._rows.by_identifier(transaction, note.identifier)
        if row is None or row.gone is not None or row.message_uid is None:
            # The note was deleted elsewhere, and edited here: what was written last stays.
            self._notes.take(transaction, earlier.mailbox_id, earlier.message_uid, note)
            return False
        if same(row.said, note.said) and not note.has_attachments:
            self._messages.remove(transaction, earlier.mailbox_id, earlier.message_uid)
            return False
        identifier = str(uuid.uuid4()).upper()
        title = f"{note.said.title} (conflict)".lstrip()
        anew = renamed(data, identifier, title, 1)
        read = read_note(anew)
        assert read is not None
        self._messages.remove(transaction, earlier.mailbox_id, earlier.message_uid)
        mailbox_id, uid = self._messages.put(transaction, anew, standing)
        self._notes.take(transaction, mailbox_id, uid, read)
        return True

    # What stood there before

    def take_in(self) -> bool:
        """Look at some messages of the mailbox Notes that nobody has looked at. True: there is more."""
        with self._database.reading() as connection:
            mailbox_id = self._messages.mailbox(connection)
            if mailbox_id is None:
                return False
            begun, _, position = self._rows.taken_in(connection).partition(":")
            if begun == str(mailbox_id) and not position:
                return False
            after = int(position) if begun == str(mailbox_id) else 0
            uids = self._messages.after(connection, mailbox_id, after, _SLICE)
            known = {row.message_uid for row in self._rows.by_messages(connection, mailbox_id, uids)}
            new = [
                (uid, self._messages.find(connection, mailbox_id, uid))
                for uid in uids
                if uid not in known and not self._rows.is_earlier(connection, mailbox_id, uid)
            ]
        found = [(uid, note) for uid, each in new if each is not None and (note := self._notes.read(each)) is not None]

        for uid, note in found:
            try:
                self._database.write(partial(self._take_in, mailbox_id, uid, note))
            except CleanmailError as error:
                if error.temporary or isinstance(error, OverQuota):
                    raise
                _log.warning("account %d: a message stays no note: %s", self._account_id, type(error).__name__)
        done = f"{mailbox_id}:{uids[-1]}" if uids else str(mailbox_id)
        self._database.write(lambda transaction: self._rows.set_taken_in(transaction, done))
        return bool(uids)

    def _take_in(self, mailbox_id: MailboxId, uid: int, note: NoteMessage, transaction: Transaction) -> None:
        """Unless it went meanwhile, or is older than what was looked at."""
        if self._messages.mailbox(transaction) != mailbox_id:
            return
        if self._messages.find(transaction, mailbox_id, uid) is None:
            return
        if self._rows.by_messages(transaction, mailbox_id, [uid]) or self._rows.is_earlier(
            transaction, mailbox_id, uid
        ):
            return
        row = self._rows.by_identifier(transaction, note.identifier)
        if row is not None and row.mailbox_id == mailbox_id and row.message_uid is not None and row.message_uid > uid:
            # A later revision was appended while this one waited to be looked at.
            self._rows.add_earlier(transaction, replace(row, message_uid=uid), self._clock.now())
            transaction.after_commit(self.settle_later)
            return
        self._notes.take(transaction, mailbox_id, uid, note)

    # Faces that do not agree

    def disagreements(self, *, contents: bool = True) -> Iterator[Disagreement]:
        """What is wrong with notes; `contents`: messages are read too. Changes nothing."""
        for row in self._all():
            why = self._wrong(row, contents=contents)
            if why:
                yield Disagreement(row.note_id, f"Note {row.note_id}: {why}.")
        if loose := len(self._loose()):
            yield Disagreement(None, f"{loose} journal entries of the notes are no notes.")

    def mend(self) -> int:
        """What `disagreements` finds is made right; how much that was. Durable on return."""
        wrong = [row for row in self._all() if self._wrong(row, contents=True)]
        loose = self._loose()
        for row in wrong:
            self._database.write(partial(self._mend, row))
        for name, _ in loose:
            self._database.write(partial(self._adopt, name))
        if wrong or loose:
            _log.warning("account %d: %d notes mended", self._account_id, len(wrong) + len(loose))
        return len(wrong) + len(loose)

    def _all(self) -> Iterator[NoteRow]:
        after = 0
        while True:
            with self._database.reading() as connection:
                rows = self._rows.some(connection, after, _SLICE)
            yield from rows
            if not rows:
                return
            after = rows[-1].note_id

    def _loose(self) -> list[tuple[str, str]]:
        with self._database.reading() as connection:
            collection = self._journals.collection(connection)
            return [] if collection is None else self._rows.loose_journals(connection, collection.id)

    def _wrong(self, row: NoteRow, *, contents: bool) -> str:
        """What is wrong with a note, seen in one state of the database."""
        with self._database.snapshot() as connection:
            now = self._rows.by_id(connection, row.note_id)
            if now is None or now.gone is not None:
                return ""
            stored = self._journals.find(connection, now.collection_id, now.object_id)
            if stored is None:
                return "its journal entry is missing"
            standing = self._messages.find(connection, now.mailbox_id, now.message_uid)
            if standing is None or now.mailbox_id != self._messages.mailbox(connection):
                return "its message is missing"
            if not now.revision == now.journal_revision == now.message_revision:
                return "its faces are of different revisions"
            journal = self._journals.read(connection, stored)
        try:
            if not same(read_journal(journal).said, now.said):
                return "its journal entry says something else"
        except Malformed:
            return "its journal entry cannot be read"
        note = self._notes.read(standing) if contents else None
        if note is not None and not same(note.said, now.said):
            return "its message says something else"
        return ""

    def _mend(self, seen: NoteRow, transaction: Transaction) -> None:
        row = self._rows.by_id(transaction, seen.note_id)
        if row is None or row.gone is not None or row.revision != seen.revision:
            return
        row = replace(row, revision=row.revision + 1, modified=self._clock.now())
        stored = self._journals.find(transaction, row.collection_id, row.object_id)
        stored = self._notes.edit(transaction, row, stored)
        standing = self._messages.find(transaction, row.mailbox_id, row.message_uid)
        if standing is not None and row.mailbox_id != self._messages.mailbox(transaction):
            standing, row = None, replace(row, mailbox_id=None, message_uid=None)
        note = None if standing is None else self._notes.read(standing)
        if note is None or not same(note.said, row.said):
            row = self._notes.write_message(transaction, row, standing)
        self._rows.update(
            transaction,
            replace(
                row,
                collection_id=stored.collection_id,
                object_id=stored.object_id,
                journal_revision=row.revision,
                message_revision=row.revision,
            ),
        )

    def _adopt(self, name: str, transaction: Transaction) -> None:
        collection = self._journals.collection(transaction)
        stored = None if collection is None else self._journals.named(transaction, collection.id, name)
        if stored is None or self._rows.by_object(transaction, stored) is not None:
            return
        with suppress(Malformed):
            journal = read_journal(self._journals.read(transaction, stored))
            self._notes.take_journal(transaction, None, stored, journal)
