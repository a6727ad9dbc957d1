"""One open account: its database, its message files, and everything that works on them.

`create` makes an account whole or not at all; `open` takes one that is there. After a restart of the machine the first
to open it moves every modseq behind its reserved block (storage.mail.ledger), and whoever opens it takes up what was
left to be done in the background. An Account may be used by any thread; its views belong to the event loop's.

Raises: NotFound (no such account), AlreadyExists, Corrupt (damaged, wrong key), Unavailable.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from storage.awake import Awake
from storage.background import Background
from storage.changes import Change, CollectionChanged, MailboxesChanged
from storage.clock import Clock, boot_id
from storage.collections import octets
from storage.collections.birthdays import Birthdays
from storage.collections.collections import Collections
from storage.collections.defaults import ensure_defaults, make_defaults
from storage.collections.dying import DyingCollections
from storage.collections.feeds import Feeds
from storage.collections.ledger import CollectionLedger
from storage.collections.locks import Locks
from storage.collections.objects import Objects
from storage.collections.octets import Octets
from storage.collections.properties import Properties
from storage.collections.tombstones import ObjectTombstones
from storage.collections.transfers import CollectionTransfers
from storage.collections.values import CollectionId
from storage.database.checkpointer import Checkpointer
from storage.database.commits import Commits
from storage.database.database import Database, Transaction
from storage.errors import CleanmailError
from storage.files import durable
from storage.files.maildir import Maildir
from storage.files.recent import Recent, Shelf
from storage.keys.sealing import Key
from storage.mail import ledger as ledgers
from storage.mail.annotations import Annotations
from storage.mail.answers import Remembered
from storage.mail.arrivals import Arrivals
from storage.mail.completion import Completion
from storage.mail.dying import DyingMailboxes
from storage.mail.exchange import Exchange
from storage.mail.flag_changes import FlagChanges
from storage.mail.flags import Flags
from storage.mail.keywords import Keywords
from storage.mail.ledger import Delta, Ledger
from storage.mail.mailboxes import FIRST_MAILBOXES, Mailboxes
from storage.mail.memberships import Memberships
from storage.mail.messages import Messages
from storage.mail.opinions import Opinions
from storage.mail.quota import Limits, Usage, usage_of
from storage.mail.reading import Reading
from storage.mail.removals import Removals
from storage.mail.replacements import Replacements
from storage.mail.search_index import SearchIndex
from storage.mail.threads import Threads
from storage.mail.tombstones import Tombstones
from storage.mail.transfers import Transfers
from storage.mail.versions import SCHEMA
from storage.mail.view_rows import ViewRows
from storage.mail.views import Views
from storage.notes.faces import JournalFaces, MessageFaces
from storage.notes.notes import Later, Notes
from storage.notes.rows import NoteRows
from storage.notes.settling import Settling
from storage.register import classes
from storage.register.values import database_files
from storage.values import AccountId, MailboxId, ModSeq, TenantId

_log = logging.getLogger("cleanmail.storage")

FILES = database_files("tenants/*/accounts/*/account.db", classes.MAIL)

DATABASE = "account.db"
MAILDIR = "Maildir"
OBJECTS = octets.FOLDER


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the open accounts of a process share."""

    clock: Clock
    incarnation: str  # name of this process's writer
    background: Background
    publish: Callable[..., None] | None = None  # of the change feed; None: nobody else is told of changes
    checkpointer: Checkpointer | None = None
    boot: str = ""  # which start of the machine this is; "" asks the kernel
    recent: Recent = field(default_factory=Recent)  # messages that were read lately
    remembered: Remembered = field(default_factory=Remembered)  # what searches found
    awake: Awake | None = None  # those whose databases are open; None: nobody counts them
    commits: Commits | None = None  # where all processes say that they committed


class Account:
    __slots__ = (
        "__weakref__",
        "_awake",
        "_closed",
        "_dying",
        "_dying_collections",
        "_feed",
        "_removals",
        "account_id",
        "annotations",
        "arrivals",
        "background",
        "birthdays",
        "collections",
        "completion",
        "database",
        "feeds",
        "index",
        "key",
        "ledger",
        "locks",
        "mailboxes",
        "maildir",
        "messages",
        "note_settling",
        "notes",
        "objects",
        "octets",
        "opinions",
        "properties",
        "recent",
        "root",
        "tenant_id",
        "threads",
        "transfers",
        "views",
    )

    def __init__(
        self, root: Path, tenant_id: TenantId, account_id: AccountId, key: Key, surroundings: Surroundings
    ) -> None:
        """Parts of an account that exists; see `open`."""
        self.root = root
        self.tenant_id = tenant_id
        self.account_id = account_id
        self.key = key
        self.background = surroundings.background
        self._feed = surroundings.publish
        self._closed: Callable[[], None] | None = None
        self._awake = surroundings.awake
        self.database = Database(
            root / DATABASE,
            key.secret,
            SCHEMA,
            surroundings.clock,
            on_changed=self._publish,
            checkpointer=surroundings.checkpointer,
            commits=None if surroundings.commits is None else surroundings.commits.of(account_id),
            on_opened=self._woke if self._awake is not None else None,
        )
        self.maildir = Maildir(root / MAILDIR)
        self.recent = Shelf(surroundings.recent)
        self._compose(surroundings)

    def _compose(self, surroundings: Surroundings) -> None:
        account_id, database, clock, background = self.account_id, self.database, surroundings.clock, self.background
        self.ledger = Ledger(database, account_id, self._tell)
        self.threads = Threads(account_id, self.key)
        self.completion = Completion(database, account_id, self.threads, self.maildir, self.key, background)
        keywords, memberships, tombstones = Keywords(account_id), Memberships(account_id), Tombstones(account_id)
        changes = FlagChanges(account_id)
        self._removals = Removals(self.ledger, memberships, tombstones, self.maildir, self.recent, background)
        self._dying = DyingMailboxes(
            self.ledger, keywords, memberships, tombstones, changes, self._removals, background
        )
        self.opinions = Opinions(database, account_id, keywords, clock)
        transfers = Transfers(self.ledger, keywords, memberships, self._removals, self.opinions, clock)
        self.arrivals = Arrivals(
            self.ledger, keywords, self.completion, self.maildir, self.key, surroundings.incarnation, clock
        )
        reading = Reading(database, account_id, self.maildir, self.key, self.recent, self.completion)
        self.annotations = Annotations(database, account_id, self.tell_mailboxes)
        self.mailboxes = Mailboxes(self.ledger, keywords, transfers, self._dying, clock, self.tell_mailboxes)
        self.messages = Messages(
            self.mailboxes,
            self.arrivals,
            Flags(self.ledger, keywords, memberships, changes, self.opinions),
            transfers,
            self._removals,
            Exchange(database, memberships, keywords, reading, background),
            reading,
            Replacements(self.ledger, memberships, self.arrivals, self._removals),
        )
        rows = ViewRows(database, account_id, keywords, tombstones, changes, surroundings.remembered)
        self.views = Views(account_id, rows, background)
        self.index = SearchIndex(database, account_id, reading.read_message, clock, self.completion.ensure)
        self._compose_collections(surroundings)
        self._compose_notes(keywords, memberships, surroundings)

    def _compose_notes(self, keywords: Keywords, memberships: Memberships, surroundings: Surroundings) -> None:
        clock, rows = surroundings.clock, NoteRows(self.ledger)
        messages = MessageFaces(
            self.ledger, self.mailboxes, self.arrivals, self._removals, memberships, keywords, self.maildir, self.key
        )
        journals = JournalFaces(self.account_id, self.collections, self.objects, self.octets)
        self.notes = Notes(rows, messages, journals, clock)
        self.note_settling = Settling(
            self.database, self.account_id, self.notes, rows, messages, journals, clock, surroundings.background
        )
        self.notes.later = Later(self.note_settling.settle_later, self.note_settling.take_in_soon)
        self.ledger.follower = self.notes
        self.objects.follow(self.notes)

    def _compose_collections(self, surroundings: Surroundings) -> None:
        account_id, database, background = self.account_id, self.database, surroundings.background
        ledger = CollectionLedger(self.ledger, surroundings.clock, self._tell_collections)
        self.octets = Octets(self.root, database, account_id, self.key, surroundings.incarnation, background)
        self.properties, self.locks = Properties(ledger), Locks(ledger)
        tombstones = ObjectTombstones(database, account_id, background)
        self.objects = Objects(ledger, self.octets, tombstones, self.properties, self.locks)
        self._dying_collections = DyingCollections(
            ledger, self.objects, tombstones, self.properties, self.locks, background
        )
        self.collections = Collections(ledger, self.properties, self._dying_collections)
        self.feeds = Feeds(database, account_id, self.collections, self.objects, surroundings.clock)
        self.birthdays = Birthdays(
            database, account_id, self.collections, self.objects, self.octets, surroundings.clock
        )
        self.objects.follow(self.birthdays)
        self._dying_collections.leaving += [self.feeds.forget_in, self.birthdays.leaving_in]
        self.transfers = CollectionTransfers(
            ledger, self.collections, self.objects, self.octets, self.properties, self.locks
        )

    @classmethod
    def create(
        cls,
        root: Path,
        tenant_id: TenantId,
        account_id: AccountId,
        key: Key,
        surroundings: Surroundings,
        *,
        mailboxes_after: int = 0,
    ) -> Self:
        """A new account with its first mailboxes, all subscribed. Raises AlreadyExists.

        `mailboxes_after`: ids of mailboxes up to here were given out by an earlier database of the account.
        """
        durable.make_directory(root)
        account = cls(root, tenant_id, account_id, key, surroundings)
        account.maildir.create()
        account.octets.create()
        made = Database.create(
            root / DATABASE, key.secret, SCHEMA, surroundings.clock, fill=account._fill(surroundings, mailboxes_after)
        )
        made.close()
        return account

    def _fill(self, surroundings: Surroundings, mailboxes_after: int) -> Callable[[Transaction], None]:
        def fill(transaction: Transaction) -> None:
            # Seconds, so that an account made anew under the same id does not repeat a UIDVALIDITY (RFC 9051 §2.3.1.1).
            counters = {"mailbox_id": mailboxes_after, "message_id": 0, "uidvalidity": surroundings.clock.now()}
            ledgers.begin(transaction, self.account_id, counters, surroundings.boot or boot_id())
            for name, special_use in FIRST_MAILBOXES:
                self.mailboxes.insert(transaction, name, special_use)
                self.mailboxes.insert_subscription(transaction, name)
            make_defaults(transaction, self.account_id, self.collections)
            self.index.begin(transaction)

        return fill

    @classmethod
    def open(
        cls,
        root: Path,
        tenant_id: TenantId,
        account_id: AccountId,
        key: Key,
        surroundings: Surroundings,
        *,
        closed: Callable[[], None] | None = None,
    ) -> Self:
        """An account that is there; `closed` is called when it has been closed."""
        account = cls(root, tenant_id, account_id, key, surroundings)
        try:
            ledgers.go_on_behind_blocks(account.database, account_id, surroundings.boot or boot_id())
            ensure_defaults(account.database, account_id, account.collections)
            account._resume()
        except BaseException:
            account.database.close()
            if account._awake is not None:
                account._awake.forget(account)
            raise
        account._closed = closed
        return account

    def _resume(self) -> None:
        """What an earlier process did not come to."""
        if self._dying.has_any():
            self._dying.schedule()
        if self._removals.has_files():
            self._removals.schedule()
        if self._dying_collections.has_any():
            self._dying_collections.schedule()
        if self.octets.has_files():
            self.octets.schedule()
        self.note_settling.resume()

    @property
    def limits(self) -> Limits:
        """What the account may store; whoever knows the tenant's settings sets it."""
        return self.ledger.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self.ledger.limits = limits

    def usage(self) -> Usage:
        """What it stores (RFC 9208)."""
        with self.database.reading() as connection:
            return usage_of(connection, self.account_id)

    @property
    def is_busy(self) -> bool:
        """Whether something is left to be done in the background."""
        return self.background.has(self.account_id)

    def _woke(self) -> None:
        if self._awake is not None:
            self._awake.woke(self)

    @property
    def is_awake(self) -> bool:
        """Whether its database is open at this moment."""
        return self.database.is_open

    def rest(self) -> bool:
        """See `Database.rest`; of an account that rests neither messages nor answers are kept in memory."""
        rests = self.database.rest()
        if rests:
            self.recent.clear()
            self._forget_answers()
        return rests

    def _forget_answers(self) -> None:
        self.views.forget_answers()
        self.index.forget_answers()

    def close(self) -> None:
        """Background work in progress is finished first. May be called again."""
        self.recent.close()
        self._forget_answers()
        self.background.settle(self.account_id)
        self.database.close()
        if self._awake is not None:
            self._awake.forget(self)
        closed, self._closed = self._closed, None
        if closed is not None:
            closed()

    def _tell(self, mailbox_id: MailboxId, delta: Delta) -> None:
        self.views.tell(mailbox_id, delta)

    def tell_mailboxes(self) -> None:
        """Tells every process of changed names, subscriptions or annotations; to be called after the commit."""
        if self._feed is None:
            return
        try:
            self._feed(MailboxesChanged(self.account_id))
        except (CleanmailError, OSError) as error:
            _log.warning("account %d: a change was not told: %s", self.account_id, type(error).__name__)

    def _tell_collections(self, changes: Mapping[CollectionId, int]) -> None:
        """Called after a commit, as `_publish` is."""
        if self._feed is None:
            return
        try:
            self._feed(*(CollectionChanged(self.account_id, each, ModSeq(at)) for each, at in changes.items()))
        except (CleanmailError, OSError) as error:
            _log.warning("account %d: a change was not told: %s", self.account_id, type(error).__name__)

    def _publish(self, changes: Mapping[MailboxId, ModSeq]) -> None:
        """Called after a commit, so nothing that happens here may look like a failure of the commit."""
        if self._feed is None:
            return
        try:
            self._feed(*(Change(self.account_id, each, modseq) for each, modseq in changes.items()))
        except (CleanmailError, OSError) as error:  # others find out when they look the next time
            _log.warning("account %d: a change was not told: %s", self.account_id, type(error).__name__)
