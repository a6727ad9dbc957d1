"""What is done with many entries: operators retry them, what an account has sent is held, and old holds end.

Each is durable on return, in transactions of some 1,000 rows, so that nobody who accepts mail waits; interrupted, the
same call goes on where it stopped. It is safe while the runner works on the same entries.

Raises: NotFound (no such entry), Unavailable, StorageFull.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

from sqlalchemy import bindparam, case, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from storage.database.database import Transaction
from storage.database.prepared import Row, prepare
from storage.queue.destinations import forget_all_destinations, forget_destination
from storage.queue.entries import RecipientState
from storage.queue.lanes import Lanes
from storage.queue.operations import found_entry, hold_entry, release_entry
from storage.queue.rows import BY_OPERATOR, FREE, WITH_ACCOUNT, next_news
from storage.schema import queue as schema
from storage.values import AccountId, TenantId

SLICE = 1000  # rows in one transaction

_entry, _recipient, _held = schema.entry, schema.recipient, schema.held_account
_QUEUED = RecipientState.QUEUED.value

_this = _recipient.c.queue_id == bindparam("id")
_SHOWN = (_entry.c.queue_id, _entry.c.tenant_id, _entry.c.account_id, _entry.c.file, _entry.c.waiting)
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
_spared = select(func.json_each(bindparam("spared")).table_valued("value").c.value)
_PAGE_OF_OLD = prepare(
    select(*_SHOWN)
    .where(
        _entry.c.held == bindparam("how"),
        _entry.c.queue_id > bindparam("after"),
        _entry.c.arrived < bindparam("before"),
        _entry.c.tenant_id.not_in(_spared),
    )
    .order_by(_entry.c.queue_id)
    .limit(SLICE)
)
_EXPIRE = prepare(
    update(_entry)
    .where(_entry.c.queue_id == bindparam("id"), _entry.c.expires > bindparam("now"))
    .values(expires=bindparam("now"))
)
_at_once = case((_recipient.c.next_attempt > bindparam("now"), bindparam("now")), else_=_recipient.c.next_attempt)
_RETRY = prepare(
    update(_recipient)
    .where(_this, _recipient.c.state == _QUEUED)
    .values(next_attempt=_at_once, news=bindparam("number"))
)
# Every position: so SQLite, which knows nothing of how many rows there are, goes by the entry and not by the state.
_DESTINATIONS = prepare(
    select(_recipient.c.destination).distinct().where(_this, _recipient.c.position >= 0, _recipient.c.state == _QUEUED)
)
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
_MARK_ACCOUNT = prepare(insert(_held).on_conflict_do_nothing())
_UNMARK_ACCOUNT = prepare(
    delete(_held).where(_held.c.tenant_id == bindparam("tenant"), _held.c.account_id == bindparam("account"))
)


class BulkOperations(Lanes):
    """A part of Queue."""

    def retry(
        self, queue_id: str | None = None, *, destination: str | None = None, tenant: TenantId | None = None
    ) -> int:
        """Makes recipients due now, and their destinations worth a try: of an entry, a destination, a tenant, or all.

        How many recipients; held ones stay held.
        """
        if queue_id is not None:
            with self._database.reading() as connection:
                found_entry(connection, queue_id)
            retried = self._database.write(partial(self._retry_entries, [queue_id]))
        elif destination is not None:
            retried = self._retry_destination(destination)
        else:
            if tenant is None:
                self._database.write(forget_all_destinations)
            retried = self.in_slices(self.pages(tenant, (FREE,)), self._retry_entries)
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
                held += hold_entry(transaction, queue_id, FREE, WITH_ACCOUNT)
            return held

        self._database.write(mark)
        return self.in_slices(self.pages(tenant_id, (FREE,), account_id), work)

    def release_account(self, tenant_id: TenantId, account_id: AccountId) -> int:
        """Ends `hold_account`; entries that an operator holds stay held. How many entries."""

        def unmark(transaction: Transaction) -> None:
            _UNMARK_ACCOUNT.run(transaction, tenant=tenant_id, account=account_id)

        def work(queue_ids: Sequence[str], transaction: Transaction) -> int:
            number = next_news(transaction)
            return sum(release_entry(transaction, queue_id, WITH_ACCOUNT, number) for queue_id in queue_ids)

        self._database.write(unmark)
        released = self.in_slices(self.pages(tenant_id, (WITH_ACCOUNT,), account_id), work)
        if released:
            self._changed()
        return released

    def end_holds(self, before: int, spared: Collection[TenantId] = ()) -> int:
        """Ends the holds of what arrived before then, but of these tenants; how many entries.

        Their time is over: the runner returns them to their senders, as all that expired.
        """
        ended = 0
        for how in (BY_OPERATOR, WITH_ACCOUNT):

            def work(queue_ids: Sequence[str], transaction: Transaction, how: int = how) -> int:
                number, now, count = next_news(transaction), self._clock.now(), 0
                for queue_id in queue_ids:
                    if release_entry(transaction, queue_id, how, number):
                        _EXPIRE.run(transaction, id=queue_id, now=now)
                        count += 1
                return count

            ended += self.in_slices(self._old_pages(how, before, spared), work)
        if ended:
            self._changed()
        return ended

    def _old_pages(self, how: int, before: int, spared: Collection[TenantId]) -> Iterable[list[Row]]:
        after, but = "", json.dumps(sorted(spared))
        while True:
            with self._database.reading() as connection:
                rows = _PAGE_OF_OLD.rows(connection, how=how, after=after, before=before, spared=but)
            if not rows:
                return
            after = rows[-1][0]
            yield rows

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

    def pages(
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

    def in_slices(self, pages: Iterable[list[Row]], work: Callable[[Sequence[str], Transaction], int]) -> int:
        """Calls `work` with the ids of entries that together have some 1,000 recipients, each in a transaction."""
        done = 0
        for page in pages:
            ids: list[str] = []
            recipients = 0
            for row in page:
                ids.append(row[0])
                recipients += row[4]
                if recipients >= SLICE:
                    done += self._database.write(partial(work, ids))
                    ids, recipients = [], 0
            if ids:
                done += self._database.write(partial(work, ids))
        return done


def _retry_recipients(rows: Sequence[Row], now: int, transaction: Transaction) -> None:
    number = next_news(transaction)
    _RETRY_ONE.run_many(
        transaction, [{"id": queue_id, "place": place, "now": now, "number": number} for queue_id, place in rows]
    )
