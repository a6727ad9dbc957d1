"""What every account has from the beginning: a calendar, tasks, notes, contacts, and its scheduling boxes.

Made with the account, or for an account of before when it is opened first; made once, so what its owner deleted stays
deleted.
"""

from __future__ import annotations

from sqlalchemy import bindparam, select
from sqlalchemy.dialects.sqlite import insert as upsert

from storage.collections.collections import Collections
from storage.collections.values import Kind, NewCollection
from storage.database.database import Connection, Database, Transaction
from storage.database.prepared import prepare
from storage.schema.account import counter
from storage.values import AccountId

COUNTERS = ("collection_id", "object_id", "note_id", "scheduling_id")

CALENDAR, TASKS, NOTES, CONTACTS = "calendar", "tasks", "notes", "contacts"

FIRST_COLLECTIONS = (
    NewCollection(Kind.CALENDAR, CALENDAR, display_name="Calendar", position=1, components=("VEVENT", "VAVAILABILITY")),
    NewCollection(Kind.CALENDAR, TASKS, display_name="Tasks", position=2, components=("VTODO",), transparent=True),
    NewCollection(Kind.CALENDAR, NOTES, display_name="Notes", position=3, components=("VJOURNAL",), transparent=True),
    NewCollection(Kind.INBOX, "inbox"),
    NewCollection(Kind.OUTBOX, "outbox"),
    NewCollection(Kind.ADDRESS_BOOK, CONTACTS, display_name="Contacts"),
)

_has = prepare(
    select(counter.c.value).where(
        counter.c.account_id == bindparam("account"), counter.c.name == "collection_id", counter.c.value > 0
    )
)
_insert_counter = prepare(upsert(counter).on_conflict_do_nothing())


def make_defaults(transaction: Transaction, account_id: AccountId, collections: Collections) -> None:
    """Unless it was done before."""
    if has_defaults(transaction, account_id):
        return
    for name in COUNTERS:
        _insert_counter.run(transaction, account_id=account_id, name=name, value=0)
    for each in FIRST_COLLECTIONS:
        collections.create_in(transaction, each)


def has_defaults(connection: Connection, account_id: AccountId) -> bool:
    return _has.one(connection, account=account_id) is not None


def ensure_defaults(database: Database, account_id: AccountId, collections: Collections) -> None:
    """For an account that is opened: one read if there is nothing to do."""
    with database.reading() as connection:
        if has_defaults(connection, account_id):
            return
    database.write(lambda transaction: make_defaults(transaction, account_id, collections))
