"""Destinations that could not be reached, whichever the recipient: how often in a row, and when they are tried again.

Only what must survive the process is here, so writes are NORMAL: a power loss makes a destination be tried too early.
A row goes when the destination answers, or a day after it was to be tried again, since nothing is for it any more.
"""

from __future__ import annotations

from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects.sqlite import insert

from storage.database.database import Transaction
from storage.database.prepared import Row, prepare
from storage.queue.entries import DestinationState, Reply
from storage.queue.store import QueueStore
from storage.schema.queue import destination

STALE = 86_400  # seconds

_COLUMNS = (
    destination.c.name,
    destination.c.failures,
    destination.c.since,
    destination.c.retry_at,
    destination.c.code,
    destination.c.status,
    destination.c.text,
)
_new = insert(destination)
_FAILED = prepare(
    _new.on_conflict_do_update(
        index_elements=[destination.c.name],
        set_={
            "failures": destination.c.failures + 1,
            "retry_at": _new.excluded.retry_at,
            "code": _new.excluded.code,
            "status": _new.excluded.status,
            "text": _new.excluded.text,
        },
    ).returning(*_COLUMNS)
)
_ONE = prepare(select(*_COLUMNS).where(destination.c.name == bindparam("which")))
_PAGE = prepare(
    select(*_COLUMNS)
    .where(destination.c.name > bindparam("after"))
    .order_by(destination.c.name)
    .limit(bindparam("most"))
)
_ANSWERED = prepare(delete(destination).where(destination.c.name == bindparam("which")))
_FORGET_ALL = prepare(delete(destination))
_FORGET_STALE = prepare(delete(destination).where(destination.c.retry_at < bindparam("before")))


class Destinations(QueueStore):
    """A part of Queue."""

    def destination_state(self, name: str) -> DestinationState | None:
        """None: it answers, or was not tried yet."""
        with self._database.reading() as connection:
            row = _ONE.one(connection, which=name)
        return None if row is None else _state(row)

    def destinations(self, *, after: str = "", limit: int = 1000) -> list[DestinationState]:
        """Those that do not answer, by name."""
        with self._database.reading() as connection:
            return [_state(row) for row in _PAGE.rows(connection, after=after, most=limit)]

    def destination_failed(self, name: str, retry_at: int, reply: Reply) -> DestinationState:
        """One failure more. Of `reply` only what we said ourselves is kept as text: this row is not sealed."""
        text = reply.text if not reply.code and "@" not in reply.text else ""
        values = {
            "name": name,
            "failures": 1,
            "since": self._clock.now(),
            "retry_at": retry_at,
            "code": reply.code,
            "status": reply.status,
            "text": text,
        }

        def work(transaction: Transaction) -> DestinationState:
            return _state(_FAILED.rows(transaction, **values)[0])

        return self._database.write(work, durable=False)

    def destination_answered(self, name: str) -> None:
        """It can be reached; a read, if that was known."""
        if self.destination_state(name) is not None:
            self._database.write(lambda transaction: forget_destination(transaction, name), durable=False)


def forget_destination(transaction: Transaction, name: str) -> None:
    _ANSWERED.run(transaction, which=name)


def forget_all_destinations(transaction: Transaction) -> None:
    _FORGET_ALL.run(transaction)


def forget_stale_destinations(transaction: Transaction, now: int) -> int:
    return _FORGET_STALE.run(transaction, before=now - STALE)


def _state(row: Row) -> DestinationState:
    name, failures, since, retry_at, code, status, text = row
    return DestinationState(name, failures, since, retry_at, Reply(code, status, text))
