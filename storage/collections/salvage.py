"""What an account that is made anew keeps of its collections: the rows of the old database as far as they can be read,
and for what it lost the large objects, whose files say where they belong.

Small objects stand in the database alone. Sync tokens of before are not valid afterwards, since rows may be missing;
nor are ids of before given out again, though nothing may say any more which there were. What has no place any more,
since a file says where it was when it was written, comes back in a collection named `FOUND`. When events take place is
worked out anew. Whoever calls holds the account for himself; nobody follows yet what is written here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Table, bindparam, delete, func, select, text, update
from sqlalchemy.dialects.sqlite import insert as upsert

from storage.collections.collections import Collections
from storage.collections.conditions import Violated
from storage.collections.defaults import COUNTERS, FIRST_COLLECTIONS
from storage.collections.objects import Objects
from storage.collections.octets import Octets, Packed
from storage.collections.values import CollectionId, Content, Kind, NewCollection, Stored, Times, file_content
from storage.database.database import Database, Transaction
from storage.database.driver import Driver, Error, connect, database_key
from storage.database.prepared import Row, prepare
from storage.errors import (
    AlreadyExists,
    CleanmailError,
    Conflict,
    Corrupt,
    InvalidInput,
    LimitReached,
    NotFound,
    Unavailable,
)
from storage.files.maildir import Maildir
from storage.keys.sealing import Key
from storage.mail import quota
from storage.mail.quota import UNLIMITED
from storage.schema.account import counter
from storage.schema.collections import (
    collection,
    feed,
    object_,
    object_data,
    object_time,
    object_unlink,
    property_,
    scheduled,
    scheduling,
)
from storage.values import AccountId

BATCH = 500  # rows of one commit
FOUND = "Found"  # a collection of each kind, of objects whose own place is taken
_TABLES = (collection, object_, object_data, object_time, property_, scheduling, scheduled, feed, object_unlink)
_INSERT = {table.name: prepare(upsert(table).on_conflict_do_nothing()) for table in _TABLES}
_forget_defaults = prepare(delete(collection).where(collection.c.account_id == bindparam("account")))
_raise_counter = prepare(
    update(counter)
    .where(counter.c.account_id == bindparam("account"), counter.c.name == bindparam("which"))
    .values(value=func.max(counter.c.value, bindparam("least")))
)
_files_named = prepare(
    select(object_data.c.object_id, object_data.c.file).where(
        object_data.c.account_id == bindparam("account"), object_data.c.file.is_not(None)
    )
)
_octets_of = prepare(
    select(object_data.c.object_id, object_data.c.data, object_data.c.file).where(
        object_data.c.account_id == bindparam("account"),
        object_data.c.object_id.between(bindparam("first"), bindparam("last")),
    )
)
_files_to_go = prepare(select(object_unlink.c.file).where(object_unlink.c.account_id == bindparam("account")))
_forget_data = prepare(
    delete(object_data).where(
        object_data.c.account_id == bindparam("account"), object_data.c.object_id == bindparam("object")
    )
)
# Halves of objects that a damaged database has left go, then what counts is counted anew.
_REPAIRS = tuple(
    prepare(text(sql))
    for sql in (
        "DELETE FROM collection WHERE account_id = :account AND parent_id < 0",
        """DELETE FROM collection WHERE account_id = :account AND parent_id > 0 AND collection_id NOT IN
             (WITH RECURSIVE down(id) AS (
                SELECT collection_id FROM collection WHERE account_id = :account AND parent_id = 0
                UNION SELECT c.collection_id FROM collection c JOIN down ON c.account_id = :account
                  AND c.parent_id = down.id) SELECT id FROM down)""",
        """DELETE FROM object WHERE account_id = :account AND (collection_id NOT IN
             (SELECT collection_id FROM collection WHERE account_id = :account) OR object_id NOT IN
             (SELECT object_id FROM object_data WHERE account_id = :account))""",
        """DELETE FROM object_data WHERE account_id = :account AND object_id NOT IN
             (SELECT object_id FROM object WHERE account_id = :account)""",
        """DELETE FROM object_time WHERE account_id = :account AND NOT EXISTS (SELECT 1 FROM object o
             WHERE o.account_id = :account AND o.collection_id = object_time.collection_id
               AND o.object_id = object_time.object_id)""",
        """DELETE FROM property WHERE account_id = :account AND collection_id > 0 AND NOT EXISTS (SELECT 1 FROM object o
             WHERE o.account_id = :account AND o.collection_id = property.collection_id
               AND o.object_id = property.object_id) AND NOT (object_id = 0 AND collection_id IN
             (SELECT collection_id FROM collection WHERE account_id = :account))""",
        """UPDATE collection SET
             objects = (SELECT count(*) FROM object o
               WHERE o.account_id = :account AND o.collection_id = collection.collection_id),
             bytes = (SELECT coalesce(sum(o.size), 0) FROM object o
               WHERE o.account_id = :account AND o.collection_id = collection.collection_id)
           WHERE account_id = :account""",
    )
)
_charged = prepare(
    text(
        """SELECT (SELECT coalesce(sum(bytes), 0) FROM collection WHERE account_id = :account AND source = '')
             + (SELECT coalesce(sum(size), 0) FROM property WHERE account_id = :account),
           (SELECT coalesce(max(collection_id), 0) FROM collection WHERE account_id = :account),
           (SELECT coalesce(max(object_id), 0) FROM object WHERE account_id = :account)"""
    )
)

Read = Callable[[bytes], Content]


@dataclass(slots=True)
class Salvaged:
    """What came back; `unreadable` are names of files that do not verify under the account's key."""

    objects: int = 0
    unreadable: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Target:
    """The new account."""

    account_id: AccountId
    key: Key
    database: Database
    collections: Collections
    objects: Objects
    octets: Octets


def salvage(old: Path, files: Maildir, target: Target, readers: Mapping[Kind, Read], now: int) -> Salvaged:
    """`old`: the database of before; `files`: which its rows name, and the new ones will; `readers` check bodies."""
    salvaged = Salvaged()
    _copy_rows(old, target)
    target.database.write(lambda transaction: _repair(transaction, target, set(_names_in(files)), now))
    for kind, read in readers.items():
        for each in target.collections.list(kind):
            _index(target, each.id, files, read)
    _bring_back(files, target, readers, salvaged)
    salvaged.objects = sum(each.objects for each in target.collections.list())
    return salvaged


def _names_in(files: Maildir) -> Iterable[str]:
    for folder in ("cur", "new"):
        yield from files.names(folder)


# Rows


def _copy_rows(old: Path, target: Target) -> None:
    """In place of the collections that the new account has from the beginning, if there are any."""
    try:
        driver = connect(old, database_key(target.key.secret, "account"))
    except CleanmailError:
        return
    try:
        if not _has_collections(driver, target.account_id):
            return
        target.database.write(lambda transaction: _forget_defaults.run(transaction, account=target.account_id))
        for table in _TABLES:
            _copy_table(driver, table, target)
        _copy_counters(driver, target)
    finally:
        driver.close()


def _has_collections(driver: Driver, account_id: AccountId) -> bool:
    try:
        return bool(driver.execute("SELECT 1 FROM collection WHERE account_id = ? LIMIT 1", (account_id,)).fetchall())
    except Error:  # it is damaged, or of a version without collections
        return False


def _copy_table(driver: Driver, table: Table, target: Target) -> None:
    names = [column.name for column in table.columns]
    listed = ", ".join(f'"{name}"' for name in names)
    try:
        cursor = driver.execute(
            f'SELECT {listed} FROM "{table.name}" WHERE account_id = ?',  # noqa: S608 - names of ours
            (target.account_id,),
        )
        while rows := cursor.fetchmany(BATCH):
            _insert_rows(target, table, [dict(zip(names, row, strict=True)) for row in rows])
    except Error:
        return  # what was read until here is kept


def _insert_rows(target: Target, table: Table, values: list[dict[str, Any]]) -> None:
    target.database.write(lambda transaction: _INSERT[table.name].run_many(transaction, values))


def _copy_counters(driver: Driver, target: Target) -> None:
    try:
        rows = driver.execute("SELECT name, value FROM counter WHERE account_id = ?", (target.account_id,)).fetchall()
    except Error:
        return

    def work(transaction: Transaction) -> None:
        for name, value in rows:
            if name in COUNTERS:
                _raise_counter.run(transaction, account=target.account_id, which=name, least=value)

    target.database.write(work)


def _repair(transaction: Transaction, target: Target, there: set[str], now: int) -> None:
    account = target.account_id
    for object_id, file in _files_named.rows(transaction, account=account):
        if file not in there:
            _forget_data.run(transaction, account=account, object=object_id)
    for statement in _REPAIRS:
        statement.run(transaction, account=account)
    octets, collection_id, object_id = _charged.rows(transaction, account=account)[0]
    quota.charge(transaction, account, octets, 0, UNLIMITED)
    # Behind what was lost too: nobody makes a thing each second for as long as there are clocks.
    for which, least in (("collection_id", max(now, collection_id)), ("object_id", max(now, object_id))):
        _raise_counter.run(transaction, account=account, which=which, least=least)
    target.collections.renew_in(transaction, now)
    kinds = {each.kind for each in target.collections.list_in(transaction)}
    for new in FIRST_COLLECTIONS:  # every account has these two
        if new.kind in (Kind.INBOX, Kind.OUTBOX) and new.kind not in kinds:
            target.collections.create_in(transaction, new)


def _index(target: Target, collection_id: CollectionId, files: Maildir, read: Read) -> None:
    """The index of times of one collection, from its octets; what cannot be read keeps what it had."""
    after = 0
    while objects := target.objects.some(collection_id, after, BATCH):
        after = objects[-1].object_id
        with target.database.reading() as connection:
            octets = {
                row[0]: (row[1], row[2])
                for row in _octets_of.rows(
                    connection, account=target.account_id, first=objects[0].object_id, last=after
                )
            }
        found: list[tuple[Stored, Times]] = []
        for each in objects:
            data, file = octets[each.object_id]
            with suppress(InvalidInput, Corrupt, NotFound, Unavailable):
                content = read(
                    files.read(file, target.key)[1] if file else target.octets.unpacked(data, None, each.size)
                )
                if content.times is not None:
                    found.append((each, content.times))
        target.database.write(partial(_put_times, target=target, found=found))


def _put_times(transaction: Transaction, target: Target, found: Sequence[tuple[Stored, Times]]) -> None:
    for each, times in found:
        target.objects.put_times(transaction, each, times)


# Files


def _bring_back(files: Maildir, target: Target, readers: Mapping[Kind, Read], salvaged: Salvaged) -> None:
    """Of each place the newest file that no row names."""
    with target.database.reading() as connection:
        rows: Sequence[Row] = _files_named.rows(connection, account=target.account_id)
        known = {row[1] for row in rows} | {row[0] for row in _files_to_go.rows(connection, account=target.account_id)}
    found: list[tuple[int, str, str, str]] = []
    for name in _names_in(files):
        if name in known:
            continue
        try:
            meta = files.read_meta(name, target.key)
        except (Corrupt, NotFound, Unavailable):
            salvaged.unreadable.append(name)
            continue
        if meta.account_id == target.account_id:
            found.append((meta.internal_date, name, meta.mailbox, meta.prefix.decode("utf-8", "replace")))
    for _, name, place, words in sorted(found, reverse=True):
        try:
            data = files.read(name, target.key)[1]
            _place(target, place, _content(data, place, words, readers), name)
        except (Corrupt, NotFound, Unavailable):
            salvaged.unreadable.append(name)


def _content(data: bytes, place: str, words: str, readers: Mapping[Kind, Read]) -> Content:
    """Read as when it was put; what cannot be read so any more comes back without a UID."""
    kind = place.partition("/")[0]
    try:
        content_type, component, is_scheduling = json.loads(words)
        read = readers.get(Kind(kind))
    except ValueError:
        return file_content(data, "")
    if read is None:
        return file_content(data, content_type)
    try:
        return read(data)
    except InvalidInput:
        return Content(data, content_type, None, component, None, bool(is_scheduling))


def _place(target: Target, place: str, content: Content, file: str) -> None:
    """Where its file says, or else under the file's name among what was found. Raises Corrupt if neither can be."""
    packed = Packed(content, target.octets.etag(content.data), None, file)
    own = place.split("/")
    for parts in (own, [own[0], FOUND, file]):
        try:
            target.database.write(partial(_put, target=target, parts=parts, packed=packed))
        except Violated as error:
            if error.condition == "no-uid-conflict":
                return  # it is there already, under another name
        except (AlreadyExists, Conflict, LimitReached):
            continue  # a file stands now where a folder was, or the other way round
        else:
            return
    raise Corrupt(detail="object: there is no room for it")


def _put(transaction: Transaction, target: Target, parts: list[str], packed: Packed) -> None:
    collection_id = _collection(transaction, target.collections, parts)
    if target.objects.find_in(transaction, collection_id, parts[-1]) is None:
        target.objects.put_in(transaction, collection_id, parts[-1], packed, by_server=True, told=False)


def _collection(transaction: Transaction, collections: Collections, parts: list[str]) -> CollectionId:
    """Found or made; raises Corrupt if the file does not say where it belongs."""
    try:
        kind = Kind(parts[0])
    except ValueError:
        raise Corrupt(detail="object: its file names no collection") from None
    if len(parts) < 3:
        raise Corrupt(detail="object: its file names no collection")
    parent: Any = 0
    for name in parts[1:-1]:
        found = collections.find_in(transaction, kind, name, parent)
        parent = (found or collections.create_in(transaction, NewCollection(kind, name, parent))).id
    return CollectionId(parent)
