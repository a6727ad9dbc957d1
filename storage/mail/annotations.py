"""Annotations: values that clients keep beside a mailbox or the whole account, under names like /private/comment.

Of one account: those of its own mailboxes, and the private ones that its user wrote beside mailboxes of others. Names
are in lower case here. Changes are durable on return, all of one call or none. They go with their mailbox, in the same
commit, and follow it when it is renamed, since mailboxes keep their ids.

Raises: LimitReached (`TooMany`), NotFound (the mailbox of a special use is gone).
Standards: RFC 5464 §3, §4.1; RFC 6154 §4 (special use is kept with the mailbox, and follows the annotation).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from storage.database.database import Connection, Database, Transaction
from storage.database.prepared import prepare
from storage.errors import LimitReached, NotFound
from storage.mail.ledger import LIVE
from storage.schema.account import annotation, counter, mailbox
from storage.values import AccountId, MailboxId

SERVER: Final = MailboxId(0)  # the account as a whole
SPECIAL_USE: Final = "/private/specialuse"

_COUNTER = "annotation"
_EACH = 1024  # octets that an annotation counts besides its name and value: sessions keep pictures of all of them
_ENTRY = re.compile(r"(?:/[\x20-\x24\x26-\x29\x2b-\x2e\x30-\x7e]+)+", re.ASCII)  # neither "*" nor "%" nor "//"
_LENGTH = 255

_mine = annotation.c.account_id == bindparam("account")
_there = (_mine, annotation.c.owner_id == bindparam("owner"), annotation.c.mailbox_id == bindparam("mailbox"))
_this = (*_there, annotation.c.entry == bindparam("called"))
_select_sizes = prepare(select(annotation.c.entry, annotation.c.octets).where(*_there))
_select_value = prepare(select(annotation.c.value).where(*_this))
_select_serials = prepare(
    select(annotation.c.owner_id, annotation.c.mailbox_id, annotation.c.entry, annotation.c.serial).where(_mine)
)
_select_all = prepare(
    select(annotation.c.owner_id, annotation.c.mailbox_id, annotation.c.entry, annotation.c.value)
    .where(_mine)
    .order_by(annotation.c.owner_id, annotation.c.mailbox_id, annotation.c.entry)
)
_room_taken = func.sum(annotation.c.octets + func.length(annotation.c.entry) + _EACH)
_count_all = prepare(select(func.coalesce(_room_taken, 0)).where(_mine))
_new = upsert(annotation)
_set = prepare(
    _new.on_conflict_do_update(
        index_elements=[column.name for column in annotation.primary_key],
        set_={name: _new.excluded[name] for name in ("value", "octets", "serial")},
    )
)
_remove = prepare(delete(annotation).where(*_this))
_remove_all = prepare(delete(annotation).where(*_there))
_copy = prepare(
    insert(annotation).from_select(
        [column.name for column in annotation.columns],
        select(
            annotation.c.account_id,
            annotation.c.owner_id,
            bindparam("target", type_=annotation.c.mailbox_id.type),
            annotation.c.entry,
            annotation.c.value,
            annotation.c.octets,
            bindparam("at", type_=annotation.c.serial.type),
        ).where(*_there),
    )
)
_select_serial = prepare(
    select(counter.c.value).where(counter.c.account_id == bindparam("account"), counter.c.name == _COUNTER)
)
_next_serial = prepare(
    upsert(counter)
    .values(account_id=bindparam("account"), name=_COUNTER, value=1)
    .on_conflict_do_update(index_elements=[counter.c.account_id, counter.c.name], set_={"value": counter.c.value + 1})
)
_mailbox = (mailbox.c.account_id == bindparam("account"), mailbox.c.name >= LIVE)
_select_uses = prepare(
    select(mailbox.c.mailbox_id, mailbox.c.special_use).where(*_mailbox, mailbox.c.special_use != "")
)
_set_use = prepare(
    update(mailbox).where(*_mailbox, mailbox.c.mailbox_id == bindparam("mailbox")).values(special_use=bindparam("uses"))
)


def is_entry(name: str) -> bool:
    """Whether an annotation may be called so, in any case of its letters."""
    if len(name) > _LENGTH or _ENTRY.fullmatch(name) is None:
        return False
    return name.lower().split("/", 2)[1] in ("private", "shared")


class TooMany(LimitReached):
    """No annotation more here."""


@dataclass(frozen=True, slots=True)
class AnnotationLimits:
    """What one account may keep."""

    entries: int  # of one mailbox, and of the account as a whole
    octets: int  # of all values and their names together, and 1 KiB for each


class Annotations:
    """Of one account. `tell` is called after each commit."""

    def __init__(self, database: Database, account_id: AccountId, tell: Callable[[], None]) -> None:
        self._database = database
        self._account_id = account_id
        self._tell = tell

    def sizes(self, owner_id: AccountId, mailbox_id: MailboxId) -> dict[str, int]:
        """The names beside a mailbox with the octets of their values."""
        with self._database.reading() as connection:
            return dict(_select_sizes.rows(connection, **self._place(owner_id, mailbox_id)))

    def values(self, owner_id: AccountId, mailbox_id: MailboxId, entries: Collection[str]) -> dict[str, bytes]:
        """The values of those names that have one."""
        place = self._place(owner_id, mailbox_id)
        found: dict[str, bytes] = {}
        with self._database.reading() as connection:
            for entry in entries:
                row = _select_value.one(connection, **place, called=entry)
                if row is not None:
                    found[entry] = row[0]
        return found

    def all(self) -> list[tuple[AccountId, MailboxId, str, bytes]]:
        """Everything, in order: for archives."""
        with self._database.reading() as connection:
            rows = _select_all.rows(connection, account=self._account_id)
        return [(AccountId(owner), MailboxId(mailbox_id), entry, value) for owner, mailbox_id, entry, value in rows]

    def serial(self) -> int:
        """Rises with every change."""
        with self._database.reading() as connection:
            return self._serial(connection)

    def serials(self) -> dict[tuple[AccountId, MailboxId, str], int | str]:
        """When each annotation was changed last: whoever compares two such pictures knows what changed between them.

        Special uses are among them, by their value.
        """
        with self._database.reading() as connection:
            rows = _select_serials.rows(connection, account=self._account_id)
            uses = _select_uses.rows(connection, account=self._account_id)
        known: dict[tuple[AccountId, MailboxId, str], int | str] = {
            (AccountId(owner), MailboxId(mailbox_id), entry): at for owner, mailbox_id, entry, at in rows
        }
        return known | {(self._account_id, MailboxId(mailbox_id), SPECIAL_USE): text for mailbox_id, text in uses}

    def change(
        self,
        owner_id: AccountId,
        mailbox_id: MailboxId,
        values: Mapping[str, bytes | None],
        limits: AnnotationLimits,
        special_use: Sequence[str] | None = None,
    ) -> list[MailboxId]:
        """Sets and removes (None). `special_use`: the mailbox has these from now on, and no other has one of them.

        Returns the mailboxes that lost a special use.
        """

        def work(transaction: Transaction) -> list[MailboxId]:
            self._check(transaction, owner_id, mailbox_id, values, limits)
            place = self._place(owner_id, mailbox_id)
            _next_serial.run(transaction, account=self._account_id)
            serial = self._serial(transaction)
            for entry, value in values.items():
                if value is None:
                    _remove.run(transaction, **place, called=entry)
                    continue
                _set.run(
                    transaction,
                    account_id=self._account_id,
                    owner_id=owner_id,
                    mailbox_id=mailbox_id,
                    entry=entry,
                    value=value,
                    octets=len(value),
                    serial=serial,
                )
            return [] if special_use is None else self._use(transaction, mailbox_id, special_use)

        lost = self._database.write(work)
        self._tell()
        return lost

    def forget_others(self, owner_id: AccountId, living: Collection[MailboxId]) -> None:
        """What was written beside mailboxes of another account that are no more."""
        gone = {place[1] for place in self.serials() if place[0] == owner_id and place[1] not in living}
        if gone:
            self._database.write(lambda transaction: self._forget(transaction, owner_id, gone))

    def _forget(self, transaction: Transaction, owner_id: AccountId, gone: Collection[MailboxId]) -> None:
        for mailbox_id in gone:
            _remove_all.run(transaction, **self._place(owner_id, mailbox_id))

    def check(
        self, owner_id: AccountId, mailbox_id: MailboxId, values: Mapping[str, bytes | None], limits: AnnotationLimits
    ) -> None:
        """Raises TooMany where `change` would."""
        with self._database.reading() as connection:
            self._check(connection, owner_id, mailbox_id, values, limits)

    def _check(
        self,
        connection: Connection,
        owner_id: AccountId,
        mailbox_id: MailboxId,
        values: Mapping[str, bytes | None],
        limits: AnnotationLimits,
    ) -> None:
        kept = {entry: value for entry, value in values.items() if value is not None}
        if not kept:
            return
        sizes: dict[str, int] = dict(_select_sizes.rows(connection, **self._place(owner_id, mailbox_id)))
        after = {entry: size for entry, size in sizes.items() if entry not in values}
        after |= {entry: len(value) for entry, value in kept.items()}
        if len(after) > limits.entries and len(after) > len(sizes):
            raise TooMany(f"At most {limits.entries} annotations are kept beside one mailbox.")
        grown = _room(after) - _room(sizes)
        row = _count_all.one(connection, account=self._account_id)
        if grown > 0 and (row[0] if row else 0) + grown > limits.octets:
            raise TooMany(f"At most {limits.octets} octets of annotations are kept in one account.")

    def _use(self, transaction: Transaction, mailbox_id: MailboxId, uses: Sequence[str]) -> list[MailboxId]:
        lost: list[MailboxId] = []
        for other, text in _select_uses.rows(transaction, account=self._account_id):
            staying = [use for use in text.split() if use not in uses]
            if other != mailbox_id and len(staying) != len(text.split()):
                _set_use.run(transaction, account=self._account_id, mailbox=other, uses=" ".join(staying))
                lost.append(MailboxId(other))
        if not _set_use.run(transaction, account=self._account_id, mailbox=mailbox_id, uses=" ".join(uses)):
            raise NotFound("There is no such mailbox.")
        return sorted(lost)

    def _serial(self, connection: Connection) -> int:
        row = _select_serial.one(connection, account=self._account_id)
        return row[0] if row is not None else 0

    def _place(self, owner_id: AccountId, mailbox_id: MailboxId) -> dict[str, int]:
        return {"account": self._account_id, "owner": owner_id, "mailbox": mailbox_id}


def copy_all(transaction: Transaction, account_id: AccountId, source_id: MailboxId, target_id: MailboxId) -> None:
    """What is kept beside INBOX is beside the mailbox too that its messages move to (RFC 5464 §4.1)."""
    _next_serial.run(transaction, account=account_id)
    row = _select_serial.one(transaction, account=account_id)
    assert row is not None
    _copy.run(transaction, account=account_id, owner=account_id, mailbox=source_id, target=target_id, at=row[0])


def forget_all(transaction: Transaction, account_id: AccountId, mailbox_id: MailboxId) -> None:
    """What is kept beside a mailbox that is deleted."""
    if _remove_all.run(transaction, account=account_id, owner=account_id, mailbox=mailbox_id):
        _next_serial.run(transaction, account=account_id)


def _room(sizes: Mapping[str, int]) -> int:
    return sum(len(entry) + size + _EACH for entry, size in sizes.items())
