"""The collections of one account: calendars, address books, scheduling boxes and folders of files.

Everything is durable on return. A deleted collection is out of sight at once with all that is below it, its quota given
back; its objects are removed in the background, in slices, and that is taken up again when the account is opened. Ids
are never used again, so a name that is made anew is a new collection for every client.

Raises: NotFound, AlreadyExists, NotPermitted (scheduling boxes stay), Conflict (no such parent), InvalidInput (names,
values), LimitReached, OverQuota. Standards: RFC 4918 §9.3, §9.6, §9.9; RFC 5689; RFC 4791 §5.3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

from sqlalchemy import bindparam, func, insert, select, update

from storage.collections.dying import DyingCollections
from storage.collections.folders import ancestry
from storage.collections.ledger import CollectionLedger
from storage.collections.names import checked_name, sought_name
from storage.collections.properties import Properties, home
from storage.collections.rows import COLUMNS, LIVE, collection_of
from storage.collections.values import Collection, CollectionId, CollectionLimits, Kind, NewCollection
from storage.database.database import Connection, Transaction
from storage.database.prepared import prepare
from storage.errors import AlreadyExists, Conflict, InvalidInput, LimitReached, NotFound, NotPermitted
from storage.schema.collections import collection, object_

_LONGEST = {"display_name": 1_000, "description": 10_000, "color": 64, "timezone": 65_536}

_here = (*LIVE, collection.c.kind == bindparam("kind"), collection.c.parent_id == bindparam("parent"))
_in_order = (collection.c.position.is_(None), collection.c.position, collection.c.collection_id)
_all = prepare(select(*COLUMNS).where(*LIVE).order_by(*_in_order))
_of_kind = prepare(select(*COLUMNS).where(*_here).order_by(*_in_order))
_by_name = prepare(select(*COLUMNS).where(*_here, collection.c.name == bindparam("called")))
_by_id = prepare(select(*COLUMNS).where(*LIVE, collection.c.collection_id == bindparam("collection")))
_count = prepare(select(func.count()).select_from(collection).where(*LIVE))
_insert = prepare(insert(collection))
_object_named = prepare(
    select(object_.c.object_id).where(
        object_.c.account_id == bindparam("account"),
        object_.c.collection_id == bindparam("collection"),
        object_.c.name == bindparam("called"),
    )
)
_update = prepare(
    update(collection)
    .where(*LIVE, collection.c.collection_id == bindparam("collection"))
    .values(
        display_name=bindparam("new_display_name"),
        description=bindparam("new_description"),
        color=bindparam("new_color"),
        position=bindparam("new_position"),
        timezone=bindparam("new_timezone"),
        components=bindparam("new_components"),
        transparent=bindparam("new_transparent"),
        modified=bindparam("now"),
    )
)
_next = func.max(collection.c.highest_modseq + 1, bindparam("least"))
_renew = prepare(
    update(collection)
    .where(collection.c.account_id == bindparam("account"))
    .values(highest_modseq=_next, gone_horizon=_next)
)


class CollectionChanges(TypedDict, total=False):
    """What `Collections.update` may change."""

    display_name: str
    description: str
    color: str
    position: int | None
    timezone: str
    components: tuple[str, ...]
    transparent: bool


class Collections:
    """Of one account."""

    def __init__(self, ledger: CollectionLedger, properties: Properties, dying: DyingCollections) -> None:
        self._ledger = ledger
        self._database = ledger.database
        self._account_id = ledger.account_id
        self._properties = properties
        self._dying = dying

    @property
    def limits(self) -> CollectionLimits:
        """What the account may have at most, beside its quota."""
        return self._ledger.limits

    @limits.setter
    def limits(self, limits: CollectionLimits) -> None:
        self._ledger.limits = limits

    # Looking

    def find(self, kind: Kind, name: str, parent_id: int = 0) -> Collection:
        """Raises NotFound."""
        with self._database.reading() as connection:
            found = self.find_in(connection, kind, sought_name(name), parent_id)
        if found is None:
            raise NotFound("There is no such collection.")
        return found

    def find_in(self, connection: Connection, kind: Kind, name: str, parent_id: int = 0) -> Collection | None:
        row = _by_name.one(connection, account=self._account_id, kind=kind.value, parent=parent_id, called=name)
        return None if row is None else collection_of(row)

    def by_id(self, collection_id: CollectionId) -> Collection:
        """Raises NotFound."""
        with self._database.reading() as connection:
            return self.by_id_in(connection, collection_id)

    def by_id_in(self, connection: Connection, collection_id: CollectionId) -> Collection:
        row = _by_id.one(connection, account=self._account_id, collection=collection_id)
        if row is None:
            raise NotFound("There is no such collection.")
        return collection_of(row)

    def list(self, kind: Kind | None = None, parent_id: int = 0) -> list[Collection]:
        """Those of a kind at one place; without a kind all there are. By their positions."""
        with self._database.reading() as connection:
            return [*self.list_in(connection, kind, parent_id)]

    def list_in(self, connection: Connection, kind: Kind | None = None, parent_id: int = 0) -> Sequence[Collection]:
        if kind is None:
            rows = _all.rows(connection, account=self._account_id)
        else:
            rows = _of_kind.rows(connection, account=self._account_id, kind=kind.value, parent=parent_id)
        return [collection_of(row) for row in rows]

    def path(self, collection_id: CollectionId) -> Sequence[Collection]:
        """A collection with the folders that it lies in, from its home down. Raises NotFound."""
        with self._database.snapshot() as connection:
            found = [self.by_id_in(connection, collection_id)]
            while found[-1].parent_id > 0:
                found.append(self.by_id_in(connection, CollectionId(found[-1].parent_id)))
        return found[::-1]

    def home_properties(self, kind: Kind | None) -> dict[str, bytes]:
        """Dead properties of a kind's home; None: of the principal. `Properties.change(*home(kind))` changes them."""
        return self._properties.get(*home(kind))

    # Changing

    def create(self, new: NewCollection) -> Collection:
        """Raises AlreadyExists, Conflict (its parent is not there)."""
        return self._database.write(lambda transaction: self.create_in(transaction, new))

    def create_in(self, transaction: Transaction, new: NewCollection) -> Collection:
        name = checked_name(new.name)
        self.check_place(transaction, new.kind, name, new.parent_id)
        if _count.rows(transaction, account=self._account_id)[0][0] >= self._ledger.limits.collections:
            raise LimitReached("There are as many calendars, address books and folders as there may be.")
        self.check_depth(transaction, new.parent_id, 1)
        now = self._ledger.now()
        values: dict[str, Any] = {
            "display_name": new.display_name,
            "description": new.description,
            "color": new.color,
            "timezone": new.timezone,
        }
        _check_lengths(values)
        collection_id = CollectionId(self._ledger.take(transaction, "collection_id"))
        _insert.run(
            transaction,
            account_id=self._account_id,
            collection_id=collection_id,
            kind=new.kind.value,
            parent_id=new.parent_id,
            name=name,
            **values,
            position=new.position,
            components=" ".join(new.components),
            transparent=new.transparent,
            source=new.source,
            highest_modseq=1,
            gone_horizon=0,
            objects=0,
            bytes=0,
            created=now,
            modified=now,
        )
        if new.properties:
            self._properties.change_in(transaction, collection_id, put=new.properties)
        self._ledger.changed(transaction, collection_id, 1)
        return self.by_id_in(transaction, collection_id)

    def update(self, collection_id: CollectionId, **changes: Unpack[CollectionChanges]) -> Collection:
        """What is not named stays. Its sync token stays too: that is about objects. Raises NotFound."""
        return self._database.write(lambda transaction: self.update_in(transaction, collection_id, changes))

    def update_in(
        self, transaction: Transaction, collection_id: CollectionId, changes: CollectionChanges
    ) -> Collection:
        now = self.by_id_in(transaction, collection_id)
        _check_lengths(dict(changes))
        _update.run(
            transaction,
            account=self._account_id,
            collection=collection_id,
            new_display_name=changes.get("display_name", now.display_name),
            new_description=changes.get("description", now.description),
            new_color=changes.get("color", now.color),
            new_position=changes.get("position", now.position),
            new_timezone=changes.get("timezone", now.timezone),
            new_components=" ".join(changes.get("components", now.components)),
            new_transparent=changes.get("transparent", now.transparent),
            now=self._ledger.now(),
        )
        self._ledger.changed(transaction, collection_id, now.highest_modseq)
        return self.by_id_in(transaction, collection_id)

    def delete(self, collection_id: CollectionId) -> None:
        """With everything below it. Raises NotFound, NotPermitted."""
        self._database.write(lambda transaction: self.delete_in(transaction, collection_id))

    def delete_in(self, transaction: Transaction, collection_id: CollectionId) -> None:
        found = self.by_id_in(transaction, collection_id)
        if found.kind in (Kind.INBOX, Kind.OUTBOX):
            raise NotPermitted("Every account keeps its inbox and outbox for scheduling.")
        self._dying.hide(transaction, found)

    def renew_in(self, transaction: Transaction, now: int) -> None:
        """After rows came from somewhere else: no token of before is valid (RFC 6578 §3.2), no modseq is used again.

        Nobody makes a million changes a second, so no collection has come to where all are now.
        """
        _renew.run(transaction, account=self._account_id, least=now * 1_000_000)

    # For who places collections (storage.collections.transfers)

    def check_place(self, connection: Connection, kind: Kind, name: str, parent_id: int) -> None:
        """Raises AlreadyExists, Conflict (no such folder), NotPermitted (nothing of that kind lies there)."""
        if parent_id:
            if kind is not Kind.FOLDER:
                raise NotPermitted("Only folders lie in folders.")
            row = _by_id.one(connection, account=self._account_id, collection=parent_id)
            if row is None or collection_of(row).kind is not Kind.FOLDER:
                raise Conflict("There is no such folder.")
            if _object_named.one(connection, account=self._account_id, collection=parent_id, called=name):
                raise AlreadyExists("A file has this name.")
        if self.find_in(connection, kind, name, parent_id) is not None:
            raise AlreadyExists("Something has this name already.")

    def check_depth(self, connection: Connection, parent_id: int, height: int) -> None:
        """Raises LimitReached."""
        if parent_id and len(ancestry(connection, self._account_id, parent_id)) + height > self._ledger.limits.depth:
            raise LimitReached("Folders lie in each other as deep as they may.")


def _check_lengths(values: dict[str, Any]) -> None:
    for name, longest in _LONGEST.items():
        if len(str(values.get(name, "")).encode()) > longest:
            raise InvalidInput(f"The {name.replace('_', ' ')} is longer than {longest} octets.")
