"""A record of the chain as it is stored: what is sealed in it and under whose key, its hash, and how it is opened.

Raises: Corrupt.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from storage.errors import Corrupt
from storage.keys.sealing import open_sealed
from storage.values import AccountId, TenantId

BEGIN = bytes(32)  # the hash before the first record
BY_SUBJECT = b"\x12"  # details begin with it that are sealed under the account's key, if there is an account


@dataclass(frozen=True, slots=True)
class AuditRecord:
    number: int  # from 1, without a gap
    time: int  # Unix seconds
    action: str  # of a noun and a verb: queue.hold, account.freeze, transcripts.read
    actor: str = field(repr=False)  # the member of staff, else the Unix user
    tenant_id: TenantId | None
    account_id: AccountId | None
    details: Mapping[str, str] | None = field(repr=False)  # None: they ended with the account or the tenant
    role: str = ""  # in which the actor acted (hosting.access.roles); empty: not known, or it ended likewise
    unreadable: bool = False  # the details are there, and do not open: they, or the key they are under, are damaged


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be recorded."""

    action: str
    actor: str = field(repr=False)
    tenant_id: TenantId | None = None
    account_id: AccountId | None = None
    details: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Head:
    """How long the chain is, and the hash that stands for all of it."""

    number: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found to be whole."""

    head: Head
    first: int  # the first record that is still there
    checkpoints: int  # signatures that were verified
    signed: int  # the last record that a checkpoint signs


def plain_of(entry: Entry, role: str) -> bytes:
    """What is sealed of an entry."""
    values = {"details": dict(entry.details), "role": role}
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def subject_of(
    tenant_id: TenantId | None, account_id: AccountId | None, box: bytes
) -> tuple[TenantId | None, AccountId | None]:
    """Under whose key the details are: of a program before, the tenant's."""
    return tenant_id, account_id if box[:1] == BY_SUBJECT else None


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens the records of one subject."""

    key: bytes | None = field(repr=False)  # None: it is destroyed, or does not open
    damaged: bool = False

    def __call__(self, row: tuple[Any, ...]) -> AuditRecord:
        if self.key is not None:
            try:
                return _opened(row, self.key)
            except (Corrupt, ValueError):
                pass
        number, time, what, who, tenant, account, *_ = row
        damaged = self.damaged or self.key is not None
        return AuditRecord(number, time, what, who, tenant, account, None, unreadable=damaged)


def _opened(row: tuple[Any, ...], key: bytes) -> AuditRecord:
    number, time, what, who, tenant, account, box, _, _ = row
    if box[:1] != BY_SUBJECT:
        details = json.loads(open_sealed(key, box, context_of(number, b"")))
        return AuditRecord(number, time, what, who, tenant, account, details)
    values = json.loads(open_sealed(key, box[1:], context_of(number, BY_SUBJECT)))
    return AuditRecord(number, time, what, who, tenant, account, values["details"], values["role"])


def check_follows(row: tuple[Any, ...], head: Head) -> None:
    """Raises Corrupt unless it is the record behind `head`, as it was appended."""
    try:
        fits = row[0] == head.number + 1 and row[7] == head.hash and row[8] == hash_of(*row[:8])
    except (TypeError, AttributeError):  # something else than a text, or nothing, say
        fits = False
    if not fits:
        raise Corrupt(f"The audit chain is broken at record {head.number + 1}.")


def replaced(number: int, fitting: int) -> str:
    """The sentence about a record that is not the one of an anchor; `fitting`: the last anchor before it that fits."""
    before = f"the last that fits before it is record {fitting}" if fitting else "it, or one before it, was replaced"
    return f"The audit chain is broken at record {number}: it is not the one that was anchored; {before}."


def hash_of(
    number: int,
    time: int,
    action: str,
    actor: str,
    tenant_id: int | None,
    account_id: int | None,
    box: bytes,
    previous: bytes,
) -> bytes:
    """SHA-256 over the record as it is stored and the hash before it; a JSON list leaves no doubt where fields end."""
    fields = [number, time, action, actor, tenant_id, account_id, box.hex(), previous.hex()]
    return hashlib.sha256(json.dumps(fields, separators=(",", ":")).encode("ascii")).digest()


def context_of(number: int, layout: bytes) -> bytes:
    """What binds sealed details to their record."""
    return b"audit %d%b" % (number, b" of its subject" if layout else b"")
