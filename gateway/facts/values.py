"""The facts about a message, as values: what decides, what a trace says, what `filter explain` shows.

A fact that failed or came too late is None, and `unknown` says why under the fact's name. Facts about the message are
the same for all its recipients; `Experience` is what one recipient, and the tenant, know of its sender.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from gateway.authentication.facts import AuthenticationFacts
from gateway.classifier.correction import Score
from gateway.classifier.model import Maturity
from gateway.content_facts import ContentFacts
from gateway.content_facts.hello import HelloFinding
from gateway.dns_lists import Listing
from gateway.scanners import MalwareResult, RspamdResult
from storage.values import AccountId, Domain, EmailAddress, TenantId


@dataclass(frozen=True, slots=True)
class ClientFacts:
    """Who hands the message over: known at connect, or soon after."""

    address: str
    hello: str = ""
    name: str | None = ""  # what DNS knows it as, both ways; "": nothing; None: not known
    hello_findings: frozenset[HelloFinding] = frozenset()
    listings: tuple[Listing, ...] | None = ()  # DNS lists that name it; (): none, or none are asked
    trusted: bool = False  # of a network that the operator trusts to filter itself


@dataclass(frozen=True, slots=True)
class Facts:
    """About one message."""

    client: ClientFacts
    reverse_path: EmailAddress | None
    authors: tuple[EmailAddress, ...]  # of the From fields
    authentication: AuthenticationFacts
    content: ContentFacts | None
    malware: MalwareResult | None = None  # None: no scanner, or not known
    rspamd: RspamdResult | None = None
    size: int = 0
    unknown: Mapping[str, str] = field(default_factory=dict)  # fact: why it is not known


class Standing(Enum):
    """Whether the sender is somebody to whom people here write."""

    STRANGER = "stranger"
    TENANT = "tenant"  # another account of the tenant does
    ACCOUNT = "account"  # the recipient does


@dataclass(frozen=True, slots=True)
class Reputation:
    """What a tenant got from a sender's domain or network; counts fade."""

    ham: float = 0.0
    spam: float = 0.0

    @property
    def total(self) -> float:
        return self.ham + self.spam


@dataclass(frozen=True, slots=True)
class Experience:
    """What the recipient and its tenant know. `standing` counts for the author only if it is authentic: policy asks."""

    standing: Standing | None = Standing.STRANGER
    domain: Reputation = Reputation()
    network: Reputation = Reputation()
    score: Score | None = None
    maturity: Maturity = Maturity.NONE


class Place(Enum):
    MAILBOX = "mailbox"
    ROUTED = "routed"  # the tenant's own server
    FORWARDED = "forwarded"  # an alias leads elsewhere


@dataclass(frozen=True, slots=True)
class Destination:
    """One of the places that a recipient of the envelope leads to; each is judged by its own rules."""

    tenant_id: TenantId
    place: Place
    address: EmailAddress  # as the envelope has it
    domain: Domain  # of `address`
    account_id: AccountId | None = None  # of a mailbox
    role: bool = False  # postmaster or abuse (RFC 5321 §4.5.1)
