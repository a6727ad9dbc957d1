"""Birthdays and anniversaries of an account's cards as a calendar, kept in the transaction that changes a card.

The calendar is made with the first birthday, so that nobody has an empty one; its owner only reads it. Who deletes it
does not want it: it does not come back until he says so. An event depends on its card alone, so an unchanged one keeps
its ETag. Of two cards with one UID the one that was stored last counts.

A follower of address books (storage.collections.follow). `mend` makes the calendar say what the cards say.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from sqlalchemy import bindparam, select
from sqlalchemy.dialects.sqlite import insert as upsert

from storage.clock import Clock
from storage.collections.collections import Collections
from storage.collections.objects import Objects
from storage.collections.octets import Octets
from storage.collections.values import Collection, CollectionId, Content, Kind, NewCollection, Stored
from storage.database.database import Connection, Database, Transaction
from storage.database.prepared import prepare
from storage.errors import AlreadyExists, InvalidInput, LimitReached, NotFound
from storage.icalendar.content import calendar_content
from storage.schema.account import info
from storage.schema.collections import collection as table
from storage.values import AccountId
from storage.vcard.birthday import Anniversary, Occasion, anniversaries, anniversary_event
from storage.vcard.card import read_card

SOURCE = "birthdays"
NAMES = ("birthdays", "birthdays-of-contacts")  # the second, where its owner has something else under the first
_WANTED = "birthdays"  # in table info: "off", where its owner does not want it
_OFF = "off"
_AT_ONCE = 100  # cards mended in one transaction

_READ = prepare(
    select(info.c.value).where(info.c.account_id == bindparam("account"), info.c.name == bindparam("called"))
)
_put = upsert(info)
_WRITE = prepare(
    _put.on_conflict_do_update(index_elements=[info.c.account_id, info.c.name], set_={"value": _put.excluded["value"]})
)
_CALENDAR = prepare(
    select(table.c.collection_id).where(
        table.c.account_id == bindparam("account"), table.c.parent_id == 0, table.c.source == SOURCE
    )
)


class Birthdays:
    """Of one account."""

    def __init__(
        self,
        database: Database,
        account_id: AccountId,
        collections: Collections,
        objects: Objects,
        octets: Octets,
        clock: Clock,
    ) -> None:
        self._database = database
        self._account_id = account_id
        self._collections = collections
        self._objects = objects
        self._octets = octets
        self._clock = clock

    # Following address books

    def stored(
        self, transaction: Transaction, collection: Collection, before: Stored | None, after: Stored, content: Content
    ) -> None:
        if collection.kind is Kind.ADDRESS_BOOK:
            self._derive(transaction, after.uid, _days(content.data))

    def removed(self, transaction: Transaction, collection: Collection, stored: Stored) -> None:
        if collection.kind is not Kind.ADDRESS_BOOK or stored.uid is None:
            return
        left = self._objects.by_uid_in(transaction, stored.uid, (Kind.ADDRESS_BOOK,))
        days = _days(self._octets.read_in(transaction, left[-1].object_id, left[-1].size)) if left else []
        self._derive(transaction, stored.uid, days)

    def leaving_in(self, transaction: Transaction, collection_ids: Sequence[int]) -> None:
        """Collections that are being deleted: its owner does not want the calendar, if it is among them."""
        found = self._calendar(transaction)
        if found is not None and found in collection_ids:
            self._write(transaction, _OFF)

    def _derive(self, transaction: Transaction, uid: str | None, days: Sequence[Anniversary]) -> None:
        """Make the calendar say of one card what it says."""
        calendar = self._calendar(transaction)
        if calendar is None:
            if not days or not self._is_wanted(transaction):
                return
            calendar = self._make(transaction)
            if calendar is None:
                return
        wanted = {_name(day): day for day in days}
        for name in _names(uid):
            if name not in wanted:
                self._remove(transaction, calendar, name)
        for name, day in wanted.items():
            self._store(transaction, calendar, name, anniversary_event(day))

    def _store(self, transaction: Transaction, calendar: CollectionId, name: str, data: bytes) -> None:
        before = self._objects.find_in(transaction, calendar, name)
        if before is not None and before.etag == self._octets.etag(data):
            return
        with suppress(LimitReached, InvalidInput):  # a card is not refused because of its birthday
            packed = self._octets.pack(calendar_content(data), "", self._clock.now())  # small: there is no file
            self._objects.put_in(transaction, calendar, name, packed, by_server=True, told=False)

    def _remove(self, transaction: Transaction, calendar: CollectionId, name: str) -> None:
        if self._objects.find_in(transaction, calendar, name) is not None:
            self._objects.delete_in(transaction, calendar, name, by_server=True, told=False)

    # The calendar

    def _calendar(self, connection: Connection) -> CollectionId | None:
        row = _CALENDAR.one(connection, account=self._account_id)
        return None if row is None else CollectionId(row[0])

    def _make(self, transaction: Transaction) -> CollectionId | None:
        """None: there is no place for it."""
        for name in NAMES:
            new = NewCollection(
                Kind.CALENDAR,
                name,
                display_name="Birthdays",
                components=("VEVENT",),
                transparent=True,
                source=SOURCE,
            )
            try:
                return self._collections.create_in(transaction, new).id
            except AlreadyExists:
                continue
            except LimitReached:
                return None
        return None

    def _is_wanted(self, connection: Connection) -> bool:
        row = _READ.one(connection, account=self._account_id, called=_WANTED)
        return row is None or row[0] != _OFF

    def _write(self, transaction: Transaction, value: str) -> None:
        _WRITE.run(transaction, account_id=self._account_id, name=_WANTED, value=value)

    @property
    def are_shown(self) -> bool:
        """Whether there is such a calendar, or will be with the first birthday."""
        with self._database.reading() as connection:
            return self._is_wanted(connection)

    def show(self) -> None:
        """Its owner wants it (again)."""
        self._database.write(lambda transaction: self._write(transaction, ""))
        self.mend()

    def hide(self) -> None:
        """He does not."""

        def work(transaction: Transaction) -> None:
            self._write(transaction, _OFF)
            found = self._calendar(transaction)
            if found is not None:
                self._collections.delete_in(transaction, found)

        self._database.write(work)

    # Mending

    def mend(self) -> int:
        """What the calendar says otherwise than the cards is put right; how many events."""
        with self._database.reading() as connection:
            if not self._is_wanted(connection):
                return 0
            calendar = self._calendar(connection)
        there = {} if calendar is None else {each.name: each.etag for each in self._objects.list(calendar)}
        wanted: dict[str, tuple[str, str]] = {}  # by name: the ETag, and the UID of the card
        for book in self._collections.list(Kind.ADDRESS_BOOK):
            for stored, data in self._objects.read_many(self._objects.list(book.id)):
                for day in _days(data):
                    wanted[_name(day)] = self._octets.etag(anniversary_event(day)), stored.uid or ""
        wrong = {uid for name, (etag, uid) in wanted.items() if there.get(name) != etag}
        surplus = [name for name in there if name not in wanted]
        uids = sorted(wrong)
        for start in range(0, len(uids), _AT_ONCE):
            self._database.write(partial(self._again, uids=uids[start : start + _AT_ONCE]))
        for start in range(0, len(surplus), _AT_ONCE):
            self._database.write(partial(self._remove_all, names=surplus[start : start + _AT_ONCE]))
        return len(uids) + len(surplus)

    def _again(self, transaction: Transaction, uids: Sequence[str]) -> None:
        for uid in uids:
            found = self._objects.by_uid_in(transaction, uid, (Kind.ADDRESS_BOOK,))
            if found:
                with suppress(NotFound):
                    data = self._octets.read_in(transaction, found[-1].object_id, found[-1].size)
                    self._derive(transaction, uid, _days(data))

    def _remove_all(self, transaction: Transaction, names: Sequence[str]) -> None:
        calendar = self._calendar(transaction)
        if calendar is not None:
            for name in names:
                self._remove(transaction, calendar, name)


def _days(data: bytes) -> list[Anniversary]:
    """None of what cannot be read, or where nothing but noise stands for a date."""
    upper = data.upper()
    if b"BDAY" not in upper and b"ANNIVERSARY" not in upper:  # folds are rarely that cruel, and `mend` reads the same
        return []
    try:
        return anniversaries(read_card(data))
    except InvalidInput:
        return []


def _name(day: Anniversary) -> str:
    return f"{day.uid}.ics"


def _names(uid: str | None) -> list[str]:
    """What the events of a card may be called."""
    if not uid:
        return []
    return [_name(Anniversary(uid, "", occasion, 1, 1, None)) for occasion in Occasion]
