"""The names that an account is subscribed to. A name may be subscribed without a mailbox that has it.

Standards: RFC 9051 §6.3.7, §6.3.8.
"""

from __future__ import annotations

from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects.sqlite import insert as upsert

from storage.database.database import Connection, Transaction
from storage.database.prepared import prepare
from storage.schema.account import subscription
from storage.values import AccountId

_select = prepare(select(subscription.c.name).where(subscription.c.account_id == bindparam("account")))
_insert = prepare(upsert(subscription).on_conflict_do_nothing())
_delete = prepare(
    delete(subscription).where(
        subscription.c.account_id == bindparam("account"), subscription.c.name == bindparam("called")
    )
)


def subscribed_names(connection: Connection, account_id: AccountId) -> set[str]:
    return {row[0] for row in _select.rows(connection, account=account_id)}


def insert_subscription(transaction: Transaction, account_id: AccountId, name: str) -> None:
    """That it is there already is no error."""
    _insert.run(transaction, account_id=account_id, name=name)


def delete_subscription(transaction: Transaction, account_id: AccountId, name: str) -> None:
    """That it is not there is no error."""
    _delete.run(transaction, account=account_id, called=name)
