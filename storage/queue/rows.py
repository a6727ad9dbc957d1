"""Entries and recipients as rows of queue.db, sealed and opened.

Raises: Corrupt (a sealed value does not open).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, insert, select, update

from storage.database.database import Connection, Transaction
from storage.database.migrations import Schema
from storage.database.prepared import Row, prepare
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
    Reply,
    Sealing,
)
from storage.queue.migration import STEPS
from storage.register import classes
from storage.register.values import database_files
from storage.schema import queue as schema
from storage.values import AccountId, EmailAddress, TenantId

SCHEMA = Schema("queue", schema.VERSION, schema.metadata, (), STEPS)
FILES = database_files("queue.db", classes.QUEUE)

FREE, BY_OPERATOR, WITH_ACCOUNT = 0, 1, 2  # entry.held
LOCAL_HEAD_START = 30  # seconds that whoever accepted a message has for delivering it here itself

NEWS = "news"  # the counter

_entry, _recipient, _held, _counter = schema.entry, schema.recipient, schema.held_account, schema.counter
ENTRY_COLUMNS = (
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
    _entry.c.given_up,
)
SUMMARY_COLUMNS = (
    _entry.c.queue_id,
    _entry.c.tenant_id,
    _entry.c.account_id,
    _entry.c.origin,
    _entry.c.size,
    _entry.c.arrived,
    _entry.c.expires,
    _entry.c.held,
)
RECIPIENT_COLUMNS = (
    _recipient.c.position,
    _recipient.c.address,
    _recipient.c.parameters,
    _recipient.c.account_id,
    _recipient.c.destination,
    _recipient.c.state,
    _recipient.c.attempts,
    _recipient.c.next_attempt,
    _recipient.c.warned,
    _recipient.c.reply,
)

_INSERT_ENTRY = prepare(insert(_entry))
_INSERT_RECIPIENT = prepare(insert(_recipient))
_IS_ACCOUNT_HELD = prepare(
    select(_held.c.account_id).where(
        _held.c.tenant_id == bindparam("tenant"), _held.c.account_id == bindparam("account")
    )
)
_COUNT_ON = prepare(
    update(_counter).where(_counter.c.name == NEWS).values(value=_counter.c.value + 1).returning(_counter.c.value)
)
_COUNT_FROM = prepare(insert(_counter).values(name=NEWS, value=1))
_COUNTED = prepare(select(_counter.c.value).where(_counter.c.name == NEWS))


def next_news(transaction: Transaction) -> int:
    """The number for recipients that become due in this transaction, higher than all before."""
    row = _COUNT_ON.one(transaction)
    if row is None:
        _COUNT_FROM.run(transaction)
    return 1 if row is None else int(row[0])


def latest_news(connection: Connection) -> int:
    row = _COUNTED.one(connection)
    return 0 if row is None else int(row[0])


class NewRows:
    """The rows of an entry that is to be inserted: sealed before the transaction, which should be short."""

    __slots__ = ("_account", "_entry", "_recipients")

    def __init__(self, entry: NewEntry, file: str, sealing: Sealing, now: int) -> None:
        self._account = None if entry.account_id is None else (entry.tenant_id, entry.account_id)
        self._entry = _entry_row(entry, file, sealing, now)
        self._recipients = [_recipient_row(entry, position, sealing, now) for position in range(len(entry.recipients))]

    def insert(self, transaction: Transaction, news: int) -> None:
        """What a frozen account sends is held from the start: it may have been accepted before it was frozen."""
        entry, state = self._entry, RecipientState.HELD if self._entry["held"] else RecipientState.QUEUED
        if self._account is not None:
            tenant_id, account_id = self._account
            if _IS_ACCOUNT_HELD.one(transaction, tenant=tenant_id, account=account_id) is not None:
                entry, state = {**entry, "held": WITH_ACCOUNT}, RecipientState.HELD
        _INSERT_ENTRY.run(transaction, **entry)
        _INSERT_RECIPIENT.run_many(
            transaction, [{**recipient, "state": state.value, "news": news} for recipient in self._recipients]
        )


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
        "held": BY_OPERATOR if entry.held else FREE,
        "given_up": 0,
        "waiting": len(entry.recipients),
    }


def _recipient_row(entry: NewEntry, position: int, sealing: Sealing, now: int) -> dict[str, Any]:
    recipient = entry.recipients[position]
    destination = recipient.destination
    return {
        "queue_id": entry.queue_id,
        "position": position,
        "address": sealing.seal(str(recipient.address).encode(), "address", position),
        "parameters": sealing.seal(recipient.parameters.encode(), "parameters", position),
        "account_id": recipient.account_id,
        "destination": destination,
        "lane": entry.lane,
        "attempts": 0,
        "next_attempt": now + LOCAL_HEAD_START if destination == LOCAL else now,
        "warned": 0,
        "reply": None,
    }


def summary(row: Row, states: Sequence[Row]) -> EntrySummary:
    """Of SUMMARY_COLUMNS, and (state, count, earliest) of its recipients."""
    queue_id, tenant_id, account_id, origin, size, arrived, expires, held = row
    queued = [earliest for state, _, earliest in states if state == RecipientState.QUEUED]
    return EntrySummary(
        queue_id,
        TenantId(tenant_id),
        None if account_id is None else AccountId(account_id),
        Origin(origin),
        size,
        arrived,
        expires,
        held != FREE,
        {RecipientState(state): count for state, count, _ in states},
        queued[0] if queued else None,
    )


def opened(row: Row, recipients: Sequence[Row], sealing: Sealing) -> Entry:
    """Of ENTRY_COLUMNS and RECIPIENT_COLUMNS."""
    queue_id, tenant_id, account_id, origin, file, size, path, parameters, arrived, expires, held, given_up = row
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
        held != FREE,
        bool(given_up),
        tuple(_recipient_of(recipient, sealing) for recipient in recipients),
    )


def _recipient_of(row: Row, sealing: Sealing) -> Recipient:
    position, address, parameters, account_id, destination, state, attempts, next_attempt, warned, reply = row
    return Recipient(
        position,
        EmailAddress.parse(sealing.open(address, "address", position).decode()),
        None if account_id is None else AccountId(account_id),
        destination,
        RecipientParameters.decode(sealing.open(parameters, "parameters", position)),
        RecipientState(state),
        attempts,
        next_attempt,
        bool(warned),
        None if reply is None else Reply.decode(sealing.open(reply, "reply", position)),
    )
