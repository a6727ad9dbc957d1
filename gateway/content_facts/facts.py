"""Facts about a message's header, text and attachments, as one value."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.content_facts.attachment import Attachment, Incomplete
from gateway.content_facts.findings import Finding


@dataclass(frozen=True, slots=True)
class ContentFacts:
    """What was found. `incomplete`: the message as a whole was not, or not wholly, looked into, and why."""

    findings: frozenset[Finding] = frozenset()
    attachments: tuple[Attachment, ...] = ()  # in the order of the message, what is in an archive after it
    is_list: bool = False  # signs of a mailing list: a subscriber's server is not the author's
    is_bulk: bool = False  # says of itself that it goes to many
    is_automatic: bool = False  # says of itself that no person wrote it (RFC 3834)
    incomplete: Incomplete | None = None


@dataclass(frozen=True, slots=True)
class ContentLimits:
    """What one message may cost. Octets are those that come out of unpacking, and those that are looked at."""

    work: int = 200_000_000  # octets, weighted by what they cost: of plain scanning and inflating one each
    held: int = 64 * 1024 * 1024  # octets of unpacked archives in memory at a time
    members: int = 2_000  # of one archive
    attachments: int = 4_000  # of the message
    depth: int = 5  # archives and messages within one another
