"""Calendars elsewhere that an account subscribes to: where they come from, when they are due, and what is in them.

The calendar of a feed is a collection of source "feed": the server writes it, its owner reads. Row and collection are
made in one commit and go in one. Who fetches claims a feed for a while; what a crash leaves is due again after that.
`replace` changes only what changed: an object that says the same keeps its octets and its ETag, whatever its DTSTAMP
(many servers write the time of the request into it).

Raises: InvalidInput (no such URL), NotFound, LimitReached, StorageFull, Unavailable.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select, update

from storage.clock import Clock
from storage.collections.collections import Collections
from storage.collections.objects import Objects
from storage.collections.urls import feed_url
from storage.collections.values import Collection, CollectionId, Content, Kind, NewCollection
from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.errors import InvalidInput, LimitReached, NotFound
from storage.schema.collections import feed
from storage.values import AccountId

SOURCE = "feed"
COMPONENTS = ("VEVENT", "VTODO")
FEEDS_MAX = 30  # of one account
OBJECTS_MAX = 20_000  # of one feed
EVERY = 6 * 3600  # seconds between two fetches
EVERY_LEAST, EVERY_MOST = 3600, 14 * 86_400
_CLAIM = 900  # seconds that who fetches has for it
_FIRST_PAUSE = 900  # seconds after a failure; each further one doubles it
_LONGEST_PAUSE = 2 * 86_400
_JITTER = 0.1  # part of a pause by which it differs, so that feeds of one server do not come together
_REMOVED_AT_ONCE = 500
_PROBLEM_MAX = 500  # characters

_STAMP = re.compile(rb"^DTSTAMP[;:][^\n]*\n", re.IGNORECASE | re.MULTILINE)

_COLUMNS = (
    feed.c.collection_id,
    feed.c.url,
    feed.c.every,
    feed.c.due,
    feed.c.fetched,
    feed.c.validators,
    feed.c.failures,
    feed.c.problem,
)
_MINE = feed.c.account_id == bindparam("account")
_THIS = (_MINE, feed.c.collection_id == bindparam("collection"))
_ALL = prepare(select(*_COLUMNS).where(_MINE).order_by(feed.c.collection_id))
_ONE = prepare(select(*_COLUMNS).where(*_THIS))
_COUNT = prepare(select(func.count()).select_from(feed).where(_MINE))
_NEXT = prepare(select(func.min(feed.c.due)).where(_MINE))
_INSERT = prepare(insert(feed))
_CLAIM_DUE = prepare(
    update(feed).where(_MINE, feed.c.due <= bindparam("now")).values(due=bindparam("until")).returning(*_COLUMNS)
)
_SET = prepare(
    update(feed)
    .where(*_THIS)
    .values(url=bindparam("from_"), every=bindparam("seconds"), due=bindparam("now"), validators="{}", failures=0)
)
_DONE = prepare(
    update(feed)
    .where(*_THIS, feed.c.url == bindparam("from_"))
    .values(
        due=bindparam("again"),
        fetched=bindparam("now"),
        validators=bindparam("validated"),
        failures=0,
        problem=bindparam("words"),
    )
)
_FAILED = prepare(
    update(feed)
    .where(*_THIS, feed.c.url == bindparam("from_"))
    .values(due=bindparam("again"), failures=feed.c.failures + 1, problem=bindparam("words"))
)
_DELETE = prepare(delete(feed).where(*_THIS))


@dataclass(frozen=True, slots=True)
class Feed:
    collection_id: CollectionId
    url: str = field(repr=False)
    every: int  # seconds
    due: int  # Unix seconds
    fetched: int | None  # when it was last found whole
    validators: Mapping[str, str] = field(repr=False)  # of the answer: etag, last_modified
    failures: int  # in a row
    problem: str  # of the last attempt, in a sentence; empty: none


@dataclass(frozen=True, slots=True)
class Replaced:
    """What became of the objects of a feed."""

    put: int
    removed: int
    kept: int
    left_out: int  # broken, of another kind, or beyond the limit


class Feeds:
    """Of one account."""

    def __init__(
        self, database: Database, account_id: AccountId, collections: Collections, objects: Objects, clock: Clock
    ) -> None:
        self._database = database
        self._account_id = account_id
        self._collections = collections
        self._objects = objects
        self._clock = clock

    # Looking

    def list(self) -> list[Feed]:
        with self._database.reading() as connection:
            return [_feed(row) for row in _ALL.rows(connection, account=self._account_id)]

    def find(self, collection_id: CollectionId) -> Feed | None:
        with self._database.reading() as connection:
            row = _ONE.one(connection, account=self._account_id, collection=collection_id)
        return None if row is None else _feed(row)

    def next_due(self) -> int | None:
        """When the first is due; None: there is none."""
        with self._database.reading() as connection:
            row = _NEXT.one(connection, account=self._account_id)
        return None if row is None else row[0]

    # Subscribing

    def subscribe(
        self, name: str, url: str, *, display_name: str = "", color: str = "", every: int = EVERY
    ) -> Collection:
        """A new calendar under that name, due at once. Raises AlreadyExists."""
        new = NewCollection(
            Kind.CALENDAR,
            name,
            display_name=display_name,
            color=color,
            components=COMPONENTS,
            transparent=True,
            source=SOURCE,
        )
        address = self.checked(url, every)

        def work(transaction: Transaction) -> Collection:
            made = self._collections.create_in(transaction, new)
            self._insert(transaction, made.id, address, every)
            return made

        return self._database.write(work)

    def checked(self, url: str, every: int = EVERY) -> str:
        """The URL as it is fetched. Raises InvalidInput."""
        if not EVERY_LEAST <= every <= EVERY_MOST:
            raise InvalidInput("A feed is fetched each hour at most, and each fortnight at least.")
        return feed_url(url)

    def check_room(self) -> None:
        """Raises LimitReached."""
        with self._database.reading() as connection:
            self._check_room(connection)

    def _check_room(self, connection: Any) -> None:
        row = _COUNT.one(connection, account=self._account_id)
        if row is not None and row[0] >= FEEDS_MAX:
            raise LimitReached(f"The account subscribes to {FEEDS_MAX} calendars elsewhere; leave one first.")

    def put(self, collection_id: CollectionId, url: str, every: int = EVERY) -> None:
        """Where a calendar of source "feed" comes from, from now on. Raises NotFound."""
        address = self.checked(url, every)

        def work(transaction: Transaction) -> None:
            if self._collections.by_id_in(transaction, collection_id).source != SOURCE:
                raise NotFound("This calendar comes from nowhere else.")
            scope = {"account": self._account_id, "collection": collection_id}
            now = self._clock.now()
            if not _SET.run(transaction, **scope, from_=address.encode(), seconds=every, now=now):
                self._insert(transaction, collection_id, address, every)

        self._database.write(work)

    def _insert(self, transaction: Transaction, collection_id: CollectionId, url: str, every: int) -> None:
        self._check_room(transaction)
        _INSERT.run(
            transaction,
            account_id=self._account_id,
            collection_id=collection_id,
            url=url.encode(),
            every=every,
            due=self._clock.now(),
            fetched=None,
            validators="{}",
            failures=0,
            problem="",
        )

    def forget_in(self, transaction: Transaction, collection_ids: Sequence[int]) -> None:
        """Collections that are being deleted."""
        for each in collection_ids:
            _DELETE.run(transaction, account=self._account_id, collection=each)

    # Fetching

    def claim_due(self) -> Sequence[Feed]:
        """Those that are due, for who fetches them now."""
        due = self.next_due()
        now = self._clock.now()
        if due is None or due > now:
            return ()
        return self._database.write(
            lambda t: [_feed(row) for row in _CLAIM_DUE.rows(t, account=self._account_id, now=now, until=now + _CLAIM)]
        )

    def succeeded(self, of: Feed, validators: Mapping[str, str], problem: str = "") -> None:
        """`problem`: what of it could not be taken, in a sentence."""
        self._database.write(
            lambda t: _DONE.run(
                t,
                account=self._account_id,
                collection=of.collection_id,
                from_=of.url.encode(),
                again=self._clock.now() + _about(of.every),
                now=self._clock.now(),
                validated=json.dumps(dict(validators)),
                words=problem[:_PROBLEM_MAX],
            )
        )

    def failed(self, of: Feed, problem: str) -> None:
        """What is there stays; it is tried again after a pause that grows."""
        pause = min(_FIRST_PAUSE * 2 ** min(of.failures, 20), max(of.every, _LONGEST_PAUSE))
        self._database.write(
            lambda t: _FAILED.run(
                t,
                account=self._account_id,
                collection=of.collection_id,
                from_=of.url.encode(),
                again=self._clock.now() + _about(pause),
                words=problem[:_PROBLEM_MAX],
            )
        )

    def replace(
        self, collection_id: CollectionId, bodies: Iterable[bytes], checked: Callable[[bytes], Content]
    ) -> Replaced:
        """Make the calendar hold these objects; `checked` raises InvalidInput for what cannot be kept."""
        before: dict[bytes, str] = {}  # what an object says → its name
        for stored, data in self._objects.read_many(self._objects.list(collection_id)):
            before[_said(data)] = stored.name
        kept: set[str] = set()
        new: dict[str, Content] = {}
        left_out = 0
        for number, data in enumerate(bodies):
            name = before.get(_said(data))
            if name is not None:
                kept.add(name)
                continue
            try:
                if number >= OBJECTS_MAX:
                    raise InvalidInput("There are too many.")
                content = checked(data)
            except InvalidInput:
                left_out += 1
                continue
            if content.component not in COMPONENTS or content.uid is None:
                left_out += 1
                continue
            new[_name_of(content.uid)] = replace(content, is_scheduling=False)  # nobody here answers for it
        gone = [name for name in before.values() if name not in kept and name not in new]
        for start in range(0, len(gone), _REMOVED_AT_ONCE):
            self._remove(collection_id, gone[start : start + _REMOVED_AT_ONCE])
        put = self._objects.put_many(collection_id, new.items(), by_server=True)
        return Replaced(put, len(gone), len(kept), left_out)

    def _remove(self, collection_id: CollectionId, names: Sequence[str]) -> None:
        def work(transaction: Transaction) -> None:
            for name in names:
                self._objects.delete_in(transaction, collection_id, name, by_server=True)

        self._database.write(work)


def _said(data: bytes) -> bytes:
    return hashlib.blake2b(_STAMP.sub(b"", data), digest_size=20).digest()


def _name_of(uid: str) -> str:
    return hashlib.blake2b(uid.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() + ".ics"


def _about(seconds: int) -> int:
    return int(seconds * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311 - nothing depends on it


def _feed(row: Any) -> Feed:
    return Feed(
        CollectionId(row[0]), bytes(row[1]).decode(), row[2], row[3], row[4], json.loads(row[5]), row[6], row[7]
    )
