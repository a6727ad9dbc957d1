"""Brings events, tasks, notes and cards (.ics, .vcf) into the calendars and address books of an account.

One object for each UID. Where none is named, events go to the calendar, tasks to the tasks, journal entries to the
notes and cards to the contacts that each account has. What is broken is left out and reported with its line; what the
collection has already under its UID stays, or is replaced if that is wanted. Nobody is invited or told: what is
imported was arranged elsewhere. It can be interrupted and run again; when `import_entries` returns, all that it counts
is durable. Objects are taken in batches, one commit each.

Raises: InvalidInput (no such collection kind), NotFound and Unavailable of the account (run it again later).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from storage.archives.archive import Unreadable
from storage.archives.entries import Entry, EntryFiles, EntryKind
from storage.collections.defaults import CALENDAR, CONTACTS, NOTES, TASKS
from storage.collections.values import Collection, CollectionId, Content, Kind, NewCollection, Stored
from storage.errors import CleanmailError, InvalidInput, OverQuota, Unavailable
from storage.icalendar.content import calendar_content
from storage.importing import Failure, Progress
from storage.mail.account import Account
from storage.vcard.content import card_content

_BATCH = 100
_BATCH_OCTETS = 8 * 1024 * 1024
_FAILURES_MAX = 10_000
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,199}\Z")
_HOMES = {"VEVENT": CALENDAR, "VAVAILABILITY": CALENDAR, "VTODO": TASKS, "VJOURNAL": NOTES, "VCARD": CONTACTS}
_ENDINGS = {Kind.CALENDAR: ".ics", Kind.ADDRESS_BOOK: ".vcf"}


@dataclass(slots=True)
class EntryReport:
    """What became of the entries. `stopped` says why they were not read to their end, if they were not."""

    imported: int = 0
    replaced: int = 0
    present: int = 0  # were there already, or stay as they are
    octets: int = 0  # of those imported and replaced
    made: list[str] = field(default_factory=list)  # names of collections
    failed: list[Failure] = field(default_factory=list)
    stopped: str | None = None


def import_entries(
    account: Account,
    files: EntryFiles,
    collection: str = "",
    *,
    replace: bool = False,
    dry_run: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> EntryReport:
    """All of `files`; into the collection of that name (or shown so), which is made if there is none."""
    run = _Import(account, collection, replace=replace, dry_run=dry_run)
    total = files.octets()
    for done, entry in files.entries():
        run.take(entry)
        if run.report.stopped:
            break
        if progress is not None:
            progress(Progress(min(done, total), total, run.report.octets))
    run.flush()
    return run.report


@dataclass(frozen=True, slots=True)
class _Ready:
    origin: str
    place: CollectionId
    name: str
    content: Content
    before: Stored | None


class _Import:
    def __init__(self, account: Account, wanted: str, *, replace: bool, dry_run: bool) -> None:
        self._account = account
        self._wanted = wanted
        self._replace = replace
        self._dry_run = dry_run
        self._places: dict[tuple[Kind, str], Collection | None] = {}  # None: to be made, in a dry run
        self._batch: list[_Ready] = []
        self._octets = 0
        self._seen: set[tuple[str, str, str]] = set()  # of this run: collection and UID
        self.report = EntryReport()

    def take(self, entry: Entry | Unreadable) -> None:
        if isinstance(entry, Unreadable):
            self._failed(entry.origin, entry.reason)
            return
        try:
            content = (calendar_content if entry.kind is EntryKind.CALENDAR else card_content)(entry.octets)
            kind = Kind.CALENDAR if entry.kind is EntryKind.CALENDAR else Kind.ADDRESS_BOOK
            place = self._place(kind, content.component)
        except InvalidInput as error:
            self._failed(entry.origin, error.public)
            return
        if self.report.stopped:
            return
        key = (kind.value, "" if place is None else str(place.id), content.uid or "")
        if key in self._seen:
            self.flush()
            if not self._replace or self._dry_run:
                self.report.present += 1
                return
        self._seen.add(key)
        if place is None:
            self._count(content, None)
            return
        before = self._before(place, content)
        if before is not None and (not self._replace or self._account.octets.etag(content.data) == before.etag):
            self.report.present += 1
            return
        name = self._name(place, content) if before is None else before.name
        self._batch.append(_Ready(entry.origin, place.id, name, content, before))
        self._octets += len(content.data)
        if len(self._batch) >= _BATCH or self._octets >= _BATCH_OCTETS:
            self.flush()

    def _before(self, place: Collection, content: Content) -> Stored | None:
        found = self._account.objects.by_uid(content.uid or "", (place.kind,))
        return next((each for each in found if each.collection_id == place.id), None)

    def _name(self, place: Collection, content: Content) -> str:
        """A name for what is new; another, if somebody stored something else under it."""
        uid, ending = content.uid or "", _ENDINGS[place.kind]
        digest = hashlib.sha256(uid.encode()).hexdigest()[:32] + ending
        if not _PLAIN.match(uid):
            return digest
        taken = self._account.objects.find_many(place.id, [uid + ending])
        return digest if taken else uid + ending

    # Writing

    def flush(self) -> None:
        batch, self._batch, self._octets = self._batch, [], 0
        places = dict.fromkeys(each.place for each in batch)
        for place in places:
            if not self.report.stopped:
                self._put(place, [each for each in batch if each.place == place])

    def _put(self, place: CollectionId, batch: list[_Ready]) -> None:
        try:
            if not self._dry_run:
                self._account.objects.put_many(place, [(each.name, each.content) for each in batch])
        except Unavailable:
            raise  # nothing is wrong with the entries: run it again later
        except CleanmailError as error:
            if len(batch) > 1:
                for each in batch:
                    if not self.report.stopped:
                        self._put(place, [each])
            elif isinstance(error, OverQuota):
                self.report.stopped = error.public
            else:
                self._failed(batch[0].origin, error.public)
        else:
            for each in batch:
                self._count(each.content, each.before)

    def _count(self, content: Content, before: Stored | None) -> None:
        if before is None:
            self.report.imported += 1
        else:
            self.report.replaced += 1
        self.report.octets += len(content.data)

    def _failed(self, origin: str, reason: str) -> None:
        if len(self.report.failed) < _FAILURES_MAX:
            self.report.failed.append(Failure(origin, reason))

    # Where to

    def _place(self, kind: Kind, component: str) -> Collection | None:
        """None: it would be made. Raises what keeps an entry from being stored there."""
        name = self._wanted or _HOMES.get(component, CALENDAR)
        key = (kind, name)
        if key not in self._places:
            self._places[key] = self._find(kind, name, component) or self._made(kind, name, component)
        place = self._places[key]
        if place is not None and place.components and component not in place.components:
            raise InvalidInput(f"{place.name} takes no {component}.")
        return place

    def _find(self, kind: Kind, name: str, component: str) -> Collection | None:
        there = self._account.collections.list(kind)
        found = [each for each in there if each.name == name]
        if self._wanted:
            found = found or [each for each in there if each.display_name == name]
            if len(found) > 1:
                raise InvalidInput(f"Several collections are shown as {name}; say the name in its path.")
        else:  # whoever removed it may have another one for such entries
            fitting = [each for each in there if not each.source and component in (each.components or (component,))]
            found = found or fitting
        if found and found[0].is_read_only:
            raise InvalidInput(f"{name} is written by the server; import into another.")
        return found[0] if found else None

    def _made(self, kind: Kind, name: str, component: str) -> Collection | None:
        self.report.made.append(name)
        if self._dry_run:
            return None
        components = (component,) if kind is Kind.CALENDAR and not self._wanted else ()
        new = NewCollection(kind, name, display_name=name, components=components)
        try:
            return self._account.collections.create(new)
        except Unavailable:
            raise
        except CleanmailError as error:
            self.report.made.pop()
            self.report.stopped = error.public
            return None
