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

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from sqlalchemy import LargeBinary, bindparam, cast, delete, insert, select
from sqlalchemy.dialects.sqlite import insert as upsert

from storage.audit.checkpoints import Checkpoint, Origin, check, signed_checkpoint, signed_origin
from storage.clock import Clock
from storage.database.checkpointer import Checkpointer
from storage.database.database import Database, Transaction
from storage.database.migrations import Schema, new_tables
from storage.database.prepared import prepare
from storage.errors import AlreadyExists, CleanmailError, Corrupt, Gone, NotFound, Unavailable
from storage.keys.sealing import derive, open_sealed, seal
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

_BEGIN = bytes(32)  # the hash before the first record
_PAGE = 1000
_BY_SUBJECT = b"\x12"  # details begin with it that are sealed under the account's key, if there is an account

_record, _checkpoint, _origin, _info = schema.record, schema.checkpoint, schema.origin, schema.info
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
_ORIGINS = prepare(
    select(_origin.c.number, _origin.c.time, _origin.c.hash, _origin.c.cut_off, _origin.c.signature).order_by(
        _origin.c.number
    )
)
_INFO = prepare(select(_info.c.value).where(_info.c.name == bindparam("which")))
_ALL_INFO = prepare(select(_info.c.name, _info.c.value))
_REMOVE_INFO = prepare(delete(_info).where(_info.c.name == bindparam("which")))
_new_info = upsert(_info)
_SET_INFO = prepare(_new_info.on_conflict_do_update(index_elements=["name"], set_={"value": _new_info.excluded.value}))


@dataclass(frozen=True, slots=True)
class AuditRecord:
    number: int  # from 1, without a gap
    time: int  # Unix seconds
    action: str  # of a noun and a verb: queue.hold, account.freeze, transcripts.read
    actor: str = field(repr=False)  # the member of staff, else the Unix user
    tenant_id: TenantId | None
    account_id: AccountId | None
    details: Mapping[str, str] | None = field(repr=False)  # None: they ended with the account or the tenant
    role: str = ""  # in which the actor acted (hosting.access.roles); empty: not known, or it ended likewise
    unreadable: bool = False  # the details are there, and do not open: they, or the key they are under, are damaged


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be recorded."""

    action: str
    actor: str = field(repr=False)
    tenant_id: TenantId | None = None
    account_id: AccountId | None = None
    details: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Head:
    """How long the chain is, and the hash that stands for all of it."""

    number: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found to be whole."""

    head: Head
    first: int  # the first record that is still there
    checkpoints: int  # signatures that were verified
    signed: int  # the last record that a checkpoint signs


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
            sealed.append((entry, keys[subject], _plain(entry, self._role())))
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
        box = _BY_SUBJECT + seal(key, plain, _context(number, _BY_SUBJECT))
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
            hash=_hash(*fields),
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
        keys: dict[tuple[TenantId | None, AccountId | None], _Opener] = {}
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
                subject = _subject(tenant, account, box)
                if subject not in keys:
                    keys[subject] = self._opener(*subject)
                yield keys[subject](row)

    def find(self, number: int) -> AuditRecord:
        """One record. Raises NotFound."""
        with self._database.reading() as connection:
            rows = _AFTER.rows(connection, number=number - 1, most=1)
        if not rows or rows[0][0] != number:
            raise NotFound("There is no such audit record.")
        return self._opener(*_subject(*rows[0][4:7]))(rows[0])

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
        begin = Head(origins[-1].number, origins[-1].hash) if origins else Head(0, _BEGIN)
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
            _check_follows(row, head)
            head = Head(number, hashed)
            if signed.get(number, hashed) != hashed:
                raise Corrupt(f"The audit chain is broken at record {number}: a signed checkpoint says another hash.")
            if number in anchored:
                if anchored[number] != hashed:
                    raise Corrupt(_replaced(number, fitting))
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
        head = first = Head(begin.number, begin.hash) if begin else Head(0, _BEGIN)
        for row in self._rows(0):
            number, time, tenant, hashed = row[0], row[1], row[4], row[8]
            if time >= before or tenant in held:
                break
            _check_follows(row, head)
            head = Head(number, hashed)
        if head == first:
            return 0
        made = signed_origin(self._keys, self.identity, head.number, self._clock.now(), head.hash, before)
        key = self._key(None, None)
        entry = Entry(
            CUT, SYSTEM, details={"through": str(head.number), "hash": head.hash.hex(), "before": str(before)}
        )

        def work(transaction: Transaction) -> int:
            self._append(transaction, entry, key, _plain(entry, ""))
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

    # How far somebody has come who follows the chain

    def position(self, name: str) -> int:
        with self._database.reading() as connection:
            row = _INFO.one(connection, which=name)
        return 0 if row is None else int(row[0])

    def positions(self, prefix: str) -> dict[str, int]:
        """Those whose names begin so, by the rest of their names."""
        with self._database.reading() as connection:
            rows = _ALL_INFO.rows(connection)
        return {row[0].removeprefix(prefix): int(row[1]) for row in rows if row[0].startswith(prefix)}

    def set_position(self, name: str, number: int | None) -> None:
        """None: nobody follows it there any more."""

        def work(transaction: Transaction) -> None:
            if number is None:
                _REMOVE_INFO.run(transaction, which=name)
            else:
                _SET_INFO.run(transaction, name=name, value=str(number))

        self._database.write(work)

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
        return Head(0, _BEGIN) if row is None else Head(row[0], row[1])

    def _opener(self, tenant_id: TenantId | None, account_id: AccountId | None) -> _Opener:
        try:
            return _Opener(self._key(tenant_id, account_id))
        except (Gone, NotFound):
            return _Opener(None)
        except Corrupt:  # of one subject: others' records are read
            return _Opener(None, damaged=True)

    def _key(self, tenant_id: TenantId | None, account_id: AccountId | None) -> bytes:
        if tenant_id is None:
            return derive(self._keys.service_key("audit"), "details")
        if account_id is None:
            return derive(self._keys.tenant_key(tenant_id, PURPOSE).secret, "audit")
        return derive(self._keys.account_key(tenant_id, account_id, PURPOSE).secret, "audit")


def _plain(entry: Entry, role: str) -> bytes:
    values = {"details": dict(entry.details), "role": role}
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _subject(
    tenant_id: TenantId | None, account_id: AccountId | None, box: bytes
) -> tuple[TenantId | None, AccountId | None]:
    """Under whose key the details are: of a program before, the tenant's."""
    return tenant_id, account_id if box[:1] == _BY_SUBJECT else None


@dataclass(frozen=True, slots=True)
class _Opener:
    """Opens the records of one subject."""

    key: bytes | None = field(repr=False)  # None: it is destroyed, or does not open
    damaged: bool = False

    def __call__(self, row: tuple[Any, ...]) -> AuditRecord:
        if self.key is not None:
            try:
                return _opened(row, self.key)
            except (Corrupt, ValueError):
                pass
        number, time, what, who, tenant, account, *_ = row
        damaged = self.damaged or self.key is not None
        return AuditRecord(number, time, what, who, tenant, account, None, unreadable=damaged)


def _opened(row: tuple[Any, ...], key: bytes) -> AuditRecord:
    number, time, what, who, tenant, account, box, _, _ = row
    if box[:1] != _BY_SUBJECT:
        details = json.loads(open_sealed(key, box, _context(number, b"")))
        return AuditRecord(number, time, what, who, tenant, account, details)
    values = json.loads(open_sealed(key, box[1:], _context(number, _BY_SUBJECT)))
    return AuditRecord(number, time, what, who, tenant, account, values["details"], values["role"])


def _check_follows(row: tuple[Any, ...], head: Head) -> None:
    """Raises Corrupt unless it is the record behind `head`, as it was appended."""
    try:
        fits = row[0] == head.number + 1 and row[7] == head.hash and row[8] == _hash(*row[:8])
    except (TypeError, AttributeError):  # something else than a text, or nothing, say
        fits = False
    if not fits:
        raise Corrupt(f"The audit chain is broken at record {head.number + 1}.")


def _replaced(number: int, fitting: int) -> str:
    before = f"the last that fits before it is record {fitting}" if fitting else "it, or one before it, was replaced"
    return f"The audit chain is broken at record {number}: it is not the one that was anchored; {before}."


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


def _context(number: int, layout: bytes) -> bytes:
    return b"audit %d%b" % (number, b" of its subject" if layout else b"")
