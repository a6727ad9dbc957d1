"""Checks of collections: counters against rows, objects against their octets, files below objects/ against rows.

Writers may be at work: what looks wrong among files is looked at again, and files of living writers are theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import bindparam, select

from storage.checks.finding import Finding, Kind, Severity
from storage.checks.rows import Check, findings, highest, prepared
from storage.collections.values import Stored
from storage.database.prepared import Connection, prepare
from storage.errors import Corrupt, NotFound, Unavailable
from storage.files.incarnation import Incarnation
from storage.files.maildir import incarnation_of
from storage.mail.account import Account
from storage.schema.collections import object_data, object_unlink
from storage.values import AccountId

_my_data = object_data.c.account_id == bindparam("account_id")
_my_unlink = object_unlink.c.account_id == bindparam("account_id")
_files = prepare(select(object_data.c.object_id, object_data.c.file).where(_my_data, object_data.c.file.is_not(None)))
_by_file = prepare(select(object_data.c.object_id).where(_my_data, object_data.c.file == bindparam("file")).limit(1))
_unlinks = prepare(select(object_unlink.c.file).where(_my_unlink))
_unlink = prepare(select(object_unlink.c.file).where(_my_unlink, object_unlink.c.file == bindparam("file")))


class _Row(NamedTuple):
    object_id: int
    file: str


def _counter(name: str, counted: str) -> Check:
    return Check(
        Kind.COUNTER_WRONG,
        Severity.ERROR,
        f"Collection {{collection_id}} counts {{stored}} {name}, its rows make {{counted}}.",
        ("collection_id", "stored", "counted"),
        f"""SELECT c.collection_id, c.{name}, coalesce({counted}, 0) FROM collection c
            LEFT JOIN object o ON o.account_id = c.account_id AND o.collection_id = c.collection_id
            WHERE c.account_id = :account_id AND c.parent_id >= 0 GROUP BY c.collection_id, c.{name}
            HAVING c.{name} <> coalesce({counted}, 0)""",  # noqa: S608 - names of ours
    )


_CHECKS = (
    _counter("objects", "count(o.object_id)"),
    _counter("bytes", "sum(o.size)"),
    Check(
        Kind.OBJECT_LOOSE,
        Severity.ALARM,
        "{count} objects stand in collection {collection_id}, which has no row.",
        ("collection_id", "count"),
        """SELECT o.collection_id, count(*) FROM object o WHERE o.account_id = :account_id AND NOT EXISTS
             (SELECT 1 FROM collection c WHERE c.account_id = o.account_id AND c.collection_id = o.collection_id)
           GROUP BY o.collection_id""",
    ),
    Check(
        Kind.COLLECTION_LOOSE,
        Severity.ERROR,
        "Collection {collection_id} lies in folder {parent_id}, which is not there.",
        ("collection_id", "parent_id"),
        """SELECT c.collection_id, c.parent_id FROM collection c WHERE c.account_id = :account_id AND c.parent_id > 0
             AND NOT EXISTS (SELECT 1 FROM collection p WHERE p.account_id = c.account_id
               AND p.collection_id = c.parent_id AND p.kind = 'folder' AND p.parent_id >= 0)""",
    ),
    Check(
        Kind.COLLECTION_LOOSE,
        Severity.ERROR,
        "{count} collections stand at one place under one name, the last is {collection_id}.",
        ("count", "collection_id"),
        """SELECT count(*), max(c.collection_id) FROM collection c
           WHERE c.account_id = :account_id AND c.parent_id >= 0
           GROUP BY c.kind, c.parent_id, c.name HAVING count(*) > 1""",
    ),
    Check(
        Kind.CONTENT_MISSING,
        Severity.ALARM,
        "Object {object_id} of collection {collection_id} has no octets.",
        ("collection_id", "object_id"),
        """SELECT o.collection_id, o.object_id FROM object o WHERE o.account_id = :account_id AND NOT EXISTS
             (SELECT 1 FROM object_data d WHERE d.account_id = o.account_id AND d.object_id = o.object_id
                AND (d.data IS NOT NULL OR d.file IS NOT NULL))""",
    ),
    Check(
        Kind.CONTENT_LOOSE,
        Severity.ERROR,
        "Octets are left of object {object_id}, which is gone.",
        ("object_id",),
        """SELECT d.object_id FROM object_data d WHERE d.account_id = :account_id AND d.object_id NOT IN
             (SELECT o.object_id FROM object o WHERE o.account_id = :account_id)""",
    ),
    Check(
        Kind.CONTENT_LOOSE,
        Severity.ERROR,
        "The index of times has object {object_id} of collection {collection_id}, which is gone.",
        ("collection_id", "object_id"),
        """SELECT t.collection_id, t.object_id FROM object_time t WHERE t.account_id = :account_id AND NOT EXISTS
             (SELECT 1 FROM object o WHERE o.account_id = t.account_id AND o.collection_id = t.collection_id
                AND o.object_id = t.object_id)""",
    ),
    Check(
        Kind.INDEX_WRONG,
        Severity.ERROR,
        "The index of times lacks {count} objects of collection {collection_id}: no query for a time finds them.",
        ("collection_id", "count"),
        """SELECT o.collection_id, count(*) FROM object o JOIN collection c ON c.account_id = o.account_id
             AND c.collection_id = o.collection_id AND c.kind = 'calendar' AND c.parent_id >= 0
           WHERE o.account_id = :account_id AND o.uid IS NOT NULL AND NOT EXISTS
             (SELECT 1 FROM object_time t WHERE t.account_id = o.account_id AND t.collection_id = o.collection_id
                AND t.object_id = o.object_id)
           GROUP BY o.collection_id""",
    ),
    Check(
        Kind.CONTENT_LOOSE,
        Severity.ERROR,
        "{count} properties are left of object {object_id} of collection {collection_id}, which is gone.",
        ("collection_id", "object_id", "count"),
        """SELECT p.collection_id, p.object_id, count(*) FROM property p
           WHERE p.account_id = :account_id AND p.collection_id > 0 AND NOT EXISTS
             (SELECT 1 FROM object o WHERE o.account_id = p.account_id AND o.collection_id = p.collection_id
                AND o.object_id = p.object_id)
             AND NOT (p.object_id = 0 AND EXISTS (SELECT 1 FROM collection c
                WHERE c.account_id = p.account_id AND c.collection_id = p.collection_id))
           GROUP BY p.collection_id, p.object_id""",
    ),
    Check(
        Kind.MODSEQ_BEYOND_HIGHEST,
        Severity.ALARM,
        "Collection {collection_id} has modseq {found}, but says that {highest} is the highest.",
        ("collection_id", "found", "highest"),
        """SELECT c.collection_id, max(t.modseq), c.highest_modseq FROM collection c JOIN
             (SELECT collection_id, modseq FROM object WHERE account_id = :account_id
              UNION ALL SELECT collection_id, modseq FROM object_gone WHERE account_id = :account_id
              UNION ALL SELECT collection_id, gone_horizon FROM collection WHERE account_id = :account_id) t
             ON t.collection_id = c.collection_id
           WHERE c.account_id = :account_id GROUP BY c.collection_id, c.highest_modseq
           HAVING max(t.modseq) > c.highest_modseq""",
    ),
    highest(Kind.ID_BEYOND_COUNTER, "collection id", "collection", "collection_id", "collection_id"),
    highest(Kind.ID_BEYOND_COUNTER, "object id", "object", "object_id", "object_id"),
)
_PREPARED = prepared(_CHECKS)


def check_object_rows(connection: Connection, account_id: AccountId) -> Iterator[Finding]:
    """Everything that is wrong among the rows of an account's collections."""
    return findings(_PREPARED, connection, account_id)


def check_objects(account: Account, incarnation: Incarnation, *, contents: bool) -> Iterator[Finding]:
    """Files against rows; with `contents` every object is read and compared with its row."""
    files = account.octets.files
    folders = {folder: set(files.names(folder)) for folder in ("tmp", "new", "cur")}
    with account.database.reading() as connection:
        rows = [_Row(*row) for row in _files.rows(connection, account_id=account.account_id)]
        unlinks = {row[0] for row in _unlinks.rows(connection, account_id=account.account_id)}
    here = folders["new"] | folders["cur"]
    for row in rows:
        if row.file not in here and not files.has(row.file) and _is_named(account, row.file):
            text = f"The file of object {row.object_id} is gone: {row.file}."
            yield Finding(Kind.FILE_MISSING, Severity.ALARM, text, object_id=row.object_id, file=row.file)
    named = {row.file for row in rows}
    for folder, names in folders.items():
        for name in sorted(names - named):
            yield from _check_unnamed(account, incarnation, folder, name, is_to_go=name in unlinks)
    if contents:
        yield from _check_contents(account)


def _is_named(account: Account, name: str) -> bool:
    with account.database.reading() as connection:
        return _by_file.one(connection, account_id=account.account_id, file=name) is not None


def _is_to_go(account: Account, name: str) -> bool:
    with account.database.reading() as connection:
        return _unlink.one(connection, account_id=account.account_id, file=name) is not None


def _check_unnamed(
    account: Account, incarnation: Incarnation, folder: str, name: str, *, is_to_go: bool
) -> Iterator[Finding]:
    """A file that no row named when the rows were read."""
    if is_to_go:
        text = f"A file of an object waits for its removal: {name}."
        yield Finding(Kind.FILE_TO_REMOVE, Severity.NOTE, text, file=name)
        return
    if incarnation.is_alive(incarnation_of(name)) and folder != "cur":
        return
    if folder != "cur":
        if folder == "tmp" or not _is_named(account, name):
            text = f"A file of a writer that died lies in objects/{folder}/; the sweep removes it: {name}."
            yield Finding(Kind.FILE_UNFINISHED, Severity.NOTE, text, file=name)
        return
    if _is_named(account, name) or _is_to_go(account, name) or not account.octets.files.has(name):
        return  # it was committed or removed meanwhile
    text = f"No row names this file of an object; a rebuild would bring it back: {name}."
    yield Finding(Kind.FILE_WITHOUT_ROW, Severity.ERROR, text, file=name)


def _check_contents(account: Account) -> Iterator[Finding]:
    for each in account.collections.list():
        after = 0
        while objects := account.objects.some(each.id, after):
            after = objects[-1].object_id
            for stored in objects:
                yield from _check_content(account, stored)


def _check_content(account: Account, stored: Stored) -> Iterator[Finding]:
    """The octets of an object: readable, as long as its row says, and those of its ETag."""
    try:
        data = account.objects.read(stored)
    except NotFound:
        return  # deleted meanwhile; a file that is gone was found before
    except (Corrupt, Unavailable) as error:
        text = f"Object {stored.object_id} cannot be read ({error.detail})."
        yield Finding(Kind.FILE_UNREADABLE, Severity.ALARM, text, object_id=stored.object_id)
        return
    if len(data) == stored.size and account.octets.etag(data) == stored.etag:
        return
    try:
        if account.objects.by_id(stored.collection_id, stored.object_id).modseq != stored.modseq:
            return  # it was changed meanwhile
    except NotFound:
        return
    text = f"Object {stored.object_id} has {len(data)} octets that are not those of its row, which says {stored.size}."
    yield Finding(Kind.FILE_DIFFERS, Severity.ERROR, text, object_id=stored.object_id)
