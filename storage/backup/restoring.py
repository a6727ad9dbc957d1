"""Brings mail back from a backup: a folder, an account, or all accounts of a tenant, beside what is there now.

Nothing that exists is touched: messages come into folders below "Restored/<time of the backup>", stored anew on the way
that all mail takes, charged to the quota, with flags, keywords and dates as they were. Calendars, address books and
files come beside those that are there (storage.backup.restoring_collections). It may be interrupted and
repeated: a message that is there already does not come twice. When a function here returns, what it counts is durable.

Raises: what `storage.backup.saved` raises, and NotFound, Unavailable of the account.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from storage.backup.place import Stored
from storage.backup.restoring_collections import restore_collections
from storage.backup.saved import SavedAccount, SavedMailbox, SavedTenant, unreadable
from storage.directory.provisioning import Provisioning
from storage.directory.rows import AliasRow, State
from storage.directory.tenant import Tenant
from storage.errors import AlreadyExists, CleanmailError, Gone, NotFound, OverQuota, StorageFull
from storage.installation import Installation
from storage.mail.account import Account
from storage.mail.names import nearest_name
from storage.mail.outcomes import NewMessage
from storage.mail.quota import Limits
from storage.values import AccountId, Domain, EmailAddress, MailboxId

ROOT = "Restored"
_MESSAGES, _OCTETS = 500, 16 << 20  # of one commit
_TOGETHER = 10  # messages that are brought to the disk together


@dataclass(slots=True)
class Restored:
    """What came back. `stopped` says why it was not all, if it was not."""

    mailboxes: int = 0
    messages: int = 0
    present: int = 0  # were restored before
    octets: int = 0  # of `messages`
    collections: int = 0  # calendars, address books and folders that were made
    objects: int = 0  # what came in them
    objects_present: int = 0
    object_octets: int = 0
    unreadable: list[str] = field(default_factory=list)  # files that do not verify, or are not there
    stopped: str | None = None

    def add(self, other: Restored) -> None:
        self.mailboxes += other.mailboxes
        self.messages += other.messages
        self.present += other.present
        self.octets += other.octets
        self.collections += other.collections
        self.objects += other.objects
        self.objects_present += other.objects_present
        self.object_octets += other.object_octets
        self.unreadable += other.unreadable
        self.stopped = self.stopped or other.stopped


OnProgress = Callable[[int], None]  # messages done since it was called last


def folder_of(stored: Stored) -> str:
    """Where what comes from this backup is put."""
    made = datetime.fromtimestamp(stored.manifest.made, UTC)
    return f"{ROOT}/{made:%Y-%m-%d %H.%M.%S}"


def restore_account(
    saved: SavedAccount, account: Account, *, folder: str | None = None, progress: OnProgress | None = None
) -> Restored:
    """All folders of mail and all collections as they were; or one folder, with those below it not included."""
    chosen = [saved.mailbox(folder)] if folder is not None else saved.mailboxes()
    restored = Restored()
    for each in chosen:
        if each.read_only:  # what the server wrote for its owner, and writes anew
            continue
        restored.add(_restore_mailbox(saved, each, account, progress))
        if restored.stopped:
            break
    if folder is None and not restored.stopped:
        restored.add(_restore_collections(saved, account))
    return restored


def _restore_collections(saved: SavedAccount, account: Account) -> Restored:
    found = restore_collections(saved, account, folder_of(saved.stored).partition("/")[2])
    return Restored(
        collections=found.collections,
        objects=found.objects,
        objects_present=found.present,
        object_octets=found.octets,
        unreadable=found.unreadable,
        stopped=found.stopped,
    )


def _restore_mailbox(
    saved: SavedAccount, source: SavedMailbox, account: Account, progress: OnProgress | None
) -> Restored:
    restored = Restored(mailboxes=1)
    target_id = _target(account, nearest_name(f"{folder_of(saved.stored)}/{source.name}"))
    batch: list[NewMessage] = []
    octets = 0

    def flush() -> None:
        nonlocal octets
        _append(account, target_id, batch, restored)
        if progress is not None:
            progress(len(batch))
        batch.clear()
        octets = 0

    for each in saved.messages(source.id):
        try:
            new = saved.read(each, f"restore:{saved.stored.manifest.id}:{source.id}:{each.uid}")
        except CleanmailError as error:
            if not unreadable(error):
                raise
            restored.unreadable.append(each.file)
            continue
        batch.append(new)
        octets += each.size
        if len(batch) >= _MESSAGES or octets >= _OCTETS:
            flush()
        if restored.stopped:
            return restored
    flush()
    return restored


def _append(account: Account, target_id: MailboxId, batch: Sequence[NewMessage], restored: Restored) -> None:
    """Store those that are not there yet; one after the other where all of them at once do not fit."""
    present = account.messages.delivered([str(new.delivery_id) for new in batch])
    restored.present += len(present)
    waiting = [new for new in batch if new.delivery_id not in present]
    if not waiting:
        return
    try:
        account.messages.append_many(target_id, waiting, many=len(waiting) >= _TOGETHER)
    except (OverQuota, AlreadyExists) as error:
        if len(waiting) == 1:
            if isinstance(error, AlreadyExists):  # another run of the same was faster
                restored.present += 1
            else:
                restored.stopped = error.public
            return
        for new in waiting:
            if not restored.stopped:
                _append(account, target_id, [new], restored)
        return
    restored.messages += len(waiting)
    restored.octets += sum(len(new.prefix) + len(new.data) for new in waiting)


def _target(account: Account, name: str) -> MailboxId:
    mailboxes = account.mailboxes
    try:
        found = mailboxes.find(name)
    except NotFound:
        try:
            found = mailboxes.create(name)
        except AlreadyExists:
            found = mailboxes.find(name)
        mailboxes.subscribe(name)
    return found.id


# Tenants


@dataclass(slots=True)
class AccountOutcome:
    """What became of one account of a tenant."""

    account_id: AccountId
    address: str
    restored: Restored | None = None
    reason: str = ""  # why nothing was restored


@dataclass(frozen=True, slots=True)
class Lost:
    """What a tenant had at the time of the backup and has no more, and that can be made again."""

    aliases: tuple[AliasRow, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.aliases or self.settings)


def restore_tenant(
    installation: Installation, saved: SavedTenant, *, progress: OnProgress | None = None
) -> list[AccountOutcome]:
    """Every account that still lives."""
    living = {row.account_id: row for row in installation.tenant(saved.tenant_id).accounts()}
    outcomes = []
    for row in saved.directory().accounts():
        outcome = AccountOutcome(row.account_id, str(row.login))
        outcomes.append(outcome)
        now = living.get(row.account_id)
        if now is None or now.state is State.ENDED:
            outcome.reason = "The account was deleted and its key destroyed; what it stored can never be read again."
            continue
        try:
            limits = Limits(now.quota_bytes, now.quota_messages)
            with installation.account(saved.tenant_id, row.account_id, limits=limits) as account:
                outcome.restored = restore_account(saved.account(row.account_id), account, progress=progress)
        except StorageFull:
            raise
        except (Gone, NotFound) as error:
            outcome.reason = error.public
    return outcomes


def lost(installation: Installation, saved: SavedTenant) -> Lost:
    """Aliases and settings that are gone, or lead elsewhere now."""
    before, now = saved.directory(), installation.tenant(saved.tenant_id)
    addresses = {alias.address for alias in now.addresses.aliases()}
    aliases = tuple(alias for alias in before.addresses.aliases() if alias.address not in addresses)
    there = now.settings("")
    settings = tuple(sorted((name, value) for name, value in before.settings("").items() if name not in there))
    return Lost(aliases, settings)


def apply(provisioning: Provisioning, tenant: Tenant, found: Lost) -> list[str]:
    """Make them again; says what was not possible."""
    refused = []
    for alias in found.aliases:
        targets = list(alias.addresses)
        for account_id in alias.accounts:
            try:
                targets.append(tenant.account(account_id).login)
            except NotFound:  # it was deleted
                continue
        try:
            if alias.catch_all:
                provisioning.set_catch_all(tenant.tenant_id, Domain.parse(alias.address.removeprefix("@")), targets)
            else:
                provisioning.add_alias(tenant.tenant_id, EmailAddress.parse(alias.address), targets)
        except CleanmailError as error:
            refused.append(f"{alias.address}: {error.public}")
    for name, value in found.settings:
        tenant.set_setting(name, value)
    return refused
