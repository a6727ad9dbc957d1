"""What is to be sent next, for whom and where: the questions that the queue's runner asks.

A lane is what one sender has for one destination. Every question is a range of an index, so it costs the same however
much waits: lanes are found by leaping from one to the next, never by reading all recipients.
"""

from __future__ import annotations

from sqlalchemy import bindparam, select, tuple_

from storage.database.database import Connection
from storage.database.prepared import prepare
from storage.queue.entries import Lane, News, RecipientState
from storage.queue.rows import FREE, latest_news
from storage.queue.store import QueueStore
from storage.schema import queue as schema

_NEWS_MAX = 1000  # recipients; beyond that all lanes are told
_BEFORE_ALL = -(1 << 62)  # a number of a lane
_ROUNDS = 100  # of `due`, for an entry with very many recipients

_entry, _recipient = schema.entry, schema.recipient
_is_queued = _recipient.c.state == RecipientState.QUEUED.value
_lane = (_recipient.c.destination, _recipient.c.lane)
_place = (_recipient.c.next_attempt, _recipient.c.queue_id)

_NEXT_LANE = prepare(
    select(*_lane, _recipient.c.next_attempt)
    .where(_is_queued, tuple_(*_lane) > tuple_(bindparam("destination"), bindparam("lane")))
    .order_by(*_lane, _recipient.c.next_attempt)
    .limit(1)
)
_EARLIEST = prepare(
    select(_recipient.c.next_attempt)
    .where(_is_queued, _recipient.c.destination == bindparam("destination"), _recipient.c.lane == bindparam("lane"))
    .order_by(_recipient.c.next_attempt)
    .limit(1)
)
_DUE = prepare(
    select(*_place)
    .where(
        _is_queued,
        _recipient.c.destination == bindparam("destination"),
        _recipient.c.lane == bindparam("lane"),
        _recipient.c.next_attempt <= bindparam("now"),
        tuple_(*_place) > tuple_(bindparam("time"), bindparam("after")),
    )
    .order_by(*_place)
    .limit(bindparam("most"))
)
_NEWS = prepare(
    select(_recipient.c.state, *_lane, _recipient.c.next_attempt)
    .where(_recipient.c.news > bindparam("since"))
    .order_by(_recipient.c.news)
    .limit(bindparam("most"))
)
_EXPIRED = prepare(
    select(_entry.c.queue_id)
    .where(_entry.c.held == FREE, _entry.c.expires <= bindparam("now"))
    .order_by(_entry.c.expires)
    .limit(bindparam("most"))
)


class Lanes(QueueStore):
    """A part of Queue."""

    def lanes(self, now: int | None = None, *, destination: str | None = None) -> list[Lane]:
        """The lanes in which something is queued: all, or those that are due at `now`, or those of one destination."""
        with self._database.reading() as connection:
            return _lanes(connection, now, destination)

    def lane(self, destination: str, lane: int) -> int | None:
        """When the first recipient of a lane is due; None: nothing is queued in it."""
        with self._database.reading() as connection:
            row = _EARLIEST.one(connection, destination=destination, lane=lane)
        return None if row is None else int(row[0])

    def due(self, destination: str, lane: int, now: int, limit: int) -> list[str]:
        """The ids of a lane's entries with recipients that are due, the longest due first; each once.

        What is being worked on is among them until it is settled or postponed: ask for as many more.
        """
        found: dict[str, None] = {}
        position = {"time": -1, "after": ""}
        with self._database.reading() as connection:
            for _ in range(_ROUNDS):
                rows = _DUE.rows(connection, destination=destination, lane=lane, now=now, most=limit, **position)
                found.update((queue_id, None) for _, queue_id in rows)
                if len(rows) < limit or len(found) >= limit:
                    break
                # Recipients of one entry stand together, as many as there may be: go on behind them.
                position = {"time": rows[-1][0], "after": rows[-1][1]}
        return list(found)[:limit]

    def news(self, since: int) -> News:
        """The lanes of recipients that were queued, released or set to be retried since the call that said `since`.

        To be asked after a QueueChanged; 0 asks for all lanes. Costs what the news are, not what the queue is.
        """
        with self._database.snapshot() as connection:
            upto = latest_news(connection)
            rows = _NEWS.rows(connection, since=since, most=_NEWS_MAX + 1) if since else []
            if not since or len(rows) > _NEWS_MAX:
                return News(tuple(_lanes(connection, None, None)), upto)
        earliest: dict[tuple[str, int], int] = {}
        for state, destination, lane, next_attempt in rows:
            if state == RecipientState.QUEUED:
                key = (destination, lane)
                earliest[key] = min(next_attempt, earliest.get(key, next_attempt))
        return News(tuple(Lane(*key, first) for key, first in earliest.items()), upto)

    def expired(self, now: int, limit: int) -> list[str]:
        """The ids of entries, not held, whose time is over; those first that have been so the longest.

        What is being worked on is among them until it is settled: ask for as many more.
        """
        with self._database.reading() as connection:
            return [row[0] for row in _EXPIRED.rows(connection, now=now, most=limit)]


def _lanes(connection: Connection, now: int | None, destination: str | None) -> list[Lane]:
    found: list[Lane] = []
    row = _NEXT_LANE.one(connection, destination=destination or "", lane=_BEFORE_ALL)
    while row is not None and (destination is None or row[0] == destination):
        if now is None or row[2] <= now:
            found.append(Lane(*row))
        row = _NEXT_LANE.one(connection, destination=row[0], lane=row[1])
    return found
