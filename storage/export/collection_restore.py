"""Brings calendars, address books, notes and files of an archive back into an account; and verifies them there.

Into an account whose collections nobody has used they come as they were: those that it was made with get the names and
colours of before, and go if the archive has none of that name. Into one that is in use what is missing is added: an
object that stands under its name, or whose UID is in the collection, does not come twice and stays as it is. Each body
is checked as a client's is; what is refused stays in the archive, and a note says so. Nobody is invited or told again.
May be interrupted and run again; what is counted as imported is durable.

Calendars that the server writes are not brought back: birthdays are made of the contacts, and what comes
from elsewhere is subscribed to and fetched again.

Memory: the lines of collections, and a batch of objects.
Raises: InvalidInput (the archive), Unavailable (run it again).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from storage.collections.collections import CollectionChanges
from storage.collections.defaults import FIRST_COLLECTIONS
from storage.collections.properties import home
from storage.collections.values import Collection, CollectionId, Content, Kind, NewCollection, file_content
from storage.database.database import Transaction
from storage.errors import (
    AlreadyExists,
    CleanmailError,
    Conflict,
    InvalidInput,
    LimitReached,
    NotFound,
    NotPermitted,
    OverQuota,
    Unavailable,
)
from storage.export.archive import ArchiveFolder
from storage.export.collection_index import (
    OBJECT_MAX,
    CollectionLine,
    Line,
    ObjectLine,
    PropertyLine,
    checked_lines,
    octets_of,
)
from storage.export.values import COLLECTIONS
from storage.icalendar.checked import parsed
from storage.icalendar.content import CONTENT_TYPE, calendar_content
from storage.mail.account import Account
from storage.vcard.content import card_content

_BATCH = 100
_BATCH_OCTETS = 8 * 1024 * 1024
_HOMES = {home(kind)[1] for kind in (None, Kind.CALENDAR, Kind.ADDRESS_BOOK, Kind.FOLDER)}
_BOXES = (Kind.INBOX, Kind.OUTBOX)
_FIRST = {(each.kind, each.name) for each in FIRST_COLLECTIONS}


@dataclass(slots=True)
class RestoredCollections:
    """What became of them. `stopped` says why they were not read to their end, if they were not."""

    collections: int = 0  # that were made
    objects: int = 0  # that were imported
    present: int = 0  # objects that were there already
    octets: int = 0  # of the imported ones
    notes: list[str] = field(default_factory=list)
    stopped: str | None = None


# Reading


@contextmanager
def lines_of(archive: ArchiveFolder) -> Iterator[Iterator[Line]]:
    """The lines of the index, in their order; none, where an archive is of mail alone."""
    if COLLECTIONS not in archive.signed.manifest.files:
        yield iter(())
        return
    with open(archive.open(COLLECTIONS), "rb") as file:
        yield checked_lines(file)


def object_of(archive: ArchiveFolder, line: ObjectLine) -> bytes:
    """The octets of an object, checked against the index."""
    octets = archive.read(line.file, min(line.size, OBJECT_MAX))
    if len(octets) != line.size or hashlib.sha256(octets).hexdigest() != line.sha256:
        raise InvalidInput(f"An entry of the archive was changed: {line.file[:200]!r}.")
    return octets


def verify_collections(archive: ArchiveFolder) -> list[str]:
    """That every object is what the index says, and the index what the manifest counts; what else lies there."""
    counted = {"collections": 0, "objects": 0, "object_octets": 0}
    strange: list[str] = []
    folders: dict[str, int] = {}
    path = ""
    with lines_of(archive) as lines:
        for line in lines:
            if isinstance(line, CollectionLine):
                path = line.path
                folders[path] = 0
                counted["collections"] += 1
            elif isinstance(line, ObjectLine):
                object_of(archive, line)
                folders[path] += 1
                counted["objects"] += 1
                counted["object_octets"] += line.size
    counts = archive.signed.manifest.counts
    if any(counts.get(name, 0) != number for name, number in counted.items()):
        raise InvalidInput("The index of the archive's collections does not hold what the manifest counts.")
    for folder, files in folders.items():
        below = sum(other.rpartition("/")[0] == folder for other in folders)
        more = len(archive.listed(folder)) - files - below
        if more > 0:
            strange.append(f"{folder}: {more} files that are not part of the archive")
    return strange


# Bringing back


def restore_collections(account: Account, archive: ArchiveFolder, *, dry_run: bool) -> RestoredCollections:
    run = _Restore(account, archive, dry_run)
    with lines_of(archive) as lines:
        run.collections([line for line in lines if isinstance(line, CollectionLine)])
    if run.is_there:
        with lines_of(archive) as lines:
            run.objects(lines)
    return run.restored


def would_be_restored(archive: ArchiveFolder) -> RestoredCollections:
    """What would come into an account that is not there yet."""
    restored = RestoredCollections()
    left_out = False
    with lines_of(archive) as lines:
        for line in lines:
            if isinstance(line, CollectionLine):
                left_out = bool(line.source)
                is_new = (Kind(line.of), line.name) not in _FIRST
                restored.collections += bool(line.feed) or (is_new and not left_out)
            elif isinstance(line, ObjectLine) and not left_out:
                restored.objects += 1
                restored.octets += line.size
    return restored


class _Restore:
    def __init__(self, account: Account, archive: ArchiveFolder, dry_run: bool) -> None:
        self._account = account
        self._archive = archive
        self._dry_run = dry_run
        self._ids: dict[int, CollectionId | None] = {}  # by the archive's numbers; None: not there, in a dry run
        self._batch: list[tuple[str, Content]] = []
        self._properties: list[tuple[str, PropertyLine]] = []  # of the batch's objects, by their names
        self._octets = 0
        self.is_there = False
        self.restored = RestoredCollections()

    def _note(self, sentence: str) -> None:
        if sentence not in self.restored.notes:
            self.restored.notes.append(sentence)

    # Collections

    def collections(self, lines: list[CollectionLine]) -> None:
        """In one commit, so that who finds an untouched account finds it whole."""
        self.is_there = bool(lines)
        if lines:
            self._account.database.write(lambda transaction: self._make(transaction, lines))
        for line in lines:
            if line.feed:
                self._subscribe(line)

    def _subscribe(self, line: CollectionLine) -> None:
        there = self._account.collections.list(Kind.CALENDAR)
        if any(each.name == line.name for each in there):
            return
        try:
            if not self._dry_run:
                self._account.feeds.subscribe(line.name, line.feed, display_name=line.display_name, color=line.color)
        except Unavailable:
            raise
        except CleanmailError as error:
            self._note(f"A calendar elsewhere was left out: {error.public}")
        else:
            self.restored.collections += 1

    def _make(self, transaction: Transaction, lines: list[CollectionLine]) -> None:
        collections = self._account.collections
        there = collections.list_in(transaction)
        fresh = all(_is_untouched(each) for each in there) and not self._dry_run
        if fresh:
            wanted = {(line.of, line.name) for line in lines}
            for each in there:
                if each.kind not in _BOXES and not each.source and (each.kind.value, each.name) not in wanted:
                    collections.delete_in(transaction, each.id)
        waiting = [line for line in lines if not line.source]
        while waiting:
            ready = [line for line in waiting if not line.parent or line.parent in self._ids]
            if not ready:
                self._note("Folders of the archive lie in folders that it does not have; they were left out.")
                return
            for line in ready:
                known = self._known(there, line)
                if known is None:
                    self._create(transaction, line)
                    continue
                self._ids[line.collection] = known.id
                if fresh and known.kind not in _BOXES:
                    collections.update_in(transaction, known.id, _said(line))
            waiting = [line for line in waiting if line not in ready]

    def _known(self, there: Iterable[Collection], line: CollectionLine) -> Collection | None:
        """The account's collection in the same place; each account has one of each box, whatever it is called."""
        parent = self._ids[line.parent] if line.parent else 0
        for each in there:
            if each.kind.value == line.of and (
                each.kind in _BOXES or (each.parent_id, each.name) == (parent, line.name)
            ):
                return each
        return None

    def _create(self, transaction: Transaction, line: CollectionLine) -> None:
        kind = Kind(line.of)
        if kind in _BOXES:
            return
        self.restored.collections += 1
        self._ids[line.collection] = None
        if self._dry_run:
            return
        parent = (self._ids[line.parent] if line.parent else 0) or 0
        try:
            made = self._account.collections.create_in(
                transaction, NewCollection(kind, line.name, parent, **_said(line))
            )
        except (AlreadyExists, Conflict, InvalidInput, LimitReached, NotPermitted) as error:
            self._note(f"A collection was left out: {error.public}")
            self.restored.collections -= 1
            del self._ids[line.collection]
        else:
            self._ids[line.collection] = made.id

    # Objects

    def objects(self, lines: Iterator[Line]) -> None:
        at: CollectionLine | None = None
        chunk: list[ObjectLine] = []
        last = ""
        for line in lines:
            if self.restored.stopped:
                return
            if isinstance(line, CollectionLine):
                self._take(at, chunk)
                at = line if line.collection in self._ids else None
            elif isinstance(line, ObjectLine):
                if len(chunk) >= _BATCH:
                    self._take(at, chunk)
                last = line.name
                chunk.append(line)
            elif not line.object or not line.collection:
                self._property(line)
            elif at is not None:
                self._properties.append((last, line))
        self._take(at, chunk)

    def _take(self, at: CollectionLine | None, chunk: list[ObjectLine]) -> None:
        """Objects of the collection at hand."""
        lines, properties = list(chunk), self._properties
        chunk.clear()
        self._properties = []
        if at is None or not lines:
            return
        place = self._ids[at.collection]
        there = {} if place is None else {e.name: e for e in self._account.objects.find_many(place, _names(lines))}
        others: set[str] = set()  # that stand there with other octets
        for line in lines:
            if line.name in there:
                self.restored.present += 1
                if any(name == line.name for name, _ in properties):
                    same = self._account.octets.etag(object_of(self._archive, line)) == there[line.name].etag
                    others |= set() if same else {line.name}
                continue
            octets = object_of(self._archive, line)
            try:
                content = _content(Kind(at.of), line, octets)
            except InvalidInput as error:
                self._note(f"An entry was not taken ({line.file[:200]}): {error.public}")
                continue
            self._batch.append((line.name, content))
            self._octets += len(octets)
            if self._octets >= _BATCH_OCTETS:
                self._flush(place)
        self._flush(place)
        if place is not None and not self._dry_run:
            self._set_properties(place, others, properties)

    def _flush(self, place: CollectionId | None) -> None:
        batch, self._batch, self._octets = self._batch, [], 0
        if place is None or self._dry_run:
            self._count(batch)
        elif batch and not self.restored.stopped:
            self._put(place, batch)

    def _put(self, place: CollectionId, batch: list[tuple[str, Content]]) -> None:
        try:
            self._account.objects.put_many(place, batch)
        except Unavailable:
            raise
        except CleanmailError as error:
            if len(batch) > 1:
                for each in batch:
                    if not self.restored.stopped:
                        self._put(place, [each])
            elif isinstance(error, OverQuota):
                self.restored.stopped = error.public
            elif getattr(error, "condition", "") == "no-uid-conflict" or isinstance(error, AlreadyExists):
                self.restored.present += 1
            else:
                self._note(f"An entry was not taken: {error.public}")
        else:
            self._count(batch)

    def _count(self, batch: list[tuple[str, Content]]) -> None:
        self.restored.objects += len(batch)
        self.restored.octets += sum(len(content.data) for _, content in batch)

    # Properties

    def _property(self, line: PropertyLine) -> None:
        """Of a home or a collection; what is there stays."""
        if self._dry_run or (not line.collection and line.object not in _HOMES):
            return
        place = self._ids.get(line.collection) if line.collection else home(None)[0]
        if place is not None:
            self._set(place, line.object, line)

    def _set_properties(self, place: CollectionId, others: set[str], lines: list[tuple[str, PropertyLine]]) -> None:
        for name, line in lines:
            if name not in others:
                try:
                    stored = self._account.objects.find(place, name)
                except NotFound:
                    continue
                self._set(place, stored.object_id, line)

    def _set(self, place: CollectionId, object_id: int, line: PropertyLine) -> None:
        properties = self._account.properties
        if line.name in properties.get(place, object_id):
            return
        try:
            properties.set(place, object_id, line.name, octets_of(line.value))
        except (LimitReached, OverQuota, NotFound) as error:
            self._note(f"A property was left out: {error.public}")


def _said(line: CollectionLine) -> CollectionChanges:
    return {
        "display_name": line.display_name,
        "description": line.description,
        "color": line.color,
        "position": line.position,
        "timezone": line.timezone,
        "components": line.components,
        "transparent": line.transparent,
    }


def _names(lines: Iterable[ObjectLine]) -> list[str]:
    return [line.name for line in lines]


def _content(kind: Kind, line: ObjectLine, octets: bytes) -> Content:
    """Raises InvalidInput for what a client could not store either."""
    if kind is Kind.FOLDER:
        return file_content(octets, line.content_type)
    if kind is Kind.ADDRESS_BOOK:
        return card_content(octets)
    if kind is Kind.CALENDAR:
        return calendar_content(octets)
    found = parsed(octets, allow_method=True)
    return Content(octets, CONTENT_TYPE, found.uid, found.component)


def _is_untouched(each: Collection) -> bool:
    """One that the account was made with, and that nobody has put anything into; or one that the server writes."""
    made = (each.kind, each.name) in _FIRST and each.highest_modseq == 1 and each.modified == each.created
    return made or bool(each.source)
