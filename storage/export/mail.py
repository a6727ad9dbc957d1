"""The mail of an account, laid down folder by folder, with the index that says what is where.

One pass walks the mailboxes and the index of an earlier run side by side, in the order of mailbox numbers and UIDs, and
writes a new index: what is there already stays (under another name if its flags are different), what is new is written,
what went is noted and removed. Lines reach the disk in batches, after the files that they name, so that a pass that was
interrupted goes on behind the last line; then, and when the account changed meanwhile, another pass makes up for it.

Memory: a slice of rows, one message, and the names of messages that stand in several folders, up to a number.
Raises: StorageFull, NotPermitted, Conflict, Unavailable of the target; Unavailable and Gone of the account.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import OrderedDict
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace

from storage.errors import Conflict, Corrupt, Gone, InvalidInput
from storage.export import form, names
from storage.export.index import Ahead, FolderLine, Line, LostLine, MessageLine, Totals, packed, whole_lines
from storage.export.place import Place
from storage.export.rows import Stored, slice_after
from storage.export.strays import SUBFOLDERS, index_of, remove_strays
from storage.export.values import INDEX, INDEX_PART, Form, Progress, Tell
from storage.files import durable
from storage.mail.account import Account
from storage.mail.keywords import SYSTEM_BITS
from storage.mail.mailboxes import Mailbox
from storage.values import MailboxId, MessageId

_BATCH_LINES = 1000
_BATCH_OCTETS = 32 * 1024 * 1024
_PASSES = 5  # an account that changes all the time is exported as it was during the last of them
_SHARED_MAX = 100_000
_NO_END = 1 << 64


def export_mail(account: Account, place: Place, wanted: Form, now: int, tell: Tell | None) -> Totals:
    """Bring what `place` holds to what the account holds; durable on return."""
    for _ in range(_PASSES):
        before = _state(account)
        one = _Pass(account, place, wanted, now, tell)
        one.run()
        if not one.resumed and before == _state(account):
            break
    return one.totals


def _state(account: Account) -> list[Mailbox]:
    """What tells whether anything changed."""
    return sorted((replace(each, recent_uid=0) for each in account.mailboxes.list()), key=lambda each: each.id)


class _Pass:
    def __init__(self, account: Account, place: Place, wanted: Form, now: int, tell: Tell | None) -> None:
        self._account = account
        self._place = place
        self._form = wanted
        self._now = now
        self._tell = tell
        self._mailboxes = sorted(account.mailboxes.list(), key=lambda each: each.id)
        self._paths = names.folder_paths(wanted, ((each.id, each.name) for each in self._mailboxes))
        self._total = sum(each.messages for each in self._mailboxes)
        self._shared: OrderedDict[str, MessageLine] = OrderedDict()
        self._pending: list[bytes] = []
        self._written = 0  # octets since the last batch
        self._part = -1
        self._mbox = -1  # the one that is written
        self._mbox_end = self._mbox_size = 0
        self._keeps = False  # what the mbox holds is still what it has to hold
        self._begun_again = False  # mboxes are not what an earlier index says
        self._at = (0, 0)  # mailbox and UID of the last line of an interrupted pass
        self._at_end = 0  # octets of that mailbox's mbox
        self.resumed = False
        self.totals = Totals()

    def run(self) -> None:
        self._take_up()
        with ExitStack() as stack:
            self._part = os.open(
                self._place.path / INDEX_PART,
                os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW,
                0o600,
            )
            stack.callback(os.close, self._part)
            ahead = Ahead(stack.enter_context(index_of(self._place)))
            for mailbox in self._mailboxes:
                self._pass_gone(ahead, mailbox.id)
                self._folder(mailbox, ahead.folder(mailbox.id + 1), ahead)
            self._pass_gone(ahead, _NO_END)
            self._flush()
        (self._place.path / INDEX_PART).rename(self._place.path / INDEX)
        self._place.settle()
        remove_strays(self._place, self._form)
        self._place.settle()

    # Going on

    def _take_up(self) -> None:
        """Read the index of an interrupted pass, and cut what is torn. What cannot be gone on with is begun again."""
        path = self._place.path / INDEX_PART
        known = {each.id: each for each in self._mailboxes}
        end = 0
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        with open(descriptor, "rb") as file:
            for line, behind in whole_lines(file):
                if isinstance(line, FolderLine):
                    mailbox = known.get(MailboxId(line.mailbox))
                    if not line.gone and (mailbox is None or not self._is_same(line, mailbox)):
                        end = 0
                        break
                    self._at, self._at_end = (line.mailbox, 0), 0
                else:
                    self._at = (self._at[0], line.uid)
                    if isinstance(line, MessageLine):
                        if self._form is Form.MAILDIR:
                            self._path(line.file)
                        self._at_end = line.offset + line.octets
                        self._share(line)
                self.totals.count(line)
                end = behind
            begun = os.fstat(file.fileno()).st_size > 0
        if not end:
            self._begun_again = begun
            self._at, self._at_end, self.totals = (0, 0), 0, Totals()
            self._shared.clear()
        self.resumed = end > 0
        os.truncate(path, end)

    def _is_same(self, line: FolderLine, mailbox: Mailbox) -> bool:
        return line.folder == mailbox.name and line.path == self._paths[mailbox.id]

    # Folders

    def _pass_gone(self, ahead: Ahead, before: int) -> None:
        """Folders that are no more."""
        while (old := ahead.folder(before)) is not None:
            if old.mailbox > self._at[0]:
                self._add(replace(old, path="", gone=old.gone or self._now))
            elif old.mailbox < self._at[0]:
                continue
            after = self._at[1] if old.mailbox == self._at[0] else 0
            while (line := ahead.message()) is not None:
                if line.uid > after:
                    self._lose(line)

    def _folder(self, mailbox: Mailbox, old: FolderLine | None, ahead: Ahead) -> None:
        if mailbox.id < self._at[0]:
            return
        path = self._paths[mailbox.id]
        keywords = self._account.mailboxes.keywords(mailbox.id)
        words = tuple(name for _, name in sorted(keywords.items()))
        goes_on = mailbox.id == self._at[0]
        self._make(path, words)
        if not goes_on:
            self._add(
                FolderLine(
                    mailbox.id,
                    mailbox.name,
                    path,
                    mailbox.uidvalidity,
                    mailbox.uidnext,
                    mailbox.special_use,
                    words,
                    mailbox.keep_days,
                    mailbox.read_only,
                )
            )
        files = _Folder(path, mailbox.uidvalidity, tuple(sorted(keywords.items())), names.keyword_letters(words))
        if self._form is Form.MBOX:
            keeps = old is not None and old.path == path and not goes_on and not self._begun_again
            self._open_mbox(path, keeps=keeps, end=self._at_end if goes_on else 0)
        try:
            self._messages(mailbox, files, self._at[1] if goes_on else 0, old, ahead)
        finally:
            if self._mbox >= 0:
                os.close(self._mbox)
                self._mbox = -1

    def _make(self, path: str, keywords: tuple[str, ...]) -> None:
        if self._form is Form.MBOX:
            self._place.make_folder(names.MBOX)
            return
        for each in SUBFOLDERS:
            self._place.make_folder(f"{path}/{each}")
        if path != names.MAILDIR:
            self._place.make_folder(f"{names.MAILDIR}")
            self._place.make_folder(f"{names.MAILDIR}/cur")
            self._place.write(f"{path}/maildirfolder", b"")
        self._place.write(f"{path}/dovecot-keywords", names.dovecot_keywords(keywords))

    # Messages

    def _messages(self, mailbox: Mailbox, folder: _Folder, after: int, old: FolderLine | None, ahead: Ahead) -> None:
        """Rows and earlier lines, side by side."""
        start = after
        while rows := slice_after(self._account, mailbox.id, after):
            for row in rows:
                known: MessageLine | LostLine | None = None
                while old is not None and (line := ahead.message(row.uid)) is not None:
                    if line.uid == row.uid:
                        known = line
                    elif line.uid > start:
                        self._lose(line)
                self._message(folder, row, known)
            after = rows[-1].uid
            if self._tell is not None:
                totals = self.totals
                self._tell(Progress(totals.messages, max(self._total, totals.messages), totals.octets))
        while old is not None and (line := ahead.message()) is not None:
            if line.uid > start:
                self._lose(line)
        if self._form is Form.MBOX:
            self._cut()

    def _message(self, folder: _Folder, row: Stored, known: MessageLine | LostLine | None) -> None:
        words = tuple(name for bit, name in folder.keywords if row.flags >> bit & 1)
        flags = row.flags & SYSTEM_BITS
        kept: MessageLine | None = None
        if isinstance(known, MessageLine) and known.email_id == row.email_id:
            kept = replace(known, flags=flags, keywords=words, saved=row.saved, places=row.places)
            if self._form is Form.MBOX:
                kept = kept if kept.flags == known.flags and kept.keywords == known.keywords else None
                kept = kept if kept is not None and self._stays(kept, folder.path) else None
            else:
                kept = self._renamed(kept, folder)
        line = kept or self._anew(folder, row, flags, words)
        if line is not None:
            self._add(line)

    def _anew(self, folder: _Folder, row: Stored, flags: int, words: tuple[str, ...]) -> Line | None:
        """None: it was expunged meanwhile."""
        shared = self._shared.get(row.email_id) if row.places > 1 else None
        if shared is not None:
            base = names.message_name(row.internal_date, folder.uidvalidity, row.uid, shared.octets, shared.size)
            file = folder.file(base, flags, words)
            if self._place.link(file, shared.file):
                return replace(
                    shared, uid=row.uid, file=file, flags=flags, keywords=words, saved=row.saved, places=row.places
                )
        try:
            message = self._account.messages.read(MessageId(row.message_id), row.file)
        except Gone:
            return None
        except Corrupt:
            return LostLine(row.uid, row.email_id, "unreadable", self._now)
        text, crlf = form.text_of(message)
        added, ended, offset, file = 0, False, 0, folder.path
        if self._form is Form.MBOX:
            self._cut()
            offset = self._mbox_end
            text, added, ended = form.in_mbox(text, row.internal_date, flags, words)
            durable.write_all(self._mbox, text)
            self._mbox_end += len(text)
        else:
            base = names.message_name(row.internal_date, folder.uidvalidity, row.uid, len(text), len(message))
            file = folder.file(base, flags, words)
            self._place.write(file, text, time=row.internal_date)
        self._written += len(text)
        digest = hashlib.sha256(message).hexdigest()
        return MessageLine(
            uid=row.uid,
            file=file,
            offset=offset,
            octets=len(text),
            file_sha256=hashlib.sha256(text).hexdigest(),
            added=added,
            ended=ended,
            crlf=crlf,
            size=len(message),
            sha256=digest,
            internal_date=row.internal_date,
            saved=row.saved,
            flags=flags,
            keywords=words,
            email_id=row.email_id,
            thread_id=row.thread_id,
            places=row.places,
            internal_zone=row.internal_zone,
        )

    def _renamed(self, kept: MessageLine, folder: _Folder) -> MessageLine | None:
        """A message of an earlier run under the name that it has now; None if its file is not what it was."""
        base = os.path.basename(kept.file).rpartition(":2,")[0]
        file = folder.file(base, kept.flags, kept.keywords)
        if file != kept.file:
            with suppress(FileNotFoundError):  # renamed already, or somebody removed it
                os.rename(self._path(kept.file), self._path(file))
        try:
            status = os.lstat(self._path(file))
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode) or status.st_size != kept.octets:
            return None
        return replace(kept, file=file)

    def _lose(self, line: MessageLine | LostLine) -> None:
        """A message that the account has no more."""
        if isinstance(line, MessageLine) and self._form is Form.MAILDIR:
            with suppress(FileNotFoundError):
                os.unlink(self._path(line.file))
        if isinstance(line, LostLine) and line.reason == "gone":
            self._add(line)
        else:
            self._add(LostLine(line.uid, line.email_id, "gone", self._now))

    def _path(self, file: str) -> str:
        """A file that an index of an earlier run names; whoever had the archive meanwhile may have changed that."""
        if not names.is_message(file) or self._place.leads_away(file.rpartition("/")[0]):
            raise InvalidInput("The index of the archive names a file that no export writes; begin anew elsewhere.")
        return f"{self._place.path}/{file}"

    # The mbox at hand

    def _open_mbox(self, path: str, *, keeps: bool, end: int) -> None:
        """What the earlier run wrote stays as far as it is the same; of an interrupted one stays `end`."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._mbox = os.open(f"{self._place.path}/{path}", flags, 0o600)
        self._mbox_size = os.fstat(self._mbox).st_size
        if end > self._mbox_size:
            raise Conflict("An mbox of the target was changed by another program; export to an empty folder.")
        self._mbox_end, self._keeps = end, True
        if not keeps:
            self._cut()

    def _stays(self, line: MessageLine, path: str) -> bool:
        """Whether the message follows what stays of the mbox."""
        end = line.offset + line.octets
        if not self._keeps or line.file != path or line.offset != self._mbox_end or end > self._mbox_size:
            return False
        self._mbox_end = end
        return True

    def _cut(self) -> None:
        """What follows in the mbox is written anew; the index says so first."""
        if self._keeps:
            self._flush()
            os.ftruncate(self._mbox, self._mbox_end)
            self._keeps = False

    # The index

    def _add(self, line: Line) -> None:
        self._pending.append(packed(line))
        self.totals.count(line)
        if isinstance(line, MessageLine):
            self._share(line)
        if len(self._pending) >= _BATCH_LINES or self._written >= _BATCH_OCTETS:
            self._flush()

    def _share(self, line: MessageLine) -> None:
        if line.places > 1 and self._form is Form.MAILDIR:
            self._shared[line.email_id] = line
            if len(self._shared) > _SHARED_MAX:
                self._shared.popitem(last=False)

    def _flush(self) -> None:
        """The batch is on the disk, files first."""
        if not self._pending:
            return
        self._place.settle()
        durable.write_all(self._part, b"".join(self._pending))
        os.fsync(self._part)
        self._pending.clear()
        self._written = 0


@dataclass(frozen=True, slots=True)
class _Folder:
    """The mailbox at hand in the archive."""

    path: str
    uidvalidity: int
    keywords: tuple[tuple[int, str], ...]  # bit and name
    letters: dict[str, str]

    def file(self, base: str, flags: int, words: tuple[str, ...]) -> str:
        return f"{self.path}/cur/{base}{names.info(flags, words, self.letters)}"
