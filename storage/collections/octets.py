"""The octets of objects: small ones packed in a row, large ones in files of their own below objects/.

    write (objects/tmp) → link (objects/new) → fsync → fsync of the directory → commit of the row → settle (objects/cur)

Files are those of a Maildir (storage.files.maildir): compressed, encrypted, swept by the incarnation of their writer. A
COPY names the same file again; the last row that names one leaves an `object_unlink` row in its commit, and the file
goes after it, in the background. So a crash leaves files without rows for the sweep, never a row without its file.

Raises: NotFound (it was deleted meanwhile), Corrupt, StorageFull, Unavailable.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import zstandard
from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from storage.background import Background
from storage.backup import lease
from storage.collections.values import Content, ObjectId
from storage.database.database import Connection, Database, Transaction
from storage.database.prepared import prepare
from storage.errors import CleanmailError, Corrupt, NotFound, Unavailable
from storage.files import durable
from storage.files.durable import fsync_directory
from storage.files.maildir import Maildir
from storage.files.metadata import FileMeta
from storage.keys.sealing import Key, derive
from storage.register import classes
from storage.register.values import FileClass
from storage.schema.collections import object_data, object_unlink
from storage.values import AccountId, MessageId
from storage.zstd import codec

FOLDER = "objects"
FOLDERS = ("tmp", "new", "cur")
INLINE_MAX = 64 * 1024  # octets that stand in a row; larger ones are a file
FILES_AT_ONCE = 100  # removed between two commits

FILES = tuple(
    FileClass(
        f"tenants/*/accounts/*/{FOLDER}/{folder}/*",
        classes.COLLECTIONS,
        "a large object of a collection, compressed and encrypted",
    )
    for folder in FOLDERS
)

_this = (object_data.c.account_id == bindparam("account"), object_data.c.object_id == bindparam("object"))
_select = prepare(select(object_data.c.data, object_data.c.file).where(*_this))
_select_file = prepare(select(object_data.c.file).where(*_this))
_insert = prepare(insert(object_data))
_update = prepare(update(object_data).where(*_this).values(data=bindparam("packed"), file=bindparam("name")))
_delete = prepare(delete(object_data).where(*_this).returning(object_data.c.file))
_copy = prepare(
    insert(object_data).from_select(
        ["account_id", "object_id", "data", "file"],
        select(
            object_data.c.account_id,
            bindparam("target", type_=object_data.c.object_id.type),
            object_data.c.data,
            object_data.c.file,
        ).where(*_this),
    )
)
_is_named = prepare(
    select(object_data.c.object_id)
    .where(object_data.c.account_id == bindparam("account"), object_data.c.file == bindparam("name"))
    .limit(1)
)
_insert_unlink = prepare(upsert(object_unlink).on_conflict_do_nothing())
_my_unlink = object_unlink.c.account_id == bindparam("account")
_select_unlink = prepare(select(object_unlink.c.file).where(_my_unlink).limit(bindparam("most")))
_delete_unlink = prepare(delete(object_unlink).where(_my_unlink, object_unlink.c.file == bindparam("name")))


@dataclass(frozen=True, slots=True)
class Packed:
    """A body that is ready to be stored: `data`, or the `file` that is written and linked already."""

    content: Content
    etag: str
    data: bytes | None = field(repr=False)
    file: str | None

    @property
    def size(self) -> int:
        return len(self.content.data)


class Octets:
    """Of the objects of one account."""

    def __init__(
        self,
        root: Path,
        database: Database,
        account_id: AccountId,
        key: Key,
        incarnation: str,
        background: Background,
    ) -> None:
        self.files = Maildir(root / FOLDER)
        self._database = database
        self._account_id = account_id
        self._key = key
        self.etag_key = derive(key.secret, "etag")  # also of what is made of octets
        self._incarnation = incarnation
        self._background = background
        self._has_folders = False

    def create(self) -> None:
        """Make the folders, durably; the account's own is there."""
        for folder in (self.files.path, *(self.files.path / each for each in FOLDERS)):
            durable.make_child(folder)
        self._has_folders = True

    # Writing

    def etag(self, data: bytes) -> str:
        """Strong: of these octets under the account's key, so no others ever have it, not in a restored account."""
        return f'"{hashlib.blake2b(data, digest_size=16, key=self.etag_key).hexdigest()}"'

    def pack(self, content: Content, place: str = "", when: int = 0) -> Packed:
        """To be called outside of any transaction; what is not stored afterwards is to be dropped."""
        data = content.data
        if len(data) <= INLINE_MAX:
            return Packed(content, self.etag(data), codec.pack(data), None)
        if not self._has_folders:
            self.create()
        file = self.files.new_name(self._incarnation)
        self.files.write(file, self._key, self._meta(content, place, when), data)
        self.files.link(file)
        self.files.sync(file)
        return Packed(content, self.etag(data), None, file)

    def _meta(self, content: Content, place: str, when: int) -> FileMeta:
        """What a rebuild needs; `place` is as `Objects.packed` writes it."""
        words = json.dumps([content.content_type, content.component, content.is_scheduling])
        return FileMeta(self._account_id, MessageId(0), when, place, prefix=words.encode())

    def drop(self, packed: Packed) -> None:
        """It was not stored. What cannot be removed now is left to the sweep."""
        if packed.file is not None:
            with suppress(CleanmailError):
                self.files.remove(packed.file)

    def settle(self, packed: Packed) -> None:
        """After the commit; it is read from new/ as well."""
        if packed.file is not None:
            with suppress(CleanmailError):
                self.files.settle(packed.file)

    def insert(self, transaction: Transaction, object_id: ObjectId, packed: Packed) -> None:
        self._sync(transaction, packed)
        _insert.run(transaction, account_id=self._account_id, object_id=object_id, data=packed.data, file=packed.file)

    def replace(self, transaction: Transaction, object_id: ObjectId, packed: Packed, size_before: int) -> None:
        self._sync(transaction, packed)
        scope = {"account": self._account_id, "object": object_id}
        before = _select_file.one(transaction, **scope) if size_before > INLINE_MAX else None
        _update.run(transaction, **scope, packed=packed.data, name=packed.file)
        if before is not None:
            self._unlink(transaction, before[0])

    def copy(self, transaction: Transaction, source: ObjectId, target: ObjectId) -> None:
        """Raises NotFound."""
        if not _copy.run(transaction, account=self._account_id, object=source, target=target):
            raise NotFound("There is no such object any more.")

    def delete(self, transaction: Transaction, object_id: ObjectId) -> None:
        row = _delete.one(transaction, account=self._account_id, object=object_id)
        if row is not None and row[0] is not None:
            self._unlink(transaction, row[0])

    def _sync(self, transaction: Transaction, packed: Packed) -> None:
        if packed.file is not None:
            transaction.before_commit(self.files.sync_new, key=("new", self.files.path))

    def _unlink(self, transaction: Transaction, file: str) -> None:
        if _is_named.one(transaction, account=self._account_id, name=file) is None:
            _insert_unlink.run(transaction, account_id=self._account_id, file=file)
            transaction.after_commit(self.schedule)

    # Reading

    def read_in(self, connection: Connection, object_id: ObjectId, size: int) -> bytes:
        """In the transaction of somebody else."""
        row = _select.one(connection, account=self._account_id, object=object_id)
        if row is None:
            raise NotFound("There is no such object any more.")
        return self.unpacked(row[0], row[1], size)

    def unpacked(self, data: bytes | None, file: str | None, size: int) -> bytes:
        """What a row holds."""
        if data is not None:
            try:
                octets: bytes = codec.unpack(data, max_output_size=max(INLINE_MAX, size))
            except zstandard.ZstdError:
                raise Corrupt(detail="object: packed octets unreadable") from None
            return octets
        if file is None:
            raise Corrupt(detail="object: neither octets nor a file")
        return self.files.read(file, self._key)[1]

    # Files that no row names any more

    def schedule(self) -> None:
        """Have the files of `object_unlink` removed soon."""
        self._background.submit((self._account_id, "objects"), self.remove_files)

    def has_files(self) -> bool:
        """Whether `object_unlink` names files."""
        return bool(self._unlinked(1))

    def _unlinked(self, most: int) -> Sequence[str]:
        with self._database.reading() as connection:
            return [row[0] for row in _select_unlink.rows(connection, account=self._account_id, most=most)]

    def remove_files(self) -> bool:
        """Remove some of the files that `object_unlink` names. True: there may be more.

        While a backup copies the account they stay, and so do their rows.
        """
        names = self._unlinked(FILES_AT_ONCE)
        if not names:
            return False
        if lease.is_account_held(self.files.path.parent):  # asked after the names: no later snapshot has them
            self._background.submit_later((self._account_id, "objects"), self._remove_later, lease.RETRY)
            return False
        for name in names:
            self.files.remove(name)
        for folder in ("new", "cur"):
            fsync_directory(self.files.path / folder)  # before the rows go that would remove them again
        rows = [{"account": self._account_id, "name": name} for name in names]
        self._database.write(lambda transaction: _delete_unlink.run_many(transaction, rows), durable=False)
        return len(names) == FILES_AT_ONCE

    def _remove_later(self) -> bool:
        try:
            return self.remove_files()
        except Unavailable:  # it was closed meanwhile: who opens it next takes this up
            return False
