"""The queue as operators see it, page by page, without opening anything that is sealed; and its sweep.

A page is a range of an index, whatever the filter, so it costs the same in a queue of any size.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import merge
from itertools import islice
from operator import itemgetter

from sqlalchemy import bindparam, func, select, tuple_

from storage.database.database import Connection
from storage.database.prepared import Row, prepare
from storage.errors import NotFound
from storage.queue.entries import EntrySummary, RecipientState, Totals
from storage.queue.lanes import Lanes
from storage.queue.rows import BY_OPERATOR, FREE, SUMMARY_COLUMNS, WITH_ACCOUNT, summary
from storage.schema import queue as schema
from storage.values import TenantId

_HELD = (BY_OPERATOR, WITH_ACCOUNT)
_ALL = (FREE, *_HELD)
_BEFORE_ALL = -(1 << 62)  # a number of a lane

_entry, _recipient = schema.entry, schema.recipient
_behind = _entry.c.queue_id > bindparam("after")
_page = select(*SUMMARY_COLUMNS).order_by(_entry.c.queue_id).limit(bindparam("most"))
_PAGE = prepare(_page.where(_behind))
_PAGE_HELD = prepare(_page.where(_behind, _entry.c.held == bindparam("how")))
_PAGE_OF_TENANT = prepare(
    _page.where(_behind, _entry.c.held == bindparam("how"), _entry.c.tenant_id == bindparam("tenant"))
)
_ONE = prepare(select(*SUMMARY_COLUMNS).where(_entry.c.queue_id == bindparam("id")))
_STATES = prepare(
    select(_recipient.c.state, func.count(), func.min(_recipient.c.next_attempt))
    .where(_recipient.c.queue_id == bindparam("id"))
    .group_by(_recipient.c.state)
)
_place = (_recipient.c.lane, _recipient.c.next_attempt, _recipient.c.queue_id)
_of_destination = (
    _recipient.c.state == bindparam("state"),
    _recipient.c.destination == bindparam("destination"),
)
_PLACES = prepare(
    select(*_place)
    .where(*_of_destination, tuple_(*_place) > tuple_(bindparam("lane"), bindparam("time"), bindparam("after")))
    .order_by(*_place)
    .limit(bindparam("most"))
)
_PLACES_OF = prepare(
    select(_recipient.c.state, _recipient.c.destination, _recipient.c.lane, _recipient.c.next_attempt).where(
        _recipient.c.queue_id == bindparam("id")
    )
)
_COUNTS = prepare(select(_entry.c.held, func.count()).group_by(_entry.c.held))
_OLDEST = prepare(select(_entry.c.arrived).order_by(_entry.c.queue_id).limit(1))
_FAILING = prepare(select(func.count()).select_from(schema.destination))
_FILES_OF_TENANT = prepare(select(_entry.c.file).where(_entry.c.tenant_id == bindparam("tenant")))


class Listing(Lanes):
    """A part of Queue."""

    def entries(
        self, *, tenant: TenantId | None = None, held: bool | None = None, after: str = "", limit: int = 1000
    ) -> list[EntrySummary]:
        """Entries in the order of their ids, which is that of their arrival, from behind the id `after`."""
        hows = _ALL if held is None else _HELD if held else (FREE,)
        with self._database.snapshot() as connection:
            if tenant is None and held is None:
                rows = _PAGE.rows(connection, after=after, most=limit)
            elif tenant is None:
                rows = _merged([_PAGE_HELD.rows(connection, how=how, after=after, most=limit) for how in hows], limit)
            else:
                rows = _merged(
                    [_PAGE_OF_TENANT.rows(connection, tenant=tenant, how=how, after=after, most=limit) for how in hows],
                    limit,
                )
            return [summary(row, _STATES.rows(connection, id=row[0])) for row in rows]

    def entries_for(
        self, destination: str, *, held: bool = False, after: str = "", limit: int = 1000
    ) -> list[EntrySummary]:
        """Entries that wait for a destination, or are held, by sender and in the order of their next attempts.

        `after` is the id of the last one seen. Raises NotFound if that does not wait for this destination any more.
        """
        which = {"state": (RecipientState.HELD if held else RecipientState.QUEUED).value, "destination": destination}
        found: dict[str, EntrySummary] = {}
        with self._database.snapshot() as connection:
            place = (_BEFORE_ALL, -1, "")
            if after:
                place = (*_place_of(connection, after, which), after)
            while len(found) < limit:
                lane, time, behind = place
                rows = _PLACES.rows(connection, lane=lane, time=time, after=behind, most=limit, **which)
                for _, time, queue_id in rows:
                    # An entry with several recipients there stands where the first of them does.
                    if queue_id not in found and _place_of(connection, queue_id, which)[1] == time:
                        row = _ONE.rows(connection, id=queue_id)[0]
                        found[queue_id] = summary(row, _STATES.rows(connection, id=queue_id))
                if len(rows) < limit:
                    break
                place = rows[-1]
        return list(found.values())[:limit]

    def totals(self) -> Totals:
        """How much there is. Reads an index of all entries: some milliseconds for 100,000."""
        with self._database.snapshot() as connection:
            counts: dict[int, int] = dict(_COUNTS.rows(connection))
            oldest = _OLDEST.one(connection)
            failing = _FAILING.rows(connection)[0][0]
        queued = counts.pop(FREE, 0)
        return Totals(queued, sum(counts.values()), None if oldest is None else oldest[0], failing)

    def sweep(self, tenant_id: TenantId, is_alive: Callable[[str], bool]) -> int:
        """Removes the tenant's spool files that were to go, or that no row names and whose writer is dead; how many.

        Files first: one that a living writer has yet to name is spared for its writer's sake. While a backup copies
        them, all stay.
        """
        if self._spool.is_being_copied():
            return 0
        removed = self._removals.finish(tenant_id)
        dead = [file for file, incarnation in self._spool.files(tenant_id) if not is_alive(incarnation)]
        if not dead:
            return removed
        with self._database.reading() as connection:
            named = {row[0] for row in _FILES_OF_TENANT.rows(connection, tenant=tenant_id)}
        rubbish = [file for file in dead if file not in named]
        for file in rubbish:
            self._spool.remove(tenant_id, file)
        return removed + len(rubbish)


def _merged(pages: list[list[Row]], limit: int) -> list[Row]:
    """Rows of several ranges by their first column, the id."""
    return list(islice(merge(*pages, key=itemgetter(0)), limit))


def _place_of(connection: Connection, queue_id: str, which: dict[str, str]) -> tuple[int, int]:
    """Where the entry stands among those that wait for a destination: its lane, and its first recipient's time."""
    places = [
        (lane, time)
        for state, destination, lane, time in _PLACES_OF.rows(connection, id=queue_id)
        if (state, destination) == (which["state"], which["destination"])
    ]
    if not places:
        raise NotFound("The entry does not wait for this destination any more.")
    return min(places)
