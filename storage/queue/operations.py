"""What operators do with queued mail: hold, release, retry, return to the sender, withdraw.

Each is durable on return, and safe while the runner works on the same entry: states are looked at inside the write
transaction, and what the runner reports of an entry that was held meanwhile still counts, since it did happen. Many
entries are changed in transactions of some 1,000 rows, so that nobody who accepts mail waits; interrupted, the same
call goes on where it stopped.

Raises: NotFound (no such entry), Unavailable, StorageFull.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from sqlalchemy import bindparam, case, delete, func, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from storage.database.database import Connection, Transaction
from storage.database.prepared import Row, prepare
from storage.errors import NotFound
from storage.queue.destinations import forget_all_destinations, forget_destination
from storage.queue.entries import RecipientState, Reply
from storage.queue.lanes import Lanes
from storage.queue.rows import BY_OPERATOR, FREE, WITH_ACCOUNT, next_news, remove_entry
from storage.schema import queue as schema
from storage.values import AccountId, TenantId

SLICE = 1000  # rows in one transaction

_entry, _recipient, _held = schema.entry, schema.recipient, schema.held_account
_QUEUED, _HELD = RecipientState.QUEUED.value, RecipientState.HELD.value

_this = _recipient.c.queue_id == bindparam("id")
_SHOWN = (_entry.c.queue_id, _entry.c.tenant_id, _entry.c.account_id, _entry.c.file, _entry.c.held, _entry.c.waiting)
_ONE = prepare(select(*_SHOWN).where(_entry.c.queue_id == bindparam("id")))
_PAGE = prepare(select(*_SHOWN).where(_entry.c.queue_id > bindparam("after")).order_by(_entry.c.queue_id).limit(SLICE))
_PAGE_OF_TENANT = prepare(
    select(*_SHOWN)
    .where(
        _entry.c.tenant_id == bindparam("tenant"),
        _entry.c.held == bindparam("how"),
        _entry.c.queue_id > bindparam("after"),
    )
    .order_by(_entry.c.queue_id)
    .limit(SLICE)
)
_MARK = prepare(
    update(_entry)
    .where(_entry.c.queue_id == bindparam("id"), _entry.c.held == bindparam("was"))
    .values(held=bindparam("becomes"))
)
_HOLD = prepare(update(_recipient).where(_this, _recipient.c.state == _QUEUED).values(state=_HELD))
_RELEASE = prepare(
    update(_recipient).where(_this, _recipient.c.state == _HELD).values(state=_QUEUED, news=bindparam("number"))
)
_at_once = case((_recipient.c.next_attempt > bindparam("now"), bindparam("now")), else_=_recipient.c.next_attempt)
_RETRY = prepare(
    update(_recipient)
    .where(_this, _recipient.c.state == _QUEUED)
    .values(next_attempt=_at_once, news=bindparam("number"))
)
_DESTINATIONS = prepare(select(_recipient.c.destination).distinct().where(_this, _recipient.c.state == _QUEUED))
# What waits for a destination and is not due yet: what is retried leaves the range.
_LATER = prepare(
    select(_recipient.c.queue_id, _recipient.c.position)
    .where(
        _recipient.c.state == _QUEUED,
        _recipient.c.destination == bindparam("name"),
        _recipient.c.lane == bindparam("lane"),
        _recipient.c.next_attempt > bindparam("now"),
    )
    .limit(SLICE)
)
_FIRST = prepare(
    select(_recipient.c.queue_id, _recipient.c.position)
    .where(
        _recipient.c.state == _QUEUED,
        _recipient.c.destination == bindparam("name"),
        _recipient.c.lane == bindparam("lane"),
    )
    .order_by(_recipient.c.next_attempt)
    .limit(1)
)
_COUNT = prepare(
    select(func.count()).where(
        _recipient.c.state == _QUEUED,
        _recipient.c.destination == bindparam("name"),
        _recipient.c.lane == bindparam("lane"),
    )
)
_RETRY_ONE = prepare(
    update(_recipient)
    .where(_this, _recipient.c.position == bindparam("place"), _recipient.c.state == _QUEUED)
    .values(next_attempt=_at_once, news=bindparam("number"))
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
_MARK_ACCOUNT = prepare(insert(_held).on_conflict_do_nothing())
_UNMARK_ACCOUNT = prepare(
    delete(_held).where(_held.c.tenant_id == bindparam("tenant"), _held.c.account_id == bindparam("account"))
)


class Operations(Lanes):
    """A part of Queue."""

    # One entry

    def hold(self, queue_id: str) -> bool:
        """Its recipients wait until `release`, beyond its retry time too; False if they do already."""

        def work(transaction: Transaction) -> bool:
            held = _found(transaction, queue_id)[4]
            if held == BY_OPERATOR:
                return False
            _MARK.run(transaction, id=queue_id, was=held, becomes=BY_OPERATOR)
            _HOLD.run(transaction, id=queue_id)
            return True

        return self._database.write(work)

    def release(self, queue_id: str) -> bool:
        """Ends a hold, whoever wanted it; False if there was none."""

        def work(transaction: Transaction) -> bool:
            held = _found(transaction, queue_id)[4]
            return held != FREE and _release(transaction, queue_id, held, next_news(transaction))

        released = self._database.write(work)
        if released:
            self._changed()
        return released

    def bounce(self, queue_id: str, reply: Reply) -> None:
        """It is not tried any more: the runner returns it to its sender, as if its time were over, with `reply`."""
        with self._database.reading() as connection:
            tenant_id = TenantId(_found(connection, queue_id)[1])
        sealing = self._sealing(tenant_id, queue_id)
        now = self._clock.now()

        def work(transaction: Transaction) -> None:
            _found(transaction, queue_id)
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
            _, tenant_id, _, file, _, _ = _found(transaction, queue_id)
            remove_entry(transaction, self._spool, TenantId(tenant_id), queue_id, file)

        self._database.write(work)

    # Many entries

    def retry(
        self, queue_id: str | None = None, *, destination: str | None = None, tenant: TenantId | None = None
    ) -> int:
        """Makes recipients due now, and their destinations worth a try: of an entry, a destination, a tenant, or all.

        How many recipients; held ones stay held.
        """
        if queue_id is not None:
            retried = self._database.write(partial(self._retry_entries, [queue_id]))
        elif destination is not None:
            retried = self._retry_destination(destination)
        else:
            if tenant is None:
                self._database.write(forget_all_destinations)
            retried = self._in_slices(self._pages(tenant, (FREE,)), self._retry_entries)
        if retried:
            self._changed()
        return retried

    def hold_account(self, tenant_id: TenantId, account_id: AccountId) -> int:
        """Holds what the account has in the queue, and what it had accepted but not queued yet; how many entries."""

        def mark(transaction: Transaction) -> None:
            _MARK_ACCOUNT.run(transaction, tenant_id=tenant_id, account_id=account_id)

        def work(queue_ids: Sequence[str], transaction: Transaction) -> int:
            held = 0
            for queue_id in queue_ids:
                if _MARK.run(transaction, id=queue_id, was=FREE, becomes=WITH_ACCOUNT):
                    _HOLD.run(transaction, id=queue_id)
                    held += 1
            return held

        self._database.write(mark)
        return self._in_slices(self._pages(tenant_id, (FREE,), account_id), work)

    def release_account(self, tenant_id: TenantId, account_id: AccountId) -> int:
        """Ends `hold_account`; entries that an operator holds stay held. How many entries."""

        def unmark(transaction: Transaction) -> None:
            _UNMARK_ACCOUNT.run(transaction, tenant=tenant_id, account=account_id)

        def work(queue_ids: Sequence[str], transaction: Transaction) -> int:
            number = next_news(transaction)
            return sum(_release(transaction, queue_id, WITH_ACCOUNT, number) for queue_id in queue_ids)

        self._database.write(unmark)
        released = self._in_slices(self._pages(tenant_id, (WITH_ACCOUNT,), account_id), work)
        if released:
            self._changed()
        return released

    def withdraw_tenant(self, tenant_id: TenantId) -> int:
        """All that the tenant has in the queue is gone, and nobody is told; how many entries. Needs no key."""

        def work(queue_ids: Sequence[str], transaction: Transaction) -> int:
            withdrawn = 0
            for queue_id in queue_ids:
                row = _ONE.one(transaction, id=queue_id)
                if row is not None:
                    remove_entry(transaction, self._spool, tenant_id, queue_id, row[3])
                    withdrawn += 1
            return withdrawn

        return self._in_slices(self._pages(tenant_id, (FREE, BY_OPERATOR, WITH_ACCOUNT)), work)

    # How

    def _retry_entries(self, queue_ids: Sequence[str], transaction: Transaction) -> int:
        number, now, retried = next_news(transaction), self._clock.now(), 0
        for queue_id in queue_ids:
            for (destination,) in _DESTINATIONS.rows(transaction, id=queue_id):
                forget_destination(transaction, destination)
            retried += _RETRY.run(transaction, id=queue_id, now=now, number=number)
        return retried

    def _retry_destination(self, destination: str) -> int:
        now = self._clock.now()
        self._database.write(lambda transaction: forget_destination(transaction, destination))
        retried = 0
        for lane in self.lanes(destination=destination):
            with self._database.reading() as connection:
                rows = _FIRST.rows(connection, name=destination, lane=lane.lane)  # tells the runner of the lane
            while rows:
                self._database.write(partial(_retry_recipients, rows, now))
                with self._database.reading() as connection:
                    rows = _LATER.rows(connection, name=destination, lane=lane.lane, now=now)
            with self._database.reading() as connection:
                retried += _COUNT.rows(connection, name=destination, lane=lane.lane)[0][0]
        return retried

    def _pages(
        self, tenant_id: TenantId | None, held: Iterable[int], account_id: AccountId | None = None
    ) -> Iterable[list[Row]]:
        """Entries as they are now, in pages: of everybody, or of a tenant, or only those an account submitted."""
        for how in held:
            after = ""
            while True:
                with self._database.reading() as connection:
                    if tenant_id is None:
                        rows = _PAGE.rows(connection, after=after)
                    else:
                        rows = _PAGE_OF_TENANT.rows(connection, tenant=tenant_id, how=how, after=after)
                if not rows:
                    break
                after = rows[-1][0]
                yield [row for row in rows if account_id is None or row[2] == account_id]

    def _in_slices(self, pages: Iterable[list[Row]], work: Callable[[Sequence[str], Transaction], int]) -> int:
        """Calls `work` with the ids of entries that together have some 1,000 recipients, each in a transaction."""
        done = 0
        for page in pages:
            ids: list[str] = []
            recipients = 0
            for row in page:
                ids.append(row[0])
                recipients += row[5]
                if recipients >= SLICE:
                    done += self._database.write(partial(work, ids))
                    ids, recipients = [], 0
            if ids:
                done += self._database.write(partial(work, ids))
        return done


def _found(connection: Connection, queue_id: str) -> Row:
    row = _ONE.one(connection, id=queue_id)
    if row is None:
        raise NotFound("There is no such entry in the queue.")
    return row


def _release(transaction: Transaction, queue_id: str, held: int, number: int) -> bool:
    if not _MARK.run(transaction, id=queue_id, was=held, becomes=FREE):
        return False
    _RELEASE.run(transaction, id=queue_id, number=number)
    return True


def _retry_recipients(rows: Sequence[Row], now: int, transaction: Transaction) -> None:
    number = next_news(transaction)
    _RETRY_ONE.run_many(
        transaction, [{"id": queue_id, "place": place, "now": now, "number": number} for queue_id, place in rows]
    )
