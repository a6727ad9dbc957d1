"""Whose a login name is, in control.db: names stand there as keyed hashes only. Every change is durable on return.

Raises: AlreadyExists.
"""

from __future__ import annotations

from sqlalchemy import bindparam, insert, select
from sqlalchemy import delete as sql_delete

from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.directory.part import Part
from storage.directory.rows import Login, State
from storage.directory.tenants import state_of
from storage.errors import AlreadyExists, InvalidInput
from storage.keys.sealing import keyed_hash
from storage.keys.source import KeySource
from storage.schema import control as schema
from storage.values import AccountId, EmailAddress, TenantId

_login = schema.login
_ONE_LOGIN = prepare(select(_login.c.tenant_id, _login.c.account_id).where(_login.c.login_hash == bindparam("hash")))
_ALL_LOGINS = prepare(select(_login.c.account_id, _login.c.login_hash))
_INSERT_LOGIN = prepare(insert(_login))
_DELETE_LOGIN = prepare(sql_delete(_login).where(_login.c.account_id == bindparam("id")))

_NOBODYS = {None, State.ENDED}  # what is left of these is in nobody's way


class Logins(Part):
    """Of one database, for `storage.directory.control.Control`."""

    def __init__(self, database: Database, keys: KeySource, clock: Clock) -> None:
        super().__init__(database, keys, clock)
        self._directory_key = keys.service_key("directory")

    def login_hash(self, text: str) -> bytes:
        """What a login name is known by; of any text at all, since people type passwords there."""
        try:
            key = EmailAddress.parse(text).key
        except InvalidInput:
            key = text.casefold()
        return keyed_hash(self._directory_key, b"login\0" + key.encode("utf-8", "surrogatepass"))

    def find_login(self, login_hash: bytes) -> Login | None:
        with self._database.reading() as connection:
            row = _ONE_LOGIN.one(connection, hash=login_hash)
        return Login(TenantId(row[0]), AccountId(row[1])) if row is not None and not self._hides(row[0]) else None

    def login_hashes(self) -> dict[AccountId, bytes]:
        """Of every account."""
        with self._database.reading() as connection:
            return {AccountId(account_id): digest for account_id, digest in _ALL_LOGINS.rows(connection)}

    def claim_login(self, address: EmailAddress, tenant_id: TenantId, account_id: AccountId) -> None:
        """Let `address` sign in to the account. A claim that the same tenant, or one that ended, left is replaced."""
        digest = self.login_hash(str(address))

        def work(transaction: Transaction) -> None:
            row = _ONE_LOGIN.one(transaction, hash=digest)
            if row is not None and row[0] != tenant_id and state_of(transaction, row[0]) not in _NOBODYS:
                raise AlreadyExists(f"{address} signs in elsewhere already.")
            if row is not None:
                _DELETE_LOGIN.run(transaction, id=row[1])
            _INSERT_LOGIN.run(transaction, login_hash=digest, tenant_id=tenant_id, account_id=account_id)

        self._database.write(work)

    def release_login(self, account_id: AccountId) -> None:
        self._database.write(lambda t: _DELETE_LOGIN.run(t, id=account_id))
