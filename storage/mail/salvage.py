"""What an account that is made anew keeps of its annotations: those of the old database, as far as it can be read.

No file knows them. Mailboxes have other ids in the new database, so an annotation follows its mailbox by name; what
stands beside others' mailboxes and the account as a whole stays where it is. Whoever calls holds the account for
himself, and the mailboxes of the new one are there.

Standards: RFC 5464 §3.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.database.driver import Driver, Error, connect, database_key
from storage.errors import CleanmailError
from storage.keys.sealing import Key
from storage.mail.account import Account
from storage.mail.annotations import SERVER, AnnotationLimits
from storage.mail.ledger import LIVE
from storage.values import AccountId, MailboxId

_ALL = AnnotationLimits(1 << 31, 1 << 62)  # they were within their limits once
_BATCH = 500  # rows that are read at once

_Place = tuple[AccountId, MailboxId]


@dataclass(slots=True)
class Salvaged:
    kept: int = 0
    left_out: int = 0  # their mailbox is not there any more
    whole: bool = True  # the old database could be read to its end: nothing else was there


def salvage_annotations(old: Path, key: Key, account: Account) -> Salvaged:
    """`old`: the database of before; `account`: the new one, filled."""
    salvaged = Salvaged()
    there = {mailbox.name: mailbox.id for mailbox in account.mailboxes.list()}
    found: dict[_Place, dict[str, bytes | None]] = defaultdict(dict)
    try:
        driver = connect(old, database_key(key.secret, "account"))
    except CleanmailError:
        salvaged.whole = False
        return salvaged
    try:
        names = dict(_rows(driver, "mailbox_id, name", "mailbox", account.account_id))
        for owner_id, mailbox_id, entry, value in _rows(
            driver, "owner_id, mailbox_id, entry, value", "annotation", account.account_id
        ):
            place: int | None = mailbox_id
            if owner_id == account.account_id and mailbox_id != SERVER:
                name = names.get(mailbox_id, "")
                if name < LIVE:
                    continue  # of a mailbox that was deleted
                place = there.get(name)
            if place is None:
                salvaged.left_out += 1
            else:
                found[owner_id, MailboxId(place)][entry] = value
    except Error:
        salvaged.whole = False
    finally:
        driver.close()
    for (owner, mailbox), values in found.items():
        account.annotations.change(owner, mailbox, values, _ALL)
        salvaged.kept += len(values)
    return salvaged


def _rows(driver: Driver, columns: str, table: str, account_id: AccountId) -> Iterator[tuple[Any, ...]]:
    """None if the database is of a version without the table. Raises Error."""
    if not driver.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchall():
        if not driver.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall():
            raise Error("The database is empty.")
        return
    cursor = driver.execute(f"SELECT {columns} FROM {table} WHERE account_id = ?", (account_id,))  # noqa: S608 - ours
    while rows := cursor.fetchmany(_BATCH):
        yield from rows
