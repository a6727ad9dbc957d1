"""Calendars, address books, notes and files of an account, laid down as files that other programs read.

`calendars/<name>/*.ics`, `addressbooks/<name>/*.vcf` and `files/…` hold the octets that clients stored; names, colours,
time zones and properties stand in an index. What an earlier run wrote stays where it is the same, what changed is
written anew, and what went is removed. Lines reach the disk in batches, after the files that they name, so that a run
that was interrupted finds again what it wrote.

A note is here as a VJOURNAL and in the mailbox Notes as a message: restoring joins them again, so none comes twice.

Memory: what the index of an earlier run says of each object, some 400 octets, and a batch of objects.
Raises: as storage.export.account.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import BinaryIO

from storage.collections.properties import home
from storage.collections.values import Collection, Kind, Stored
from storage.errors import Corrupt, NotFound
from storage.export import names
from storage.export.collection_index import (
    ENDINGS,
    FILES,
    ROOTS,
    CollectionLine,
    Line,
    ObjectLine,
    PropertyLine,
    is_place,
    is_shallow,
    packed,
    readable,
    text_of,
    whole_lines,
)
from storage.export.place import Place
from storage.export.values import COLLECTIONS as INDEX
from storage.export.values import COLLECTIONS_BEFORE as INDEX_BEFORE
from storage.export.values import COLLECTIONS_PART as INDEX_PART
from storage.files import durable
from storage.mail.account import Account

_BATCH_LINES = 500
_BATCH_OCTETS = 8 * 1024 * 1024
_SLICE = 500  # rows of objects that are read together
_PART = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
_HOMES = (None, Kind.CALENDAR, Kind.ADDRESS_BOOK, Kind.FOLDER)


def export_collections(account: Account, place: Place) -> tuple[list[str], Mapping[str, int]]:
    """Bring what `place` holds to what the account holds; durable on return."""
    run = _Run(account, place)
    run.run()
    return [INDEX], run.counts


class _Run:
    def __init__(self, account: Account, place: Place) -> None:
        self._account = account
        self._place = place
        self._collections = sorted(account.collections.list(), key=lambda each: each.id)
        self._paths = paths_of(self._collections)
        self._feeds: dict[int, str] = {each.collection_id: each.url for each in account.feeds.list()}
        self._old: dict[int, dict[int, ObjectLine]] = {}
        self._old_paths: dict[int, str] = {}
        self._pending: list[bytes] = []
        self._written = 0
        self.counts = {"collections": 0, "objects": 0, "object_octets": 0, "unreadable_objects": 0}

    def run(self) -> None:
        self._take_up()
        self._clear()
        with open(os.open(self._path(INDEX_PART), _PART, 0o600), "wb") as part:
            for kind in _HOMES:
                collection_id, object_id = home(kind)
                self._properties(part, collection_id, object_id, self._account.collections.home_properties(kind))
            for each in self._collections:
                self._collection(part, each)
            self._flush(part)
        os.rename(self._path(INDEX_PART), self._path(INDEX))
        self._place.settle()
        with suppress(FileNotFoundError):
            os.unlink(self._path(INDEX_BEFORE))

    # What earlier runs wrote

    def _take_up(self) -> None:
        with suppress(FileNotFoundError):
            os.replace(self._path(INDEX_PART), self._path(INDEX_BEFORE))
        for name in (INDEX, INDEX_BEFORE):
            try:
                descriptor = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            except FileNotFoundError:
                continue
            with open(descriptor, "rb") as file:
                self._remember(whole_lines(file))

    def _remember(self, lines: Iterable[Line]) -> None:
        collection: CollectionLine | None = None
        for line in lines:
            if isinstance(line, CollectionLine):
                collection = line if is_place(line) else None
                if collection is not None:
                    self._lose_other_place(line.collection, line.path)
                    self._old_paths[line.collection] = line.path
            elif isinstance(line, ObjectLine) and collection is not None:
                names.parts_of(line.file)
                if line.file.rpartition("/")[0] == collection.path:
                    self._old.setdefault(collection.collection, {})[line.object] = line

    def _lose_other_place(self, number: int, path: str) -> None:
        """Two runs before this one saw a collection under two names."""
        if self._old_paths.get(number, path) != path:
            self._remove(self._old_paths[number], self._old.pop(number, {}).values())

    def _clear(self) -> None:
        """Folders of collections that went, or are called otherwise now; what stands where a folder has to be."""
        for number, path in sorted(self._old_paths.items(), key=lambda each: -each[1].count("/")):
            if self._paths.get(number) != path:
                self._remove(path, self._old.pop(number, {}).values())
        for path in self._paths.values():
            with suppress(FileNotFoundError):
                if stat.S_ISREG(os.lstat(self._path(path)).st_mode) and not self._leads_away(path):
                    os.unlink(self._path(path))

    def _remove(self, path: str, lines: Iterable[ObjectLine]) -> None:
        if self._leads_away(f"{path}/x"):
            return
        for line in lines:
            with suppress(OSError):
                os.unlink(self._path(line.file))
        with suppress(OSError):  # what others put there stays, and the folder with it
            os.rmdir(self._path(path))

    # What there is

    def _collection(self, part: BinaryIO, each: Collection) -> None:
        path = self._paths[each.id]
        self._place.make_folder(path)
        self.counts["collections"] += 1
        line = CollectionLine(
            collection=each.id,
            of=each.kind.value,
            parent=each.parent_id,
            name=each.name,
            path=path,
            display_name=each.display_name,
            description=each.description,
            color=each.color,
            position=each.position,
            timezone=each.timezone,
            components=each.components,
            transparent=each.transparent,
            source=each.source,
            created=each.created,
            modified=each.modified,
            feed=self._feeds.get(each.id, ""),
        )
        self._add(part, line)
        self._properties(part, each.id, 0, self._account.properties.get(each.id))
        self._objects(part, each, path)

    def _objects(self, part: BinaryIO, each: Collection, path: str) -> None:
        old = self._old.pop(each.id, {})
        properties = self._account.properties.get_below(each.id)
        taken = {other.rpartition("/")[2].casefold() for other in self._paths.values() if other.startswith(path + "/")}
        after = 0
        while rows := self._account.objects.some(each.id, after, _SLICE):
            after = rows[-1].object_id
            for batch in _batches(rows):
                lines = self._laid_down(each, path, batch, old, taken)
                for line in lines:
                    self._add(part, line)
                    self.counts["objects"] += 1
                    self.counts["object_octets"] += line.size
                    self._properties(part, each.id, line.object, properties.get(line.object, {}))
        for known in old.values():
            if known.file.rpartition("/")[2].casefold() not in taken and not self._leads_away(known.file):
                with suppress(FileNotFoundError):
                    os.unlink(self._path(known.file))

    def _laid_down(
        self, each: Collection, path: str, batch: Sequence[Stored], old: Mapping[int, ObjectLine], taken: set[str]
    ) -> list[ObjectLine]:
        """The lines of some objects, whose files are there."""
        files: dict[int, str] = {}
        kept: dict[int, ObjectLine] = {}
        for stored in batch:
            name = readable(stored.name, ENDINGS[each.kind], taken)
            taken.add(name.casefold())
            files[stored.object_id] = f"{path}/{name}"
            known = old.get(stored.object_id)
            if known is not None and self._is_same(known, stored, files[stored.object_id]):
                kept[stored.object_id] = _line(stored, known.file, known.sha256)
        for stored, octets in self._read([each for each in batch if each.object_id not in kept]):
            file = files[stored.object_id]
            self._place.write(file, octets, time=stored.modified)
            self._written += len(octets)
            kept[stored.object_id] = _line(stored, file, hashlib.sha256(octets).hexdigest())
        return [kept[stored.object_id] for stored in batch if stored.object_id in kept]

    def _read(self, wanted: Sequence[Stored]) -> list[tuple[Stored, bytes]]:
        objects = self._account.objects
        try:
            return list(objects.read_many(wanted))
        except Corrupt:
            pass
        found = []
        for each in wanted:
            try:
                found.append(objects.read_now(each))
            except NotFound:
                continue
            except Corrupt:
                self.counts["unreadable_objects"] += 1
        return found

    def _is_same(self, known: ObjectLine, stored: Stored, file: str) -> bool:
        if (known.etag, known.size, known.file) != (stored.etag, stored.size, file) or self._leads_away(file):
            return False
        try:
            status = os.lstat(self._path(file))
        except FileNotFoundError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size == known.size

    def _properties(self, part: BinaryIO, collection: int, object_: int, found: Mapping[str, bytes]) -> None:
        for name, value in sorted(found.items()):
            self._add(part, PropertyLine(collection, object_, name, text_of(value)))

    # Writing

    def _add(self, part: BinaryIO, line: Line) -> None:
        self._pending.append(packed(line))
        if len(self._pending) >= _BATCH_LINES or self._written >= _BATCH_OCTETS:
            self._flush(part)

    def _flush(self, part: BinaryIO) -> None:
        """The batch is on the disk, files first."""
        if self._written:
            self._place.settle()
        durable.write_all(part.fileno(), b"".join(self._pending))
        os.fsync(part.fileno())
        self._pending.clear()
        self._written = 0

    def _path(self, name: str) -> str:
        return f"{self._place.path}/{name}"

    def _leads_away(self, file: str) -> bool:
        return self._place.leads_away(file.rpartition("/")[0])


def _line(stored: Stored, file: str, sha256: str) -> ObjectLine:
    return ObjectLine(
        object=stored.object_id,
        name=stored.name,
        file=file,
        size=stored.size,
        sha256=sha256,
        etag=stored.etag,
        content_type=stored.content_type,
        created=stored.created,
        modified=stored.modified,
    )


def _batches(rows: Sequence[Stored]) -> Iterable[Sequence[Stored]]:
    """Some objects of some octets."""
    batch: list[Stored] = []
    octets = 0
    for row in rows:
        if batch and (octets + row.size > _BATCH_OCTETS or len(batch) >= 100):
            yield batch
            batch, octets = [], 0
        batch.append(row)
        octets += row.size
    if batch:
        yield batch


def paths_of(collections: Iterable[Collection]) -> dict[int, str]:
    """The folder of each collection in the archive."""
    known = {each.id: each for each in collections}
    paths: dict[int, str] = {}
    taken: dict[str, set[str]] = {}

    def place(above: str, name: str) -> str:
        called = readable(name, "", taken.setdefault(above, set()))
        taken[above].add(called.casefold())
        return f"{above}/{called}"

    waiting = list(known.values())
    while waiting:
        later = []
        for each in waiting:
            root = ROOTS[each.kind]
            if each.kind is Kind.FOLDER and not each.parent_id and each.name == FILES:
                paths[each.id] = FILES
            elif each.kind is not Kind.FOLDER or each.parent_id not in known:
                paths[each.id] = place(root, each.name)
            elif each.parent_id in paths:
                above = paths[each.parent_id]
                wanted = place(above, each.name)
                paths[each.id] = wanted if is_shallow(wanted) else place(root, f"{each.id} {each.name}"[:80])
            else:
                later.append(each)
        if len(later) == len(waiting):  # a damaged tree
            paths |= {each.id: place(ROOTS[each.kind], each.name) for each in later}
            break
        waiting = later
    return paths
