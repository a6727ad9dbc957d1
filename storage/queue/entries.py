"""What stands in the queue: an entry per tenant and message, with a state per recipient; and how its rows are sealed.

Addresses, parameters and replies are sealed under the tenant's key, bound to the entry and the place they belong to;
ids, times and destinations are not, since the queue is worked and listed by them.

Raises: Corrupt (a sealed value does not open).
Standards: RFC 3461 §4 (what a DSN will need).
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from storage.clock import Clock
from storage.keys.sealing import derive, open_sealed, seal
from storage.values import AccountId, EmailAddress, TenantId

LOCAL = "local"  # the destination of recipients whose mailbox is here; has no dot, so it is no domain


class Origin(StrEnum):
    SUBMISSION = "submission"
    MX = "mx"


class RecipientState(StrEnum):
    QUEUED = "queued"
    DELIVERED = "delivered"  # into a mailbox here
    RELAYED = "relayed"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"

    @property
    def settled(self) -> bool:
        return self is not RecipientState.QUEUED


@dataclass(frozen=True, slots=True)
class EnvelopeParameters:
    """The parameters of MAIL that the next hop, or a DSN, will need."""

    ret: str = ""
    envid: str = ""
    smtputf8: bool = False
    body: str = "7BIT"

    def encode(self) -> bytes:
        return _json({"ret": self.ret, "envid": self.envid, "smtputf8": self.smtputf8, "body": self.body})

    @classmethod
    def decode(cls, octets: bytes) -> EnvelopeParameters:
        return cls(**json.loads(octets))


@dataclass(frozen=True, slots=True)
class RecipientParameters:
    """The parameters of RCPT."""

    notify: tuple[str, ...] = ()
    orcpt: str = ""

    def encode(self) -> bytes:
        return _json({"notify": list(self.notify), "orcpt": self.orcpt})

    @classmethod
    def decode(cls, octets: bytes) -> RecipientParameters:
        values = json.loads(octets)
        return cls(tuple(values["notify"]), values["orcpt"])


@dataclass(frozen=True, slots=True)
class NewRecipient:
    """One recipient to be queued: a mailbox of the entry's tenant (`account_id`), or an address elsewhere."""

    address: EmailAddress
    account_id: AccountId | None = None
    parameters: RecipientParameters = RecipientParameters()

    @property
    def destination(self) -> str:
        return LOCAL if self.account_id is not None else self.address.domain.name


@dataclass(frozen=True, slots=True)
class NewEntry:
    """One message of one tenant. `content` is what is delivered or relayed, whole; `account_id` who submitted it."""

    queue_id: str
    tenant_id: TenantId
    account_id: AccountId | None
    origin: Origin
    reverse_path: EmailAddress | None
    parameters: EnvelopeParameters
    recipients: tuple[NewRecipient, ...]
    expires: int
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Recipient:
    position: int
    address: EmailAddress
    account_id: AccountId | None
    destination: str
    parameters: RecipientParameters
    state: RecipientState
    attempts: int
    next_attempt: int
    reply: str


@dataclass(frozen=True, slots=True)
class Entry:
    queue_id: str
    tenant_id: TenantId
    account_id: AccountId | None
    origin: Origin
    file: str
    size: int
    reverse_path: EmailAddress | None
    parameters: EnvelopeParameters
    arrived: int
    expires: int
    held: bool
    recipients: tuple[Recipient, ...]


@dataclass(frozen=True, slots=True)
class EntrySummary:
    """What `queue list` shows without opening anything that is sealed."""

    queue_id: str
    tenant_id: TenantId
    account_id: AccountId | None
    origin: Origin
    size: int
    arrived: int
    expires: int
    held: bool
    states: Mapping[RecipientState, int]
    next_attempt: int | None  # the earliest, of recipients that still wait


def new_queue_id(clock: Clock) -> str:
    """16 characters that sort by time: 48 bits of milliseconds, 32 random ones."""
    octets = int(clock.precise() * 1000).to_bytes(6, "big") + os.urandom(4)
    return base64.b32hexencode(octets).decode().lower()


class Sealing:
    """Seals the personal columns of one entry, under a key of its own that comes from the tenant's."""

    __slots__ = ("_key",)

    def __init__(self, tenant_secret: bytes, queue_id: str) -> None:
        self._key = derive(tenant_secret, "queue", queue_id)

    def seal(self, plain: bytes, *place: str | int) -> bytes:
        return seal(self._key, plain, _context(place))

    def open(self, box: bytes, *place: str | int) -> bytes:
        return open_sealed(self._key, box, _context(place))


def _context(place: tuple[str | int, ...]) -> bytes:
    return "/".join(map(str, place)).encode()


def _json(values: dict[str, object]) -> bytes:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
