"""A log that processes write to without waiting: records gather in memory and come to the disk with the next `flush`.

Every process calls `flush` each second on a worker thread. While the disk takes nothing, records wait in memory, up to
a number and a size; then the oldest are lost, and the operational log says how many.

Raises: nothing from `record` and `flush`; Unavailable and others of keys from reading.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from storage.clock import Clock
from storage.errors import CleanmailError
from storage.logs.classes import LogClass
from storage.logs.frames import Record, Wanted
from storage.logs.segments import SegmentKeys, SegmentWriter, read_records, remove_expired
from storage.register.periods import STANDARD, Period

_log = logging.getLogger("cleanmail.storage")

_RECORDS_MAX = 100_000  # that wait while the disk takes none
_OCTETS_MAX = 64 << 20


T = TypeVar("T")


class BufferedLog(Generic[T]):
    """One of each class for each process; any thread may use it."""

    def __init__(
        self,
        data: Path,
        kind: LogClass,
        pack: Callable[[T], Record],
        keys: Callable[[], SegmentKeys],
        process: str,
        clock: Clock,
    ) -> None:
        """`process` is the incarnation's name: segments are called after it. Keys are asked for at the first write."""
        self.kind = kind
        self._data = data
        self._pack = pack
        self._keys = keys
        self._process = process
        self._clock = clock
        self._guard = threading.Lock()  # of the next
        self._waiting: list[T] = []
        self._writing = threading.Lock()  # of all below
        self._packed: list[Record] = []  # could not be written so far
        self._lost = 0
        self._writer: SegmentWriter | None = None

    def record(self, what: T) -> None:
        """Never waits and never fails."""
        with self._guard:
            self._waiting.append(what)

    def flush(self) -> None:
        """Bring what was recorded to the disk. What cannot be written now is tried again the next time."""
        with self._writing:
            with self._guard:
                waiting, self._waiting = self._waiting, []
            if not waiting and not self._packed:
                return
            records = [*self._packed, *map(self._pack, waiting)]
            self._packed = []
            try:
                if self._writer is None:
                    self._writer = SegmentWriter(self._data, self.kind, self._process, self._keys())
                self._writer.append(records)
            except CleanmailError as error:
                self._packed = _newest(records)
                self._lost += len(records) - len(self._packed)
                _log.error(
                    "%s records cannot be written: %s; %d wait, %d lost",
                    self.kind.name,
                    error.detail or error,
                    len(self._packed),
                    self._lost,
                )

    def records(self, keys: SegmentKeys, since: int, until: int, wanted: Wanted | None = None) -> Iterator[Record]:
        """Those of all processes with since <= time < until, this one's newest too."""
        self.flush()
        return read_records(self._data, self.kind, keys, since, until, wanted)

    def expire(self, period: Period | None = None) -> list[str]:
        """Destroy the days whose retention has ended; says which. May be repeated, needs no key.

        None: the standard period of its class.
        """
        period = period or STANDARD.of(self.kind.kept)
        return remove_expired(self._data, self.kind, self._clock.now(), period)

    def close(self) -> None:
        self.flush()
        with self._writing:
            if self._writer is not None:
                self._writer.close()
                self._writer = None


def _newest(records: list[Record]) -> list[Record]:
    """The end of the list that may wait in memory."""
    kept = octets = 0
    for record in reversed(records):
        octets += len(record.data)
        if kept == _RECORDS_MAX or octets > _OCTETS_MAX:
            break
        kept += 1
    return records[len(records) - kept :]
