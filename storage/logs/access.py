"""Access events: who signed in or out, submitted, or decided on withheld mail; when, from where, with which result.

They are records for the provider's promise and for the person concerned, kept for less than 365 days; not log lines. A
login name that matches no account is kept only as a keyed hash, since people type passwords there. The client's address
belongs to the account whose event it is, and ends with that account's key (`storage.logs.subjects`). `record` keeps an
event in memory; it is on the disk after the next `flush`, which every process calls each second on a worker thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from storage.clock import Clock
from storage.keys.source import KeySource
from storage.logs.buffered import BufferedLog
from storage.logs.classes import ACCESS
from storage.logs.frames import Record, record_of
from storage.logs.segments import ServiceKeys
from storage.logs.subjects import Subject, owned
from storage.values import AccountId, TenantId


class AccessType(StrEnum):
    SIGN_IN = "sign_in"
    SIGN_OUT = "sign_out"
    SUBMIT = "submit"
    # what an account does with mail that was withheld from it
    QUARANTINE_VIEW = "quarantine_view"  # of a header
    QUARANTINE_RELEASE = "quarantine_release"
    QUARANTINE_DELETE = "quarantine_delete"
    QUARANTINE_REPORT = "quarantine_report"
    MAILBOX_OPEN = "mailbox_open"  # by somebody with whom the account shares it


class AccessResult(StrEnum):
    SUCCESS = "success"
    WRONG_PASSWORD = "wrong_password"  # noqa: S105
    UNKNOWN = "unknown"  # no such login
    THROTTLED = "throttled"
    SUSPENDED = "suspended"
    NOT_INCLUDED = "not_included"  # the contract leaves the protocol out
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
    address: str  # the client's; subjects.ERASED: its account was erased
    by_account: AccountId | None = None  # of the same tenant, who did it to what is the account's

    def __post_init__(self) -> None:
        AccessType(self.type)
        AccessResult(self.result)

    def pack(self) -> Record:
        subject = None
        if self.tenant_id is not None and self.account_id is not None:
            subject = Subject(int(self.tenant_id), int(self.account_id))
        values: list[Any] = [self.type, self.result, self.protocol, self.tenant_id, self.account_id]
        values += [self.login_hash.hex(), owned(self.address, subject)]
        return record_of(self.time, values if self.by_account is None else [*values, self.by_account])

    @classmethod
    def unpack(cls, record: Record) -> AccessEvent:
        type_, result, protocol, tenant_id, account_id, login_hash, address, *by = record.values()
        login = bytes.fromhex(login_hash)
        return cls(record.time, type_, result, protocol, tenant_id, account_id, login, address, by[0] if by else None)


class AccessLog(BufferedLog[AccessEvent]):
    """One for each process; any thread may use it."""

    def __init__(self, data: Path, keys: KeySource, process: str, clock: Clock) -> None:
        super().__init__(data, ACCESS, AccessEvent.pack, lambda: ServiceKeys(keys.service_key("logs")), process, clock)

    def read(
        self, since: int, until: int, *, tenant: TenantId | None = None, account: AccountId | None = None
    ) -> Iterator[AccessEvent]:
        """The events of all processes with since <= time < until, in the order of time."""
        for record in self.records(self._keys(), since, until):
            event = AccessEvent.unpack(record)
            if tenant in {None, event.tenant_id} and account in {None, event.account_id}:
                yield event
