"""Device passwords: generated, shown once, kept as a keyed hash under a key of this tenant alone.

140 random bits cannot be guessed, so a plain keyed hash is as good a verifier as argon2 would be and costs
microseconds. Spaces, hyphens and case are of no account when one is typed. Where the account's salt is given, keys for
SCRAM are made with it (`storage.directory.scram`). A revoked one loses its verifier and its keys in the same commit.

Raises: NotFound, InvalidInput, LimitReached, Corrupt.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy import delete as sql_delete

from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.directory.rows import AppPasswordRow
from storage.directory.scram import ScramKeys, keys_of_app_password, put_keys, remove_keys
from storage.errors import Corrupt, InvalidInput, LimitReached, NotFound
from storage.keys.sealing import keyed_hash, new_secret
from storage.schema import tenant as schema
from storage.values import AccountId

PROTOCOLS = frozenset({"imap", "submission", "dav"})
PER_ACCOUNT = 100  # that are not revoked

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # 32 characters, without l, o, 0 and 1
_LENGTH = 28
_GROUP = 4

_table, _info = schema.app_password, schema.info
_COLUMNS = (
    _table.c.app_password_id,
    _table.c.account_id,
    _table.c.name,
    _table.c.version,
    _table.c.protocols,
    _table.c.created,
    _table.c.revoked,
)
_KEY = prepare(select(_info.c.value).where(_info.c.name == "app_password_key"))
_INSERT_KEY = prepare(insert(_info).values(name="app_password_key", value=bindparam("secret")))
_LIST = prepare(select(*_COLUMNS).where(_table.c.account_id == bindparam("id")).order_by(_table.c.app_password_id))
_ONE = prepare(select(*_COLUMNS).where(_table.c.app_password_id == bindparam("number")))
_MATCH = prepare(
    select(*_COLUMNS).where(
        _table.c.account_id == bindparam("id"), _table.c.verifier == bindparam("hash"), _table.c.revoked.is_(None)
    )
)
_LIVE = prepare(
    select(func.count()).select_from(_table).where(_table.c.account_id == bindparam("id"), _table.c.revoked.is_(None))
)
_INSERT = prepare(
    insert(_table)
    .values(
        account_id=bindparam("id"),
        name=bindparam("label"),
        verifier=bindparam("hash"),
        version=1,
        protocols=bindparam("allowed"),
        created=bindparam("time"),
        revoked=None,
    )
    .returning(_table.c.app_password_id)
)
_REVOKE = prepare(
    update(_table)
    .where(
        _table.c.app_password_id == bindparam("number"),
        _table.c.account_id == bindparam("id"),
        _table.c.revoked.is_(None),
    )
    .values(revoked=bindparam("time"), verifier="", version=_table.c.version + 1)
)
_DELETE = prepare(sql_delete(_table).where(_table.c.account_id == bindparam("id")))


def is_generated(password: str) -> bool:
    """Whether it has the form of an app password, whoever made it up."""
    return _plain(password) is not None


def make_app_password_key(transaction: Transaction) -> None:
    """For a new tenant.db. It stands in the database, since verifiers must outlive a change of the tenant's key."""
    _INSERT_KEY.run(transaction, secret=new_secret().hex())


class AppPasswords:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        with database.reading() as connection:
            row = _KEY.one(connection)
        if row is None:
            raise Corrupt(detail="tenant.db has no key of app passwords")
        self._key = bytes.fromhex(row[0])
        self._scram = ScramKeys(database)

    def list(self, account_id: AccountId) -> list[AppPasswordRow]:
        """The revoked ones too, oldest first."""
        with self._database.reading() as connection:
            rows = [_row(row) for row in _LIST.rows(connection, id=account_id)]
        having = self._scram.having(account_id)
        return [replace(row, scram=row.app_password_id in having) for row in rows]

    def show(self, app_password_id: int) -> AppPasswordRow:
        with self._database.reading() as connection:
            row = _ONE.one(connection, number=app_password_id)
        if row is None:
            raise NotFound(f"There is no app password {app_password_id}.")
        return _row(row)

    def create(
        self, account_id: AccountId, name: str, protocols: Collection[str] = (), *, salt: bytes | None = None
    ) -> tuple[AppPasswordRow, str]:
        """A new one and its text, which nobody can show again. No protocols: all of them.

        `salt`: for keys of SCRAM, if the account has no salt yet; None: it gets no keys.
        """
        unknown = sorted(set(protocols) - PROTOCOLS)
        if unknown:
            raise InvalidInput(f"'{unknown[0][:40]}' is none of: {', '.join(sorted(PROTOCOLS))}.")
        text = "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
        shown = "-".join(text[start : start + _GROUP] for start in range(0, _LENGTH, _GROUP))
        now = self._clock.now()
        allowed = " ".join(sorted(set(protocols)))
        if salt is not None:
            salt = self._scram.salt(account_id) or salt
        keys = [] if salt is None else keys_of_app_password(shown, salt)

        def work(transaction: Transaction) -> tuple[int, bool]:
            live = _LIVE.one(transaction, id=account_id)
            if live is not None and live[0] >= PER_ACCOUNT:
                raise LimitReached(f"The account has {PER_ACCOUNT} app passwords; revoke one first.")
            row = _INSERT.one(
                transaction, id=account_id, label=name, hash=self._verifier(account_id, text), allowed=allowed, time=now
            )
            assert row is not None
            number = int(row[0])
            return number, salt is not None and put_keys(transaction, account_id, number, salt, keys)

        number, scram = self._database.write(work)
        return AppPasswordRow(number, account_id, name, 1, frozenset(protocols), now, None, scram), shown

    def match(self, account_id: AccountId, password: str) -> AppPasswordRow | None:
        """The account's unrevoked app password that this is, whatever protocols it is for."""
        text = _plain(password)
        if text is None:
            return None
        with self._database.reading() as connection:
            row = _MATCH.one(connection, id=account_id, hash=self._verifier(account_id, text))
        return _row(row) if row is not None else None

    def revoke(self, account_id: AccountId, app_password_id: int) -> None:
        """It signs nobody in from now on; its verifier is gone."""

        def work(transaction: Transaction) -> bool:
            revoked = _REVOKE.run(transaction, number=app_password_id, id=account_id, time=self._clock.now())
            if revoked:
                remove_keys(transaction, account_id, app_password_id)
            return bool(revoked)

        if not self._database.write(work):
            raise NotFound(f"The account has no valid app password {app_password_id}.")

    def remove_account(self, transaction: Transaction, account_id: AccountId) -> None:
        _DELETE.run(transaction, id=account_id)

    def _verifier(self, account_id: AccountId, text: str) -> str:
        return keyed_hash(self._key, b"%d\0" % account_id + text.encode()).hex()


def _plain(password: str) -> str | None:
    """As it was generated; None: it has not the form of one."""
    text = password.replace("-", "").replace(" ", "").lower()
    return text if len(text) == _LENGTH and set(text).issubset(_ALPHABET) else None


def _row(row: tuple[Any, ...]) -> AppPasswordRow:
    return AppPasswordRow(row[0], AccountId(row[1]), row[2], row[3], frozenset(row[4].split()), row[5], row[6])
