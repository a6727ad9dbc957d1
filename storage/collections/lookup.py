"""Objects of collections, found and read.

What is read belongs together: a row and the octets that it had at the same moment.

Raises: NotFound, Corrupt, Unavailable, TokenTooOld.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from sqlalchemy import bindparam, func, select

from storage.collections.names import normalised, sought_name
from storage.collections.octets import Octets
from storage.collections.rows import DYING, OBJECT_COLUMNS, WIDTH, stored_of
from storage.collections.synchronisation import Synchronisation
from storage.collections.times import TimeIndex
from storage.collections.values import Changes, CollectionId, Kind, ObjectId, Stored, Times
from storage.database.database import Connection, Database
from storage.database.prepared import Row, prepare
from storage.errors import NotFound
from storage.schema.collections import collection, object_, object_data
from storage.values import AccountId

READ_AT_ONCE = 200  # objects with their octets in one statement
POINT_READS = 200  # names that are looked up one by one; for more the collection is read once
_LOWER = {letter: letter + 32 for letter in range(ord("A"), ord("Z") + 1)}
TRIES = 3  # to read an object that is replaced again and again

_mine = object_.c.account_id == bindparam("account")
_in_collection = (_mine, object_.c.collection_id == bindparam("collection"))
_this = (*_in_collection, object_.c.object_id == bindparam("object"))
_by_name = prepare(select(*OBJECT_COLUMNS).where(*_in_collection, object_.c.name == bindparam("called")))
_by_id = prepare(select(*OBJECT_COLUMNS).where(*_this))
_all = prepare(select(*OBJECT_COLUMNS).where(*_in_collection).order_by(object_.c.object_id))
# lower() of SQLite knows the letters of ASCII and no others.
_by_part_of_uid = prepare(
    select(*OBJECT_COLUMNS)
    .where(*_in_collection, func.instr(func.lower(object_.c.uid), bindparam("part")) > 0)
    .order_by(object_.c.object_id)
)
_entries = prepare(select(object_.c.name, object_.c.etag).where(*_in_collection).order_by(object_.c.object_id))
_some = prepare(
    select(*OBJECT_COLUMNS)
    .where(*_in_collection, object_.c.object_id > bindparam("after"))
    .order_by(object_.c.object_id)
    .limit(bindparam("most"))
)
_names = select(func.json_each(bindparam("names")).table_valued("value").c.value)
_by_names = prepare(select(*OBJECT_COLUMNS).where(*_in_collection, object_.c.name.in_(_names)))
# Covered by its index; the rows are read one by one.
_by_uid = prepare(select(object_.c.collection_id, object_.c.object_id).where(_mine, object_.c.uid == bindparam("uid")))
_living = prepare(
    select(collection.c.kind).where(
        collection.c.account_id == bindparam("account"),
        collection.c.collection_id == bindparam("collection"),
        collection.c.parent_id > DYING,
    )
)
_ids = select(func.json_each(bindparam("ids")).table_valued("value").c.value)
_with_octets = (object_data.c.account_id == object_.c.account_id) & (object_data.c.object_id == object_.c.object_id)
_with_data = prepare(
    select(*OBJECT_COLUMNS, object_data.c.data, object_data.c.file).join(object_data, _with_octets).where(*_this)
)
_with_data_many = prepare(
    select(*OBJECT_COLUMNS, object_data.c.data, object_data.c.file)
    .join(object_data, _with_octets)
    .where(*_in_collection, object_.c.object_id.in_(_ids))
)


class Lookup:
    """Of one account."""

    def __init__(self, database: Database, account_id: AccountId, octets: Octets) -> None:
        self._database = database
        self._account_id = account_id
        self._octets = octets
        self._times = TimeIndex(account_id)
        self._synchronisation = Synchronisation(database, account_id)

    # Finding

    def list(self, collection_id: CollectionId) -> list[Stored]:
        """All of them, oldest first."""
        with self._database.reading() as connection:
            rows = _all.rows(connection, account=self._account_id, collection=collection_id)
        return [Stored(*row) for row in rows]

    def with_uid(self, collection_id: CollectionId, part: str) -> Sequence[Stored]:
        """Those that have `part` in their UID, letters of ASCII without case, oldest first."""
        with self._database.reading() as connection:
            rows = _by_part_of_uid.rows(
                connection, account=self._account_id, collection=collection_id, part=part.translate(_LOWER)
            )
        return [Stored(*row) for row in rows]

    def entries(self, collection_id: CollectionId) -> Sequence[tuple[str, str]]:
        """Names and ETags alone."""
        with self._database.reading() as connection:
            return _entries.rows(connection, account=self._account_id, collection=collection_id)

    def some(self, collection_id: CollectionId, after: int = 0, most: int = 1_000) -> Sequence[Stored]:
        """A slice, in the order of their ids, behind the id `after`."""
        with self._database.reading() as connection:
            return self.some_in(connection, collection_id, after, most)

    def some_in(self, connection: Connection, collection_id: CollectionId, after: int, most: int) -> Sequence[Stored]:
        rows = _some.rows(connection, account=self._account_id, collection=collection_id, after=after, most=most)
        return [Stored(*row) for row in rows]

    def find(self, collection_id: CollectionId, name: str) -> Stored:
        """Raises NotFound."""
        with self._database.reading() as connection:
            found = self.find_in(connection, collection_id, sought_name(name))
        if found is None:
            raise NotFound("There is no such object.")
        return found

    def find_in(self, connection: Connection, collection_id: CollectionId, name: str) -> Stored | None:
        row = _by_name.one(connection, account=self._account_id, collection=collection_id, called=name)
        return None if row is None else stored_of(row)

    def by_id(self, collection_id: CollectionId, object_id: ObjectId) -> Stored:
        """Raises NotFound."""
        with self._database.reading() as connection:
            row = _by_id.one(connection, account=self._account_id, collection=collection_id, object=object_id)
        if row is None:
            raise NotFound("There is no such object.")
        return stored_of(row)

    def find_many(self, collection_id: CollectionId, names: Iterable[str]) -> Sequence[Stored]:
        """Those that are there, in the order of `names`, each once."""
        wanted = tuple(dict.fromkeys(name if name.isascii() else normalised(name) for name in names))
        with self._database.reading() as connection:
            if len(wanted) <= POINT_READS:
                each_found = (self.find_in(connection, collection_id, name) for name in wanted)
                return [each for each in each_found if each is not None]
            rows = _by_names.rows(
                connection, account=self._account_id, collection=collection_id, names=json.dumps(wanted)
            )
        found = {row[2]: Stored(*row) for row in rows}
        return [found[name] for name in wanted if name in found]

    def by_uid(self, uid: str, kinds: tuple[Kind, ...] = (Kind.CALENDAR,)) -> Sequence[Stored]:
        """In all collections of these kinds."""
        with self._database.reading() as connection:
            return self.by_uid_in(connection, uid, kinds)

    def by_uid_in(
        self, connection: Connection, uid: str, kinds: tuple[Kind, ...] = (Kind.CALENDAR,)
    ) -> Sequence[Stored]:
        found = []
        for collection_id, object_id in _by_uid.rows(connection, account=self._account_id, uid=uid):
            scope = {"account": self._account_id, "collection": collection_id}
            living = _living.one(connection, **scope)
            row = _by_id.one(connection, **scope, object=object_id)
            if living is not None and living[0] in kinds and row is not None:
                found.append(stored_of(row))
        return found

    def in_time(
        self, collection_id: CollectionId, start: int, end: int, component: str | None = None
    ) -> Sequence[tuple[Stored, Times]]:
        """Candidates: all of which something may take place in [start, end)."""
        with self._database.reading() as connection:
            found = self._times.between(connection, collection_id, start, end)
        return found if component is None else [each for each in found if each[0].component == component]

    def times(self, stored: Stored) -> Times | None:
        """What the index knows of one object."""
        with self._database.reading() as connection:
            return self.times_in(connection, stored)

    def times_in(self, connection: Connection, stored: Stored) -> Times | None:
        return self._times.of(connection, stored.collection_id, stored.object_id)

    def changes(
        self, collection_id: CollectionId, since_modseq: int, limit: int | None = None, *, begun: int = 0
    ) -> Changes:
        """What changed since a token (storage.collections.tokens). Raises TokenTooOld."""
        return self._synchronisation.changes(collection_id, since_modseq, limit, begun=begun)

    # Reading

    def read(self, stored: Stored) -> bytes:
        """Its octets as they are now. Raises NotFound if it was deleted meanwhile."""
        return self.read_now(stored)[1]

    def read_now(self, stored: Stored) -> tuple[Stored, bytes]:
        """What is there now, its row and its octets of one moment. Raises NotFound."""
        for _ in range(TRIES):
            with self._database.reading() as connection:
                row = _with_data.one(
                    connection,
                    account=self._account_id,
                    collection=stored.collection_id,
                    object=stored.object_id,
                )
            if row is None:
                break
            with suppress(NotFound):  # its file was replaced between the two looks
                now = stored_of(row[:WIDTH])
                return now, self._octets.unpacked(row[WIDTH], row[WIDTH + 1], now.size)
        raise NotFound("There is no such object any more.")

    def read_many(self, objects: Iterable[Stored]) -> Iterator[tuple[Stored, bytes]]:
        """Rows and octets as they are now, in the same order; what is not there any more is left out.

        No read transaction is held while somebody works on them.
        """
        wanted = tuple(objects)
        for start in range(0, len(wanted), READ_AT_ONCE):
            part = wanted[start : start + READ_AT_ONCE]
            found: dict[int, Row] = {}
            for collection_id in dict.fromkeys(each.collection_id for each in part):
                ids = json.dumps([each.object_id for each in part if each.collection_id == collection_id])
                with self._database.reading() as connection:
                    rows = _with_data_many.rows(connection, account=self._account_id, collection=collection_id, ids=ids)
                found |= {row[1]: row for row in rows}
            for each in part:
                row = found.get(each.object_id)
                if row is None:
                    continue
                now = stored_of(row[:WIDTH])
                if row[WIDTH] is not None:
                    yield now, self._octets.unpacked(row[WIDTH], None, now.size)
                    continue
                with suppress(NotFound):
                    yield self.read_now(now)
