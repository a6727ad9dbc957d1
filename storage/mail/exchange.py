"""COPY and MOVE into another account: each message is written anew, under the target's key and charged to its quota.

In slices: each call of `Crossing.go_on` reads and writes files for a bounded time, one message in memory at once, so
that others are served in between. All rows are committed together at the end, so it is all or nothing (RFC 9051
§6.4.7), whatever happens in between: files without rows go with `abandon`, or are swept when the process has died.

So there is a most, by what is kept in memory until that commit and during it: some 65,000 messages (`MOST_KEPT`).
With several commits a failure would leave a part behind, and all deliveries to the target wait for the one. A client is
told NO [LIMIT] and copies in parts, each all or nothing. What reading the messages gives comes after the commit
(`storage.mail.completion`).

Raises: NotFound, OverQuota, LimitReached, Gone (expunged meanwhile), Unavailable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from storage.background import Background
from storage.database.database import Database
from storage.database.prepared import Row
from storage.errors import LimitReached
from storage.mail.arrivals import Arrivals, Filed
from storage.mail.keywords import SYSTEM_BITS, Keywords
from storage.mail.memberships import Memberships, rest_of
from storage.mail.outcomes import Copied, NewMessage
from storage.mail.reading import Reading
from storage.values import MailboxId, UidSet

_MESSAGES, _OCTETS = 50, 8 * 1024 * 1024  # of one slice; a message that is larger is one of its own
MOST_KEPT = 64 * 1024 * 1024  # octets that are kept in memory of what has been written, until its rows are
_EACH = 1000  # … of each message, with its rows


class Exchange:
    """What one account gives to others."""

    def __init__(
        self,
        database: Database,
        memberships: Memberships,
        keywords: Keywords,
        reading: Reading,
        background: Background,
    ) -> None:
        self._database = database
        self._memberships = memberships
        self._keywords = keywords
        self._reading = reading
        self.background = background

    def names(self, source_id: MailboxId) -> dict[int, str]:
        """Of the keywords' bits."""
        with self._database.reading() as connection:
            return self._keywords.names(connection, source_id)

    def rows(self, source_id: MailboxId, uids: UidSet) -> list[Row]:
        """(uid, flags, message id, size) of the first messages of a set."""
        with self._database.reading() as connection:
            return self._memberships.full(connection, source_id, uids)

    def anew(self, row: Row, flags: int, names: dict[int, str]) -> NewMessage:
        """The message of a row, to be stored elsewhere with these flags."""
        meta, data = self._reading.read_file(row[2])
        return NewMessage(
            data,
            flags=flags & SYSTEM_BITS,
            keywords=[name for bit, name in names.items() if flags >> bit & 1],
            internal_date=meta.internal_date,
            internal_zone=meta.internal_zone,
            prefix=meta.prefix,
        )


class Crossing:
    """Messages on their way into another account. One thread at a time; ends with `commit` or with `abandon`."""

    def __init__(
        self,
        exchange: Exchange,
        source: tuple[MailboxId, UidSet],
        arrivals: Arrivals,
        target: tuple[MailboxId, str],
        only: int,
        settled: Callable[[UidSet], object] | None,
    ) -> None:
        """`only`: bits of flags that go along. `settled` is told which messages have arrived, in a MOVE."""
        self._exchange = exchange
        self._source_id, self._uids = source
        self._arrivals = arrivals
        self._target_id, self._target_name = target
        self._only = only
        self._settled = settled
        self._names: dict[int, str] | None = None
        self._rows: list[Row] = []  # that were read and are still to be written, the next one last
        self._filed: list[Filed] = []
        self._from: list[int] = []  # UIDs in the source of what is filed
        self._octets = 0

    @property
    def done(self) -> int:
        """How many messages have been written."""
        return len(self._filed)

    def go_on(self) -> bool:
        """Write some files. False: all are there. When it raises, call `abandon`."""
        if self._names is None:
            self._names = self._exchange.names(self._source_id)
        until, most = self._octets + _OCTETS, self.done + _MESSAGES
        while self._octets < until and self.done < most:
            if not self._rows:
                if not self._uids:
                    return False
                rows = self._exchange.rows(self._source_id, self._uids)
                self._uids = rest_of(self._uids, rows)
                self._rows = rows[::-1]
                continue
            row = self._rows[-1]
            self._arrivals.require_space(self._octets + row[3], self.done + 1)
            new = self._exchange.anew(row, row[1] & self._only, self._names)
            self._keep(row, self._arrivals.file(self._target_name, new, read_later=True))
            self._rows.pop()
        return bool(self._rows or self._uids)

    def _keep(self, row: Row, filed: Filed) -> None:
        self._filed.append(replace(filed, note=None))  # a note is read again
        self._from.append(row[0])
        self._octets += row[3]
        if len(self._filed) * _EACH > MOST_KEPT:
            raise LimitReached("These are too many messages to be copied at once into another account.")

    def commit(self) -> Copied:
        """All rows in one transaction, durable on return. When it raises, call `abandon`.

        In a MOVE they are then taken out of the source: after a failure a message may be in both, never in none.
        """
        if not self._filed:
            return Copied(0, [])
        filed, self._filed = self._filed, []
        appended = self._arrivals.commit(self._target_id, filed)  # takes back its files itself
        if self._settled is not None:
            self._settled(UidSet.of(self._from))
        pairs = [(uid, int(each.uid)) for uid, each in zip(self._from, appended, strict=True)]
        return Copied(appended[0].uidvalidity, pairs)

    def abandon(self) -> None:
        """Nothing was copied; the files go in the background. After `commit` it does nothing."""
        filed, self._filed = self._filed, []
        self._arrivals.drop_later(filed, self._exchange.background)
