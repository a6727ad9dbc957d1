"""Brings an archive of our own back into an account: folders, messages, flags, dates and order as they were; calendars,
address books and files too (storage.export.collection_restore).

The whole archive is verified before anything is written, and each message again when it is read. Into an account that
never had a message the mailboxes come as they were; into one that is in use, what is missing is added: a message that
the account got from this archive before, or that stands in its folder with the same octets and the same date, does not
come twice. UIDs ascend in the order of the archive, under a new UIDVALIDITY; a message that stood in two folders is one
message again. It may be interrupted and run again; what is counted as imported is durable.

Memory: a batch of messages, and of a mailbox that is in use about 200 octets a message.
Raises: InvalidInput (the archive), NotFound, LimitReached, Unavailable (run it again).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from storage.errors import (
    AlreadyExists,
    CleanmailError,
    Corrupt,
    Gone,
    InvalidInput,
    LimitReached,
    OverQuota,
    Unavailable,
)
from storage.export import collection_restore, restore_rows
from storage.export.annotations import restore as restore_annotations
from storage.export.archive import ArchiveFolder
from storage.export.index import FolderLine, MessageLine
from storage.export.restore_filter import CheckRule, restore_filter
from storage.export.restore_rows import WantedMailbox, WantedPlace
from storage.export.values import ACCOUNT, Progress, Tell
from storage.export.verify import verify_archive
from storage.filter.rules import of_account
from storage.installation import Installation
from storage.mail.account import Account
from storage.mail.mailboxes import FIRST_MAILBOXES
from storage.mail.messages import NewMessage
from storage.mail.names import INBOX, new_name
from storage.values import AccountId, MailboxId, MessageId, TenantId

_BATCH_MESSAGES = 200
_BATCH_OCTETS = 8 * 1024 * 1024
_SUBSCRIPTIONS_MAX = 20_000
_NOTES_MAX = 100


@dataclass(slots=True)
class Restored:
    """What became of an archive. `stopped` says why it was not read to its end, if it was not."""

    imported: int = 0
    present: int = 0  # were there already
    placed: int = 0  # of the imported ones: in a further folder, without being stored again
    octets: int = 0  # of the imported ones
    folders: int = 0  # that were made
    collections: int = 0  # calendars, address books and folders of files that were made
    objects: int = 0  # events, tasks, notes, cards and files that were imported
    objects_present: int = 0
    object_octets: int = 0  # of the imported ones
    notes: list[str] = field(default_factory=list)
    stopped: str | None = None

    def note(self, sentence: str) -> None:
        if len(self.notes) < _NOTES_MAX and sentence not in self.notes:
            self.notes.append(sentence)

    def beside_mail(self, restored: collection_restore.RestoredCollections) -> None:
        self.collections, self.objects = restored.collections, restored.objects
        self.objects_present, self.object_octets = restored.present, restored.octets
        self.stopped = restored.stopped
        for sentence in restored.notes:
            self.note(sentence)


def restore_archive(
    installation: Installation,
    tenant_id: TenantId,
    account_id: AccountId,
    source: Path,
    *,
    key: bytes | None = None,
    dry_run: bool = False,
    verified: bool = False,
    check_rule: CheckRule | None = None,
    progress: Tell | None = None,
) -> Restored:
    """Into an account that is there. `dry_run`: only say what would be imported. `verified`: it is, as a whole."""
    if not verified:
        found = verify_archive(source, key)
        if found.manifest.kind != "account":
            raise InvalidInput(
                "This is the archive of a tenant; import it with --tenant, or an account's folder in it."
            )
    with ArchiveFolder(source, key) as archive, installation.account(tenant_id, account_id) as account:
        values = archive.document(ACCOUNT)
        run = _Restore(account, archive, dry_run, progress)
        run.folders(values)
        # Before mail: a message that says what a note says is then that note's other face (docs/decisions/0036).
        run.restored.beside_mail(collection_restore.restore_collections(account, archive, dry_run=dry_run))
        if not run.restored.stopped:
            run.messages()
        if not dry_run:
            account.note_settling.settle(patience=0)
            tenant = installation.tenant(tenant_id)
            restore_filter(tenant, of_account(account_id), values.get("filter"), run.restored.note, check_rule)
        return run.restored


def would_be_restored(archive: ArchiveFolder) -> Restored:
    """What would come into an account that is not there yet."""
    restored, known, is_left_out = Restored(), set[str](), False
    there = {name for name, _ in FIRST_MAILBOXES}
    with archive.index() as lines:
        for line in lines:
            if isinstance(line, FolderLine):
                is_left_out = bool(line.gone) or line.read_only
                if line.read_only and not line.gone:
                    restored.note(_left_out(line))
                restored.folders += not is_left_out and line.folder not in there
            elif isinstance(line, MessageLine) and not is_left_out:
                restored.imported += 1
                restored.octets += line.size
                if line.places > 1:
                    restored.placed += line.email_id in known
                    known.add(line.email_id)
    restored.beside_mail(collection_restore.would_be_restored(archive))
    return restored


@dataclass(slots=True)
class _Batch:
    """Messages of one folder, in their order: new ones, or known ones that stand in it too."""

    new: list[NewMessage] = field(default_factory=list)
    known: list[WantedPlace] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    octets: int = 0


class _Restore:
    def __init__(self, account: Account, archive: ArchiveFolder, dry_run: bool, tell: Tell | None) -> None:
        self._account = account
        self._archive = archive
        self._dry_run = dry_run
        self._tell = tell
        self._beginning = f"archive:{archive.source}:"
        self._ids: dict[str, MailboxId] = {}
        self._matched: dict[str, MessageId] = {}  # by email id, what was there and stands in several folders
        self._folder: MailboxId | None = None  # None: it is not there (in a dry run), or left out
        self._is_left_out = False
        self._others: dict[tuple[int, int], list[MessageId]] = {}
        self._seen: Counter[str] = Counter()  # of messages in several folders, how often in this one
        self._batch = _Batch()
        self.restored = Restored()

    # Folders

    def folders(self, values: Mapping[str, Any]) -> None:
        """Mailboxes and subscriptions."""
        wanted: list[WantedMailbox] = []
        with self._archive.index() as lines:
            for line in lines:
                if not isinstance(line, FolderLine) or line.gone:
                    continue
                if line.read_only:
                    self.restored.note(_left_out(line))
                    continue
                wanted.append(WantedMailbox(line.folder, line.special_use, line.keep_days, line.keywords))
        mailboxes = self._account.mailboxes.list()
        untouched = restore_rows.is_untouched(mailboxes)
        there = {each.name: each.id for each in mailboxes}
        names = {each.name for each in wanted}
        self.restored.folders = len(names - set(there))
        if self._dry_run:
            self._ids = {name: there[name] for name in names if name in there}
            return
        first = {name for name, _ in FIRST_MAILBOXES if name != INBOX}
        self._ids = restore_rows.make_mailboxes(self._account, wanted, first - names)
        left_out = restore_annotations(self._account, self._ids, values.get("annotations"))
        if left_out:
            self.restored.note(f"{left_out} annotations of mailboxes are left out.")
        subscribed = _subscriptions(values.get("subscriptions"))
        restore_rows.subscribe(self._account, subscribed, (first | {INBOX}) - subscribed if untouched else ())

    # Messages

    def messages(self) -> None:
        total = self._archive.signed.manifest.messages
        done = octets = 0
        chunk: list[MessageLine] = []
        with self._archive.index() as lines:
            for line in lines:
                if isinstance(line, FolderLine):
                    self._take(chunk)
                    self._flush()
                    self._enter(line)
                elif isinstance(line, MessageLine):
                    chunk.append(line)
                    done += 1
                    octets += line.size
                    if len(chunk) >= _BATCH_MESSAGES:
                        self._take(chunk)
                        if self._tell is not None:
                            self._tell(Progress(done, total, octets))
                if self.restored.stopped:
                    break
            self._take(chunk)
            self._flush()
        if self._tell is not None:
            self._tell(Progress(done, total, octets))

    def _enter(self, line: FolderLine) -> None:
        self._is_left_out = bool(line.gone) or line.read_only
        self._folder = None if self._is_left_out else self._ids.get(line.folder)
        self._others = {}
        self._seen.clear()
        if self._folder is not None and self._account.mailboxes.by_id(self._folder).messages:
            self._others = restore_rows.others(self._account, self._folder, self._beginning)

    def _take(self, chunk: list[MessageLine]) -> None:
        """Messages of the folder at hand."""
        if chunk and not self._is_left_out:
            known = restore_rows.delivered(self._account, [self._delivery_id(line) for line in chunk])
            for line in chunk:
                if not self.restored.stopped:
                    self._message(line, known)
        chunk.clear()

    def _message(self, line: MessageLine, known: dict[str, MessageId]) -> None:
        delivery_id = self._delivery_id(line)
        message_id = known.get(delivery_id)
        if line.places > 1:
            self._seen[line.email_id] += 1
            if message_id is None and delivery_id in self._batch.ids:
                self._flush()
            if message_id is None:
                message_id = self._matched.get(line.email_id)
            if message_id is None and not self._dry_run:
                message_id = restore_rows.delivered(self._account, [delivery_id]).get(delivery_id)
            if message_id is not None:
                self._place(line, message_id)
                return
        elif message_id is not None:
            self.restored.present += 1
            return
        message = self._archive.message(line)
        message_id = self._match(line)
        if message_id is not None:
            self.restored.present += 1
            if line.places > 1:
                self._matched[line.email_id] = message_id
            return
        if self._dry_run and line.places > 1 and delivery_id in self._batch.ids:
            self.restored.placed += 1
        self._new(line, delivery_id, message)

    def _place(self, line: MessageLine, message_id: MessageId) -> None:
        """A message that the account has, where it has to stand so often."""
        if self._folder is not None:
            pending = sum(each.message_id == message_id for each in self._batch.known)
            there = restore_rows.places(self._account, self._folder, message_id) + pending
            if there >= self._seen[line.email_id]:
                self.restored.present += 1
                return
        if self._batch.new:
            self._flush()
        self._batch.known.append(WantedPlace(message_id, line.size, line.flags, line.keywords, line.saved))
        if len(self._batch.known) >= _BATCH_MESSAGES:
            self._flush()

    def _match(self, line: MessageLine) -> MessageId | None:
        """The same message in the same folder, from elsewhere; each is taken once."""
        candidates = self._others.get((line.size, line.internal_date), [])
        for place in range(len(candidates) - 1, -1, -1):
            try:
                octets = self._account.messages.read_message(candidates[place])
            except (Gone, Corrupt):
                continue
            if hashlib.sha256(octets).hexdigest() == line.sha256:
                return candidates.pop(place)
        return None

    def _new(self, line: MessageLine, delivery_id: str, message: bytes) -> None:
        if self._batch.known:
            self._flush()
        self._batch.new.append(
            NewMessage(
                message,
                flags=line.flags,
                keywords=line.keywords,
                internal_date=line.internal_date,
                internal_zone=line.internal_zone,
                delivery_id=delivery_id,
                saved=line.saved,
            )
        )
        self._batch.ids.add(delivery_id)
        self._batch.octets += len(message)
        if len(self._batch.new) >= _BATCH_MESSAGES or self._batch.octets >= _BATCH_OCTETS:
            self._flush()

    def _delivery_id(self, line: MessageLine) -> str:
        return self._beginning + line.email_id

    # Writing

    def _flush(self) -> None:
        batch, self._batch = self._batch, _Batch()
        if self._dry_run:
            self._batch.ids = batch.ids
            self._count(batch.new, batch.known)
            return
        if batch.new:
            self._append(batch.new)
        if batch.known and not self.restored.stopped:
            self._put(batch.known)

    def _append(self, messages: list[NewMessage]) -> None:
        assert self._folder is not None
        try:
            self._account.messages.append_many(self._folder, messages, many=True)
        except OverQuota as error:
            if len(messages) == 1:
                self.restored.stopped = error.public
                return
        except LimitReached:
            if len(messages) == 1:
                if not messages[0].keywords:
                    raise
                self.restored.note("Keywords were left out: a mailbox has no room for more of them.")
                self._append([replace(messages[0], keywords=())])
                return
        except Unavailable:
            raise
        except AlreadyExists:  # another import of the same archive was faster
            if len(messages) == 1:
                self.restored.present += 1
                return
        except CleanmailError as error:
            if len(messages) == 1:
                self.restored.note(f"A message was not taken: {error.public}")
                return
        else:
            self._count(messages, [])
            return
        for each in messages:
            if not self.restored.stopped:
                self._append([each])

    def _put(self, known: list[WantedPlace]) -> None:
        assert self._folder is not None
        try:
            restore_rows.place(self._account, self._folder, known)
        except OverQuota as error:
            self.restored.stopped = error.public
            return
        except LimitReached:
            self.restored.note("Keywords were left out: a mailbox has no room for more of them.")
            restore_rows.place(self._account, self._folder, [each._replace(keywords=()) for each in known])
        self._count([], known)

    def _count(self, new: list[NewMessage], known: list[WantedPlace]) -> None:
        self.restored.imported += len(new) + len(known)
        self.restored.placed += len(known)
        self.restored.octets += sum(len(each.data) for each in new) + sum(each.size for each in known)


def _left_out(line: FolderLine) -> str:
    return f"{line.folder} is written by the server; it stays in the archive."


def _subscriptions(values: object) -> set[str]:
    names: set[str] = set()
    for name in values[:_SUBSCRIPTIONS_MAX] if isinstance(values, list) else ():
        try:
            names.add(new_name(name) if isinstance(name, str) else INBOX)
        except InvalidInput:
            continue
    return names
