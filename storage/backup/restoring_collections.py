"""Brings calendars, address books, notes and files back from a backup, beside those that are there now.

Each comes as a collection of its own that is called after the time of the backup, with all that was in it; folders of
files come below one of that name. Nothing that exists is touched, nobody is invited again, and notes come as a calendar
of journal entries, so that none stands in the mailbox Notes twice. Empty collections and those that the server writes
do not come. May be interrupted and repeated: what is there already does not come twice; what is counted is durable.

Raises: NotFound, Unavailable of the account.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from storage.backup.saved import SavedAccount, unreadable
from storage.collections.names import NAME_MAX
from storage.collections.values import Collection, CollectionId, Content, Kind, NewCollection, Stored
from storage.errors import AlreadyExists, CleanmailError, LimitReached, OverQuota
from storage.mail.account import Account

_AT_ONCE = 100
_OCTETS = 8 << 20  # of one batch
_FILES = "files"  # the folder that is the home of files itself


@dataclass(slots=True)
class RestoredCollections:
    """What came back. `stopped` says why it was not all, if it was not."""

    collections: int = 0  # that were made
    objects: int = 0
    present: int = 0  # were restored before
    octets: int = 0  # of `objects`
    unreadable: list[str] = field(default_factory=list)
    stopped: str | None = None


def restore_collections(saved: SavedAccount, account: Account, when: str) -> RestoredCollections:
    """All that the account had; `when` names the time of the backup, as folders of mail are called after it."""
    run = _Run(saved, account, when)
    run.run()
    return run.restored


class _Run:
    def __init__(self, saved: SavedAccount, account: Account, when: str) -> None:
        self._saved = saved
        self._account = account
        self._when = when
        self._ids: dict[int, CollectionId] = {}
        self.restored = RestoredCollections()

    def run(self) -> None:
        there = self._saved.collections()
        filled = _with_parents(there)
        waiting = [each for each in there if each.id in filled and not each.source and each.kind is not Kind.OUTBOX]
        try:
            while waiting and not self.restored.stopped:
                ready = [each for each in waiting if each.parent_id <= 0 or each.parent_id in self._ids]
                for each in ready or waiting[:1]:  # of a damaged tree one goes to the home
                    self._collection(each)
                waiting = [each for each in waiting if each.id not in self._ids]
        except (LimitReached, OverQuota) as error:
            self.restored.stopped = error.public

    def _collection(self, each: Collection) -> None:
        target = self._target(each)
        self._ids[each.id] = target
        after = 0
        while rows := self._saved.objects(each.id, after):
            after = rows[-1].object_id
            known = {stored.name for stored in self._account.objects.find_many(target, [row.name for row in rows])}
            self.restored.present += len(known)
            batch: list[tuple[str, Content]] = []
            octets = 0
            for row in rows:
                content = None if row.name in known else self._read(row)
                if content is None:
                    continue
                batch.append((row.name, content))
                octets += row.size
                if len(batch) >= _AT_ONCE or octets >= _OCTETS:
                    self._put(target, batch)
                    batch, octets = [], 0
            self._put(target, batch)
            if self.restored.stopped:
                return

    def _read(self, row: Stored) -> Content | None:
        try:
            return self._saved.content(row)
        except CleanmailError as error:
            if not unreadable(error):
                raise
            self.restored.unreadable.append(f"entry {row.object_id}")
            return None

    def _put(self, target: CollectionId, batch: Sequence[tuple[str, Content]]) -> None:
        if not batch or self.restored.stopped:
            return
        try:
            self._account.objects.put_many(target, batch)
        except OverQuota as error:
            if len(batch) == 1:
                self.restored.stopped = error.public
                return
            for each in batch:
                self._put(target, [each])
            return
        self.restored.objects += len(batch)
        self.restored.octets += sum(len(content.data) for _, content in batch)

    def _target(self, each: Collection) -> CollectionId:
        """Where it goes; made if no earlier run did."""
        kind = Kind.CALENDAR if each.kind is Kind.INBOX else each.kind
        shown = f"{each.display_name or each.name} ({self._when})"
        if kind is Kind.FOLDER:
            inside = each.parent_id in self._ids
            parent = self._ids[each.parent_id] if inside else self._home()
            name = each.name if inside else self._when if each.name == _FILES else f"{each.name} ({self._when})"
            return self._made(NewCollection(kind, _short(name), parent, display_name=each.display_name))
        name = _short(f"{each.name} ({self._when})")
        color, timezone = each.color, each.timezone
        new = NewCollection(kind, name, 0, shown, each.description, color, None, timezone, each.components, True)
        return self._made(new)

    def _home(self) -> CollectionId:
        return self._made(NewCollection(Kind.FOLDER, _FILES), counts=False)

    def _made(self, new: NewCollection, *, counts: bool = True) -> CollectionId:
        try:
            made = self._account.collections.create(new).id
        except AlreadyExists:
            return self._account.collections.find(new.kind, new.name, new.parent_id).id
        self.restored.collections += counts
        return made


def _short(name: str) -> str:
    while len(name.encode()) > NAME_MAX:
        name = name[1:]
    return name


def _with_parents(there: Iterable[Collection]) -> set[int]:
    """Those in which something is, and the folders that they lie in."""
    known = {each.id: each for each in there}
    found: set[int] = set()
    for each in known.values():
        at: Collection | None = each if each.objects else None
        while at is not None and at.id not in found:
            found.add(at.id)
            at = known.get(CollectionId(at.parent_id))
    return found
