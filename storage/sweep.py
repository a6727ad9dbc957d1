"""Removes what a crash left behind in an account, and only that: work of a living writer is never touched.

So for its messages in Maildir/, so for its large objects in objects/.

A file belongs to the incarnation that its name carries. Of dead ones: what lies in tmp/ goes; what lies in new/ is
settled into cur/ if a row names it, else it goes, since nobody will ever commit it. Files of `unlink` rows go whoever
wrote them: no row names them any more. Files in cur/ without a row are left alone: after a database was restored from a
backup they are mail (`storage.check` reports them, `storage.rebuild` brings them back).

When `sweep_account` returns, what it did is durable. Raises: Unavailable, StorageFull; run it again then.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Table, bindparam, delete, func, select

from storage.backup import lease
from storage.database.database import Transaction
from storage.database.prepared import prepare
from storage.files.durable import fsync_directory
from storage.files.incarnation import Incarnation
from storage.files.maildir import Maildir, incarnation_of
from storage.mail.account import Account
from storage.schema.account import message, unlink
from storage.schema.collections import object_data, object_unlink

BATCH = 500  # unlink rows in one transaction

_files = select(func.json_each(bindparam("files")).table_valued("value").c.value)


class _Store:
    """One of an account's stores of files, and the tables that name them."""

    def __init__(self, files: Callable[[Account], Maildir], rows: Table, unlinks: Table) -> None:
        self.files = files
        self.with_row = prepare(
            select(rows.c.file).where(rows.c.account_id == bindparam("account_id"), rows.c.file.in_(_files))
        )
        self.to_unlink = prepare(
            select(unlinks.c.file).where(unlinks.c.account_id == bindparam("account_id")).limit(bindparam("limit"))
        )
        self.unlinked = prepare(
            delete(unlinks).where(unlinks.c.account_id == bindparam("account_id"), unlinks.c.file.in_(_files))
        )


_STORES = (
    _Store(lambda account: account.maildir, message, unlink),
    _Store(lambda account: account.octets.files, object_data, object_unlink),
)


@dataclass(frozen=True, slots=True)
class Swept:
    """How many files were removed from tmp/ and new/, removed for unlink rows, and settled into cur/."""

    tmp: int = 0
    new: int = 0
    unlinked: int = 0
    settled: int = 0

    def __add__(self, other: Swept) -> Swept:
        return Swept(
            self.tmp + other.tmp,
            self.new + other.new,
            self.unlinked + other.unlinked,
            self.settled + other.settled,
        )


def sweep_account(account: Account, incarnation: Incarnation) -> Swept:
    """Sweep one account; `incarnation` is ours and knows who is alive. While a backup copies it, nothing is done."""
    swept = Swept()
    for store in _STORES:
        swept += _sweep(account, store, incarnation)
    return swept


def _sweep(account: Account, store: _Store, incarnation: Incarnation) -> Swept:
    if lease.is_account_held(account.root):
        return Swept()
    files = store.files(account)
    tmp = _dead(files, incarnation, "tmp")
    for name in tmp:
        files.remove(name)
    new = _dead(files, incarnation, "new")
    # The names were listed before the rows are read, and the dead commit nothing in between.
    with_row = _rows_among(account, store, new)
    if lease.is_account_held(account.root):  # asked again after the rows: a snapshot since may have more of them
        return Swept(len(tmp))
    for name in new:
        if name in with_row:
            files.settle(name)
        else:
            files.remove(name)
    return Swept(len(tmp), len(new) - len(with_row), _unlink(account, store), len(with_row))


def _dead(files: Maildir, incarnation: Incarnation, folder: str) -> list[str]:
    """The files in tmp/ or new/ whose writers no longer live."""
    names = list(files.names(folder))
    writers = {incarnation_of(name) for name in names}
    dead = {writer for writer in writers if not incarnation.is_alive(writer)}
    return [name for name in names if incarnation_of(name) in dead]


def _rows_among(account: Account, store: _Store, names: list[str]) -> set[str]:
    if not names:
        return set()
    with account.database.reading() as connection:
        rows = store.with_row.rows(connection, account_id=account.account_id, files=json.dumps(names))
    return {row[0] for row in rows}


def _unlink(account: Account, store: _Store) -> int:
    """Remove the files of unlink rows, then the rows."""
    files = store.files(account)
    count = 0
    while True:
        with account.database.reading() as connection:
            rows = store.to_unlink.rows(connection, account_id=account.account_id, limit=BATCH)
        if not rows or lease.is_account_held(account.root):  # asked after the rows: no later snapshot has them
            return count
        names = [row[0] for row in rows]
        for name in names:
            files.remove(name)
        for folder in ("new", "cur"):
            fsync_directory(files.path / folder)  # before the rows go that would repeat it

        def forget(transaction: Transaction, names: list[str] = names) -> None:
            store.unlinked.run(transaction, account_id=account.account_id, files=json.dumps(names))

        account.database.write(forget, durable=False)
        count += len(names)
