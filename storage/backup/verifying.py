"""Proves that a backup can be restored: its lists are the signed ones, its files are what the lists say, and a mailbox
chosen at random comes back whole.

The mailbox is restored, on the way that a restore takes, into an account of its own in a temporary folder; then each of
its messages is read there and compared with the backup's rows: octets, size, date, flags and keywords.

Raises: NotFound, InvalidInput (the manifest), Unavailable. What is wrong with files is a finding.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from storage.background import Background
from storage.backup import files
from storage.backup.manifest import Entry
from storage.backup.place import Stored
from storage.backup.restoring import folder_of, restore_account
from storage.backup.saved import SavedAccount, SavedMailbox, SavedMessage, SavedTenant
from storage.backup.scratch import PROOF, scratch
from storage.errors import CleanmailError, Gone, NotFound
from storage.files.incarnation import Incarnation
from storage.installation import Installation
from storage.keys.sealing import Key, new_secret
from storage.mail.account import Account, Surroundings
from storage.mail.keywords import SYSTEM_BITS
from storage.mail.names import nearest_name
from storage.mail.outcomes import NewMessage
from storage.values import UID_MAX, AccountId, TenantId

SAMPLE = 500  # files whose octets are read, of each backup; databases always
_TRIES = 20  # accounts that are looked at until one has mail


@dataclass(slots=True)
class Verified:
    """What was found."""

    files: int = 0  # in the lists; each is there with its size
    hashed: int = 0  # read and compared
    octets: int = 0  # of `hashed`
    mailbox: str = ""  # "tenant 1, account 7, mailbox 3": what was restored as a proof; empty: nothing could be
    messages: int = 0  # in it
    unreadable: int = 0  # accounts whose key was destroyed since, so that nothing of them can be proven
    wrong: list[str] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        return not self.wrong


OnProgress = Callable[[int, int], None]  # files done, of how many


def verify(
    installation: Installation,
    stored: Stored,
    *,
    every: bool = False,
    chance: random.Random | None = None,
    progress: OnProgress | None = None,
) -> Verified:
    """`every`: read all files, not a sample. Success is recorded with the backup."""
    draw = chance or random.SystemRandom()
    found = Verified()
    _verify_files(stored, found, draw, every=every, progress=progress)
    _prove(installation, stored, found, draw)
    if found.is_right:
        installation.control.backups.verified(stored.manifest.id)
    return found


def _verify_files(
    stored: Stored, found: Verified, draw: random.Random, *, every: bool, progress: OnProgress | None
) -> None:
    total = stored.manifest.files
    share = 1.0 if every or total <= SAMPLE else SAMPLE / total
    for part in stored.manifest.parts:
        for entry in stored.entries(part.name):
            found.files += 1
            if found.files % 256 == 0 and progress is not None:
                progress(found.files, total)
            _verify_file(stored, entry, found, read=entry.path.endswith(".db") or draw.random() < share)
    found.wrong += [f"{path}: it was missing when the backup was made." for path in stored.manifest.missing]
    found.wrong += [f"{part}: it could not be copied when the backup was made." for part in stored.manifest.skipped]
    if progress is not None:
        progress(total, total)


def _verify_file(stored: Stored, entry: Entry, found: Verified, *, read: bool) -> None:
    path = stored.path(entry.path)
    try:
        if path.lstat().st_size != entry.size:
            found.wrong.append(f"{entry.path}: its size is not what the manifest says.")
        elif read:
            found.hashed += 1
            found.octets += entry.size
            if files.measure(str(path))[1] != entry.digest:
                found.wrong.append(f"{entry.path}: its octets are not what the manifest says.")
    except FileNotFoundError:
        found.wrong.append(f"{entry.path}: it is missing.")
    except CleanmailError as error:
        found.wrong.append(f"{entry.path}: {error.public}")


# The proof


def _prove(installation: Installation, stored: Stored, found: Verified, draw: random.Random) -> None:
    tenants = stored.manifest.tenants()
    draw.shuffle(tenants)
    looked = 0
    for number in tenants:
        with SavedTenant(stored, TenantId(number), installation.keys, installation.clock, installation.data) as saved:
            accounts = saved.account_ids()
            draw.shuffle(accounts)
            for account_id in accounts:
                try:
                    account = saved.account(account_id)
                except (Gone, NotFound):
                    found.unreadable += 1
                    continue
                except CleanmailError as error:
                    found.wrong.append(f"account {account_id} of tenant {number}: {error.detail or error.public}")
                    return
                looked += 1
                filled = [each for each in account.mailboxes() if each.messages and not each.read_only]
                if filled:
                    mailbox = draw.choice(filled)
                    found.mailbox = f"tenant {number}, account {account_id}, mailbox {mailbox.id}"
                    _prove_mailbox(installation, account, mailbox, found)
                    return
                if looked >= _TRIES:
                    return


def _prove_mailbox(installation: Installation, saved: SavedAccount, mailbox: SavedMailbox, found: Verified) -> None:
    """Restore it, read it, compare."""
    with _account(installation) as proof:
        restored = restore_account(saved, proof, folder=mailbox.name)
        found.wrong += [f"{found.mailbox}: the message file {name} cannot be read." for name in restored.unreadable]
        if restored.stopped:
            found.wrong.append(f"{found.mailbox}: {restored.stopped}")
        target = proof.mailboxes.find(nearest_name(f"{folder_of(saved.stored)}/{mailbox.name}"))
        names = proof.mailboxes.keywords(target.id)
        columns = ("message_id", "flags", "internal_date", "size")
        rows = proof.messages.fetch_rows(target.id, 1, UID_MAX, columns)
        expected = [each for each in saved.messages(mailbox.id) if each.file not in restored.unreadable]
        if len(rows) != len(expected):
            found.wrong.append(f"{found.mailbox}: of {len(expected)} messages {len(rows)} came back.")
        for each, (message_id, flags, internal_date, size) in zip(expected, rows, strict=False):
            keywords = {name for bit, name in names.items() if flags >> bit & 1}
            octets = proof.messages.read_message(message_id)
            same = _digest(octets) == _expected(saved, each) and len(octets) == size == each.size
            if (
                not same
                or (internal_date, flags & SYSTEM_BITS) != (each.internal_date, each.flags)
                or keywords != set(each.keywords)
            ):
                found.wrong.append(f"{found.mailbox}: the message of UID {each.uid} came back different.")
        found.messages = len(rows)


def _expected(saved: SavedAccount, each: SavedMessage) -> bytes:
    new: NewMessage = saved.read(each, "")
    return _digest(new.prefix + new.data)


def _digest(octets: bytes) -> bytes:
    return hashlib.sha256(octets).digest()


@contextmanager
def _account(installation: Installation) -> Iterator[Account]:
    """An account of its own, under a key that is nowhere else."""
    with scratch(installation.data, PROOF) as data:
        background, incarnation = Background(), Incarnation(data)
        surroundings = Surroundings(installation.clock, incarnation.name, background)
        root = data / "tenants" / "0" / "accounts" / "0"
        key = Key("0" * 32, new_secret())
        proof = Account.create(root, TenantId(0), AccountId(0), key, surroundings)
        try:
            yield proof
        finally:
            proof.close()
            background.close()
            incarnation.close()
