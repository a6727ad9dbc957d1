"""Traces: what became of each message, from its connection to its final outcome, as events that share an id.

The id is the queue id; of a message that was refused before it had one, the session's. Every process records its own
events; a trace is put together when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from storage.values import AccountId, TenantId


class TraceKind(StrEnum):
    RECEIVED = "received"  # accepted, durably: details say from where, from whom, how large
    REFUSED = "refused"  # a recipient, or the message, in the dialogue: details hold the reply
    VERDICT = "verdict"  # what was found about the message, and what was decided
    DELIVERED = "delivered"  # into a mailbox here
    RELAYED = "relayed"  # the next hop took it
    DEFERRED = "deferred"  # failed for now
    FAILED = "failed"  # for good
    WITHDRAWN = "withdrawn"  # taken out of the queue
    HELD = "held"
    RELEASED = "released"
    NOTIFIED = "notified"  # a DSN or a notice was made: details say for whom and why
    SUPPRESSED = "suppressed"  # a DSN was not sent, so that it hits no stranger: details say why


# The kinds after which nothing more happens to a recipient.
FINAL = frozenset({TraceKind.REFUSED, TraceKind.DELIVERED, TraceKind.RELAYED, TraceKind.FAILED, TraceKind.WITHDRAWN})


# The detail of RECEIVED that names all recipients where there are several, so that a message is found by each of them
# before anything has become of it.
TO = "to"
SEPARATOR = ", "


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """`sender` and `recipient` as the envelope has them ("" is the null reverse-path, or does not apply)."""

    time: int  # Unix seconds
    id: str
    kind: TraceKind
    tenant_id: TenantId | None  # whose message it is; None: nobody's, such as a refused recipient that is not ours
    account_id: AccountId | None = None
    sender: str = field(default="", repr=False)
    recipient: str = field(default="", repr=False)
    details: Mapping[str, str] = field(default_factory=dict, repr=False)  # short texts: reply, peer, size, reason …


class TraceSink(Protocol):
    def record(self, event: TraceEvent) -> None:
        """Never waits and never fails."""
        ...
