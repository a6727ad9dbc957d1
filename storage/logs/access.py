"""Access events: who signed in, out or submitted, when, from where, with which result. Kept 365 days, then destroyed.

They are records for the provider's promise and for the person concerned, not log lines. A login name that matches no
account is kept only as a keyed hash, since people type passwords there. `record` keeps an event in memory; it is on the
disk after the next `flush`, which every process calls each second on a worker thread.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from storage.clock import Clock
from storage.errors import CleanmailError
from storage.keys.source import KeySource
from storage.logs.segments import LogClass, Record, SegmentWriter, read_records, remove_expired
from storage.values import AccountId, TenantId

_log = logging.getLogger("cleanmail.storage")

ACCESS = LogClass("access", 365, "access events: time, type and result of what was done with an account")

_MEMORY = 100_000  # events that wait while the disk takes none


class AccessType(StrEnum):
    SIGN_IN = "sign_in"
    SIGN_OUT = "sign_out"
    SUBMIT = "submit"


class AccessResult(StrEnum):
    SUCCESS = "success"
    WRONG_PASSWORD = "wrong_password"  # noqa: S105
    UNKNOWN = "unknown"  # no such login
    THROTTLED = "throttled"
    SUSPENDED = "suspended"
    REFUSED = "refused"  # by a rule of submission
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class AccessEvent:
    time: int  # Unix seconds
    type: str  # an AccessType
    result: str  # an AccessResult
    protocol: str  # imap, submission, dav
    tenant_id: TenantId | None
    account_id: AccountId | None
    login_hash: bytes  # keyed; of a login that matches no account, else empty
    address: str  # the client's

    def __post_init__(self) -> None:
        AccessType(self.type)
        AccessResult(self.result)

    def pack(self) -> Record:
        values = [self.type, self.result, self.protocol, self.tenant_id, self.account_id]
        return Record(self.time, json.dumps([*values, self.login_hash.hex(), self.address]).encode())

    @classmethod
    def unpack(cls, record: Record) -> AccessEvent:
        type_, result, protocol, tenant_id, account_id, login_hash, address = json.loads(record.data)
        return cls(record.time, type_, result, protocol, tenant_id, account_id, bytes.fromhex(login_hash), address)


class AccessLog:
    """One for each process; any thread may use it."""

    def __init__(self, data: Path, keys: KeySource, process: str, clock: Clock) -> None:
        """`process` is the incarnation's name: the segments of this process are called after it."""
        self._data = data
        self._keys = keys
        self._process = process
        self._clock = clock
        self._waiting: deque[AccessEvent] = deque()
        self._lost = 0
        self._writing = threading.Lock()
        self._writer: SegmentWriter | None = None

    def record(self, event: AccessEvent) -> None:
        """Never waits and never fails."""
        self._waiting.append(event)

    def flush(self) -> None:
        """Bring what was recorded to the disk. What cannot be written now is tried again the next time."""
        with self._writing:
            events: list[AccessEvent] = []
            while self._waiting:
                events.append(self._waiting.popleft())
            if not events:
                return
            try:
                if self._writer is None:
                    key = self._keys.service_key("logs")
                    self._writer = SegmentWriter(self._data, ACCESS, self._process, key)
                self._writer.append([event.pack() for event in events])
            except CleanmailError as error:
                kept = events[-_MEMORY:]
                self._lost += len(events) - len(kept)
                self._waiting.extendleft(reversed(kept))
                _log.error(
                    "access events cannot be written: %s; %d wait, %d lost",
                    error.detail or error,
                    len(kept),
                    self._lost,
                )

    def read(
        self, since: int, until: int, *, tenant: TenantId | None = None, account: AccountId | None = None
    ) -> Iterator[AccessEvent]:
        """The events of all processes with since <= time < until, in the order of time."""
        self.flush()
        for record in read_records(self._data, ACCESS, self._keys.service_key("logs"), since, until):
            event = AccessEvent.unpack(record)
            if tenant in {None, event.tenant_id} and account in {None, event.account_id}:
                yield event

    def expire(self) -> list[str]:
        """Destroy the days whose retention has ended; says which."""
        return remove_expired(self._data, ACCESS, self._clock.now())

    def close(self) -> None:
        self.flush()
        with self._writing:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
