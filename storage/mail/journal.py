"""The mailbox in which the server tells an owner something that he shall not be able to change: his access journal.

It is made with the first entry. Its owner reads, searches and copies from it; nothing that he or a program of his does
changes it (`Ledger.advance`), and his quota does not pay for it. An entry is stored once, whatever is repeated: its
delivery id is made of the number of the record that it tells of. Entries come as seen, since nobody could mark them so.

Raises: what `Messages.append_many` raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import bindparam, select

from storage.database.prepared import prepare
from storage.errors import AlreadyExists
from storage.mail.account import Account
from storage.mail.mailboxes import Mailbox
from storage.mail.names import SEPARATOR, canonical
from storage.mail.outcomes import NewMessage
from storage.schema.account import membership
from storage.values import SEEN, UidSet

NAME = "Access journal"

_PREFIX = "access-journal-"
_SLICE = 1000

_OLD = prepare(
    select(membership.c.uid)
    .where(
        membership.c.account_id == bindparam("account"),
        membership.c.mailbox_id == bindparam("mailbox"),
        membership.c.saved < bindparam("before"),
    )
    .order_by(membership.c.uid)
    .limit(_SLICE)
)


def is_kept(name: str) -> bool:
    """Whether nobody but the server may give a mailbox this name, or one below it: it would pass for the journal."""
    return canonical(name).partition(SEPARATOR)[0].strip().casefold() == NAME.casefold()


@dataclass(frozen=True, slots=True)
class JournalEntry:
    number: int  # of what it tells of; no two entries of an account have the same
    time: int  # Unix seconds, when that was
    data: bytes  # the message, with CRLF line ends
    since: int = 0  # from when on it is kept, if that is later: it had to be kept secret


def find(account: Account) -> Mailbox | None:
    return next((mailbox for mailbox in account.mailboxes.list() if mailbox.read_only), None)


def opened(account: Account) -> Mailbox:
    """The journal, made if it is not there."""
    return find(account) or _create(account)


def write(account: Account, entries: Sequence[JournalEntry]) -> int:
    """Those that are not there yet, in one commit, durable on return; how many that were."""
    ids = {delivery_id(entry.number): entry for entry in entries}
    there = account.messages.delivered(list(ids))
    new = [
        NewMessage(
            entry.data, flags=SEEN, internal_date=entry.time, delivery_id=name, saved=max(entry.time, entry.since)
        )
        for name, entry in ids.items()
        if name not in there
    ]
    if new:
        mailbox = opened(account)
        account.messages.append_many(mailbox.id, new, by_server=True)
    return len(new)


def expire(account: Account, before: int) -> int:
    """Removes entries that are kept since before then (Unix seconds); how many."""
    removed = 0
    mailbox = find(account)
    while mailbox is not None and mailbox.messages:
        with account.database.reading() as connection:
            rows = _OLD.rows(connection, account=account.account_id, mailbox=mailbox.id, before=before)
        if not rows:
            break
        uids = UidSet.of(row[0] for row in rows)
        removed += len(account.messages.expunge(mailbox.id, uids, only_deleted=False, by_server=True).uids)
    return removed


def delivery_id(number: int) -> str:
    return f"{_PREFIX}{number}"


def is_entry(delivery_id: str | None) -> bool:
    """Whether a message was stored as an entry: for who builds an account anew from its files."""
    return delivery_id is not None and delivery_id.startswith(_PREFIX)


def _create(account: Account) -> Mailbox:
    """Of another name, if there is a mailbox of this one: of an import, or of a time when its owner could make it."""
    names = [NAME, *(f"{NAME} ({number})" for number in range(2, 100))]
    for name in names:
        with suppress(AlreadyExists):
            made = account.mailboxes.create(name, read_only=True)
            account.mailboxes.subscribe(name)
            return made
    raise AlreadyExists("There are too many mailboxes of the access journal's name.")
