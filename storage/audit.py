"""The audit chain, audit.db: what administrators did, appended only, each record bound to the one before by its hash.

When `append` returns, the record is on the disk. Details are sealed under the tenant's key, so they end with the
tenant, or under a key of the chain's own where no tenant is concerned; the hash goes over what is stored, so the chain
verifies without any key of a tenant, also after its erasure. One appends at a time: the number and the hash of the last
record are read inside the write transaction.

What verifies was neither changed nor taken out nor reordered; that nothing was cut off at the end shows the comparison
with a `Head` that was written down elsewhere.

Raises: Unavailable, StorageFull, Corrupt; for a tenant's key in `append` also Gone and NotFound.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from sqlalchemy import bindparam, insert, select

from storage.clock import Clock
from storage.database.checkpointer import Checkpointer
from storage.database.database import Database, Transaction
from storage.database.migrations import Schema, new_tables
from storage.database.prepared import prepare
from storage.errors import AlreadyExists, Corrupt, Gone, NotFound
from storage.keys.sealing import derive, open_sealed, seal
from storage.keys.source import KeySource
from storage.register import classes
from storage.register.values import database_files
from storage.schema import audit as schema
from storage.values import AccountId, TenantId

SCHEMA = Schema("audit", schema.VERSION, schema.metadata, steps=[new_tables(2, schema.checkpoint)])
FILES = database_files("audit.db", classes.AUDIT)

PURPOSE = "audit"  # why a tenant's key is asked for

_BEGIN = bytes(32)  # the hash before the first record
_PAGE = 1000

_record = schema.record
_COLUMNS = (
    _record.c.number,
    _record.c.time,
    _record.c.action,
    _record.c.actor,
    _record.c.tenant_id,
    _record.c.account_id,
    _record.c.details,
    _record.c.previous,
    _record.c.hash,
)
_INSERT = prepare(insert(_record))
_LAST = prepare(select(_record.c.number, _record.c.hash).order_by(_record.c.number.desc()).limit(1))
_AFTER = prepare(
    select(*_COLUMNS).where(_record.c.number > bindparam("number")).order_by(_record.c.number).limit(bindparam("most"))
)


@dataclass(frozen=True, slots=True)
class AuditRecord:
    number: int  # from 1, without a gap
    time: int  # Unix seconds
    action: str  # of a noun and a verb: queue.hold, account.freeze, transcripts.read
    actor: str = field(repr=False)  # the operator's Unix user
    tenant_id: TenantId | None
    account_id: AccountId | None
    details: Mapping[str, str] | None = field(repr=False)  # None: they ended with the tenant


@dataclass(frozen=True, slots=True)
class Head:
    """How long the chain is, and the hash that stands for all of it."""

    number: int
    hash: bytes


class Audit:
    """Any thread may use it."""

    def __init__(self, database: Database, keys: KeySource, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock

    @classmethod
    def open(cls, data: Path, keys: KeySource, clock: Clock, *, checkpointer: Checkpointer | None = None) -> Self:
        """audit.db of the data directory, made if it is not there: an older installation has none."""
        path, key = data / "audit.db", keys.service_key("audit")
        if not path.exists():
            with suppress(AlreadyExists):
                Database.create(path, key, SCHEMA, clock).close()
        return cls(Database.open(path, key, SCHEMA, clock, checkpointer=checkpointer), keys, clock)

    def close(self) -> None:
        self._database.close()

    def append(
        self,
        action: str,
        actor: str,
        tenant_id: TenantId | None = None,
        account_id: AccountId | None = None,
        details: Mapping[str, str] | None = None,
    ) -> int:
        """The number of the new record.

        To be called before what it tells of is done: a deed without a record is worse than a record of an attempt.
        """
        text = json.dumps(dict(details or {}), ensure_ascii=False, separators=(",", ":"))
        key = self._key(tenant_id)
        plain = text.encode("utf-8", "replace")

        def work(transaction: Transaction) -> int:
            head = _head(_LAST.one(transaction))
            number, time = head.number + 1, self._clock.now()
            box = seal(key, plain, _context(number))
            hashed = _hash(number, time, action, actor, tenant_id, account_id, box, head.hash)
            _INSERT.run(
                transaction,
                number=number,
                time=time,
                action=action,
                actor=actor,
                tenant_id=tenant_id,
                account_id=account_id,
                details=box,
                previous=head.hash,
                hash=hashed,
            )
            return number

        return self._database.write(work)

    def read(
        self,
        since: int = 0,
        until: int | None = None,
        *,
        action: str = "",
        actor: str = "",
        tenant_id: TenantId | None = None,
    ) -> Iterator[AuditRecord]:
        """Records with since <= time < until in their order; `action` may be the noun alone."""
        keys: dict[TenantId | None, bytes | None] = {}
        for row in self._rows():
            number, time, what, who, tenant, account, box, _, _ = row
            if (
                since <= time
                and (until is None or time < until)
                and action in {"", what, what.partition(".")[0]}
                and actor in {"", who}
                and tenant_id in {None, tenant}
            ):
                if tenant not in keys:
                    keys[tenant] = self._key_if_there(tenant)
                yield AuditRecord(number, time, what, who, tenant, account, _details(keys[tenant], number, box))

    def find(self, number: int) -> AuditRecord:
        """One record. Raises NotFound."""
        with self._database.reading() as connection:
            rows = _AFTER.rows(connection, number=number - 1, most=1)
        if not rows or rows[0][0] != number:
            raise NotFound("There is no such audit record.")
        _, time, what, who, tenant, account, box, _, _ = rows[0]
        return AuditRecord(number, time, what, who, tenant, account, _details(self._key_if_there(tenant), number, box))

    def head(self) -> Head:
        with self._database.reading() as connection:
            return _head(_LAST.one(connection))

    def verify(self) -> Head:
        """Computes the whole chain again. Raises Corrupt with the number of the first record that does not fit."""
        head = Head(0, _BEGIN)
        for row in self._rows():
            number, *_, previous, hashed = row
            if number != head.number + 1 or previous != head.hash or hashed != _hash(*row[:8]):
                raise Corrupt(f"The audit chain is broken at record {head.number + 1}.")
            head = Head(number, hashed)
        return head

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        """In pages, so that no statement lives while its rows are looked at."""
        number = 0
        while True:
            with self._database.reading() as connection:
                rows = _AFTER.rows(connection, number=number, most=_PAGE)
            yield from rows
            if len(rows) < _PAGE:
                return
            number = rows[-1][0]

    def _key_if_there(self, tenant_id: TenantId | None) -> bytes | None:
        try:
            return self._key(tenant_id)
        except (Gone, NotFound):
            return None

    def _key(self, tenant_id: TenantId | None) -> bytes:
        if tenant_id is None:
            return derive(self._keys.service_key("audit"), "details")
        return derive(self._keys.tenant_key(tenant_id, PURPOSE).secret, "audit")


def _head(row: tuple[Any, ...] | None) -> Head:
    return Head(0, _BEGIN) if row is None else Head(row[0], row[1])


def _details(key: bytes | None, number: int, box: bytes) -> Mapping[str, str] | None:
    if key is None:
        return None
    details: dict[str, str] = json.loads(open_sealed(key, box, _context(number)))
    return details


def _hash(
    number: int,
    time: int,
    action: str,
    actor: str,
    tenant_id: int | None,
    account_id: int | None,
    box: bytes,
    previous: bytes,
) -> bytes:
    """SHA-256 over the record as it is stored and the hash before it; a JSON list leaves no doubt where fields end."""
    fields = [number, time, action, actor, tenant_id, account_id, box.hex(), previous.hex()]
    return hashlib.sha256(json.dumps(fields, separators=(",", ":")).encode("ascii")).digest()


def _context(number: int) -> bytes:
    return b"audit %d" % number
