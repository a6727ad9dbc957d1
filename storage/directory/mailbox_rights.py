"""Access control lists of mailboxes: who of a tenant may do what with somebody else's.

A list is rows of the tenant's database, so there is none across tenants. The owner of a mailbox may always everything
and has no row; what somebody has beside him is the union of his own row and that of `ANYONE` (RFC 4314 §2). A row
without rights does not exist. Every change is durable on return. What belongs to an owner who is not in use gives
nobody anything; rows go with either account, and with the mailbox.

Raises: NotFound (no such account), InvalidInput, LimitReached.
Standards: RFC 4314 §2, §4 (a new mailbox has the list of the one above it; a deleted one has none).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from sqlalchemy import bindparam, func, or_, select, update
from sqlalchemy import delete as sql_delete
from sqlalchemy.dialects.sqlite import insert as upsert

from storage.clock import Clock
from storage.database.database import Connection, Database, Transaction
from storage.database.prepared import Prepared, prepare
from storage.directory.rows import State
from storage.errors import InvalidInput, LimitReached, NotFound
from storage.schema.tenant import account, mailbox_right
from storage.values import AccountId, MailboxId

RIGHTS: Final = "lrswipkxtea"  # RFC 4314 §2.1, in the order in which rows have them
ANYONE: Final = 0  # every account of the tenant
PER_MAILBOX: Final = 500  # rows
PER_OWNER: Final = 5000
MOST: Final = 20_000  # rows by which one account may do something

How = Literal["replace", "add", "remove"]


@dataclass(frozen=True, slots=True)
class RightsRow:
    """What `identifier`, an account or ANYONE, may do with a mailbox of `owner_id`."""

    owner_id: AccountId
    mailbox_id: MailboxId
    identifier: AccountId
    rights: str
    changed: int  # Unix seconds
    login: str = field(repr=False)  # the identifier's primary address; empty: anyone


@dataclass(frozen=True, slots=True)
class SharedRow:
    """What an account may do with a mailbox of another, by one row, and what that owner may store."""

    owner_id: AccountId
    mailbox_id: MailboxId
    rights: str
    owner_login: str = field(repr=False)
    quota_bytes: int
    quota_messages: int


def in_order(letters: Iterable[str]) -> str:
    """A set of rights as a row has it. Raises InvalidInput for letters that are none."""
    given = set(letters)
    if not given.issubset(RIGHTS):
        raise InvalidInput("There is no such right.")
    return "".join(letter for letter in RIGHTS if letter in given)


_owner, _who = account.alias("owner"), account.alias("who")
_right = mailbox_right
_OWNER = _right.c.owner_id == bindparam("owner")
_MAILBOX = _right.c.mailbox_id == bindparam("mailbox")
_WHO = _right.c.identifier == bindparam("who")
_rows = (
    select(_right, func.coalesce(_who.c.login, ""))
    .outerjoin(_who, _who.c.account_id == _right.c.identifier)
    .where(or_(_right.c.identifier == ANYONE, _who.c.state != State.ENDED.value))
)
_OF_MAILBOX = prepare(_rows.where(_OWNER, _MAILBOX).order_by(_right.c.identifier))
_OF_OWNER = prepare(_rows.where(_OWNER).order_by(_right.c.mailbox_id, _right.c.identifier))
_SHARED_WITH = prepare(
    select(
        _right.c.owner_id,
        _right.c.mailbox_id,
        _right.c.rights,
        _owner.c.login,
        _owner.c.quota_bytes,
        _owner.c.quota_messages,
    )
    .join(_owner, _owner.c.account_id == _right.c.owner_id)
    .where(
        _right.c.identifier.in_((bindparam("who"), ANYONE)),
        _right.c.owner_id != bindparam("who"),
        _owner.c.state == State.ACTIVE.value,
    )
    .order_by(_right.c.identifier.desc(), _right.c.owner_id, _right.c.mailbox_id)  # what is his by name comes first
    .limit(MOST)
)
_ONE = prepare(select(_right.c.rights).where(_OWNER, _MAILBOX, _WHO))
_COUNT = prepare(select(func.count()).select_from(_right).where(_OWNER))
_COUNT_IN = prepare(select(func.count()).select_from(_right).where(_OWNER, _MAILBOX))
_LIVING = prepare(
    select(func.count())
    .select_from(account)
    .where(account.c.account_id == bindparam("who"), account.c.state != State.ENDED.value)
)
_INSERT = prepare(upsert(_right).on_conflict_do_nothing())  # two may inherit at the same time
_UPDATE = prepare(
    update(_right).where(_OWNER, _MAILBOX, _WHO).values(rights=bindparam("letters"), changed=bindparam("now"))
)
_DELETE = prepare(sql_delete(_right).where(_OWNER, _MAILBOX, _WHO))
_DELETE_MAILBOX = prepare(sql_delete(_right).where(_OWNER, _MAILBOX))
_DELETE_OWNER = prepare(sql_delete(_right).where(_OWNER))
_DELETE_ACCOUNT = prepare(
    sql_delete(_right).where(or_(_right.c.owner_id == bindparam("id"), _right.c.identifier == bindparam("id")))
)


class MailboxRights:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    # Looking

    def of_mailbox(self, owner_id: AccountId, mailbox_id: MailboxId) -> list[RightsRow]:
        return self._read(_OF_MAILBOX, owner=owner_id, mailbox=mailbox_id)

    def of_owner(self, owner_id: AccountId) -> list[RightsRow]:
        """What he lets others do, by mailbox."""
        return self._read(_OF_OWNER, owner=owner_id)

    def shared_with(self, account_id: AccountId) -> list[SharedRow]:
        """What others let him do: by his own rows and those of ANYONE, of very many the first."""
        with self._database.reading() as connection:
            return [SharedRow(*row) for row in _SHARED_WITH.rows(connection, who=account_id)]

    def _read(self, statement: Prepared, **values: Any) -> list[RightsRow]:
        with self._database.reading() as connection:
            return [RightsRow(*row) for row in statement.rows(connection, **values)]

    # Changing

    def change(
        self, owner_id: AccountId, mailbox_id: MailboxId, identifier: AccountId, how: How, rights: str
    ) -> tuple[str, str]:
        """The rights that the identifier had, and has now (RFC 4314 §3.1)."""
        rights = in_order(rights)
        if identifier == owner_id:
            raise InvalidInput("The owner of a mailbox may always do everything with it.")

        def work(transaction: Transaction) -> tuple[str, str]:
            scope = {"owner": owner_id, "mailbox": mailbox_id, "who": identifier}
            row = _ONE.one(transaction, **scope)
            before: str = row[0] if row is not None else ""
            after = _changed(before, how, rights)
            if after == before:
                return before, after
            if not after:
                _DELETE.run(transaction, **scope)
            elif row is not None:
                _UPDATE.run(transaction, **scope, letters=after, now=self._clock.now())
            else:
                self._check(transaction, owner_id, mailbox_id, identifier)
                self._insert(transaction, owner_id, mailbox_id, identifier, after)
            return before, after

        return self._database.write(work)

    def inherit(self, owner_id: AccountId, above: MailboxId, made: Collection[MailboxId]) -> bool:
        """Each of the new mailboxes gets the list of the one above; False: that one has none."""

        def work(transaction: Transaction) -> bool:
            rows = _OF_MAILBOX.rows(transaction, owner=owner_id, mailbox=above)
            count = _COUNT.one(transaction, owner=owner_id)
            if count is not None and count[0] + len(rows) * len(made) > PER_OWNER:
                raise LimitReached("The account shares as much as it may.")
            for mailbox_id in made:
                for row in (RightsRow(*each) for each in rows):
                    self._insert(transaction, owner_id, mailbox_id, row.identifier, row.rights)
            return bool(rows)

        return self._database.write(work)

    def remove_mailbox(self, owner_id: AccountId, mailbox_id: MailboxId) -> bool:
        """It is gone. False: it was not shared."""
        return bool(self._database.write(lambda t: _DELETE_MAILBOX.run(t, owner=owner_id, mailbox=mailbox_id)))

    def remove_owner(self, owner_id: AccountId) -> int:
        """None of his mailboxes is shared any more; the number of lists' rows."""
        return self._database.write(lambda transaction: _DELETE_OWNER.run(transaction, owner=owner_id))

    def remove_account(self, transaction: Transaction, account_id: AccountId) -> None:
        """In the commit that removes an account's rows."""
        _DELETE_ACCOUNT.run(transaction, id=account_id)

    def _check(self, connection: Connection, owner_id: AccountId, mailbox_id: MailboxId, identifier: AccountId) -> None:
        if identifier != ANYONE:
            living = _LIVING.one(connection, who=identifier)
            if living is None or not living[0]:
                raise NotFound("There is no such account.")
        in_mailbox = _COUNT_IN.one(connection, owner=owner_id, mailbox=mailbox_id)
        of_owner = _COUNT.one(connection, owner=owner_id)
        if (in_mailbox and in_mailbox[0] >= PER_MAILBOX) or (of_owner and of_owner[0] >= PER_OWNER):
            raise LimitReached("As much is shared as may be.")

    def _insert(
        self, transaction: Transaction, owner_id: AccountId, mailbox_id: MailboxId, identifier: AccountId, rights: str
    ) -> None:
        _INSERT.run(
            transaction,
            owner_id=owner_id,
            mailbox_id=mailbox_id,
            identifier=identifier,
            rights=rights,
            changed=self._clock.now(),
        )


def _changed(before: str, how: How, rights: str) -> str:
    match how:
        case "replace":
            return rights
        case "add":
            return in_order(before + rights)
        case "remove":
            return in_order(set(before) - set(rights))
