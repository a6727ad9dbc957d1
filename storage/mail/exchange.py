"""COPY into another account: each message is written anew, under the target's key and charged to its quota.

All or nothing: what was copied before a failure is taken back (RFC 9051 §6.4.7), but for a crash.

Raises: NotFound, OverQuota, Gone (expunged meanwhile), Unavailable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from storage.database.database import Database
from storage.database.prepared import Row
from storage.errors import CleanmailError
from storage.mail.keywords import SYSTEM_BITS, Keywords
from storage.mail.memberships import Memberships, rest_of
from storage.mail.outcomes import Appended, Copied, NewMessage
from storage.mail.reading import Reading
from storage.values import MailboxId, UidSet

_MESSAGES, _OCTETS = 50, 8 * 1024 * 1024  # of one commit in the target

Append = Callable[[Sequence[NewMessage]], list[Appended]]
TakeBack = Callable[[UidSet], object]


class Exchange:
    """What one account gives to others."""

    def __init__(self, database: Database, memberships: Memberships, keywords: Keywords, reading: Reading) -> None:
        self._database = database
        self._memberships = memberships
        self._keywords = keywords
        self._reading = reading

    def copy(self, source_id: MailboxId, uids: UidSet, append: Append, take_back: TakeBack, only: int = -1) -> Copied:
        """Hand the messages to `append` of the target, in batches; durable there when it returns.

        `only`: bits of flags that go along.
        """
        with self._database.reading() as connection:
            names = self._keywords.names(connection, source_id)
        pairs: list[tuple[int, int]] = []
        uidvalidity = 0
        try:
            for rows in self._batches(source_id, uids):
                appended = append([self._anew(row, row[1] & only, names) for row in rows])
                pairs += [(row[0], each.uid) for row, each in zip(rows, appended, strict=True)]
                uidvalidity = appended[0].uidvalidity
        except BaseException:
            if pairs:
                with suppress(CleanmailError):
                    take_back(UidSet.of(uid for _, uid in pairs))
            raise
        return Copied(uidvalidity, pairs)

    def _batches(self, source_id: MailboxId, uids: UidSet) -> Iterator[list[Row]]:
        """Rows (uid, flags, message id, size), as many as go into one commit."""
        while uids:
            with self._database.reading() as connection:
                rows = self._memberships.full(connection, source_id, uids)
            uids = rest_of(uids, rows)
            batch: list[Row] = []
            for row in rows:
                if batch and (len(batch) == _MESSAGES or sum(each[3] for each in batch) + row[3] > _OCTETS):
                    yield batch
                    batch = []
                batch.append(row)
            if batch:
                yield batch

    def _anew(self, row: Row, flags: int, names: dict[int, str]) -> NewMessage:
        meta, data = self._reading.read_file(row[2])
        return NewMessage(
            data,
            flags=flags & SYSTEM_BITS,
            keywords=[name for bit, name in names.items() if flags >> bit & 1],
            internal_date=meta.internal_date,
            internal_zone=meta.internal_zone,
            prefix=meta.prefix,
        )
