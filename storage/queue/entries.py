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
from storage.values import AccountId, Domain, EmailAddress, TenantId

LOCAL = "local"  # the destination of recipients whose mailbox is here; has no dot, so it is no domain
ROUTED = "route:"  # followed by the domain whose route leads to the tenant's own server


class Origin(StrEnum):
    SUBMISSION = "submission"
    MX = "mx"
    NOTICE = "notice"  # made here: bounces, delay notices, what administrators are told; never bounced itself


class RecipientState(StrEnum):
    QUEUED = "queued"
    HELD = "held"  # waits for `release`: by an operator, or since its account was frozen
    DELIVERED = "delivered"  # into a mailbox here
    RELAYED = "relayed"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"

    @property
    def settled(self) -> bool:
        return self not in {RecipientState.QUEUED, RecipientState.HELD}


@dataclass(frozen=True, slots=True)
class Reply:
    """What was said about a recipient: the next hop's words, or our own where it never came to that."""

    code: int  # of SMTP; 0 if nobody said one
    status: str  # RFC 3463, e.g. 5.1.1
    text: str
    mta: str = ""  # the host that said it or, with code 0, that we say it about

    def encode(self) -> bytes:
        return _json({"code": self.code, "status": self.status, "text": self.text, "mta": self.mta})

    @classmethod
    def decode(cls, octets: bytes) -> Reply:
        try:
            values = json.loads(octets)
            return cls(int(values["code"]), str(values["status"]), str(values["text"]), str(values["mta"]))
        except (ValueError, KeyError, TypeError):  # an entry of version 1 holds the text alone
            return cls(0, "", octets.decode("utf-8", "replace"))

    def __str__(self) -> str:
        said = " ".join(part for part in (str(self.code or ""), self.status, self.text) if part)
        if not self.mta:
            return said
        return f"{self.mta} said: {said}" if self.code else f"{self.mta}: {said}"


@dataclass(frozen=True, slots=True)
class EnvelopeParameters:
    """The parameters of MAIL that the next hop, or a DSN, will need.

    `authentic` says whether the reverse-path is known to be the sender's own (it signed in, or SPF passed): only then
    does a bounce go there (no backscatter).
    """

    ret: str = ""
    envid: str = ""
    smtputf8: bool = False
    body: str = "7BIT"
    authentic: bool = True

    def encode(self) -> bytes:
        return _json(
            {
                "ret": self.ret,
                "envid": self.envid,
                "smtputf8": self.smtputf8,
                "body": self.body,
                "authentic": self.authentic,
            }
        )

    @classmethod
    def decode(cls, octets: bytes) -> EnvelopeParameters:
        return cls(**json.loads(octets))


@dataclass(frozen=True, slots=True)
class RecipientParameters:
    """The parameters of RCPT, and how an address was reached that is not the one in the envelope.

    `original` is the envelope's address where an alias led elsewhere (empty: the same); it becomes the Delivered-To of
    what leaves. `reverse_path` replaces the entry's for this recipient (SRS); empty: the entry's. `mailbox` is where in
    the account of a recipient here the message is filed, by its special use; empty: INBOX.
    """

    notify: tuple[str, ...] = ()
    orcpt: str = ""
    original: str = ""
    reverse_path: str = ""
    mailbox: str = ""

    def encode(self) -> bytes:
        values = {"notify": list(self.notify), "orcpt": self.orcpt}
        led = {"original": self.original, "reverse_path": self.reverse_path, "mailbox": self.mailbox}
        return _json({**values, **led})

    @classmethod
    def decode(cls, octets: bytes) -> RecipientParameters:
        values = json.loads(octets)
        # Entries of earlier versions have less.
        led = (values.get(name, "") for name in ("original", "reverse_path", "mailbox"))
        return cls(tuple(values["notify"]), values["orcpt"], *led)


@dataclass(frozen=True, slots=True)
class NewRecipient:
    """One recipient to be queued: a mailbox of the entry's tenant (`account_id`), or an address elsewhere."""

    address: EmailAddress
    account_id: AccountId | None = None
    parameters: RecipientParameters = RecipientParameters()
    routed: Domain | None = None  # goes to the server that the tenant's route of this domain names

    @property
    def destination(self) -> str:
        if self.account_id is not None:
            return LOCAL
        return self.address.domain.name if self.routed is None else f"{ROUTED}{self.routed.name}"


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
    held: bool = False  # from the start: it waits for `Queue.release`

    @property
    def lane(self) -> int:
        return -self.tenant_id if self.account_id is None else self.account_id


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
    warned: bool  # its sender was told that it is late
    reply: Reply | None  # the last one; None: it was not tried yet


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
    given_up: bool  # it is not tried any more: what waits is to be returned to its sender, for the reason in `reply`
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
    next_attempt: int | None  # the earliest, of recipients that are queued


@dataclass(frozen=True, slots=True)
class Lane:
    """What one sender has for one destination: the queue takes turns between lanes, so that nobody waits behind masses.

    `lane` is the submitter's account, or the tenant's number, negative, for mail that nobody here submitted.
    """

    destination: str
    lane: int
    earliest: int  # Unix seconds: when the first of its recipients is due


@dataclass(frozen=True, slots=True)
class News:
    """Lanes in which something may be due earlier than was known, and the number to ask with next time."""

    lanes: tuple[Lane, ...]
    upto: int


@dataclass(frozen=True, slots=True)
class DestinationState:
    """A destination that could not be reached, whichever the recipient."""

    name: str
    failures: int  # in a row
    since: int  # the first of them
    retry_at: int
    reply: Reply


@dataclass(frozen=True, slots=True)
class Totals:
    """How much is in the queue, for the metrics."""

    queued: int  # entries
    held: int
    oldest: int | None  # when the one that waits longest arrived
    failing: int  # destinations that do not answer


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
