"""Makes an account's database anew from its message files alone: for when the database is lost or damaged.

Each file says which message it is, when it arrived, in which mailbox and with which flags it was first stored,
and which header fields were added. What no file knows is lost: later moves, copies and flags, and that a message was
deleted whose file was still to be removed. UIDs and UIDVALIDITYs are new, so clients read everything again. Calendars,
contacts and files stand in the database, large ones in files of their own: what can be read of the old database is
kept, and the files say the rest. Annotations stand in the database alone: what can be read of them is kept too.
Mailboxes have ids that none had before: what others know them by (rights, which are taken back, and annotations of
their own) never means another mailbox.

The new database is made beside the old one and takes its place in one step, when it is whole and durable; the old one
stays as account.db.replaced. Interrupted, nothing has changed, and the next try begins again. Nobody else may have the
account open meanwhile. Raises: Unavailable (it is open elsewhere), StorageFull.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from storage.changes import RightsChanged
from storage.collections.salvage import Target, salvage
from storage.collections.values import Content, Kind
from storage.database.database import Transaction
from storage.database.lockfile import LockFile, lock_path
from storage.errors import Corrupt, InvalidInput, NotFound, Unavailable
from storage.files.durable import fsync_directory
from storage.files.maildir import Maildir
from storage.files.metadata import FileMeta
from storage.icalendar.content import calendar_content
from storage.installation import Installation
from storage.keys.sealing import Key
from storage.leases import TenantLease
from storage.mail import journal
from storage.mail.account import DATABASE, MAILDIR, OBJECTS, Account, Surroundings
from storage.mail.arrivals import Filed
from storage.mail.content import content_of
from storage.mail.names import INBOX
from storage.mail.salvage import salvage_annotations
from storage.register import classes
from storage.register.values import FileClass
from storage.values import AccountId, MailboxId, TenantId
from storage.vcard.content import card_content

BATCH = 100  # messages of one commit
_PATIENCE = 5.0  # seconds to wait for others to let the account go
_SCRATCH = "rebuilding"
FILES = (FileClass(f"tenants/*/accounts/*/{_SCRATCH}/**", classes.MAIL, "an account that is being made anew"),)
_REPLACED = ".replaced"
_SIDE_FILES = ("-wal", "-shm")


@dataclass(slots=True)
class Rebuilt:
    """What was found in the files; `unreadable` are the names of files that do not verify under the account's key."""

    messages: int = 0
    mailboxes: int = 0
    objects: int = 0  # of calendars, address books and folders
    annotations: int = 0  # that were kept
    annotations_left_out: int = 0  # since their mailbox is not there any more
    annotations_read: bool = True  # the old database could be read, so there were no others
    unreadable: list[str] = field(default_factory=list)


def rebuild(
    installation: Installation,
    tenant_id: TenantId,
    account_id: AccountId,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Rebuilt:
    """Rebuild an account of an installation. Raises NotFound, Gone (no such account, its key was destroyed) too."""
    key = installation.keys.account_key(tenant_id, account_id, "rebuild")
    root = installation.data / "tenants" / str(tenant_id) / "accounts" / str(account_id)
    if not root.is_dir():
        raise NotFound("There is no such account.")
    surroundings = Surroundings(installation.clock, installation.incarnation.name, installation.background)
    with TenantLease(installation.data, tenant_id).shared(_PATIENCE):
        return rebuild_account(
            root,
            tenant_id,
            account_id,
            key,
            surroundings,
            progress=progress,
            replacing=unshared(installation, tenant_id, account_id),
        )


def unshared(installation: Installation, tenant_id: TenantId, account_id: AccountId) -> Callable[[], object]:
    """What takes back the rights to the account's mailboxes: they are known by ids that nothing will have any more."""

    def take_back() -> None:
        if installation.tenant(tenant_id).mailbox_rights.remove_owner(account_id):
            installation.announce(RightsChanged(tenant_id, account_id))

    return take_back


def rebuild_account(
    root: Path,
    tenant_id: TenantId,
    account_id: AccountId,
    key: Key,
    surroundings: Surroundings,
    *,
    progress: Callable[[int, int], None] | None = None,
    replacing: Callable[[], object] | None = None,
) -> Rebuilt:
    """Make the database of the account in `root` anew. `progress` is told of messages done and of how many.

    `replacing` is called just before the new one takes the old one's place: the mailboxes have other ids from then on.
    """
    lock = LockFile(lock_path(root / DATABASE))
    try:
        with lock.exclusively(_PATIENCE):
            return _Rebuild(root, tenant_id, account_id, key, surroundings, progress, replacing).run()
    finally:
        lock.close()


class _Rebuild:
    def __init__(
        self,
        root: Path,
        tenant_id: TenantId,
        account_id: AccountId,
        key: Key,
        surroundings: Surroundings,
        progress: Callable[[int, int], None] | None,
        replacing: Callable[[], object] | None,
    ) -> None:
        self._root = root
        self._scratch = root / _SCRATCH
        self._tenant_id = tenant_id
        self._account_id = account_id
        self._key = key
        self._surroundings = surroundings
        self._progress = progress
        self._replacing = replacing
        self._maildir = Maildir(root / MAILDIR)
        self._objects = Maildir(root / OBJECTS)
        self._report = Rebuilt()
        self._mailboxes: dict[str, MailboxId] = {}

    def run(self) -> Rebuilt:
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._maildir.create()
        # A database of its own, with its own empty Maildir: what is inserted there names files of the real one.
        account = Account.create(
            self._scratch,
            self._tenant_id,
            self._account_id,
            self._key,
            self._surroundings,
            mailboxes_after=self._surroundings.clock.now(),  # nobody makes a mailbox each second
        )
        try:
            self._salvage(account)
            self._fill(account)
            self._annotate(account)
        finally:
            account.close()
        if self._replacing is not None:
            self._replacing()
        self._replace()
        for store in (self._maildir, self._objects):
            for name in list(store.names("new")):
                store.settle(name)
        return self._report

    def _salvage(self, account: Account) -> None:
        """Collections, before the mail: notes among it find their journal entries again."""
        target = Target(
            self._account_id, self._key, account.database, account.collections, account.objects, account.octets
        )
        readers: dict[Kind, Callable[[bytes], Content]] = {
            Kind.CALENDAR: calendar_content,
            Kind.INBOX: calendar_content,
            Kind.ADDRESS_BOOK: card_content,
        }
        now = self._surroundings.clock.now()
        salvaged = salvage(self._root / DATABASE, self._objects, target, readers, now)
        self._report.objects = salvaged.objects
        self._report.unreadable += salvaged.unreadable

    def _fill(self, account: Account) -> None:
        found = self._metas()
        highest = max((meta.message_id for meta, _ in found), default=0)
        account.database.write(lambda transaction: account.ledger.take(transaction, "message_id", highest))
        for done in range(0, len(found), BATCH):
            batch = found[done : done + BATCH]
            self._insert(account, batch)
            if self._progress is not None:
                self._progress(done + len(batch), len(found))
        self._report.mailboxes = len(account.mailboxes.list())

    def _annotate(self, account: Account) -> None:
        salvaged = salvage_annotations(self._root / DATABASE, self._key, account)
        self._report.annotations, self._report.annotations_left_out = salvaged.kept, salvaged.left_out
        self._report.annotations_read = salvaged.whole

    def _metas(self) -> list[tuple[FileMeta, str]]:
        """What the files say of themselves, in the order in which they arrived, each message once."""
        found: dict[int, tuple[FileMeta, str]] = {}
        for folder in ("cur", "new"):
            for name in self._maildir.names(folder):
                try:
                    meta = self._maildir.read_meta(name, self._key)
                except (Corrupt, NotFound, Unavailable):
                    self._report.unreadable.append(name)
                    continue
                if meta.account_id == self._account_id:
                    found[meta.message_id] = (meta, name)
        return [found[message_id] for message_id in sorted(found)]

    def _mailbox_id(self, account: Account, name: str) -> MailboxId:
        if name not in self._mailboxes:
            mailboxes = account.mailboxes
            try:
                self._mailboxes[name] = mailboxes.find(name).id
            except NotFound:
                try:
                    self._mailboxes[name] = mailboxes.create(name).id
                    mailboxes.subscribe(name)
                except InvalidInput:
                    self._mailboxes[name] = mailboxes.find(INBOX).id
        return self._mailboxes[name]

    def _place(self, account: Account, meta: FileMeta) -> tuple[MailboxId, bool]:
        """In which mailbox it was first stored, and whether that is the server's."""
        if journal.is_entry(meta.delivery_id):
            return journal.opened(account).id, True
        return self._mailbox_id(account, meta.mailbox), False

    def _insert(self, account: Account, batch: list[tuple[FileMeta, str]]) -> None:
        """The rows of some messages, in one commit."""
        filed: list[tuple[tuple[MailboxId, bool], Filed]] = []
        for meta, name in batch:
            place = self._place(account, meta)
            if (each := self._read(account, name)) is not None:
                filed.append((place, each))

        def insert(transaction: Transaction) -> None:
            for (mailbox_id, by_server), group in groupby(filed, key=itemgetter(0)):
                account.arrivals.insert(transaction, mailbox_id, [each for _, each in group], by_server=by_server)

        account.database.write(insert)
        self._report.messages += len(filed)

    def _read(self, account: Account, name: str) -> Filed | None:
        try:
            meta, data = self._maildir.read(name, self._key)
        except (Corrupt, NotFound, Unavailable):
            self._report.unreadable.append(name)
            return None
        content = content_of(data, meta.prefix)
        derived = content.derived
        return Filed(
            meta.message_id,
            name,
            meta.internal_date,
            content,
            account.threads.hashes(derived.message_id_field, derived.references),
            meta.flags,
            meta.keywords,
            meta.delivery_id,
            internal_zone=meta.internal_zone,
        )

    def _replace(self) -> None:
        """The new database takes the old one's place; a crash in between leaves none, never two halves."""
        old, new = self._root / DATABASE, self._scratch / DATABASE
        for suffix in ("", *_SIDE_FILES):
            _rename(Path(f"{old}{suffix}"), Path(f"{old}{_REPLACED}{suffix}"))
        for suffix in (*_SIDE_FILES, ""):
            _rename(Path(f"{new}{suffix}"), Path(f"{old}{suffix}"))
        fsync_directory(self._root)
        shutil.rmtree(self._scratch)
        fsync_directory(self._root)


def _rename(source: Path, target: Path) -> None:
    try:
        os.replace(source, target)
    except FileNotFoundError:
        target.unlink(missing_ok=True)  # of an earlier rebuild
