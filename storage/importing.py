"""Brings an archive of messages (mbox, Maildir, folder of .eml) into the mailboxes of an account.

It can be interrupted at any time and run again: each message carries an id made of its octets, its folder and how often
the same octets came before in that folder, and what is there under its id is not imported again. When `import_archive`
returns, all that it counts as imported is durable. Messages are taken in batches, one commit each; one that fails is
repeated message by message, so that a bad message is reported and the others are kept.

INTERNALDATE is what the archive says (mbox From_ line, time of a Maildir file), else the Date field, else now.
Line ends become CRLF here and nowhere else; nothing else of a message is changed.

Raises: InvalidInput (no such archive), NotFound and Unavailable of the account (run it again later).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from storage.archives.archive import Archive, Found, Unreadable
from storage.archives.eml import EmlFolder
from storage.archives.maildir import MaildirArchive, is_maildir
from storage.archives.mbox import Mbox
from storage.errors import AlreadyExists, CleanmailError, InvalidInput, LimitReached, NotFound, OverQuota, Unavailable
from storage.mail.account import Account
from storage.mail.messages import NewMessage
from storage.mail.names import nearest_name
from storage.mime.dates import parse_date
from storage.mime.fields import read_header
from storage.mime.normalise import to_crlf
from storage.values import MailboxId

BATCH_MESSAGES = 100
BATCH_OCTETS = 8 * 1024 * 1024

ArchiveKind = Literal["auto", "mbox", "maildir", "eml"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import is: entries of the archive seen, of how many, and octets of them."""

    done: int
    total: int
    octets: int


@dataclass(frozen=True, slots=True)
class Failure:
    """An entry that was not imported: where it stands in the archive, and why."""

    origin: str
    reason: str


@dataclass(slots=True)
class Report:
    """What became of an archive. `stopped` says why it was not read to its end, if it was not."""

    imported: int = 0
    present: int = 0  # were there already
    octets: int = 0  # of the imported ones
    failed: list[Failure] = field(default_factory=list)
    stopped: str | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    origin: str
    mailbox_id: MailboxId
    message: NewMessage


def open_archive(path: Path, kind: ArchiveKind = "auto") -> Archive:
    """The archive at `path`; "auto" looks what it is. Raises InvalidInput."""
    if not path.exists():
        raise InvalidInput(f"There is nothing at {path}.")
    if kind == "auto":
        kind = _kind_of(path)
    if kind != "eml" and path.is_dir() != (kind == "maildir"):
        raise InvalidInput(f"{path} is not {'a Maildir' if kind == 'maildir' else 'an mbox file'}.")
    if kind == "mbox":
        return Mbox(path)
    return MaildirArchive(path) if kind == "maildir" else EmlFolder(path)


def _kind_of(path: Path) -> Literal["mbox", "maildir", "eml"]:
    if path.is_dir():
        return "maildir" if is_maildir(path) else "eml"
    return "eml" if path.suffix.lower() == ".eml" else "mbox"


def import_archive(
    account: Account,
    archive: Archive,
    mailbox: str = "INBOX",
    *,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Import all of `archive`; its folders stand below `mailbox`, or beside it if that is INBOX."""
    run = _Import(account, archive, mailbox, progress)
    run.make_folders()
    return run.all()


class _Import:
    """One run over one archive."""

    def __init__(
        self, account: Account, archive: Archive, mailbox: str, progress: Callable[[Progress], None] | None
    ) -> None:
        self._account = account
        self._archive = archive
        self._mailbox = mailbox
        self._progress = progress
        self._mailbox_ids: dict[str, MailboxId] = {}
        self._seen: Counter[bytes] = Counter()
        self._batch: list[_Entry] = []
        self._batch_octets = 0
        self._report = Report()

    def make_folders(self) -> None:
        """Make and subscribe the target mailbox and one for each folder; empty ones too."""
        self._mailbox_id("")
        for folder in self._archive.folders():
            self._mailbox_id(folder)

    def all(self) -> Report:
        total = self._archive.count()
        octets = 0
        for done, entry in enumerate(self._archive.messages(), start=1):
            if isinstance(entry, Unreadable):
                self._report.failed.append(Failure(entry.origin, entry.reason))
            else:
                octets += len(entry.octets)
                self._take(entry)
            if self._report.stopped:
                break
            if self._progress is not None:
                self._progress(Progress(done, total, octets))
        self._flush()
        return self._report

    def _take(self, found: Found) -> None:
        data = to_crlf(found.octets)
        digest = hashlib.sha256(found.folder.encode() + b"\0" + data).digest()
        self._seen[digest] += 1
        message = NewMessage(
            data=data,
            flags=found.flags,
            keywords=found.keywords,
            internal_date=found.received if found.received is not None else _sent(data),
            delivery_id=f"import:{digest.hex()}:{self._seen[digest]}",
        )
        self._batch.append(_Entry(found.origin, self._mailbox_id(found.folder), message))
        self._batch_octets += len(data)
        if len(self._batch) >= BATCH_MESSAGES or self._batch_octets >= BATCH_OCTETS:
            self._flush()

    def _flush(self) -> None:
        """Append the batch, by mailbox, leaving out what is there already."""
        batch, self._batch, self._batch_octets = self._batch, [], 0
        present = self._account.messages.delivered([entry.message.delivery_id for entry in batch])
        self._report.present += sum(entry.message.delivery_id in present for entry in batch)
        by_mailbox: dict[MailboxId, list[_Entry]] = {}
        for entry in batch:
            if entry.message.delivery_id not in present:
                by_mailbox.setdefault(entry.mailbox_id, []).append(entry)
        for mailbox_id, entries in by_mailbox.items():
            if not self._report.stopped:
                self._append(mailbox_id, entries)

    def _append(self, mailbox_id: MailboxId, entries: list[_Entry]) -> None:
        try:
            self._account.messages.append_many(mailbox_id, [entry.message for entry in entries], many=True)
        except OverQuota as error:
            if len(entries) == 1:
                self._report.stopped = error.public
                return
        except Unavailable:
            raise  # nothing is wrong with the messages: run it again later
        except CleanmailError as error:
            if len(entries) == 1:
                self._failed(entries[0], error)
                return
        else:
            self._report.imported += len(entries)
            self._report.octets += sum(len(entry.message.data) for entry in entries)
            return
        for entry in entries:
            if not self._report.stopped:
                self._append(mailbox_id, [entry])

    def _failed(self, entry: _Entry, error: CleanmailError) -> None:
        """One message was refused."""
        if isinstance(error, AlreadyExists):  # another import of the same archive was faster
            self._report.present += 1
        elif isinstance(error, LimitReached) and entry.message.keywords:
            self._append(entry.mailbox_id, [replace(entry, message=replace(entry.message, keywords=()))])
        else:
            self._report.failed.append(Failure(entry.origin, error.public))

    def _mailbox_id(self, folder: str) -> MailboxId:
        if folder not in self._mailbox_ids:
            name = self._name(folder)
            mailboxes = self._account.mailboxes
            try:
                found = mailboxes.find(name)
            except NotFound:
                try:
                    found = mailboxes.create(name)
                except AlreadyExists:
                    found = mailboxes.find(name)
                mailboxes.subscribe(name)
            self._mailbox_ids[folder] = found.id
        return self._mailbox_ids[folder]

    def _name(self, folder: str) -> str:
        """The mailbox of a folder: "Work" goes to Work, or to Old/Work if Old is the target."""
        if not folder or folder.upper() == "INBOX":
            return self._mailbox
        return nearest_name(folder if self._mailbox.upper() == "INBOX" else f"{self._mailbox}/{folder}")


def _sent(data: bytes) -> int | None:
    """The time in the Date field."""
    value = read_header(data).value(b"date")
    sent = parse_date(value) if value else None
    return sent.seconds if sent else None
