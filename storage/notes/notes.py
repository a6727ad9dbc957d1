r"""One note everywhere: a journal entry over CalDAV and a message in the mailbox Notes are two faces of one record.

Whatever changes one face changes the other in the same transaction, and both come to the same revision; what is written
for that tells no follower, so nothing comes back as an edit. Notes are the VJOURNALs of the collection `notes` and the
messages in the mailbox `Notes` that say so (storage.notes.message); others in either are left alone.

- A journal entry that is put gives a message in the place of the old one, unless its text is the same: categories and
  colours concern the journal alone.
- A message that arrives is the note's next revision, whichever it was made from: IMAP does not say. The message of the
  revision before stays, since its client removes it. If nobody does within `GRACE` seconds, both were made from the
  same one, and the older becomes a note of its own (storage.notes.settling).
- A current message that is expunged, or moved away, takes the note with it. For `GRACE` seconds its journal entry is
  remembered, since some clients remove before they append: what comes then gets it back with all that it had.
- An edit over CalDAV says by If-Match what it was made from; the store of collections sees to that.

Raises: OverQuota, NotPermitted (the mailbox shows notes), Violated (a text of more than a mebibyte), and what the
stores raise. Decisions: docs/decisions/0036-notes.md.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from storage.clock import Clock
from storage.collections.conditions import Violated
from storage.collections.values import Collection, CollectionId, Content, Stored
from storage.database.database import Transaction
from storage.errors import Corrupt, NotFound, NotPermitted
from storage.mail.arrivals import Filed
from storage.notes.faces import JournalFaces, MessageFaces, Standing
from storage.notes.journal import COMPONENT, Journal, edited, read_journal, write_journal
from storage.notes.message import MAILBOX, TEXT_MAX, NoteMessage, NoteText, identifier_of, read_note, write_note
from storage.notes.rows import NoteRow, NoteRows
from storage.values import MailboxId

GRACE = 180  # seconds in which a client has done both halves of an edit
AT_ONCE = 50  # messages that a COPY brings and that are read in its transaction; more are read later

SHOWS_NOTES = "This mailbox shows the account's notes: it stays, under its name, until they are deleted."


@dataclass(frozen=True, slots=True)
class Later:
    """What is asked to be done after the commit: see storage.notes.settling."""

    settle: Callable[[], None]
    take_in: Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Ready:
    """A message whose file is written, and the revision that it is good for."""

    content: Content  # kept, so that no other body gets its identity meanwhile
    filed: Filed
    identifier: str
    revision: int
    message_uid: int | None  # of the message that it follows
    modified: int


class Notes:
    """Of one account. Follows its collections and its mailboxes."""

    def __init__(self, rows: NoteRows, messages: MessageFaces, journals: JournalFaces, clock: Clock) -> None:
        self._rows = rows
        self._messages = messages
        self._journals = journals
        self._clock = clock
        self._ready: dict[int, _Ready] = {}  # by the identity of the body that they were written for
        self.later = Later(lambda: None, lambda: None)

    # From the mailbox

    def arrived(
        self, transaction: Transaction, mailbox_id: MailboxId, name: str, messages: Sequence[tuple[int, NoteMessage]]
    ) -> None:
        if self._shows_notes(transaction, mailbox_id, name):
            for uid, note in messages:
                self.take(transaction, mailbox_id, uid, note)

    def transferred(self, transaction: Transaction, mailbox_id: MailboxId, name: str, uids: Sequence[int]) -> None:
        if not self._shows_notes(transaction, mailbox_id, name):
            return
        for uid in uids[:AT_ONCE]:
            standing = self._messages.find(transaction, mailbox_id, uid)
            note = None if standing is None else self.read(standing)
            if note is not None:
                self.take(transaction, mailbox_id, uid, note)
        if len(uids) > AT_ONCE:
            self._rows.set_taken_in(transaction, "")
            transaction.after_commit(self.later.take_in)

    def left(self, transaction: Transaction, mailbox_id: MailboxId, name: str, uids: Sequence[int]) -> None:
        if not self._shows_notes(transaction, mailbox_id, name):
            return
        for row in self._rows.by_messages(transaction, mailbox_id, uids):
            self._go(transaction, row)
        self._rows.drop_earlier(transaction, mailbox_id, uids)

    def may_go(self, transaction: Transaction, mailbox_id: MailboxId, name: str) -> None:
        if self._shows_notes(transaction, mailbox_id, name) and self._rows.has_messages(transaction, mailbox_id):
            raise NotPermitted(SHOWS_NOTES)

    def came(self, transaction: Transaction, name: str) -> None:
        if name == MAILBOX:
            transaction.after_commit(self.later.take_in)

    def _shows_notes(self, transaction: Transaction, mailbox_id: MailboxId, name: str) -> bool:
        """Nothing is asked about any other mailbox: ordinary mail goes this way too."""
        return name == MAILBOX and mailbox_id == self._messages.mailbox(transaction)

    def take(self, transaction: Transaction, mailbox_id: MailboxId, uid: int, note: NoteMessage) -> None:
        """The message under this UID is the note's current one from here on."""
        row = self._rows.by_identifier(transaction, note.identifier)
        if row is None:
            self._begin(transaction, mailbox_id, uid, note)
            return
        standing = None
        if row.gone is None and row.mailbox_id == mailbox_id and row.message_uid not in (None, uid):
            standing = self._messages.find(transaction, mailbox_id, row.message_uid)
        if standing is not None:
            self._rows.add_earlier(transaction, row, self._clock.now())
            transaction.after_commit(self.later.settle)
        stored = self._journals.find(transaction, row.collection_id, row.object_id)
        if stored is not None and same(row.said, note.said):
            said = replace(row.said, html=note.said.html)
            row = replace(row, said=said, message_revision=row.revision)
        else:
            row = self._next(row, note.said)
            stored = self.edit(transaction, row, stored)
        placed = replace(row, collection_id=stored.collection_id, object_id=stored.object_id)
        self._rows.update(transaction, replace(_there(placed), mailbox_id=mailbox_id, message_uid=uid))
        self._rows.drop_earlier(transaction, mailbox_id, [uid])

    def read(self, standing: Standing) -> NoteMessage | None:
        """What a message says; None: it is no note, or it cannot be read now."""
        try:
            return read_note(self._messages.octets(standing))
        except (NotFound, Corrupt):
            return None

    def _begin(self, transaction: Transaction, mailbox_id: MailboxId, uid: int, note: NoteMessage) -> None:
        """A note that is new here; if a journal entry has its UID, that is its other face."""
        now = self._clock.now()
        stored = self._journals.of(transaction, note.identifier, self._rows)
        row = NoteRow(
            note_id=self._rows.take_id(transaction),
            uid=note.identifier if stored is None else stored.uid or note.identifier,
            identifier=note.identifier,
            revision=1,
            journal_revision=1,
            message_revision=1,
            collection_id=None,
            object_id=None,
            mailbox_id=mailbox_id,
            message_uid=uid,
            said=note.said,
            created=now if note.created is None else note.created,
            modified=now,
        )
        if stored is None or not same(read_journal(self._journals.read(transaction, stored)).said, note.said):
            stored = self.edit(transaction, row, stored)
        self._rows.insert(transaction, replace(row, collection_id=stored.collection_id, object_id=stored.object_id))

    def edit(self, transaction: Transaction, row: NoteRow, stored: Stored | None) -> Stored:
        """The journal entry says what the row says."""
        if stored is not None:
            data = edited(self._journals.read(transaction, stored), row.said, modified=row.modified)
            return self._journals.put(transaction, data, at=stored)
        if row.last_journal is not None:
            data = edited(row.last_journal, row.said, modified=row.modified)
            return self._journals.put(transaction, data, name=row.last_name, uid=row.uid)
        data = write_journal(row.said, row.uid, row.revision, created=row.created, modified=row.modified)
        return self._journals.put(transaction, data, uid=row.uid)

    def _go(self, transaction: Transaction, row: NoteRow) -> None:
        """Its message went: so does its journal entry, which is remembered for a while."""
        stored = self._journals.find(transaction, row.collection_id, row.object_id)
        name = journal = None
        if stored is not None:
            name, journal = stored.name, self._journals.read(transaction, stored)
            self._journals.remove(transaction, stored)
        gone = replace(
            row,
            revision=row.revision + 1,
            collection_id=None,
            object_id=None,
            mailbox_id=None,
            message_uid=None,
            gone=self._clock.now(),
            last_name=name,
            last_journal=journal,
        )
        self._rows.update(transaction, gone)
        transaction.after_commit(self.later.settle)

    # From the collection

    def prepare(self, collection_id: CollectionId, content: Content) -> Callable[[], None] | None:
        """Write the message of a journal entry that is about to be put, before its transaction begins.

        Call what comes back when that is over, however it ended. Whether the message is the right one is seen in the
        transaction, where another writer may have been first: then it is written there.
        """
        if content.component != COMPONENT or not content.uid:
            return None
        row, before, place = self._rows.look(content.uid, self._messages.find, self._journals.place)
        if collection_id != (place if row is None or row.collection_id is None else row.collection_id):
            return None
        journal = read_journal(content.data)
        if row is None:
            identifier, revision, message_uid, created = identifier_of(content.uid), 1, None, journal.created
        elif row.gone is not None or before is None or _says(row, journal):
            return None
        else:
            identifier, revision, message_uid, created = (
                row.identifier, row.revision + 1, row.message_uid, row.created
            )  # fmt: skip
        if len(journal.said.whole.encode()) > TEXT_MAX:
            return None
        now = self._clock.now()
        octets = None
        if before is not None:
            try:
                octets = self._messages.octets(before)
            except (NotFound, Corrupt):
                return None
        data = write_note(
            journal.said, identifier, revision, created=now if created is None else created, modified=now, before=octets
        )
        ready = _Ready(content, self._messages.file(data), identifier, revision, message_uid, now)
        self._ready[id(content)] = ready

        def over() -> None:
            if self._ready.pop(id(content), None) is not None:  # nobody took it
                self._messages.drop(ready.filed)

        return over

    def stored(
        self, transaction: Transaction, collection: Collection, before: Stored | None, after: Stored, content: Content
    ) -> None:
        row = self._rows.by_object(transaction, after)
        if row is None and not self._journals.is_notes(collection):
            return
        if content.component != COMPONENT:
            return
        self.take_journal(transaction, row, after, read_journal(content.data), content)

    def removed(self, transaction: Transaction, collection: Collection, stored: Stored) -> None:
        row = self._rows.by_object(transaction, stored)
        if row is None:
            return
        if row.mailbox_id is not None and row.message_uid is not None:
            self._messages.remove(transaction, row.mailbox_id, row.message_uid)
        self._rows.delete(transaction, row.note_id)

    def take_journal(
        self,
        transaction: Transaction,
        row: NoteRow | None,
        stored: Stored,
        journal: Journal,
        content: Content | None = None,
    ) -> None:
        """The journal entry is the note's next revision; `content` is what `prepare` was told of."""
        if len(journal.said.whole.encode()) > TEXT_MAX:
            raise Violated("max-resource-size", "The text of a note is too long for the mailbox Notes.")
        row = row or self._rows.by_uid(transaction, stored.uid or journal.uid)
        if row is None:
            row = self._known_by_message(transaction, stored, journal)
        is_new = row is None
        if row is None:
            row = self._fresh(transaction, stored, journal)
        standing = self._messages.find(transaction, row.mailbox_id, row.message_uid)
        if standing is not None and not is_new and _says(row, journal):
            row = replace(row, revision=row.revision + 1, modified=self._clock.now())
        else:
            row = row if is_new else self._next(row, journal.said)
            row = self.write_message(transaction, row, standing, content)
        row = replace(
            _there(row),
            collection_id=stored.collection_id,
            object_id=stored.object_id,
            journal_revision=row.revision,
            message_revision=row.revision,
        )
        (self._rows.insert if is_new else self._rows.update)(transaction, row)

    def write_message(
        self, transaction: Transaction, row: NoteRow, standing: Standing | None, content: Content | None = None
    ) -> NoteRow:
        """A message that says what the row says, in the place of the one that stands there."""
        ready = self._ready.get(id(content))
        filed = None
        data = b""
        if ready is not None and (ready.identifier, ready.revision, ready.message_uid) == (
            row.identifier,
            row.revision,
            row.message_uid if standing is not None else None,
        ):
            filed = ready.filed
        else:
            before = None if standing is None else self._messages.octets(standing)
            data = write_note(
                row.said, row.identifier, row.revision, created=row.created, modified=row.modified, before=before
            )
        if standing is not None and row.mailbox_id is not None and row.message_uid is not None:
            self._messages.remove(transaction, row.mailbox_id, row.message_uid)
        mailbox_id, uid = self._messages.put(transaction, data, standing, filed)
        if filed is not None:
            transaction.after_commit(lambda: self._ready.pop(id(content), None))
        return replace(row, mailbox_id=mailbox_id, message_uid=uid)

    def _known_by_message(self, transaction: Transaction, stored: Stored, journal: Journal) -> NoteRow | None:
        """A note whose message went a while ago, and whose journal entry comes anew under another UID's spelling."""
        row = self._rows.by_identifier(transaction, identifier_of(stored.uid or journal.uid))
        return replace(row, uid=stored.uid or journal.uid) if row is not None and row.gone is not None else None

    def _fresh(self, transaction: Transaction, stored: Stored, journal: Journal) -> NoteRow:
        now = self._clock.now()
        uid = stored.uid or journal.uid
        identifier = identifier_of(uid)
        if self._rows.by_identifier(transaction, identifier) is not None:
            identifier = str(uuid.uuid4()).upper()
        return NoteRow(
            note_id=self._rows.take_id(transaction),
            uid=uid,
            identifier=identifier,
            revision=1,
            journal_revision=1,
            message_revision=1,
            collection_id=stored.collection_id,
            object_id=stored.object_id,
            mailbox_id=None,
            message_uid=None,
            said=journal.said,
            created=now if journal.created is None else journal.created,
            modified=now,
        )

    def _next(self, row: NoteRow, said: NoteText) -> NoteRow:
        revision = row.revision + 1
        return replace(
            row,
            revision=revision,
            journal_revision=revision,
            message_revision=revision,
            said=said,
            modified=self._clock.now(),
        )


def same(one: NoteText, other: NoteText) -> bool:
    """Whether a reader of either face sees the same text."""
    return one.whole.strip("\n") == other.whole.strip("\n")


def _says(row: NoteRow, journal: Journal) -> bool:
    """Whether the note says already what its journal entry does."""
    return same(row.said, journal.said) and (journal.said.html is None or journal.said.html == row.said.html)


def _there(row: NoteRow) -> NoteRow:
    """It is not gone, or not any more."""
    if row.gone is None:
        return row
    return replace(
        row,
        gone=None,
        last_name=None,
        last_journal=None,
        journal_revision=row.revision,
        message_revision=row.revision,
    )
