"""What a backup holds of a tenant, read without changing anything in it.

Databases are copied out into a folder that goes when the context is left, since opening one changes it; each is checked
against the manifest on the way. Message files are read where they are.

Raises: NotFound (not in this backup), Gone (its key was destroyed), InvalidInput (damaged), Corrupt, Unavailable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import bindparam, select

from storage.background import Background
from storage.backup import files
from storage.backup.manifest import Entry, part_of_tenant
from storage.backup.place import Stored
from storage.backup.scratch import RESTORE, scratch
from storage.clock import Clock
from storage.collections.lookup import Lookup
from storage.collections.octets import Octets
from storage.collections.rows import COLUMNS, collection_of
from storage.collections.rows import LIVE as LIVE_COLLECTIONS
from storage.collections.values import Collection, CollectionId, Content
from storage.collections.values import Stored as StoredObject
from storage.database.database import Database
from storage.database.prepared import prepare
from storage.directory.tenant import Tenant
from storage.errors import Corrupt, Gone, InvalidInput, NotFound, Unavailable
from storage.files.maildir import Maildir
from storage.keys.sealing import Key
from storage.keys.source import KeySource
from storage.mail.account import DATABASE, MAILDIR
from storage.mail.keywords import SYSTEM_BITS
from storage.mail.ledger import LIVE
from storage.mail.outcomes import NewMessage
from storage.mail.versions import SCHEMA as ACCOUNT
from storage.schema.account import keyword, mailbox, membership, message, with_message
from storage.values import AccountId, MailboxId, TenantId

PURPOSE = "restore"
_SLICE = 500

_mine = mailbox.c.account_id == bindparam("account")
_MAILBOXES = prepare(
    select(mailbox.c.mailbox_id, mailbox.c.name, mailbox.c.messages, mailbox.c.bytes, mailbox.c.read_only)
    .where(_mine, mailbox.c.name >= LIVE)
    .order_by(mailbox.c.name)
)
_COLLECTIONS = prepare(select(*COLUMNS).where(*LIVE_COLLECTIONS).order_by(COLUMNS[0]))
_KEYWORDS = prepare(
    select(keyword.c.bit, keyword.c.name).where(
        keyword.c.account_id == bindparam("account"), keyword.c.mailbox_id == bindparam("mailbox")
    )
)
_MESSAGES = prepare(
    select(
        membership.c.uid,
        membership.c.flags,
        membership.c.message_id,
        message.c.file,
        message.c.size,
        message.c.internal_date,
    )
    .select_from(with_message)
    .where(
        membership.c.account_id == bindparam("account"),
        membership.c.mailbox_id == bindparam("mailbox"),
        membership.c.uid > bindparam("after"),
    )
    .order_by(membership.c.uid)
    .limit(_SLICE)
)


@dataclass(frozen=True, slots=True)
class SavedMailbox:
    id: MailboxId
    name: str
    messages: int
    bytes: int
    read_only: bool  # the server wrote it


@dataclass(frozen=True, slots=True)
class SavedMessage:
    """A message as its rows in the backup describe it."""

    uid: int
    message_id: int
    flags: int  # system flags
    keywords: tuple[str, ...]
    file: str
    size: int
    internal_date: int


class SavedAccount:
    """One account of a backup."""

    def __init__(self, stored: Stored, folder: str, account_id: AccountId, database: Database, key: Key) -> None:
        self.account_id = account_id
        self.stored = stored
        self._database = database
        self._maildir = Maildir(stored.path(f"{folder}/{MAILDIR}"))
        self._key = key
        octets = Octets(stored.path(folder), database, account_id, key, "", Background())  # nothing of it is written
        self._objects = Lookup(database, account_id, octets)

    def collections(self) -> list[Collection]:
        """Calendars, address books and folders, oldest first; none in a backup of before there were any."""
        with self._database.reading() as connection:
            return [collection_of(row) for row in _COLLECTIONS.rows(connection, account=self.account_id)]

    def objects(self, collection_id: CollectionId, after: int) -> Sequence[StoredObject]:
        """Some of those in a collection, behind an id."""
        return self._objects.some(collection_id, after, _SLICE)

    def content(self, stored: StoredObject) -> Content:
        """What is to be stored anew. Raises Corrupt, NotFound (its file is not in the backup)."""
        now, data = self._objects.read_now(stored)
        is_scheduling = now.schedule_tag is not None
        return Content(data, now.content_type, now.uid, now.component, self._objects.times(now), is_scheduling)

    def mailboxes(self) -> list[SavedMailbox]:
        with self._database.reading() as connection:
            rows = _MAILBOXES.rows(connection, account=self.account_id)
        return [SavedMailbox(MailboxId(row[0]), row[1], row[2], row[3], bool(row[4])) for row in rows]

    def mailbox(self, name: str) -> SavedMailbox:
        """Raises NotFound."""
        for found in self.mailboxes():
            if found.name == name:
                return found
        raise NotFound(f"The account had no folder '{name[:200]}' in the backup {self.stored.name}.")

    def messages(self, mailbox_id: MailboxId) -> Iterator[SavedMessage]:
        """By UID."""
        with self._database.reading() as connection:
            names: dict[int, str] = dict(_KEYWORDS.rows(connection, account=self.account_id, mailbox=mailbox_id))
        after = 0
        while True:
            with self._database.reading() as connection:
                rows = _MESSAGES.rows(connection, account=self.account_id, mailbox=mailbox_id, after=after)
            for uid, flags, message_id, file, size, internal_date in rows:
                keywords = tuple(name for bit, name in sorted(names.items()) if flags >> bit & 1)
                yield SavedMessage(uid, message_id, flags & SYSTEM_BITS, keywords, file, size, internal_date)
            if len(rows) < _SLICE:
                return
            after = rows[-1][0]

    def read(self, saved: SavedMessage, delivery_id: str) -> NewMessage:
        """The message, to be stored anew. Raises Corrupt, NotFound (its file is not in the backup)."""
        meta, data = self._maildir.read(saved.file, self._key)
        if len(meta.prefix) + len(data) != saved.size:
            raise Corrupt(detail=f"backup: message {saved.message_id} has another size than its row says")
        return NewMessage(
            data,
            flags=saved.flags,
            keywords=saved.keywords,
            internal_date=saved.internal_date,
            internal_zone=meta.internal_zone,
            prefix=meta.prefix,
            delivery_id=delivery_id,
        )


class SavedTenant:
    """One tenant of a backup; a context."""

    def __init__(self, stored: Stored, tenant_id: TenantId, keys: KeySource, clock: Clock, data: Path) -> None:
        """`data`: of the living installation, in whose run/ copies of databases stand meanwhile."""
        self.stored = stored
        self.tenant_id = tenant_id
        self._keys = keys
        self._clock = clock
        self._data = data
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            try:
                entries = self.stored.entries(part_of_tenant(self.tenant_id))
            except NotFound:
                raise NotFound(f"The backup {self.stored.name} holds nothing of this tenant.") from None
            self._entries = {entry.path: entry for entry in entries if entry.path.endswith(".db")}  # the others: many
            self._folder = self._stack.enter_context(scratch(self._data, RESTORE))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def directory(self) -> Tenant:
        """Its accounts, aliases and settings."""
        try:
            key = self._keys.tenant_key(self.tenant_id, PURPOSE)
        except Gone:
            raise Gone(
                "The tenant ended and its key was destroyed: what the backup holds of it can never be read again."
            ) from None
        path = self._copied(f"tenants/{self.tenant_id}/tenant.db", "tenant.db")
        tenant = Tenant.open(path, self.tenant_id, key, self._clock)
        self._stack.callback(tenant.close)
        return tenant

    def account_ids(self) -> list[AccountId]:
        """Of the accounts whose databases are in the backup."""
        found = []
        for path in self._entries:
            parts = path.split("/")
            if len(parts) == 5 and parts[2] == "accounts" and parts[4] == DATABASE:
                found.append(AccountId(int(parts[3])))
        return sorted(found)

    def account(self, account_id: AccountId) -> SavedAccount:
        """Raises Gone if its key was destroyed."""
        folder = f"tenants/{self.tenant_id}/accounts/{account_id}"
        if f"{folder}/{DATABASE}" not in self._entries:
            raise NotFound(f"The backup {self.stored.name} holds nothing of this account.")
        try:
            key = self._keys.account_key(self.tenant_id, account_id, PURPOSE)
        except Gone:
            raise Gone(
                "The account was deleted and its key destroyed: what the backup holds of it can never be read again."
            ) from None
        path = self._copied(f"{folder}/{DATABASE}", f"{account_id}.db")
        database = Database.open(path, key.secret, ACCOUNT, self._clock)
        self._stack.callback(database.close)
        return SavedAccount(self.stored, folder, account_id, database, key)

    def _copied(self, relative: str, name: str) -> Path:
        entry: Entry | None = self._entries.get(relative)
        if entry is None:
            raise NotFound(f"The backup {self.stored.name} does not hold it.")
        target = self._folder / name
        if target.exists():
            return target
        try:
            size, digest = files.copy_hashed(str(self.stored.path(relative)), str(target))
        except FileNotFoundError:
            raise InvalidInput(f"The file {relative} is missing from the backup {self.stored.name}.") from None
        if (size, digest) != (entry.size, entry.digest):
            target.unlink()
            raise InvalidInput(f"The file {relative} of the backup {self.stored.name} was changed or is damaged.")
        return target


def unreadable(error: Exception) -> bool:
    """Whether an error means that one message of a backup cannot be read, and the others can."""
    return isinstance(error, (Corrupt, NotFound)) or type(error) is Unavailable
