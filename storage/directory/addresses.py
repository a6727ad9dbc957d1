"""The addresses of one tenant and where each leads: to accounts of this tenant, or to other addresses anywhere.

An address is an account's own, an alias with one or more targets, or a catch-all, written "@domain". Keys are canonical
(`EmailAddress.key`: NFC, caseless). This store follows no target; `storage.directory.resolve` does.

Raises: AlreadyExists, NotFound, InvalidInput, LimitReached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import bindparam, exists, insert, select
from sqlalchemy import delete as sql_delete

from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.directory.rows import AliasRow
from storage.errors import AlreadyExists, InvalidInput, LimitReached, NotFound
from storage.schema import tenant as schema
from storage.values import AccountId, Domain, EmailAddress

ACCOUNT, ALIAS, CATCH_ALL = "account", "alias", "catch_all"
TARGETS_MAX = 200

Target = AccountId | EmailAddress  # an account of this tenant, or an address anywhere


@dataclass(frozen=True, slots=True)
class Entry:
    """An address that is in the table, and its targets in their order."""

    key: str
    kind: str
    targets: tuple[Target, ...]


_address, _target = schema.address, schema.target
_JOINED = select(
    _address.c.address_key, _address.c.address, _address.c.kind, _target.c.account_id, _target.c.target_address
).select_from(_address.outerjoin(_target, _target.c.address_key == _address.c.address_key))

_FIND = prepare(_JOINED.where(_address.c.address_key == bindparam("key")).order_by(_target.c.position))
_ALIASES = prepare(_JOINED.where(_address.c.kind != ACCOUNT).order_by(_address.c.address_key, _target.c.position))
_other = _target.alias("other")
_OWN = prepare(
    select(_address.c.address)
    .select_from(_target.join(_address, _address.c.address_key == _target.c.address_key))
    .where(
        _target.c.account_id == bindparam("id"),
        _address.c.kind == ALIAS,
        ~exists().where(_other.c.address_key == _target.c.address_key, _other.c.position != _target.c.position),
    )
    .order_by(_address.c.address_key)
)
_EXISTS = prepare(select(_address.c.kind).where(_address.c.address_key == bindparam("key")))
_INSERT = prepare(insert(_address))
_INSERT_TARGET = prepare(insert(_target))
_DELETE = prepare(sql_delete(_address).where(_address.c.address_key == bindparam("key")))
_DELETE_TARGETS = prepare(sql_delete(_target).where(_target.c.address_key == bindparam("key")))
_DELETE_ACCOUNT_TARGETS = prepare(sql_delete(_target).where(_target.c.account_id == bindparam("id")))
_DELETE_EMPTY = prepare(sql_delete(_address).where(~exists().where(_target.c.address_key == _address.c.address_key)))


class Addresses:
    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, key: str) -> Entry | None:
        """What stands under exactly this key ("@domain" for a catch-all)."""
        with self._database.reading() as connection:
            rows = _FIND.rows(connection, key=key)
        return Entry(key, rows[0][2], _targets(rows)) if rows else None

    def aliases(self) -> list[AliasRow]:
        """Aliases and catch-alls, in the order of their keys."""
        with self._database.reading() as connection:
            rows = _ALIASES.rows(connection)
        aliases = []
        for _, group in groupby(rows, key=lambda row: row[0]):
            found = list(group)
            targets = _targets(found)
            aliases.append(
                AliasRow(
                    found[0][1],
                    found[0][2] == CATCH_ALL,
                    tuple(target for target in targets if not isinstance(target, EmailAddress)),
                    tuple(target for target in targets if isinstance(target, EmailAddress)),
                )
            )
        return aliases

    def own_aliases(self, account_id: AccountId) -> list[str]:
        """Aliases that lead to this account and nowhere else."""
        with self._database.reading() as connection:
            return [row[0] for row in _OWN.rows(connection, id=account_id)]

    def add_alias(self, address: EmailAddress, targets: Sequence[Target]) -> None:
        self._add(address.key, str(address), ALIAS, targets)

    def add_catch_all(self, domain: Domain, targets: Sequence[Target]) -> None:
        self._add(catch_all_key(domain), catch_all_key(domain), CATCH_ALL, targets)

    def remove(self, key: str) -> None:
        """An alias or a catch-all; an account's own address goes with the account."""

        def work(transaction: Transaction) -> None:
            row = _EXISTS.one(transaction, key=key)
            if row is None or row[0] == ACCOUNT:
                raise NotFound("There is no such alias.")
            _DELETE_TARGETS.run(transaction, key=key)
            _DELETE.run(transaction, key=key)

        self._database.write(work)

    def remove_account(self, transaction: Transaction, account_id: AccountId) -> None:
        """Its own address, its place in aliases, and the aliases that lead nowhere then."""
        _DELETE_ACCOUNT_TARGETS.run(transaction, id=account_id)
        _DELETE_EMPTY.run(transaction)

    def _add(self, key: str, address: str, kind: str, targets: Sequence[Target]) -> None:
        distinct = list(dict.fromkeys(targets))
        if not distinct:
            raise InvalidInput("An alias needs a target.")
        if len(distinct) > TARGETS_MAX:
            raise LimitReached(f"An alias has at most {TARGETS_MAX} targets.")
        self._database.write(lambda t: _insert(t, key, address, kind, distinct))


def insert_account_address(transaction: Transaction, address: EmailAddress, account_id: AccountId) -> None:
    _insert(transaction, address.key, str(address), ACCOUNT, [account_id])


def catch_all_key(domain: Domain) -> str:
    return f"@{domain}"


def _insert(transaction: Transaction, key: str, address: str, kind: str, targets: Sequence[Target]) -> None:
    if _EXISTS.one(transaction, key=key) is not None:
        raise AlreadyExists(f"{address} exists already.")
    _INSERT.run(transaction, address_key=key, address=address, kind=kind)
    _INSERT_TARGET.run_many(
        transaction,
        [
            {
                "address_key": key,
                "position": position,
                "account_id": None if isinstance(target, EmailAddress) else target,
                "target_address": str(target) if isinstance(target, EmailAddress) else None,
            }
            for position, target in enumerate(targets)
        ],
    )


def _targets(rows: Sequence[tuple[Any, ...]]) -> tuple[Target, ...]:
    return tuple(
        AccountId(account_id) if account_id is not None else EmailAddress.parse(text)
        for *_, account_id, text in rows
        if account_id is not None or text is not None
    )
