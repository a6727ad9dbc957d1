"""What an account may store and what it stores: a message's RFC 822 size counts once for each membership, an object of
a collection with the octets that its client sent, a dead property with its name and value.

Usage changes in the transaction that inserts or deletes, so it is exact and two writers cannot both take the last
octet.

Raises: OverQuota. Standards: RFC 9208 (RES-STORAGE, RES-MESSAGE).
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import bindparam, insert, select, update

from storage.database.database import Connection, Transaction
from storage.database.prepared import prepare
from storage.errors import OverQuota
from storage.schema.account import usage
from storage.values import AccountId

_mine = usage.c.account_id == bindparam("account")
_select = prepare(select(usage.c.bytes, usage.c.messages).where(_mine))
_insert = prepare(insert(usage))
_add = prepare(
    update(usage)
    .where(_mine)
    .values(bytes=usage.c.bytes + bindparam("octets"), messages=usage.c.messages + bindparam("count"))
    .returning(usage.c.bytes, usage.c.messages)
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What an account may store at most; 0 is unlimited."""

    bytes: int = 0
    messages: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What an account stores."""

    bytes: int
    messages: int


UNLIMITED = Limits()


def begin(transaction: Transaction, account_id: AccountId) -> None:
    """The row of a new account."""
    _insert.run(transaction, account_id=account_id, bytes=0, messages=0)


def usage_of(connection: Connection, account_id: AccountId) -> Usage:
    row = _select.one(connection, account=account_id)
    return Usage(*row) if row else Usage(0, 0)


def charge(
    transaction: Transaction,
    account_id: AccountId,
    octets: int,
    messages: int,
    limits: Limits,
    *,
    overrun: bool = False,
) -> None:
    """Count what is being inserted. Raises OverQuota when it does not fit; the caller's transaction ends with it.

    With `overrun` it fits as long as something is left, however little.
    """
    used_octets, used_messages = _add.rows(transaction, account=account_id, octets=octets, count=messages)[0]
    if overrun:
        used_octets, used_messages = used_octets - octets + 1, used_messages - messages + 1
    _check(limits, used_octets, used_messages if messages else 0)


def require_space(connection: Connection, account_id: AccountId, octets: int, messages: int, limits: Limits) -> None:
    """Raises what `charge` would raise now."""
    used = usage_of(connection, account_id)
    _check(limits, used.bytes + octets, used.messages + messages)


def _check(limits: Limits, octets: int, messages: int) -> None:
    if limits.bytes and octets > limits.bytes:
        raise OverQuota
    if limits.messages and messages > limits.messages:
        raise OverQuota("The mailbox has as many messages as it may have.")


def release(transaction: Transaction, account_id: AccountId, octets: int, messages: int) -> None:
    """Give back what is being deleted; never refused, however far the limit has moved."""
    _add.rows(transaction, account=account_id, octets=-octets, count=-messages)
