"""What changed in a collection since a token (RFC 6578): pages that skip nothing, in the order of modseqs.

A page ends with a whole modseq, and its token says so; who goes on with it misses nothing, whatever is written
meanwhile. A first listing (since 0) tells no tombstones; when it is cut, `begun` goes into its token, and what went
since then is told.

Raises: NotFound (no such collection), TokenTooOld (`storage.collections.tokens`).
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, select

from storage.collections.rows import LIVE, OBJECT_COLUMNS, stored_of
from storage.collections.tokens import TokenTooOld
from storage.collections.values import Changes, CollectionId, Stored
from storage.database.database import Connection, Database
from storage.database.prepared import Row, prepare
from storage.errors import NotFound
from storage.schema.collections import collection, object_, object_gone
from storage.values import AccountId, ModSeq

_UNLIMITED = 1 << 62

_state = prepare(
    select(collection.c.highest_modseq, collection.c.gone_horizon).where(
        *LIVE, collection.c.collection_id == bindparam("collection")
    )
)
_changed = prepare(
    select(*OBJECT_COLUMNS)
    .where(
        object_.c.account_id == bindparam("account"),
        object_.c.collection_id == bindparam("collection"),
        object_.c.modseq > bindparam("since"),
        object_.c.modseq <= bindparam("until"),
    )
    .order_by(object_.c.modseq)
    .limit(bindparam("most"))
)
# What is there again under the name of a tombstone has a later modseq, and is told as a change.
_gone = prepare(
    select(object_gone.c.modseq, object_gone.c.name)
    .where(
        object_gone.c.account_id == bindparam("account"),
        object_gone.c.collection_id == bindparam("collection"),
        object_gone.c.modseq > bindparam("since"),
        object_gone.c.modseq <= bindparam("until"),
        ~select(object_.c.object_id)
        .where(
            object_.c.account_id == object_gone.c.account_id,
            object_.c.collection_id == object_gone.c.collection_id,
            object_.c.name == object_gone.c.name,
        )
        .exists(),
    )
    .order_by(object_gone.c.modseq)
    .limit(bindparam("most"))
)


class Synchronisation:
    """Of one account's collections."""

    def __init__(self, database: Database, account_id: AccountId) -> None:
        self._database = database
        self._account_id = account_id

    def changes(self, collection_id: CollectionId, since: int, limit: int | None = None, *, begun: int = 0) -> Changes:
        """At most `limit` entries, unless one modseq has more."""
        with self._database.snapshot() as connection:
            row = _state.one(connection, account=self._account_id, collection=collection_id)
            if row is None:
                raise NotFound("There is no such collection.")
            highest, horizon = row
            if since > highest or begun > highest or (since and max(since, begun) < horizon):
                raise TokenTooOld
            if since == highest:
                return Changes((), (), ModSeq(highest), 0, False)
            return self._between(connection, collection_id, since, highest, max(limit or _UNLIMITED, 1), begun)

    def _between(
        self, connection: Connection, collection_id: CollectionId, since: int, highest: int, limit: int, begun: int
    ) -> Changes:
        first_listing = not since or bool(begun)
        started = begun or highest  # of a first listing: what went before was never told
        gone_since = max(since, started) if first_listing else since
        changed = self._changed(connection, collection_id, since, highest, limit + 1)
        gone = self._gone(connection, collection_id, gone_since, highest, limit + 1)
        modseqs = sorted([*(each.modseq for each in changed), *(modseq for modseq, _ in gone)])
        if len(modseqs) <= limit:
            return Changes(changed, _names(gone), ModSeq(highest), 0, False)
        beyond = modseqs[limit]
        until = next((each for each in reversed(modseqs[:limit]) if each < beyond), beyond)
        if until == beyond:  # one modseq that has more than the limit comes whole
            changed = self._changed(connection, collection_id, since, until, _UNLIMITED)
            gone = self._gone(connection, collection_id, gone_since, until, _UNLIMITED)
        return Changes(
            [each for each in changed if each.modseq <= until],
            _names([each for each in gone if each[0] <= until]),
            ModSeq(until),
            started if first_listing else 0,
            until < highest,
        )

    def _changed(
        self, connection: Connection, collection_id: int, since: int, until: int, most: int
    ) -> Sequence[Stored]:
        rows = _changed.rows(
            connection, account=self._account_id, collection=collection_id, since=since, until=until, most=most
        )
        return [stored_of(row) for row in rows]

    def _gone(self, connection: Connection, collection_id: int, since: int, until: int, most: int) -> Sequence[Row]:
        if since >= until:
            return ()
        return _gone.rows(
            connection, account=self._account_id, collection=collection_id, since=since, until=until, most=most
        )


def _names(gone: Sequence[Row]) -> Sequence[str]:
    """Each once, however often it went."""
    return list(dict.fromkeys(name for _, name in gone))
