"""The two faces of notes in their stores: messages in the mailbox Notes, journal entries in the collection notes.

Everything here works in the transaction of somebody else and tells no follower, so that nothing comes back as an edit.
A message's file, and that of a large journal entry, is written and fsynced before the commit that names it; what a
failure leaves of them is removed, or left to the sweep.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass, replace

from sqlalchemy import bindparam, select

from storage.collections.collections import Collections
from storage.collections.defaults import FIRST_COLLECTIONS, NOTES
from storage.collections.names import checked_name
from storage.collections.objects import Objects
from storage.collections.octets import Octets
from storage.collections.values import Collection, CollectionId, Content, Kind, Stored
from storage.database.database import Connection, Transaction
from storage.database.prepared import prepare
from storage.errors import InvalidInput, NotFound
from storage.files.maildir import Maildir
from storage.icalendar.content import calendar_content
from storage.keys.sealing import Key
from storage.mail.arrivals import Arrivals, Filed
from storage.mail.keywords import SYSTEM_BITS, Keywords
from storage.mail.ledger import Ledger
from storage.mail.mailboxes import Mailboxes
from storage.mail.memberships import Memberships
from storage.mail.outcomes import NewMessage
from storage.mail.removals import Removals
from storage.notes.journal import COMPONENT
from storage.notes.message import MAILBOX, identifier_of, made_here
from storage.notes.rows import NoteRows
from storage.schema.account import mailbox, membership, message, with_message
from storage.schema.collections import object_
from storage.values import DELETED, SEEN, MailboxId, MessageId, UidSet

_mailbox = prepare(
    select(mailbox.c.mailbox_id).where(
        mailbox.c.account_id == bindparam("account"), mailbox.c.name == MAILBOX, mailbox.c.read_only == 0
    )
)
_message = prepare(
    select(membership.c.flags, membership.c.message_id, message.c.file)
    .select_from(with_message)
    .where(
        membership.c.account_id == bindparam("account"),
        membership.c.mailbox_id == bindparam("mailbox"),
        membership.c.uid == bindparam("uid"),
    )
)
_next_messages = prepare(
    select(membership.c.uid)
    .where(
        membership.c.account_id == bindparam("account"),
        membership.c.mailbox_id == bindparam("mailbox"),
        membership.c.uid > bindparam("after"),
    )
    .order_by(membership.c.uid)
    .limit(bindparam("most"))
)
_object = prepare(
    select(object_.c.name).where(
        object_.c.account_id == bindparam("account"),
        object_.c.collection_id == bindparam("collection"),
        object_.c.object_id == bindparam("object"),
    )
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A message as it stands in the mailbox."""

    message_id: MessageId
    flags: int
    file: str


class MessageFaces:
    """Messages in the mailbox Notes of one account."""

    def __init__(
        self,
        ledger: Ledger,
        mailboxes: Mailboxes,
        arrivals: Arrivals,
        removals: Removals,
        memberships: Memberships,
        keywords: Keywords,
        maildir: Maildir,
        key: Key,
    ) -> None:
        self._ledger = ledger
        self._account_id = ledger.account_id
        self._mailboxes = mailboxes
        self._arrivals = arrivals
        self._removals = removals
        self._memberships = memberships
        self._keywords = keywords
        self._maildir = maildir
        self._key = key

    def mailbox(self, connection: Connection) -> MailboxId | None:
        """The one that is called Notes now."""
        row = _mailbox.one(connection, account=self._account_id)
        return None if row is None else MailboxId(row[0])

    def opened(self, transaction: Transaction) -> MailboxId:
        """The mailbox, made and subscribed if it is not there."""
        found = self.mailbox(transaction)
        if found is None:
            found = self._mailboxes.insert(transaction, MAILBOX)
            self._mailboxes.insert_subscription(transaction, MAILBOX)
        return found

    def find(self, connection: Connection, mailbox_id: MailboxId | None, uid: int | None) -> Standing | None:
        """What stands there, if it does."""
        if mailbox_id is None or uid is None:
            return None
        row = _message.one(connection, account=self._account_id, mailbox=mailbox_id, uid=uid)
        return None if row is None else Standing(MessageId(row[1]), row[0], row[2])

    def after(self, connection: Connection, mailbox_id: MailboxId, uid: int, most: int) -> list[int]:
        """The next UIDs."""
        rows = _next_messages.rows(connection, account=self._account_id, mailbox=mailbox_id, after=uid, most=most)
        return [row[0] for row in rows]

    def octets(self, standing: Standing) -> bytes:
        """Those of a message. Raises NotFound, Corrupt."""
        meta, data = self._maildir.read(standing.file, self._key)
        return meta.prefix + data

    def file(self, data: bytes) -> Filed:
        """A message's file, written and linked before any transaction; what is not put is to be dropped."""
        return self._arrivals.file(MAILBOX, NewMessage(data, flags=SEEN))

    def drop(self, filed: Filed) -> None:
        self._arrivals.drop([filed])

    def put(
        self, transaction: Transaction, data: bytes, before: Standing | None = None, filed: Filed | None = None
    ) -> tuple[MailboxId, int]:
        r"""A new message, \Seen, with the other flags of the one that it follows; where it stands.

        `filed` is its file, if somebody has written it: else it is written now, under the write lock.
        """
        mailbox_id = self.opened(transaction)
        flags, keywords = SEEN, []
        if before is not None:
            flags |= before.flags & SYSTEM_BITS & ~DELETED
            names = self._keywords.names(transaction, mailbox_id) if before.flags & ~SYSTEM_BITS else {}
            keywords = [name for bit, name in names.items() if before.flags >> bit & 1]
        if filed is None:
            new = NewMessage(data, flags=flags, keywords=keywords)
            return mailbox_id, self._arrivals.append_in(transaction, mailbox_id, MAILBOX, new).uid
        filed = replace(filed, flags=flags, keywords=keywords, is_note=False, note=None)
        (appended,) = self._arrivals.insert(transaction, mailbox_id, [filed])
        transaction.after_commit(lambda: self._maildir.settle(filed.file))
        return mailbox_id, appended.uid

    def remove(self, transaction: Transaction, mailbox_id: MailboxId, uid: int) -> None:
        """That it is not there is no error."""
        rows = self._memberships.full(transaction, mailbox_id, UidSet.of([uid]))
        if not rows:
            return
        self._removals.take_out(transaction, mailbox_id, rows, unbroken=True)
        self._ledger.release(transaction, rows[0][3], 1)
        self._removals.remove_unused(transaction, [rows[0][2]])


class JournalFaces:
    """Journal entries of one account."""

    def __init__(
        self,
        account_id: int,
        collections: Collections,
        objects: Objects,
        octets: Octets,
    ) -> None:
        self._account_id = account_id
        self._collections = collections
        self._objects = objects
        self._octets = octets

    @staticmethod
    def is_notes(collection: Collection) -> bool:
        """Whether what is new in a collection are notes."""
        return (
            (collection.kind, collection.parent_id, collection.name) == (Kind.CALENDAR, 0, NOTES)
            and not collection.is_read_only
        )  # fmt: skip

    def collection(self, connection: Connection) -> Collection | None:
        """The one for new notes."""
        found = self._collections.find_in(connection, Kind.CALENDAR, NOTES)
        return found if found is not None and self.is_notes(found) else None

    def place(self, connection: Connection) -> CollectionId | None:
        """Where new notes go, if that is there."""
        found = self.collection(connection)
        return None if found is None else found.id

    def find(self, connection: Connection, collection_id: CollectionId | None, object_id: int | None) -> Stored | None:
        """What stands there; None: it is gone, or its collection is."""
        if collection_id is None or object_id is None:
            return None
        try:
            self._collections.by_id_in(connection, collection_id)
        except NotFound:
            return None
        row = _object.one(connection, account=self._account_id, collection=collection_id, object=object_id)
        return None if row is None else self._objects.find_in(connection, collection_id, row[0])

    def of(self, connection: Connection, identifier: str, rows: NoteRows) -> Stored | None:
        """The entry, where new notes are, that a message with this identifier is the other face of.

        There is one if an account was restored, or made anew from its files.
        """
        found = self.collection(connection)
        if found is None:
            return None
        uids = [identifier, identifier.lower()]
        if made_here(identifier):
            uids += [uid for _, uid in rows.loose_journals(connection, found.id) if identifier_of(uid) == identifier]
        for uid in uids:
            for each in self._objects.by_uid_in(connection, uid):
                if each.collection_id == found.id and each.component == COMPONENT:
                    return each
        return None

    def named(self, connection: Connection, collection_id: CollectionId, name: str) -> Stored | None:
        return self._objects.find_in(connection, collection_id, name)

    def read(self, connection: Connection, stored: Stored) -> bytes:
        """Its octets, as the transaction sees them."""
        return self._octets.read_in(connection, stored.object_id, stored.size)

    def put(
        self, transaction: Transaction, data: bytes, *, at: Stored | None = None, name: str | None = None, uid: str = ""
    ) -> Stored:
        """In place of `at`, or new under a name like `name` or one that `uid` gives."""
        if at is not None:
            place, name = at.collection_id, at.name
        else:
            place = self._opened(transaction)
            name = self._free_name(transaction, place, name or f"{uid}.ics")
        if at is None:
            content = calendar_content(data)
        else:  # an edit of the text: nothing of it can be refused, and nothing moves in time
            times = self._objects.times_in(transaction, at)
            content = Content(data, at.content_type, at.uid, at.component, times, at.schedule_tag is not None)
        packed = self._octets.pack(content, f"{place}/{name}")
        try:
            stored = self._objects.put_in(transaction, place, name, packed, told=False).stored
        except BaseException:
            self._octets.drop(packed)
            raise
        transaction.after_commit(lambda: self._octets.settle(packed))
        return stored

    def remove(self, transaction: Transaction, stored: Stored) -> None:
        self._objects.delete_in(transaction, stored.collection_id, stored.name, told=False)

    def _opened(self, transaction: Transaction) -> CollectionId:
        """The collection, made anew if its owner removed it."""
        found = self.collection(transaction)
        if found is None:
            new = next(each for each in FIRST_COLLECTIONS if each.name == NOTES)
            found = self._collections.create_in(transaction, new)
        return found.id

    def _free_name(self, transaction: Transaction, place: CollectionId, wanted: str) -> str:
        with suppress(InvalidInput):
            name = checked_name(wanted)
            if self._objects.find_in(transaction, place, name) is None:
                return name
        return f"{str(uuid.uuid4()).upper()}.ics"
