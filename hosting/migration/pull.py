r"""Brings one folder up to date: what is new there comes here, and flags that changed there change here.

What is to be done is found by comparing the UIDs there with those that have moved, so a pull may break off anywhere and
be run again: each batch is durable before the next one, and a message comes once. Bodies are asked for one batch ahead
of what is being stored. A message that cannot be had is tried alone, in pieces, and skipped in the end, with a reason;
everything else comes.

What wins: a flag that changed there since it was last looked at is changed here; every other flag stays as its owner
has it here. What its owner deleted or moved here does not come again. What is gone there stays here, unless that was
asked for otherwise.

Memory: two batches of 4 MB, or the one message at hand, and about 50 octets for each message of the folder.
Raises: ServerLost (connect again and go on), Stopped (nothing more can be done in this run), Unavailable, Gone.
Standards: RFC 9051 §2.3.1.1, RFC 7162 §3.1.4 (CHANGEDSINCE).
"""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from hosting.migration.answers import Attributes, Listed, Namespaces, Opened, Refused
from hosting.migration.client import CHUNK, Server
from hosting.migration.folders import Choice, Planned, plan
from hosting.migration.report import FolderReport, Progress, Report, Tell
from hosting.migration.wire import ServerLost
from storage.errors import AlreadyExists, CleanmailError, Gone, LimitReached, NotFound, OverQuota, Unavailable
from storage.mail.account import Account
from storage.mail.mailboxes import Mailbox
from storage.mail.messages import NewMessage
from storage.mail.moving import Arrived, Moved, Moving, MovingFolder, Present, Tags, changes, digest
from storage.mail.names import INBOX
from storage.mime.dates import parse_date
from storage.mime.fields import read_header
from storage.mime.normalise import to_crlf
from storage.values import MailboxId, MessageId, UidSet

_SLICE = 1000  # UIDs that are looked at together
_BATCH_MESSAGES = 200
_BATCH_OCTETS = CHUNK
_AHEAD = 2  # batches that are asked for and not stored
_DOUBTS = 3  # after so many broken connections a message is skipped
_NOBODY = MessageId(0)  # until it is stored
_NOT_GIVEN = "the server did not give it"
_NIL = "the server says that it has no content"
_BREAKS = "the connection broke whenever it was asked for"


class Stopped(Exception):  # noqa: N818 - how a run ends
    """Nothing more can be done in this run. `said` is for people."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


@dataclass(frozen=True, slots=True)
class Orders:
    """What was asked for."""

    since: date | None = None
    is_dry: bool = False
    delete_gone: bool = False
    is_final: bool = False
    choice: Choice = field(default_factory=Choice)


@dataclass(slots=True)
class Attempts:
    """What is remembered of a folder while its connection is made anew."""

    doubts: Counter[int] = field(default_factory=Counter)
    skipped: dict[int, str] = field(default_factory=dict)
    stored: int = 0  # messages, of all folders: progress


@dataclass(frozen=True, slots=True)
class Shown:
    """What the other server shows."""

    folders: Sequence[Listed]
    namespaces: Namespaces | None

    def has(self, key: str) -> bool:
        return any(key_of(each) == key for each in self.folders)


def key_of(listed: Listed) -> str:
    """The name of a folder as it is kept: every octet as a character."""
    return listed.raw.decode("latin-1")


class FolderPull:
    def __init__(
        self,
        account: Account,
        moving: Moving,
        orders: Orders,
        shown: Shown,
        report: Report,
        check: Callable[[], None],
        tell: Tell | None,
    ) -> None:
        """`check` raises what forbids that anything is stored."""
        self._account = account
        self._moving = moving
        self._orders = orders
        self._shown = shown
        self._report = report
        self._check = check
        self._tell = tell

    def run(self, server: Server, planned: Planned, attempts: Attempts, report: FolderReport) -> None:
        """`report` keeps what earlier attempts have done."""
        if not self._orders.is_dry:
            self._check()
        opened = server.open(planned.listed.raw)
        there = server.uids(opened.messages)
        wanted = there if self._orders.since is None else server.uids(opened.messages, self._orders.since)
        report.there, report.older = len(there), len(there) - len(wanted)
        known = self._moving.folders().get(key_of(planned.listed))
        if self._orders.is_dry:
            self._look(server, planned, opened, known, there, wanted, report)
            return
        folder, is_renumbered = self._folder(server, planned, opened, known, there)
        before = self._moving.uids(folder)
        _Pulling(self, server, folder, planned, attempts, report).all(wanted, before)
        self._flags(server, folder, opened, before, there, report, every=is_renumbered)
        if len(self._moving.uids(folder)) < len(there):  # some may be gone since
            there = server.uids(server.open(planned.listed.raw).messages)
        self._count(folder, there, wanted, attempts, report)
        self._moving.compared(folder, opened.highest_modseq, is_whole=report.is_complete)

    # Where it goes

    def _folder(
        self, server: Server, planned: Planned, opened: Opened, known: MovingFolder | None, there: array[int]
    ) -> tuple[MovingFolder, bool]:
        """The folder, with a mailbox, and whether its numbers are others than before."""
        if known is None:
            known = self._renamed(server, planned, opened, there)
        if known is None:
            mailbox = self._mailbox(planned)
            if planned.listed.subscribed:
                self._account.mailboxes.subscribe(mailbox.name)
            return self._moving.begin(key_of(planned.listed), opened.uidvalidity, mailbox.id), False
        try:
            self._account.mailboxes.by_id(known.mailbox_id)
        except NotFound:  # its owner deleted it: what comes from now on needs one
            known = self._moving.placed(known, self._mailbox(planned).id)
        if known.uidvalidity == opened.uidvalidity:
            return known, False
        self._report.note(
            f"{planned.listed.name}: the other server gave all messages new numbers; they are known by their content."
        )
        return self._moving.renumbered(known, opened.uidvalidity), True

    def _mailbox(self, planned: Planned) -> Mailbox:
        mailboxes = self._account.mailboxes
        try:
            return mailboxes.find(planned.mailbox)
        except NotFound:
            uses = {use for each in mailboxes.list() for use in each.special_use}
            use = planned.special_use
            try:
                return mailboxes.create(planned.mailbox, (use,) if use and use not in uses else ())
            except AlreadyExists:
                return mailboxes.find(planned.mailbox)

    def _renamed(self, server: Server, planned: Planned, opened: Opened, there: array[int]) -> MovingFolder | None:
        """A folder that had another name there before: the same numbers, and the same octets under some of them."""
        present = set(there)
        for key, before in self._moving.folders().items():
            if before.uidvalidity != opened.uidvalidity or self._shown.has(key):
                continue
            uids = [uid for uid in self._moving.uids(before) if uid in present]
            sample = {uids[0], uids[len(uids) // 2], uids[-1]} if uids else set()
            if not sample or not all(self._is_same(server, before, uid) for uid in sample):
                continue
            self._follow(before, planned)
            return self._moving.renamed(before, key_of(planned.listed))
        return None

    def _is_same(self, server: Server, folder: MovingFolder, uid: int) -> bool:
        octets = server.large_body(uid)
        return octets is not None and digest(to_crlf(octets)) == self._moving.digest_of(folder, uid)

    def _follow(self, before: MovingFolder, planned: Planned) -> None:
        """The mailbox is renamed too, if it still has the name that it was given."""
        listed = replace(
            planned.listed, raw=before.folder.encode("latin-1"), name=before.folder, attributes=frozenset()
        )
        was = plan([listed], self._shown.namespaces, Choice())[0].mailbox
        try:
            mailbox = self._account.mailboxes.by_id(before.mailbox_id)
            if mailbox.name == was != INBOX and not mailbox.special_use:
                self._account.mailboxes.rename(was, planned.mailbox)
        except (NotFound, AlreadyExists):
            return

    # A dry run

    def _look(
        self,
        server: Server,
        planned: Planned,
        opened: Opened,
        known: MovingFolder | None,
        there: array[int],
        wanted: array[int],
        report: FolderReport,
    ) -> None:
        moved = (
            set(self._moving.uids(known)) if known is not None and known.uidvalidity == opened.uidvalidity else set()
        )
        new = [uid for uid in wanted if uid not in moved]
        report.pending = len(new)
        report.gone = len(moved.difference(there))
        report.octets = sum(sum(server.sizes(part).values()) for part in _parts(new))
        if known is not None and moved:
            self._tally(known, set(there), report)
        self._say(planned, len(there), len(there), report)

    # Flags

    def _flags(
        self,
        server: Server,
        folder: MovingFolder,
        opened: Opened,
        before: array[int],
        there: array[int],
        report: FolderReport,
        *,
        every: bool,
    ) -> None:
        """Of what had moved before this run; after renumbering of everything."""
        since = folder.highest_modseq if opened.highest_modseq else 0
        if since and since == opened.highest_modseq:
            return
        old, present = set(before), set(there)
        for rows in self._moving.messages(folder):
            asked = [row for row in rows if row.uid in present and (every or row.uid in old)]
            if asked:
                now = server.flags([row.uid for row in asked], since)
                report.flags += self._apply(folder, asked, now)

    def _apply(self, folder: MovingFolder, rows: Sequence[Moved], now: dict[int, Tags]) -> int:
        """Change here what changed there, all messages with the same change together; how many are different now."""
        same: dict[tuple[Tags, Tags], list[int]] = {}
        seen: list[tuple[int, Tags]] = []
        for row in rows:
            tags = now.get(row.uid)
            if tags is None or tags == row.tags:
                continue
            seen.append((row.uid, tags))
            change = changes(row.tags, tags)
            if change and row.here is not None:
                same.setdefault((change.added, change.removed), []).append(row.here)
        changed = 0
        for (added, removed), uids in same.items():
            changed += self._store(folder.mailbox_id, UidSet.of(uids), added, removed)
        if seen:
            self._moving.seen(folder, seen)
        return changed

    def _store(self, mailbox_id: MailboxId, uids: UidSet, added: Tags, removed: Tags) -> int:
        store = self._account.messages.store
        changed: set[int] = set()
        if any(removed):
            done = store(mailbox_id, uids, "remove", removed.flags, sorted(removed.keywords))
            changed.update(uid for uid, _, _ in done.changed)
        if any(added):
            try:
                done = store(mailbox_id, uids, "add", added.flags, sorted(added.keywords))
            except LimitReached:
                self._report.note("Keywords were left out: a mailbox has no room for more of them.")
                done = store(mailbox_id, uids, "add", added.flags)
            changed.update(uid for uid, _, _ in done.changed)
        return len(changed)

    # The end

    def _count(
        self, folder: MovingFolder, there: array[int], wanted: array[int], attempts: Attempts, report: FolderReport
    ) -> None:
        present = set(there)
        self._tally(folder, present, report)
        moved = set(self._moving.uids(folder))
        left = [uid for uid in wanted if uid in present and uid not in moved]
        report.there = len(there)
        report.older = len(there) - sum(uid in present for uid in wanted)
        report.skipped = Counter(attempts.skipped[uid] for uid in left if uid in attempts.skipped)
        report.missing = len(left)
        report.gone = len(moved.difference(present))
        if report.gone and self._orders.delete_gone:
            report.deleted = self._delete(folder, present)

    def _tally(self, folder: MovingFolder, there: set[int], report: FolderReport) -> None:
        report.here = report.removed_here = 0
        for rows in self._moving.messages(folder):
            for row in rows:
                if row.uid in there:
                    report.here += row.here is not None
                    report.removed_here += row.here is None

    def _delete(self, folder: MovingFolder, there: set[int]) -> int:
        """What is gone there goes here, unless its owner moved it elsewhere."""
        deleted = 0
        for rows in self._moving.messages(folder):
            gone = [row for row in rows if row.uid not in there]
            here = UidSet.of(row.here for row in gone if row.here is not None)
            if here:
                self._check()
                deleted += len(self._account.messages.expunge(folder.mailbox_id, here, only_deleted=False).uids)
            if gone:
                self._moving.gone(folder, [row.uid for row in gone])
        return deleted

    def _say(self, planned: Planned, done: int, total: int, report: FolderReport) -> None:
        if self._tell is not None:
            octets = self._report.total("octets")
            self._tell(Progress(planned.listed.name, done, total, octets))


@dataclass(frozen=True, slots=True)
class _Batch:
    uids: list[int]
    octets: int
    is_single: bool = False  # a message that is had in pieces


class _Pulling:
    """New messages of one folder, over one connection."""

    def __init__(
        self,
        pull: FolderPull,
        server: Server,
        folder: MovingFolder,
        planned: Planned,
        attempts: Attempts,
        report: FolderReport,
    ) -> None:
        self._pull = pull
        self._account = pull._account
        self._moving = pull._moving
        self._server = server
        self._folder = folder
        self._planned = planned
        self._attempts = attempts
        self._report = report
        self._present: Present | None = None
        self._attributes: dict[int, Attributes] = {}
        self._done = 0
        self._total = 0

    def all(self, wanted: array[int], before: array[int]) -> None:
        moved = set(before)
        new = [uid for uid in wanted if uid not in moved and uid not in self._attempts.skipped]
        self._done, self._total = len(wanted) - len(new), len(wanted)
        self._tell(0)
        for part in _parts(new):
            again = self._slice(part)
            again = self._slice(again) if again else []
            for uid in again:
                self._attempts.skipped[uid] = _NOT_GIVEN
            self._tell(len(again))

    def _slice(self, uids: Sequence[int]) -> list[int]:
        """Those that the server did not give."""
        rest = self._left(uids)
        self._attributes = self._server.attributes(rest)
        missing = [uid for uid in rest if uid not in self._attributes]
        known = [uid for uid in rest if uid in self._attributes]
        return missing + self._get(known)

    def _left(self, uids: Sequence[int]) -> list[int]:
        """Without those that a crash kept from being recorded."""
        stored = self._moving.delivered(self._folder, uids)
        if stored:
            messages = self._account.messages
            found = []
            for uid, message_id in stored.items():
                try:
                    hashed = digest(messages.read_message(message_id))
                except Gone:
                    hashed = b""
                found.append(Arrived(uid, message_id, hashed, self._moving.tags_here(message_id)))
            self._record(found)
        return [uid for uid in uids if uid not in stored]

    # Getting them

    def _get(self, uids: Sequence[int]) -> list[int]:
        """In their order, so that they stand here as they do there. Those that the server did not give."""
        missing: list[int] = []
        asked: deque[tuple[_Batch, bytes]] = deque()
        for batch in self._cut(uids):
            while asked and (batch.is_single or len(asked) >= _AHEAD):
                missing += self._take(*asked.popleft())
            if batch.is_single:
                self._single(batch.uids[0], missing)
                continue
            allowed = sum(2 * each.octets for each, _ in asked) + 2 * batch.octets
            asked.append((batch, self._server.ask_bodies(batch.uids, allowed)))
        while asked:
            missing += self._take(*asked.popleft())
        return missing

    def _cut(self, uids: Sequence[int]) -> Iterator[_Batch]:
        part: list[int] = []
        octets = 0
        for uid in uids:
            size = max(0, self._attributes[uid].size)
            is_single = bool(self._attempts.doubts[uid]) or size > CHUNK
            if part and (is_single or len(part) >= _BATCH_MESSAGES or octets + size > _BATCH_OCTETS):
                yield _Batch(part, octets)
                part, octets = [], 0
            if is_single:
                yield _Batch([uid], size, is_single=True)
                continue
            part.append(uid)
            octets += size
        if part:
            yield _Batch(part, octets)

    def _take(self, batch: _Batch, tag: bytes) -> list[int]:
        bodies = self._server.receive(tag)
        self._store([(uid, bodies.octets[uid]) for uid in batch.uids if uid in bodies.octets])
        for uid in bodies.empty:
            self._skip(uid, _NIL)
        missing = [uid for uid in batch.uids if uid not in bodies.octets and uid not in bodies.empty]
        if bodies.lost is not None:
            if missing:
                self._doubt(missing[0])
            raise bodies.lost
        return missing

    def _single(self, uid: int, missing: list[int]) -> None:
        """In pieces: the message may be large, or other than the server says."""
        try:
            octets = self._server.large_body(uid)
        except ServerLost:
            self._doubt(uid)
            raise
        except Refused as refused:
            self._skip(uid, refused.said)
            return
        if octets is None:
            missing.append(uid)
        else:
            self._store([(uid, octets)])

    def _doubt(self, uid: int) -> None:
        self._attempts.doubts[uid] += 1
        if self._attempts.doubts[uid] >= _DOUBTS:
            self._skip(uid, _BREAKS)

    def _skip(self, uid: int, reason: str) -> None:
        self._attempts.skipped[uid] = reason
        self._tell(1)

    # Storing them

    def _store(self, bodies: Iterable[tuple[int, bytes]]) -> None:
        new: list[tuple[Arrived, NewMessage]] = []
        present: list[Arrived] = []
        for uid, octets in bodies:
            data = to_crlf(octets)
            attributes = self._attributes[uid]
            arrived = Arrived(uid, _NOBODY, digest(data), attributes.tags)
            found = self._find(data, arrived)
            if found is not None:
                present.append(found)
                continue
            message = NewMessage(
                data,
                flags=attributes.tags.flags,
                keywords=sorted(attributes.tags.keywords),
                internal_date=attributes.internal_date if attributes.internal_date is not None else _sent(data),
                delivery_id=self._folder.delivery_id(uid),
            )
            new.append((arrived, message))
        if present:
            self._record(present)
            self._report.present += len(present)
        if new:
            self._pull._check()
            self._append(new)
        self._attempts.stored += len(present) + len(new)
        self._tell(len(present) + len(new))

    def _find(self, data: bytes, arrived: Arrived) -> Arrived | None:
        if self._present is None:
            self._present = self._moving.present(self._folder)
        found = self._present.find(data, arrived.digest)
        if found is not None:
            return arrived._replace(message_id=found[0], tags=found[1] or arrived.tags)
        if self._planned.is_virtual:
            message_id = self._moving.is_anywhere(arrived.digest)
            if message_id is not None:
                return arrived._replace(message_id=message_id)
        return None

    def _append(self, new: list[tuple[Arrived, NewMessage]]) -> None:
        try:
            appended = self._account.messages.append_many(
                self._folder.mailbox_id, [message for _, message in new], many=True
            )
        except (Unavailable, NotFound, Gone):
            raise
        except CleanmailError as error:
            if len(new) > 1:
                for each in new:
                    self._append([each])
                return
            self._refused(error, *new[0])
            return
        self._report.pulled += len(new)
        self._report.octets += sum(len(message.data) for _, message in new)
        self._record(
            arrived._replace(message_id=each.message_id) for (arrived, _), each in zip(new, appended, strict=True)
        )

    def _refused(self, error: CleanmailError, arrived: Arrived, message: NewMessage) -> None:
        if isinstance(error, OverQuota):
            raise Stopped(f"{error.public} Raise the quota, or make room, and run it again to go on.") from None
        if isinstance(error, AlreadyExists):  # it was stored since
            self._left([arrived.uid])
        elif isinstance(error, LimitReached) and message.keywords:
            self._pull._report.note("Keywords were left out: a mailbox has no room for more of them.")
            self._append([(arrived, replace(message, keywords=()))])
        else:
            self._skip(arrived.uid, error.public)

    def _record(self, arrived: Iterable[Arrived]) -> None:
        rows = list(arrived)
        self._moving.record(self._folder, rows)
        if self._present is not None:
            self._present.took(each.message_id for each in rows)

    def _tell(self, count: int) -> None:
        self._done += count
        self._pull._say(self._planned, self._done, self._total, self._report)


def _parts(uids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(uids), _SLICE):
        yield uids[start : start + _SLICE]


def _sent(data: bytes) -> int | None:
    """The time in the Date field."""
    value = read_header(data).value(b"date")
    sent = parse_date(value) if value else None
    return sent.seconds if sent and sent.seconds >= 0 else None
