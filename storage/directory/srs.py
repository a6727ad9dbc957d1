"""What a tenant needs to rewrite the reverse-paths of mail that his aliases forward: a key, and a place for long ones.

A token stands for one address and is the same for it as long as the tenant's key is; its row is durable on return and
is worth nothing once it has expired.

Standards: none; SRS (Shevek 2004) is how it is done, `gateway.mx.srs` has its grammar.
"""

from __future__ import annotations

import base64

from sqlalchemy import bindparam, delete, insert, select, update

from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.keys.sealing import derive, keyed_hash
from storage.schema.tenant import srs
from storage.values import EmailAddress

DAY = 86_400
TOKEN_DAYS = 23  # longer than a rewritten path is good for

_THIS = srs.c.token == bindparam("which")
_GET = prepare(select(srs.c.address, srs.c.expires).where(_THIS))
_INSERT = prepare(insert(srs))
_PROLONG = prepare(update(srs).where(_THIS).values(expires=bindparam("until")))
_EXPIRE = prepare(delete(srs).where(srs.c.expires <= bindparam("now")))


class Srs:
    """`key` is what rewritten paths are signed with."""

    def __init__(self, database: Database, tenant_secret: bytes, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self.key = derive(tenant_secret, "srs")

    def token(self, address: EmailAddress) -> str:
        """16 characters that `address` finds the address by for the next weeks."""
        token = base64.b32encode(keyed_hash(self.key, b"token\0" + str(address).encode())[:10]).decode().lower()
        now = self._clock.now()
        until = now + TOKEN_DAYS * DAY
        with self._database.reading() as connection:
            row = _GET.one(connection, which=token)
        if row is not None and row[1] >= until - DAY:  # one write a day is enough
            return token

        def work(transaction: Transaction) -> None:
            if not _PROLONG.run(transaction, which=token, until=until):
                _INSERT.run(transaction, token=token, address=str(address), expires=until)

        self._database.write(work)
        return token

    def address(self, token: str) -> EmailAddress | None:
        """Whom a token stands for; None if it is not known, or not any more."""
        with self._database.reading() as connection:
            row = _GET.one(connection, which=token.lower())
        if row is None or row[1] <= self._clock.now():
            return None
        return EmailAddress.parse(row[0])

    def remove_expired(self) -> int:
        """How many were removed."""
        removed: int = self._database.write(lambda t: _EXPIRE.run(t, now=self._clock.now()))
        return removed
