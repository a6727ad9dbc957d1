"""Collections that an account shares with others of its tenant: invitations, answers, and how each sharee calls them.

A share is a row of the tenant's database, so there is none across tenants. Every change is durable on return and counts
for the next request. What belongs to an account that is not in use, on either side, is not told. Rows go with either
account.

Raises: NotFound, InvalidInput, LimitReached.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import bindparam, func, insert, or_, select, update
from sqlalchemy import delete as sql_delete

from storage.clock import Clock
from storage.collections.values import Kind
from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.directory.rows import State
from storage.errors import InvalidInput, LimitReached, NotFound
from storage.schema.tenant import account, share
from storage.values import AccountId

SHARED_KINDS = frozenset({Kind.CALENDAR, Kind.ADDRESS_BOOK})
PER_COLLECTION = 500  # sharees
PER_SHAREE = 1000  # shares, invitations included
_LONGEST = {"display_name": 1000, "summary": 1000, "color": 40}  # characters


class Answer(StrEnum):
    """What the sharee has said."""

    INVITED = "invited"
    ACCEPTED = "accepted"
    DECLINED = "declined"


@dataclass(frozen=True, slots=True)
class ShareRow:
    """`owner_login` and `sharee_login` are the accounts' primary addresses."""

    owner_id: AccountId
    collection_id: int
    sharee_id: AccountId
    kind: Kind
    may_write: bool
    state: Answer
    name: str = field(repr=False)  # last segment of its path in the sharee's home
    display_name: str = field(repr=False)  # as the sharee calls it; empty: as its owner
    summary: str = field(repr=False)  # what the invitation says
    color: str
    transparent: bool
    invited: int  # Unix seconds
    answered: int | None
    told_sharee: bool
    told_owner: bool
    owner_login: str = field(repr=False)
    sharee_login: str = field(repr=False)


_owner, _sharee = account.alias("owner"), account.alias("sharee")
_rows = (
    select(share, _owner.c.login, _sharee.c.login)
    .join(_owner, _owner.c.account_id == share.c.owner_id)
    .join(_sharee, _sharee.c.account_id == share.c.sharee_id)
    .where(_owner.c.state == State.ACTIVE.value, _sharee.c.state != State.ENDED.value)
)
_OWNER = share.c.owner_id == bindparam("owner_id_")
_COLLECTION = share.c.collection_id == bindparam("collection")
_SHAREE = share.c.sharee_id == bindparam("sharee_id_")
_THIS = (_OWNER, _COLLECTION, _SHAREE)

_OF_SHAREE = prepare(_rows.where(_SHAREE).order_by(share.c.name))
_OF_COLLECTION = prepare(_rows.where(_OWNER, _COLLECTION).order_by(share.c.sharee_id))
_OF_OWNER = prepare(_rows.where(_OWNER).order_by(share.c.collection_id, share.c.sharee_id))
_ONE = prepare(_rows.where(*_THIS))
_THERE = prepare(select(share.c.name).where(*_THIS))
_SHAREES = prepare(select(func.count()).select_from(share).where(_OWNER, _COLLECTION))
_TAKEN = prepare(select(func.count()).select_from(share).where(_SHAREE))
_LIVING = prepare(
    select(func.count())
    .select_from(account)
    .where(
        account.c.account_id.in_((bindparam("owner_id_"), bindparam("sharee_id_"))),
        account.c.state != State.ENDED.value,
    )
)
_INSERT = prepare(insert(share))
_INVITE_AGAIN = prepare(
    update(share)
    .where(*_THIS)
    .values(
        may_write=bindparam("writing"),
        summary=bindparam("words"),
        state=bindparam("answer"),
        answered=bindparam("then"),
        told_sharee=bindparam("quiet"),
    )
)
_ANSWER = prepare(
    update(share)
    .where(*_THIS)
    .values(
        state=bindparam("answer"),
        answered=bindparam("now"),
        display_name=bindparam("called"),
        told_sharee=True,
        told_owner=bindparam("quiet"),
    )
)
_CHANGE = prepare(
    update(share)
    .where(*_THIS)
    .values(display_name=bindparam("called"), color=bindparam("colour"), transparent=bindparam("free"))
)
_TOLD_SHAREE = prepare(update(share).where(*_THIS).values(told_sharee=True))
_TOLD_OWNER = prepare(update(share).where(*_THIS).values(told_owner=True))
_DELETE = prepare(sql_delete(share).where(*_THIS))
_DELETE_COLLECTION = prepare(sql_delete(share).where(_OWNER, _COLLECTION))
_DELETE_ACCOUNT = prepare(
    sql_delete(share).where(or_(share.c.owner_id == bindparam("id"), share.c.sharee_id == bindparam("id")))
)


class Shares:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    # Looking

    def of_sharee(self, sharee_id: AccountId) -> list[ShareRow]:
        """Everything that others share with him, whatever he has answered, in the order of names."""
        return self._read(_OF_SHAREE, sharee_id_=sharee_id)

    def of_collection(self, owner_id: AccountId, collection_id: int) -> list[ShareRow]:
        return self._read(_OF_COLLECTION, owner_id_=owner_id, collection=collection_id)

    def of_owner(self, owner_id: AccountId) -> list[ShareRow]:
        return self._read(_OF_OWNER, owner_id_=owner_id)

    def find(self, owner_id: AccountId, collection_id: int, sharee_id: AccountId) -> ShareRow:
        """Raises NotFound."""
        rows = self._read(_ONE, owner_id_=owner_id, collection=collection_id, sharee_id_=sharee_id)
        if not rows:
            raise NotFound("It is not shared.")
        return rows[0]

    def _read(self, statement: Any, **values: Any) -> list[ShareRow]:
        with self._database.reading() as connection:
            return [_row(row) for row in statement.rows(connection, **values)]

    # What the owner does

    def invite(
        self,
        owner_id: AccountId,
        collection_id: int,
        sharee_id: AccountId,
        kind: Kind,
        *,
        may_write: bool,
        summary: str = "",
        at_once: bool = False,
    ) -> ShareRow:
        """Share it, or say anew what he may do. `at_once`: it is in the sharee's home without his answer.

        Who has accepted it keeps it; who has declined is asked again.
        """
        if kind not in SHARED_KINDS:
            raise InvalidInput("Calendars and address books are what can be shared.")
        if owner_id == sharee_id:
            raise InvalidInput("It is yours already.")
        _check(summary=summary)
        scope = {"owner_id_": owner_id, "collection": collection_id, "sharee_id_": sharee_id}

        def work(transaction: Transaction) -> None:
            now = self._clock.now()
            living = _LIVING.one(transaction, owner_id_=owner_id, sharee_id_=sharee_id)
            if living is None or living[0] != 2:
                raise NotFound("There is no such account.")
            found = _ONE.one(transaction, **scope)
            stays = found is not None and _row(found).state is Answer.ACCEPTED
            state = Answer.ACCEPTED if at_once or stays else Answer.INVITED
            answered = now if state is Answer.ACCEPTED else None
            if _THERE.one(transaction, **scope) is not None:
                _INVITE_AGAIN.run(
                    transaction,
                    **scope,
                    writing=may_write,
                    words=summary,
                    answer=state.value,
                    then=answered,
                    quiet=state is Answer.ACCEPTED,
                )
                return
            sharees = _SHAREES.one(transaction, owner_id_=owner_id, collection=collection_id)
            taken = _TAKEN.one(transaction, sharee_id_=sharee_id)
            if (sharees and sharees[0] >= PER_COLLECTION) or (taken and taken[0] >= PER_SHAREE):
                raise LimitReached("As much is shared as may be.")
            _INSERT.run(
                transaction,
                owner_id=owner_id,
                collection_id=collection_id,
                sharee_id=sharee_id,
                kind=kind.value,
                may_write=may_write,
                state=state.value,
                name=secrets.token_hex(10),  # nobody's own calendar is called so
                display_name="",
                summary=summary,
                color="",
                transparent=False,
                invited=now,
                answered=answered,
                told_sharee=state is Answer.ACCEPTED,
                told_owner=True,
            )

        self._database.write(work)
        return self.find(owner_id, collection_id, sharee_id)

    def remove(self, owner_id: AccountId, collection_id: int, sharee_id: AccountId) -> bool:
        """From now on he may not read it. False: it was not shared with him."""
        scope = {"owner_id_": owner_id, "collection": collection_id, "sharee_id_": sharee_id}
        return bool(self._database.write(lambda t: _DELETE.run(t, **scope)))

    def remove_collection(self, owner_id: AccountId, collection_id: int) -> int:
        """It is gone, or shared with nobody any more; with how many it was."""
        return self._database.write(lambda t: _DELETE_COLLECTION.run(t, owner_id_=owner_id, collection=collection_id))

    # What the sharee does

    def answer(
        self, owner_id: AccountId, collection_id: int, sharee_id: AccountId, *, accepted: bool, display_name: str = ""
    ) -> ShareRow:
        """Raises NotFound."""
        _check(display_name=display_name)
        scope = {"owner_id_": owner_id, "collection": collection_id, "sharee_id_": sharee_id}
        state = Answer.ACCEPTED if accepted else Answer.DECLINED

        def work(transaction: Transaction) -> None:
            found = _ONE.one(transaction, **scope)
            if found is None:
                raise NotFound("It is not shared.")
            before = _row(found)
            _ANSWER.run(
                transaction,
                **scope,
                answer=state.value,
                now=self._clock.now(),
                called=display_name or before.display_name,
                quiet=before.told_owner and before.state is state,
            )

        self._database.write(work)
        return self.find(owner_id, collection_id, sharee_id)

    def change(
        self, owner_id: AccountId, collection_id: int, sharee_id: AccountId, fields: Mapping[str, object]
    ) -> None:
        """The sharee's own name, color and transparency. Raises NotFound."""
        scope = {"owner_id_": owner_id, "collection": collection_id, "sharee_id_": sharee_id}

        def work(transaction: Transaction) -> None:
            found = _ONE.one(transaction, **scope)
            if found is None:
                raise NotFound("It is not shared.")
            now = _row(found)
            name, color = str(fields.get("display_name", now.display_name)), str(fields.get("color", now.color))
            _check(display_name=name, color=color)
            _CHANGE.run(
                transaction, **scope, called=name, colour=color, free=bool(fields.get("transparent", now.transparent))
            )

        self._database.write(work)

    def told(self, row: ShareRow, *, owner: bool) -> None:
        """The notice of the invitation, or of its answer, was removed by who read it."""
        statement = _TOLD_OWNER if owner else _TOLD_SHAREE
        scope = {"owner_id_": row.owner_id, "collection": row.collection_id, "sharee_id_": row.sharee_id}
        self._database.write(lambda t: statement.run(t, **scope))

    def remove_account(self, transaction: Transaction, account_id: AccountId) -> None:
        """In the commit that removes an account's rows."""
        _DELETE_ACCOUNT.run(transaction, id=account_id)


def _check(**values: str) -> None:
    for name, value in values.items():
        if len(value) > _LONGEST[name]:
            raise InvalidInput(f"The {name.replace('_', ' ')} is longer than {_LONGEST[name]} characters.")


def _row(row: tuple[Any, ...]) -> ShareRow:
    return ShareRow(
        AccountId(row[0]),
        row[1],
        AccountId(row[2]),
        Kind(row[3]),
        bool(row[4]),
        Answer(row[5]),
        row[6],
        row[7],
        row[8],
        row[9],
        bool(row[10]),
        row[11],
        row[12],
        bool(row[13]),
        bool(row[14]),
        row[15],
        row[16],
    )
