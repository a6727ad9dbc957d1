"""What operators do with one entry: hold, release, return to the sender, withdraw.

Each is durable on return, and safe while the runner works on the same entry: states are looked at inside the write
transaction, and what the runner reports of an entry that was held meanwhile still counts, since it did happen.

Raises: NotFound (no such entry), Unavailable, StorageFull; `bounce` also Gone and NotFound of the tenant's key.
"""

from __future__ import annotations

from sqlalchemy import bindparam, or_, select, update

from storage.database.database import Connection, Transaction
from storage.database.prepared import Row, prepare
from storage.errors import NotFound
from storage.queue.entries import RecipientState, Reply
from storage.queue.rows import BY_OPERATOR, FREE, next_news
from storage.queue.store import QueueStore
from storage.schema import queue as schema
from storage.values import TenantId

_entry, _recipient = schema.entry, schema.recipient
_QUEUED, _HELD = RecipientState.QUEUED.value, RecipientState.HELD.value

_this = _recipient.c.queue_id == bindparam("id")
_ONE = prepare(select(_entry.c.tenant_id, _entry.c.file, _entry.c.held).where(_entry.c.queue_id == bindparam("id")))
_MARK = prepare(
    update(_entry)
    .where(_entry.c.queue_id == bindparam("id"), _entry.c.held == bindparam("was"))
    .values(held=bindparam("becomes"))
)
_HOLD = prepare(update(_recipient).where(_this, _recipient.c.state == _QUEUED).values(state=_HELD))
_RELEASE = prepare(
    update(_recipient).where(_this, _recipient.c.state == _HELD).values(state=_QUEUED, news=bindparam("number"))
)
_GIVE_UP = prepare(
    update(_entry).where(_entry.c.queue_id == bindparam("id")).values(expires=bindparam("now"), given_up=1, held=FREE)
)
_WAITING = prepare(
    select(_recipient.c.position).where(_this, or_(_recipient.c.state == _QUEUED, _recipient.c.state == _HELD))
)
_GIVE_UP_ONE = prepare(
    update(_recipient)
    .where(_this, _recipient.c.position == bindparam("place"))
    .values(state=_QUEUED, next_attempt=bindparam("now"), news=bindparam("number"), reply=bindparam("said"))
)


class Operations(QueueStore):
    """A part of Queue."""

    def hold(self, queue_id: str) -> bool:
        """Its recipients wait until `release` or `end_holds`, beyond its retry time too; False if they do already."""

        def work(transaction: Transaction) -> bool:
            held = found_entry(transaction, queue_id)[2]
            if held == BY_OPERATOR:
                return False
            return hold_entry(transaction, queue_id, held, BY_OPERATOR)

        return self._database.write(work)

    def release(self, queue_id: str) -> bool:
        """Ends a hold, whoever wanted it; False if there was none."""

        def work(transaction: Transaction) -> bool:
            held = found_entry(transaction, queue_id)[2]
            return held != FREE and release_entry(transaction, queue_id, held, next_news(transaction))

        released = self._database.write(work)
        if released:
            self._changed()
        return released

    def bounce(self, queue_id: str, reply: Reply) -> None:
        """It is not tried any more: the runner returns it to its sender, as if its time were over, with `reply`."""
        with self._database.reading() as connection:
            tenant_id = TenantId(found_entry(connection, queue_id)[0])
        sealing = self._sealing(tenant_id, queue_id)
        now = self._clock.now()

        def work(transaction: Transaction) -> None:
            found_entry(transaction, queue_id)
            _GIVE_UP.run(transaction, id=queue_id, now=now)
            number = next_news(transaction)
            for (position,) in _WAITING.rows(transaction, id=queue_id):
                said = sealing.seal(reply.encode(), "reply", position)
                _GIVE_UP_ONE.run(transaction, id=queue_id, place=position, now=now, number=number, said=said)

        self._database.write(work)
        self._changed()

    def withdraw(self, queue_id: str) -> None:
        """It is gone, content and all, and nobody is told. Needs no key of the tenant."""

        def work(transaction: Transaction) -> None:
            tenant_id, file, _ = found_entry(transaction, queue_id)
            self._removals.remove(transaction, TenantId(tenant_id), queue_id, file)

        self._database.write(work)


def hold_entry(transaction: Transaction, queue_id: str, was: int, becomes: int) -> bool:
    """False: it was not held, or free, as the caller thought."""
    if not _MARK.run(transaction, id=queue_id, was=was, becomes=becomes):
        return False
    _HOLD.run(transaction, id=queue_id)
    return True


def release_entry(transaction: Transaction, queue_id: str, held: int, news: int) -> bool:
    """False: it was not held as the caller thought."""
    if not _MARK.run(transaction, id=queue_id, was=held, becomes=FREE):
        return False
    _RELEASE.run(transaction, id=queue_id, number=news)
    return True


def found_entry(connection: Connection, queue_id: str) -> Row:
    row = _ONE.one(connection, id=queue_id)
    if row is None:
        raise NotFound("There is no such entry in the queue.")
    return row
