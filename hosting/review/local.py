"""The review desk inside the command, for when no server runs: the same questions, the same answers.

Raises: what `hosting.review.desk` raises, Unavailable.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hosting.auth.persons import person_of
from hosting.config import Staff
from hosting.review.desk import ReviewDesk
from hosting.review.keys import ReviewerKeys
from hosting.review.values import Recorded, ReviewCase
from storage.audit import Audit
from storage.clock import Clock
from storage.directory.control import Control
from storage.keys.source import Key, KeySource
from storage.values import TenantId


@dataclass(frozen=True, slots=True)
class _Records:
    control: Control
    audit: Audit


class LocalReviews:
    """A `Reviewing` for the person who runs this process."""

    def __init__(self, desk: ReviewDesk) -> None:
        self._desk = desk
        self._person = person_of()

    def reviews(self) -> list[ReviewCase]:
        return self._desk.reviews(self._person)

    def view_review(self, quarantine_id: str, tenant: str, reason: str) -> Recorded:
        return self._desk.view(self._person, quarantine_id, tenant, reason)

    def header_key(self, tenant: TenantId, purpose: str) -> Key:
        return self._desk.header_key(self._person, tenant, purpose)

    def decide_review(self, quarantine_id: str, tenant: str, reason: str, *, wrong: bool) -> Recorded:
        return self._desk.decide(self._person, quarantine_id, tenant, reason, wrong=wrong)


@contextmanager
def local_reviews(
    data: Path, keys: KeySource, clock: Clock, *, server_users: Collection[str], staff: Staff | None = None
) -> Iterator[LocalReviews]:
    """Only control.db and the audit records are opened; the keys of all else are out of reach."""
    narrow = ReviewerKeys(keys)
    with (
        closing(Control.open(data / "control.db", narrow, clock)) as control,
        closing(Audit.open(data, keys, clock)) as audit,  # seals its details under keys of tenants
    ):
        yield LocalReviews(ReviewDesk(_Records(control, audit), narrow, clock, server_users=server_users, staff=staff))
