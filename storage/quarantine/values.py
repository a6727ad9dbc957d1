"""What is withheld, for whom, and the states of it: an entry per tenant and message, with a state per recipient.

Where a recipient's copy would have gone is kept with it, as the MX had resolved it: a release asks nobody anew.

Raises: Corrupt (a row that this program cannot have written).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from storage.errors import Corrupt, InvalidInput
from storage.queue.entries import EnvelopeParameters
from storage.values import AccountId, Domain, EmailAddress

DAYS = 30  # that a message is held, by default


class Way(StrEnum):
    """How a recipient's copy would have gone on."""

    MAILBOX = "mailbox"  # into an account here
    ROUTED = "routed"  # to the tenant's own server
    FORWARDED = "forwarded"  # where an alias leads, elsewhere


class HeldState(StrEnum):
    HELD = "held"
    RELEASING = "releasing"  # its delivery has been begun, and may be done
    QUEUED = "queued"  # its copy stands in the queue, on hold until this state is left
    RELEASED = "released"
    DELETED = "deleted"

    @property
    def settled(self) -> bool:
        return not NEXT[self]


# Which state may follow which.
NEXT: dict[HeldState, frozenset[HeldState]] = {
    HeldState.HELD: frozenset({HeldState.RELEASING, HeldState.DELETED}),
    HeldState.RELEASING: frozenset({HeldState.HELD, HeldState.QUEUED, HeldState.RELEASED}),
    HeldState.QUEUED: frozenset({HeldState.RELEASED}),
    HeldState.RELEASED: frozenset(),
    HeldState.DELETED: frozenset(),
}


class ReleasedBy(StrEnum):
    RECIPIENT = "recipient"
    ADMINISTRATOR = "administrator"  # of the tenant, or the operator
    REVIEW = "review"


@dataclass(frozen=True, slots=True)
class Onward:
    """Where a recipient's copy would have gone, and the parameters of RCPT that it goes with."""

    way: Way
    account_id: AccountId | None = None  # of a mailbox here
    to: EmailAddress | None = None  # the address there, of what leaves
    domain: Domain | None = None  # whose route leads to the tenant's own server
    notify: tuple[str, ...] = ()
    orcpt: str = ""
    returned: bool = False  # the alias was a rewritten reverse-path of ours (SRS)
    rewritten: bool = False  # goes on under a reverse-path of the alias's domain (SRS)

    def encode(self) -> bytes:
        return _json(
            {
                "way": self.way.value,
                "to": str(self.to or ""),
                "domain": str(self.domain or ""),
                "notify": list(self.notify),
                "orcpt": self.orcpt,
                "returned": self.returned,
                "rewritten": self.rewritten,
            }
        )

    @classmethod
    def decode(cls, octets: bytes, account_id: AccountId | None) -> Onward:
        try:
            values = json.loads(octets)
            return cls(
                Way(values["way"]),
                account_id,
                EmailAddress.parse(values["to"]) if values["to"] else None,
                Domain(values["domain"]) if values["domain"] else None,
                tuple(values["notify"]),
                values["orcpt"],
                values["returned"],
                values["rewritten"],
            )
        except (ValueError, KeyError, TypeError, InvalidInput):
            raise Corrupt(detail="quarantine: the destination of a recipient is unreadable") from None


@dataclass(frozen=True, slots=True)
class WithheldFor:
    """For whom a message is withheld, and why."""

    address: EmailAddress  # as the envelope has it
    onward: Onward
    reason: str  # the name of the verdict's reason
    sentence: str
    counterfactual: str = ""


@dataclass(frozen=True, slots=True)
class NewWithheld:
    """A message that is to be withheld for recipients of one tenant whose copies have the same fields added.

    `data` is the message as it would have been kept, `prefix` the fields that we would have put in front of it.
    """

    quarantine_id: str  # as `storage.queue.entries.new_queue_id` makes it, and as `prefix` names it
    reverse_path: EmailAddress | None
    parameters: EnvelopeParameters
    recipients: tuple[WithheldFor, ...]
    expires: int  # Unix seconds
    prefix: bytes = field(repr=False)
    data: bytes = field(repr=False)
    score: float | None = None
    facts: Mapping[str, str] = field(default_factory=dict, repr=False)  # short words: client, hello, spf, dkim …


@dataclass(frozen=True, slots=True)
class HeldRecipient:
    position: int
    address: EmailAddress = field(repr=False)
    onward: Onward = field(repr=False)
    reason: str
    sentence: str = field(repr=False)
    counterfactual: str = field(repr=False)
    state: HeldState
    reported: int | None  # when somebody said that it was wrongly withheld
    changed: int
    release_id: str | None = None
    released_by: ReleasedBy | None = None
    releaser: str | None = None

    @property
    def account_id(self) -> AccountId | None:
        return self.onward.account_id


@dataclass(frozen=True, slots=True)
class Withheld:
    """A message that is held for somebody at least. Texts of strangers are decoded, without control characters."""

    quarantine_id: str
    received: int
    expires: int
    size: int
    sender: EmailAddress | None = field(repr=False)  # of the envelope
    author: str = field(repr=False)  # the From field
    subject: str = field(repr=False)
    reason: str
    score: float | None
    parameters: EnvelopeParameters
    facts: Mapping[str, str] = field(repr=False)
    file: str
    recipients: tuple[HeldRecipient, ...]

    @property
    def held(self) -> bool:
        """Whether somebody waits for a decision."""
        return any(recipient.state is HeldState.HELD for recipient in self.recipients)

    @property
    def reported(self) -> bool:
        return any(recipient.reported is not None for recipient in self.recipients)


@dataclass(frozen=True, slots=True)
class Query:
    """What a withheld message, and one of its recipients, must be like; texts are found anywhere and in any case."""

    account_id: AccountId | None = None  # only what is for this account, and nobody else's recipients
    recipient: str = ""  # an address, or @domain
    sender: str = ""  # in the envelope's sender or the From field
    subject: str = ""
    text: str = ""  # in any of them
    envelope_only: bool = False  # texts are looked for in the envelope's addresses alone, not in header fields
    reason: str = ""
    state: HeldState | None = None
    reported: bool | None = None
    since: int | None = None  # Unix seconds, of its arrival
    until: int | None = None

    @property
    def empty(self) -> bool:
        return self == Query()

    @property
    def looks_at_texts(self) -> bool:
        """Whether it compares words with what the envelope and, unless `envelope_only`, header fields say."""
        return bool(self.sender or self.subject or self.text)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a tenant's quarantine holds."""

    messages: int = 0
    octets: int = 0
    oldest: int | None = None  # when it arrived
    reported: int = 0  # messages that somebody says were wrongly withheld
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one tenant's quarantine takes. Beyond it a message is deferred, not dropped: its sender keeps it."""

    messages: int = 10_000
    octets: int = 2 << 30

    @property
    def with_reserve(self) -> Limits:
        """For what others get too: a full quarantine is not theirs."""
        return Limits(2 * self.messages, 2 * self.octets)


def id_at(seconds: int) -> str:
    """Where in the order of ids the moment stands: all ids made from then on are not below it."""
    octets = (max(seconds, 0) * 1000).to_bytes(6, "big") + bytes(4)
    return base64.b32hexencode(octets).decode().lower()


def encode_details(parameters: EnvelopeParameters, facts: Mapping[str, str]) -> bytes:
    return _json({"parameters": json.loads(parameters.encode()), "facts": dict(facts)})


def decode_details(octets: bytes) -> tuple[EnvelopeParameters, Mapping[str, str]]:
    try:
        values = json.loads(octets)
        return EnvelopeParameters(**values["parameters"]), values["facts"]
    except (ValueError, KeyError, TypeError):
        raise Corrupt(detail="quarantine: the details of a message are unreadable") from None


def _json(values: Mapping[str, object]) -> bytes:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
