"""What a reviewer's process is told of reviews, in the same words over the auth socket and within one process.

Nothing here comes from a message: its number, times, the name of the reason, whose it is. What its header says is read
by the reviewer's process itself, with the header key that it is given for a view.

Raises: InvalidInput (fields that are none of ours).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

from storage.directory.reviews import Review, ReviewState
from storage.errors import InvalidInput
from storage.keys.source import Key
from storage.values import TenantId

LISTED_MAX = 100  # reviews in one answer
REASON_MAX = 500  # characters of what a reviewer says why


@dataclass(frozen=True, slots=True)
class ReviewCase:
    """A review, with the short name of the tenant."""

    tenant_id: TenantId
    tenant: str
    quarantine_id: str
    asked: int
    received: int | None
    reason: str
    state: ReviewState
    viewed: int | None
    decided: int | None

    @classmethod
    def of(cls, review: Review, slug: str) -> ReviewCase:
        return cls(
            review.tenant_id,
            slug,
            review.quarantine_id,
            review.asked,
            review.received,
            review.reason,
            review.state,
            review.viewed,
            review.decided,
        )

    def fields(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_fields(cls, fields: Any) -> ReviewCase:
        try:
            state = ReviewState(fields["state"])
            return cls(**{**fields, "tenant_id": TenantId(int(fields["tenant_id"])), "state": state})
        except (KeyError, TypeError, ValueError):
            raise InvalidInput("A review is missing.") from None


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was done about a review, and the number of the audit record that says so."""

    record: int
    case: ReviewCase


class Reviewing(Protocol):
    """All that a reviewer's process can ask for. Raises NotPermitted unless a reviewer is behind it."""

    def reviews(self) -> list[ReviewCase]:
        """Those that wait, the oldest first; at most `LISTED_MAX`."""

    def view_review(self, quarantine_id: str, tenant: str, reason: str) -> Recorded:
        """Says that its header is about to be seen; the audit record is durable when it returns.

        `tenant` is a short name, needed only if messages of several tenants have that number.
        """

    def header_key(self, tenant: TenantId, purpose: str) -> Key:
        """For a view of this person that was recorded a moment ago: `purpose_of` its number."""

    def decide_review(self, quarantine_id: str, tenant: str, reason: str, *, wrong: bool) -> Recorded:
        """Rightly or wrongly withheld; what was wrong is released by the jobs role."""


def purpose_of(record: int) -> str:
    return f"audit record {record}"


def record_of(purpose: str) -> int:
    """The number of the view that a header key is asked for. Raises InvalidInput."""
    prefix, _, number = purpose.rpartition(" ")
    if prefix != "audit record" or not number.isdecimal() or len(number) > 18:
        raise InvalidInput("A header key is asked for under the number of an audit record.")
    return int(number)
