"""The chain of what administrators did and what they read, each record bound to the one before by its hash.

When `append` returns, the record is on the disk. Details are sealed under the key of whom the record is about: of the
account, else of the tenant, else under a key of the chain's own; so they end with the account or the contract. The hash
goes over what is stored, never over what is sealed, so the chain verifies without any of these keys, also when they are
destroyed. One appends at a time, of all processes: the number and the hash of the last record are read inside the write
transaction. Records of a program before sealed under accounts' keys are still opened.

Every `CHECKPOINT_EVERY` records, and whenever `checkpoint` is called, the head is signed with a key that nobody who
writes the database has. What verifies was neither changed nor taken out nor reordered; that nothing was cut off at the
end, or all of it replaced, shows the comparison with an anchor that is kept elsewhere (checkpoints.py). The chain loses
its beginning in `cut` alone, which leaves a signed origin and a record of it.

Raises: Unavailable, StorageFull, Corrupt; for the subject's key in `append` also Gone and NotFound.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from sqlalchemy import LargeBinary, bindparam, cast, delete, insert, select
from sqlalchemy.dialects.sqlite import insert as upsert

from storage.audit.checkpoints import Checkpoint, Origin, check, signed_checkpoint, signed_origin
from storage.audit.positions import Positions
from storage.audit.records import (
    BEGIN,
    BY_SUBJECT,
    AuditRecord,
    Entry,
    Head,
    Opener,
    Verified,
    check_follows,
    context_of,
    hash_of,
    plain_of,
    replaced,
    subject_of,
)
from storage.clock import Clock
from storage.database.checkpointer import Checkpointer
from storage.database.database import Database, Transaction
from storage.database.migrations import Schema, new_tables
from storage.database.prepared import prepare
from storage.errors import AlreadyExists, CleanmailError, Corrupt, Gone, NotFound, Unavailable
from storage.keys.sealing import derive, seal
from storage.keys.source import KeySource
from storage.register import classes
from storage.register.values import database_files
from storage.schema import audit as schema
from storage.values import AccountId, TenantId

SCHEMA = Schema("audit", schema.VERSION, schema.metadata, steps=[new_tables(2, schema.checkpoint, schema.origin)])
FILES = database_files("audit.db", classes.AUDIT)

PURPOSE = "audit"  # why a subject's key is asked for
CHECKPOINT_EVERY = 256  # records
CUT, SYSTEM = "audit.cut", "system"  # the record of a cut, and by whom it is

_PAGE = 1000

_record, _checkpoint, _origin = schema.record, schema.checkpoint, schema.origin
_COLUMNS = (
    _record.c.number,
    _record.c.time,
    _record.c.action,
    _record.c.actor,
    _record.c.tenant_id,
    _record.c.account_id,
    # Octets, also where somebody put a text there: it does not fit the hash then.
    cast(_record.c.details, LargeBinary),
    cast(_record.c.previous, LargeBinary),
    cast(_record.c.hash, LargeBinary),
)
_INSERT = prepare(insert(_record))
_LAST = prepare(select(_record.c.number, _record.c.hash).order_by(_record.c.number.desc()).limit(1))
_AFTER = prepare(
    select(*_COLUMNS).where(_record.c.number > bindparam("number")).order_by(_record.c.number).limit(bindparam("most"))
)
_REMOVE = prepare(delete(_record).where(_record.c.number <= bindparam("through")))
_INSERT_CHECKPOINT = prepare(upsert(_checkpoint).on_conflict_do_nothing())
_CHECKPOINTS = prepare(
    select(_checkpoint.c.number, _checkpoint.c.time, _checkpoint.c.hash, _checkpoint.c.signature).order_by(
        _checkpoint.c.number
    )
)
_INSERT_ORIGIN = prepare(insert(_origin))
_origin_columns = (_origin.c.number, _origin.c.time, _origin.c.hash, _origin.c.cut_off, _origin.c.signature)
_ORIGINS = prepare(select(*_origin_columns).order_by(_origin.c.number))


class Audit:
    """Any thread may use it."""

    def __init__(
        self,
        database: Database,
        keys: KeySource,
        clock: Clock,
        *,
        identity: Callable[[], str] | None = None,
        role: Callable[[], str] = str,
    ) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._identity = identity
        self._role = role
        self.positions = Positions(database)  # of those who follow the chain

    @classmethod
    def open(
        cls,
        data: Path,
        keys: KeySource,
        clock: Clock,
        *,
        checkpointer: Checkpointer | None = None,
        identity: Callable[[], str] | None = None,
        role: Callable[[], str] = str,
    ) -> Self:
        """audit.db of the data directory, made if it is not there: an older installation has none.

        `identity` tells the installation's id; without it nothing is signed here. `role` tells in which role whoever
        acts does so.
        """
        path, key = data / "audit.db", keys.service_key("audit")
        if not path.exists():
            with suppress(AlreadyExists):
                Database.create(path, key, SCHEMA, clock).close()
        database = Database.open(path, key, SCHEMA, clock, checkpointer=checkpointer)
        return cls(database, keys, clock, identity=identity, role=role)

    def close(self) -> None:
        self._database.close()

    # Appending

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
        return self.append_all([Entry(action, actor, tenant_id, account_id, details or {})])[0]

    def append_all(self, entries: Sequence[Entry]) -> list[int]:
        """All of them in one commit, or none."""
        keys: dict[tuple[TenantId | None, AccountId | None], bytes] = {}
        sealed = []
        for entry in entries:
            subject = (entry.tenant_id, entry.account_id)
            if subject not in keys:
                keys[subject] = self._key(*subject)
            sealed.append((entry, keys[subject], plain_of(entry, self._role())))
        numbers = self._database.write(
            lambda transaction: [self._append(transaction, *each) for each in sealed],
        )
        if self._identity is not None and numbers and any(number % CHECKPOINT_EVERY == 0 for number in numbers):
            with suppress(CleanmailError):  # who may not sign, or cannot now, leaves it to the jobs role
                self.checkpoint()
        return numbers

    def _append(self, transaction: Transaction, entry: Entry, key: bytes, plain: bytes) -> int:
        head = self._head(transaction)
        number, time = head.number + 1, self._clock.now()
        box = BY_SUBJECT + seal(key, plain, context_of(number, BY_SUBJECT))
        fields = (number, time, entry.action, entry.actor, entry.tenant_id, entry.account_id, box, head.hash)
        _INSERT.run(
            transaction,
            number=number,
            time=time,
            action=entry.action,
            actor=entry.actor,
            tenant_id=entry.tenant_id,
            account_id=entry.account_id,
            details=box,
            previous=head.hash,
            hash=hash_of(*fields),
        )
        return number

    # Reading

    def read(
        self,
        since: int = 0,
        until: int | None = None,
        *,
        action: str = "",
        actor: str = "",
        tenant_id: TenantId | None = None,
        account_id: AccountId | None = None,
        after: int = 0,
    ) -> Iterator[AuditRecord]:
        """Records with since <= time < until, behind number `after`, in order; `action` may be the noun alone."""
        keys: dict[tuple[TenantId | None, AccountId | None], Opener] = {}
        for row in self._rows(after):
            _, time, what, who, tenant, account, box, _, _ = row
            if (
                since <= time
                and (until is None or time < until)
                and action in {"", what, what.partition(".")[0]}
                and actor in {"", who}
                and tenant_id in {None, tenant}
                and account_id in {None, account}
            ):
                subject = subject_of(tenant, account, box)
                if subject not in keys:
                    keys[subject] = self._opener(*subject)
                yield keys[subject](row)

    def find(self, number: int) -> AuditRecord:
        """One record. Raises NotFound."""
        with self._database.reading() as connection:
            rows = _AFTER.rows(connection, number=number - 1, most=1)
        if not rows or rows[0][0] != number:
            raise NotFound("There is no such audit record.")
        return self._opener(*subject_of(*rows[0][4:7]))(rows[0])

    def head(self) -> Head:
        with self._database.reading() as connection:
            return self._head(connection)

    def oldest(self, held: Collection[TenantId] = ()) -> int | None:
        """The time of the first record, unless it is of a tenant in `held`."""
        with self._database.reading() as connection:
            rows = _AFTER.rows(connection, number=0, most=1)
        return None if not rows or rows[0][4] in held else int(rows[0][1])

    # Verifying

    def verify(self, anchors: Sequence[Checkpoint] = ()) -> Head:
        """Computes the whole chain again. Raises Corrupt with the number of the first record that does not fit."""
        return self.examine(anchors).head

    def examine(self, anchors: Sequence[Checkpoint] = ()) -> Verified:
        """As `verify`; with `identity` signatures are verified too. `anchors` were kept elsewhere, and verified."""
        while True:
            origins, checkpoints = self._origins(), self.checkpoints()
            try:
                return self._examine(origins, checkpoints, anchors)
            except Corrupt:
                if self._origins() == origins:  # else the beginning was cut meanwhile
                    raise

    def _examine(
        self, origins: Sequence[Origin], checkpoints: Sequence[Checkpoint], anchors: Sequence[Checkpoint]
    ) -> Verified:
        marks: list[Checkpoint | Origin] = [*checkpoints, *origins]
        self._check_signatures(marks)
        begin = Head(origins[-1].number, origins[-1].hash) if origins else Head(0, BEGIN)
        signed = {each.number: each.hash for each in marks}
        anchored = {each.number: each.hash for each in anchors}
        for number, hashed in anchored.items():
            if 0 < number <= begin.number and signed.get(number) != hashed:
                raise Corrupt(
                    f"The anchor of record {number} does not fit: the chain begins behind record {begin.number}, and"
                    " no checkpoint says the same."
                )
        fitting, head = 0, begin
        for row in self._rows(0):
            number, *_, hashed = row
            check_follows(row, head)
            head = Head(number, hashed)
            if signed.get(number, hashed) != hashed:
                raise Corrupt(f"The audit chain is broken at record {number}: a signed checkpoint says another hash.")
            if number in anchored:
                if anchored[number] != hashed:
                    raise Corrupt(replaced(number, fitting))
                fitting = number
        for named, what in ((anchored, "an anchor"), (signed, "a signed checkpoint")):
            if named and max(named) > head.number:
                raise Corrupt(
                    f"The audit chain is cut off: record {head.number + 1} is missing, and {what} says that there were "
                    f"{max(named)}."
                )
        verified = len(marks) if self._identity is not None else 0
        return Verified(head, begin.number + 1, verified, max(signed, default=0) if verified else 0)

    def _check_signatures(self, signed: Sequence[Checkpoint | Origin]) -> None:
        if self._identity is None or not signed:
            return
        installation_id, public_key = self._identity(), self._keys.verifying_key("audit")
        for each in signed:
            check(each, public_key, installation_id)

    # Signing

    @property
    def identity(self) -> str:
        """The installation's id."""
        if self._identity is None:
            raise Unavailable("The audit chain is not signed here.")
        return self._identity()

    def checkpoint(self) -> Checkpoint:
        """Signs the head, and keeps that; the same again if nothing was appended since. Raises NotPermitted."""
        head = self.head()
        for found in reversed(self.checkpoints()):
            if found.number == head.number:
                return found
        made = signed_checkpoint(self._keys, self.identity, head.number, self._clock.now(), head.hash)
        if head.number:
            self._database.write(
                lambda transaction: _INSERT_CHECKPOINT.run(
                    transaction, number=made.number, time=made.time, hash=made.hash, signature=made.signature
                )
            )
        return made

    def checkpoints(self) -> list[Checkpoint]:
        with self._database.reading() as connection:
            return [Checkpoint(*row) for row in _CHECKPOINTS.rows(connection)]

    def origin(self) -> Origin | None:
        """Where the chain begins, if records were removed."""
        return next(reversed(self._origins()), None)

    def _origins(self) -> list[Origin]:
        with self._database.reading() as connection:
            return [Origin(*row) for row in _ORIGINS.rows(connection)]

    def cut(self, before: int, held: Collection[TenantId] = ()) -> int:
        """Removes the beginning of the chain that is older than `before`; how many records that were.

        It ends before the first record of a tenant in `held`. What goes is verified first: a broken chain stays as it
        is. The signed origin, the record of the cut and the removal are one commit.
        """
        begin = self.origin()
        head = first = Head(begin.number, begin.hash) if begin else Head(0, BEGIN)
        for row in self._rows(0):
            number, time, tenant, hashed = row[0], row[1], row[4], row[8]
            if time >= before or tenant in held:
                break
            check_follows(row, head)
            head = Head(number, hashed)
        if head == first:
            return 0
        made = signed_origin(self._keys, self.identity, head.number, self._clock.now(), head.hash, before)
        key = self._key(None, None)
        entry = Entry(
            CUT, SYSTEM, details={"through": str(head.number), "hash": head.hash.hex(), "before": str(before)}
        )

        def work(transaction: Transaction) -> int:
            self._append(transaction, entry, key, plain_of(entry, ""))
            _INSERT_ORIGIN.run(
                transaction,
                number=made.number,
                time=made.time,
                hash=made.hash,
                cut_off=made.cut_off,
                signature=made.signature,
            )
            return _REMOVE.run(transaction, through=made.number)

        return self._database.write(work)

    def _rows(self, number: int) -> Iterator[tuple[Any, ...]]:
        """Those behind `number`, in pages, so that no statement lives while its rows are looked at."""
        while True:
            with self._database.reading() as connection:
                rows = _AFTER.rows(connection, number=number, most=_PAGE)
            yield from rows
            if len(rows) < _PAGE:
                return
            number = rows[-1][0]

    @staticmethod
    def _head(connection: Any) -> Head:
        row = _LAST.one(connection)
        return Head(0, BEGIN) if row is None else Head(row[0], row[1])

    def _opener(self, tenant_id: TenantId | None, account_id: AccountId | None) -> Opener:
        try:
            return Opener(self._key(tenant_id, account_id))
        except (Gone, NotFound):
            return Opener(None)
        except Corrupt:  # of one subject: others' records are read
            return Opener(None, damaged=True)

    def _key(self, tenant_id: TenantId | None, account_id: AccountId | None) -> bytes:
        if tenant_id is None:
            return derive(self._keys.service_key("audit"), "details")
        if account_id is None:
            return derive(self._keys.tenant_key(tenant_id, PURPOSE).secret, "audit")
        return derive(self._keys.account_key(tenant_id, account_id, PURPOSE).secret, "audit")
