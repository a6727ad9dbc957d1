"""How many messages were judged how, counted by UTC day and tenant: what the provider's promise is measured by.

`Counts.add` never waits and touches no disk: any thread may call it, an event loop too. What was added is written
with the next `flush`, every few seconds and at `close`, all of it in one transaction; so at most the last seconds are
lost when a process is killed, and nothing is counted twice. `Judged` are the sums, in control.db; what people do
(reports, views, decisions) is counted there in the commit that does it.

Raises: nothing from `add` and `flush_due`; Unavailable, StorageFull from the rest (what was added is kept).
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum

from sqlalchemy import bindparam, delete, func, select
from sqlalchemy.dialects.sqlite import insert

from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.errors import CleanmailError
from storage.schema.control import judged
from storage.values import TenantId

_log = logging.getLogger("cleanmail.storage")

DAY = 86_400
KEPT_DAYS = 400  # a year can be compared with the one before
FLUSH_EVERY = 5.0  # seconds


class Counted(StrEnum):
    """What is counted. The first are verdicts, one for each recipient of a message; the rest is what people did."""

    DELIVER = "deliver"
    TAG = "tag"
    JUNK = "junk"
    QUARANTINE = "quarantine"
    REJECT = "reject"
    DEFER = "defer"  # will come again, and is judged then
    REPORTED = "reported"  # somebody said that it was wrongly withheld
    VIEWED = "viewed"  # a reviewer or an operator saw its header; counted once for a message
    WRONG = "wrong"  # a reviewer found that it was wrongly withheld


VERDICTS = (Counted.DELIVER, Counted.TAG, Counted.JUNK, Counted.QUARANTINE, Counted.REJECT, Counted.DEFER)

_new = insert(judged)
_ADD = prepare(
    _new.on_conflict_do_update(
        index_elements=list(judged.primary_key.columns), set_={"count": judged.c.count + _new.excluded.count}
    )
)
# The primary key begins with the day, so a range of days is one range of the table.
_RANGE = judged.c.day.between(bindparam("first"), bindparam("last"))
_SUMS = prepare(select(judged.c.what, func.sum(judged.c.count)).where(_RANGE).group_by(judged.c.what))
_SUMS_OF = prepare(
    select(judged.c.what, func.sum(judged.c.count))
    .where(_RANGE, judged.c.tenant_id == bindparam("tenant"))
    .group_by(judged.c.what)
)
_FORGET = prepare(delete(judged).where(judged.c.day < bindparam("before")))


class Judged:
    """The sums in control.db."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(self, numbers: Mapping[tuple[int, TenantId, Counted], int]) -> None:
        """Adds numbers by (day, tenant, what), all or none of them."""
        rows = [
            {"day": day, "tenant_id": tenant_id, "what": what.value, "count": count}
            for (day, tenant_id, what), count in numbers.items()
        ]

        def work(transaction: Transaction) -> None:
            _ADD.run_many(transaction, rows)

        if rows:
            self._database.write(work, durable=False)

    def sums(self, days: int, tenant_id: TenantId | None = None) -> dict[Counted, int]:
        """Of the last `days` UTC days, today included; everything that is counted stands in it."""
        last = self._clock.now() // DAY
        period = {"first": last - days + 1, "last": last}
        with self._database.reading() as connection:
            rows = (
                _SUMS.rows(connection, **period)
                if tenant_id is None
                else _SUMS_OF.rows(connection, **period, tenant=tenant_id)
            )
        found = {str(what): int(count) for what, count in rows}
        return {what: found.get(what.value, 0) for what in Counted}

    def remove_expired(self, before: int | None = None) -> int:
        """Days before the one of that time; how many rows. None: those that are older than KEPT_DAYS."""
        day = self._clock.now() // DAY - KEPT_DAYS if before is None else before // DAY
        removed: int = self._database.write(lambda t: _FORGET.run(t, before=day), durable=False)
        return removed


def count_one(transaction: Transaction, clock: Clock, tenant_id: TenantId, what: Counted) -> None:
    """One more, in the commit of what is counted."""
    _ADD.run(transaction, day=clock.now() // DAY, tenant_id=tenant_id, what=what.value, count=1)


class Counts:
    """The counter of one process."""

    def __init__(self, judged: Callable[[], Judged], clock: Clock) -> None:
        """`judged` is called at the first write: control.db is not opened before."""
        self._judged = judged
        self._clock = clock
        self._guard = threading.Lock()  # of the two
        self._waiting: Counter[tuple[int, TenantId, Counted]] = Counter()
        self._written = clock.monotonic()
        self._writing = threading.Lock()

    def add(self, tenant_id: TenantId, what: str, n: int = 1) -> None:
        """Counts `what` for the tenant: a value of `Counted`, such as the name of a verdict's action."""
        key = (self._clock.now() // DAY, tenant_id, Counted(what))
        with self._guard:
            self._waiting[key] += n

    def flush_due(self) -> None:
        """`flush`, if the last one is a few seconds ago; what cannot be written is tried again then."""
        now = self._clock.monotonic()
        with self._guard:
            if now - self._written < FLUSH_EVERY:
                return
            self._written = now
        try:
            self.flush()
        except CleanmailError as error:
            _log.error("counts of verdicts cannot be written: %s; they are kept", error.detail or error.public)

    def flush(self) -> None:
        """Writes what was added; it can be seen by every process when this returns."""
        with self._writing:
            with self._guard:
                waiting, self._waiting = self._waiting, Counter()
            if not waiting:
                return
            try:
                self._judged().add(waiting)
            except BaseException:
                with self._guard:
                    self._waiting.update(waiting)
                raise

    def close(self) -> None:
        try:
            self.flush()
        except CleanmailError as error:
            _log.error("counts of verdicts were lost: %s", error.detail or error.public)
