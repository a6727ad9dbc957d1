"""The durable queue: messages that wait to be relayed, or to be delivered here together with others.

When `enqueue` returns, every entry's content is fsynced in its tenant's spool and all rows are in one FULL commit; when
it raises, nothing is queued and what is left of files goes with the sweep. When the last recipient of an entry is
settled its rows go in the same commit, and its content right after it.

Raises: NotFound, Conflict (the state doesn't allow it), Gone and NotFound of tenants' keys, StorageFull, Unavailable.
Standards: RFC 5321 §4.5.4, §6.1 (responsibility).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

from sqlalchemy import bindparam, delete, func, insert, select, update

from storage.clock import Clock
from storage.database.checkpointer import Checkpointer
from storage.database.database import Database, Transaction
from storage.database.migrations import Schema
from storage.database.prepared import prepare
from storage.errors import Conflict, NotFound
from storage.keys.sealing import Key
from storage.keys.source import KeySource
from storage.queue.entries import (
    LOCAL,
    Entry,
    EntrySummary,
    EnvelopeParameters,
    NewEntry,
    Origin,
    Recipient,
    RecipientParameters,
    RecipientState,
    Sealing,
)
from storage.queue.spool import Spool
from storage.schema import queue as schema
from storage.values import AccountId, EmailAddress, TenantId

SCHEMA = Schema("queue", schema.VERSION, schema.metadata, (), ())
PURPOSE = "queue"  # why a tenant's key is asked for
_KEYS_MAX = 500

_entry, _recipient = schema.entry, schema.recipient
_ENTRY_COLUMNS = (
    _entry.c.queue_id,
    _entry.c.tenant_id,
    _entry.c.account_id,
    _entry.c.origin,
    _entry.c.file,
    _entry.c.size,
    _entry.c.reverse_path,
    _entry.c.parameters,
    _entry.c.arrived,
    _entry.c.expires,
    _entry.c.held,
)
_RECIPIENT_COLUMNS = (
    _recipient.c.position,
    _recipient.c.address,
    _recipient.c.parameters,
    _recipient.c.account_id,
    _recipient.c.destination,
    _recipient.c.state,
    _recipient.c.attempts,
    _recipient.c.next_attempt,
    _recipient.c.reply,
)
_QUEUED = RecipientState.QUEUED.value

_INSERT_ENTRY = prepare(insert(_entry))
_INSERT_RECIPIENT = prepare(insert(_recipient))
_ONE_ENTRY = prepare(select(*_ENTRY_COLUMNS).where(_entry.c.queue_id == bindparam("id")))
_RECIPIENTS = prepare(
    select(*_RECIPIENT_COLUMNS).where(_recipient.c.queue_id == bindparam("id")).order_by(_recipient.c.position)
)
_PAGE = prepare(
    select(*_ENTRY_COLUMNS)
    .where(_entry.c.queue_id > bindparam("after"))
    .order_by(_entry.c.queue_id)
    .limit(bindparam("most"))
)
_PAGE_OF_TENANT = prepare(
    select(*_ENTRY_COLUMNS)
    .where(_entry.c.tenant_id == bindparam("tenant"), _entry.c.queue_id > bindparam("after"))
    .order_by(_entry.c.queue_id)
    .limit(bindparam("most"))
)
_STATES = prepare(
    select(_recipient.c.state, func.count(), func.min(_recipient.c.next_attempt))
    .where(_recipient.c.queue_id == bindparam("id"))
    .group_by(_recipient.c.state)
)
_DUE_HERE = prepare(
    select(_recipient.c.queue_id)
    .distinct()
    .where(
        _recipient.c.destination == LOCAL,
        _recipient.c.state == _QUEUED,
        _recipient.c.next_attempt <= bindparam("now"),
    )
    .limit(bindparam("most"))
)
_SETTLE = prepare(
    update(_recipient)
    .where(
        _recipient.c.queue_id == bindparam("id"),
        _recipient.c.position == bindparam("place"),
        _recipient.c.state == _QUEUED,
    )
    .values(state=bindparam("reached"), attempts=_recipient.c.attempts + 1, reply=bindparam("said"))
)
_POSTPONE = prepare(
    update(_recipient)
    .where(
        _recipient.c.queue_id == bindparam("id"),
        _recipient.c.position == bindparam("place"),
        _recipient.c.state == _QUEUED,
    )
    .values(next_attempt=bindparam("again"), attempts=_recipient.c.attempts + 1, reply=bindparam("said"))
)
_WAITING = prepare(select(func.count()).where(_recipient.c.queue_id == bindparam("id"), _recipient.c.state == _QUEUED))
_DELETE_RECIPIENTS = prepare(delete(_recipient).where(_recipient.c.queue_id == bindparam("id")))
_DELETE_ENTRY = prepare(delete(_entry).where(_entry.c.queue_id == bindparam("id")))
_FILES_OF_TENANT = prepare(select(_entry.c.file).where(_entry.c.tenant_id == bindparam("tenant")))


class Queue:
    def __init__(self, database: Database, spool: Spool, keys: KeySource, clock: Clock) -> None:
        self._database = database
        self._spool = spool
        self._keys = keys
        self._clock = clock
        self._tenant_keys: dict[TenantId, Key] = {}  # of tenants in use; see `forget`

    @classmethod
    def create(cls, data: Path, keys: KeySource, clock: Clock, incarnation: str) -> Self:
        """Make queue.db in the data directory, empty."""
        database = Database.create(data / "queue.db", keys.service_key("queue"), SCHEMA, clock)
        return cls(database, Spool(data, incarnation), keys, clock)

    @classmethod
    def open(
        cls, data: Path, keys: KeySource, clock: Clock, incarnation: str, *, checkpointer: Checkpointer | None = None
    ) -> Self:
        """`incarnation` is the name of this process's writer, which spool files carry."""
        key = keys.service_key("queue")
        database = Database.open(data / "queue.db", key, SCHEMA, clock, checkpointer=checkpointer)
        return cls(database, Spool(data, incarnation), keys, clock)

    def close(self) -> None:
        self._tenant_keys.clear()
        self._database.close()

    def forget(self, tenant_id: TenantId) -> None:
        """Lets go of the tenant's key."""
        self._tenant_keys.pop(tenant_id, None)

    def _key(self, tenant_id: TenantId) -> Key:
        """The tenant's key, asked for once: a lease is a round trip to the auth role."""
        key = self._tenant_keys.get(tenant_id)
        if key is None:
            if len(self._tenant_keys) >= _KEYS_MAX:
                self._tenant_keys.clear()
            key = self._tenant_keys[tenant_id] = self._keys.tenant_key(tenant_id, PURPOSE)
        return key

    # Taking responsibility

    def enqueue(self, entries: Sequence[NewEntry]) -> None:
        """All entries, or none. They belong to one message: one commit makes all of them durable."""
        now = self._clock.now()
        written: list[tuple[TenantId, str]] = []
        rows: list[dict[str, Any]] = []
        recipients: list[dict[str, Any]] = []
        try:
            for entry in entries:
                key = self._key(entry.tenant_id)
                file = self._spool.write(entry.tenant_id, entry.queue_id, key, entry.content, now)
                written.append((entry.tenant_id, file))
                sealing = Sealing(key.secret, entry.queue_id)
                rows.append(_entry_row(entry, file, sealing, now))
                recipients += _recipient_rows(entry, sealing, now)

            def work(transaction: Transaction) -> None:
                _INSERT_ENTRY.run_many(transaction, rows)
                _INSERT_RECIPIENT.run_many(transaction, recipients)
                for tenant_id, _ in written:  # concurrent messages of a tenant share this fsync too
                    transaction.before_commit(partial(self._spool.sync, tenant_id), ("spool", tenant_id))

            self._database.write(work)
        except BaseException:
            for tenant_id, file in written:
                self._spool.remove(tenant_id, file)
            raise

    # Settling

    def settle(self, entry: Entry, reached: Mapping[int, tuple[RecipientState, str]]) -> bool:
        """Notes the final state, and the reply, of recipients by position; True if the entry is thereby gone."""
        sealing = self._sealing(entry.tenant_id, entry.queue_id)

        def work(transaction: Transaction) -> bool:
            for position, (state, reply) in reached.items():
                if not state.settled:
                    raise Conflict(detail=f"queue {entry.queue_id}: {state} settles nothing")
                said = sealing.seal(reply.encode(), "reply", position)
                _SETTLE.run(transaction, id=entry.queue_id, place=position, reached=state.value, said=said)
            return self._remove_if_settled(transaction, entry)

        return self._database.write(work)

    def postpone(self, entry: Entry, until: Mapping[int, tuple[int, str]]) -> None:
        """Notes when recipients, by position, are tried again, and the reply that says why."""
        sealing = self._sealing(entry.tenant_id, entry.queue_id)

        def work(transaction: Transaction) -> None:
            for position, (again, reply) in until.items():
                said = sealing.seal(reply.encode(), "reply", position)
                _POSTPONE.run(transaction, id=entry.queue_id, place=position, again=again, said=said)

        self._database.write(work)

    def _remove_if_settled(self, transaction: Transaction, entry: Entry) -> bool:
        if _WAITING.rows(transaction, id=entry.queue_id)[0][0]:
            return False
        _DELETE_RECIPIENTS.run(transaction, id=entry.queue_id)
        _DELETE_ENTRY.run(transaction, id=entry.queue_id)
        transaction.after_commit(lambda: self._spool.remove(entry.tenant_id, entry.file))
        return True

    # Looking

    def entries(self, *, tenant: TenantId | None = None, after: str = "", limit: int = 1000) -> list[EntrySummary]:
        """Entries in the order of their ids, which is that of their arrival, from behind the id `after`."""
        with self._database.reading() as connection:
            if tenant is None:
                rows = _PAGE.rows(connection, after=after, most=limit)
            else:
                rows = _PAGE_OF_TENANT.rows(connection, tenant=tenant, after=after, most=limit)
            return [_summary(row, _STATES.rows(connection, id=row[0])) for row in rows]

    def show(self, queue_id: str) -> Entry:
        """One entry with its addresses. Raises NotFound."""
        with self._database.reading() as connection:
            rows = _ONE_ENTRY.rows(connection, id=queue_id)
            recipients = _RECIPIENTS.rows(connection, id=queue_id)
        if not rows:
            raise NotFound("There is no such entry in the queue.")
        return _opened(rows[0], recipients, self._sealing(TenantId(rows[0][1]), queue_id))

    def due_here(self, limit: int = 100) -> list[str]:
        """The ids of entries that have recipients with a mailbox here whose delivery is due."""
        with self._database.reading() as connection:
            return [row[0] for row in _DUE_HERE.rows(connection, now=self._clock.now(), most=limit)]

    def content(self, entry: Entry) -> bytes:
        """The message of `entry`. Raises Corrupt, and NotFound if it was settled meanwhile."""
        return self._spool.read(entry.tenant_id, entry.file, self._key(entry.tenant_id))

    def sweep(self, tenant_id: TenantId, is_alive: Callable[[str], bool]) -> int:
        """Removes the tenant's spool files that no row names and whose writer is dead; how many.

        Files first: one that a living writer has yet to name is spared for its writer's sake.
        """
        dead = [file for file, incarnation in self._spool.files(tenant_id) if not is_alive(incarnation)]
        if not dead:
            return 0
        with self._database.reading() as connection:
            named = {row[0] for row in _FILES_OF_TENANT.rows(connection, tenant=tenant_id)}
        rubbish = [file for file in dead if file not in named]
        for file in rubbish:
            self._spool.remove(tenant_id, file)
        return len(rubbish)

    def _sealing(self, tenant_id: TenantId, queue_id: str) -> Sealing:
        return Sealing(self._key(tenant_id).secret, queue_id)


def _entry_row(entry: NewEntry, file: str, sealing: Sealing, now: int) -> dict[str, Any]:
    reverse_path = str(entry.reverse_path) if entry.reverse_path is not None else ""
    return {
        "queue_id": entry.queue_id,
        "tenant_id": entry.tenant_id,
        "account_id": entry.account_id,
        "origin": entry.origin.value,
        "file": file,
        "size": len(entry.content),
        "reverse_path": sealing.seal(reverse_path.encode(), "reverse_path"),
        "parameters": sealing.seal(entry.parameters.encode(), "parameters"),
        "arrived": now,
        "expires": entry.expires,
        "held": 0,
    }


def _recipient_rows(entry: NewEntry, sealing: Sealing, now: int) -> list[dict[str, Any]]:
    return [
        {
            "queue_id": entry.queue_id,
            "position": position,
            "address": sealing.seal(str(recipient.address).encode(), "address", position),
            "parameters": sealing.seal(recipient.parameters.encode(), "parameters", position),
            "account_id": recipient.account_id,
            "destination": recipient.destination,
            "state": _QUEUED,
            "attempts": 0,
            "next_attempt": now,
            "reply": None,
        }
        for position, recipient in enumerate(entry.recipients)
    ]


def _summary(row: tuple[Any, ...], states: Sequence[tuple[Any, ...]]) -> EntrySummary:
    queue_id, tenant_id, account_id, origin, _file, size, _path, _parameters, arrived, expires, held = row
    waiting = [earliest for state, _, earliest in states if state == _QUEUED]
    return EntrySummary(
        queue_id,
        TenantId(tenant_id),
        None if account_id is None else AccountId(account_id),
        Origin(origin),
        size,
        arrived,
        expires,
        bool(held),
        {RecipientState(state): count for state, count, _ in states},
        waiting[0] if waiting else None,
    )


def _opened(row: tuple[Any, ...], recipients: Sequence[tuple[Any, ...]], sealing: Sealing) -> Entry:
    queue_id, tenant_id, account_id, origin, file, size, path, parameters, arrived, expires, held = row
    reverse_path = sealing.open(path, "reverse_path").decode()
    return Entry(
        queue_id,
        TenantId(tenant_id),
        None if account_id is None else AccountId(account_id),
        Origin(origin),
        file,
        size,
        EmailAddress.parse(reverse_path) if reverse_path else None,
        EnvelopeParameters.decode(sealing.open(parameters, "parameters")),
        arrived,
        expires,
        bool(held),
        tuple(_recipient_of(recipient, sealing) for recipient in recipients),
    )


def _recipient_of(row: tuple[Any, ...], sealing: Sealing) -> Recipient:
    position, address, parameters, account_id, destination, state, attempts, next_attempt, reply = row
    return Recipient(
        position,
        EmailAddress.parse(sealing.open(address, "address", position).decode()),
        None if account_id is None else AccountId(account_id),
        destination,
        RecipientParameters.decode(sealing.open(parameters, "parameters", position)),
        RecipientState(state),
        attempts,
        next_attempt,
        "" if reply is None else sealing.open(reply, "reply", position).decode(),
    )
