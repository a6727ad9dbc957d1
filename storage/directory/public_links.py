"""Links under which anybody who has one may read a calendar, until it is revoked or its account ends.

A link's secret is shown once; kept is its SHA-256, so that nobody who reads the database can use one. 256 random bits
cannot be guessed. Every change is durable on return and counts for the next request.

Raises: NotFound, LimitReached.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select

from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.errors import LimitReached, NotFound
from storage.schema.control import public_link
from storage.values import AccountId, TenantId

PER_ACCOUNT = 100
_SECRET_OCTETS = 32
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}\Z", re.ASCII)
_NUMBER_DIGITS = 12  # of the digest, by which people name a link

_COLUMNS = (
    public_link.c.digest,
    public_link.c.tenant_id,
    public_link.c.account_id,
    public_link.c.collection_id,
    public_link.c.created,
)
_WHOSE = (public_link.c.tenant_id == bindparam("tenant"), public_link.c.account_id == bindparam("account"))
_ONE = prepare(select(*_COLUMNS).where(public_link.c.digest == bindparam("sought")))
_OF_ACCOUNT = prepare(select(*_COLUMNS).where(*_WHOSE).order_by(public_link.c.created, public_link.c.digest))
_COUNT = prepare(select(func.count()).select_from(public_link).where(*_WHOSE))
_INSERT = prepare(insert(public_link))
_DELETE = prepare(delete(public_link).where(*_WHOSE, public_link.c.digest == bindparam("sought")))
_DELETE_ACCOUNT = prepare(delete(public_link).where(public_link.c.account_id == bindparam("account")))
_DELETE_TENANT = prepare(delete(public_link).where(public_link.c.tenant_id == bindparam("tenant")))


@dataclass(frozen=True, slots=True)
class PublicLink:
    number: str  # by which it is named when it is revoked; it opens nothing
    digest: bytes
    tenant_id: TenantId
    account_id: AccountId
    collection_id: int
    created: int  # Unix seconds


def is_secret(text: str) -> bool:
    """Whether it could be a link's secret at all."""
    return _SECRET.match(text) is not None


class PublicLinks:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def create(self, tenant_id: TenantId, account_id: AccountId, collection_id: int) -> tuple[PublicLink, str]:
        """A new one and its secret, which nobody can show again."""
        secret = secrets.token_urlsafe(_SECRET_OCTETS)
        row = (_digest(secret), int(tenant_id), int(account_id), collection_id, self._clock.now())

        def work(transaction: Transaction) -> None:
            count = _COUNT.one(transaction, tenant=tenant_id, account=account_id)
            if count is not None and count[0] >= PER_ACCOUNT:
                raise LimitReached(f"The account has {PER_ACCOUNT} public links; revoke one first.")
            _INSERT.run(transaction, **dict(zip((column.name for column in _COLUMNS), row, strict=True)))

        self._database.write(work)
        return _link(row), secret

    def find(self, secret: str) -> PublicLink | None:
        if not is_secret(secret):
            return None
        with self._database.reading() as connection:
            row = _ONE.one(connection, sought=_digest(secret))
        return None if row is None else _link(row)

    def of_account(self, tenant_id: TenantId, account_id: AccountId) -> list[PublicLink]:
        """The oldest first."""
        with self._database.reading() as connection:
            return [_link(row) for row in _OF_ACCOUNT.rows(connection, tenant=tenant_id, account=account_id)]

    def revoke(self, tenant_id: TenantId, account_id: AccountId, number: str) -> PublicLink:
        """By its number. Raises NotFound."""
        for each in self.of_account(tenant_id, account_id):
            if each.number == number and self._delete(each):
                return each
        raise NotFound(f"The account has no public link '{number[:40]}'.")

    def forget_collections(self, tenant_id: TenantId, account_id: AccountId, living: Sequence[int]) -> int:
        """Those of collections that are gone; how many."""
        gone = [each for each in self.of_account(tenant_id, account_id) if each.collection_id not in set(living)]
        return sum(self._delete(each) for each in gone)

    def _delete(self, link: PublicLink) -> bool:
        scope = {"tenant": link.tenant_id, "account": link.account_id, "sought": link.digest}
        return bool(self._database.write(lambda t: _DELETE.run(t, **scope)))


def remove_links(transaction: Transaction, tenant_id: TenantId, account_ids: Sequence[AccountId], whole: bool) -> None:
    """In the commit that removes the rows of accounts, or of a whole tenant."""
    if whole:
        _DELETE_TENANT.run(transaction, tenant=tenant_id)
    for account_id in account_ids:
        _DELETE_ACCOUNT.run(transaction, account=account_id)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("ascii")).digest()


def _link(row: tuple[Any, ...]) -> PublicLink:
    digest = bytes(row[0])
    return PublicLink(digest.hex()[:_NUMBER_DIGITS], digest, TenantId(row[1]), AccountId(row[2]), row[3], row[4])
