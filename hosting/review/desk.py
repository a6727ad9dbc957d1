"""The desk at which withheld mail is reviewed: who may, what is recorded, and the only key that is handed out.

It runs where keys are (the auth role; without a server the command itself) and is asked by reviewers' processes. Who
asks is a person whose secrecy agreement is in force at that moment. A header key is given only for a view whose audit
record exists, is this person's and a moment old: nobody sees a header without a record, whatever its process is made
of. Only what was reported as wrongly withheld can be seen.

Raises: NotPermitted, NotFound, Conflict (the review's state, or an id of several tenants), InvalidInput, Unavailable.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from hosting.access.actions import Action
from hosting.access.identity import Premises
from hosting.auth.persons import Person
from hosting.config import Staff
from hosting.review.values import LISTED_MAX, REASON_MAX, Recorded, ReviewCase, record_of
from storage.audit import Audit
from storage.clock import Clock
from storage.directory.control import Control
from storage.directory.reviews import NEXT, Review, ReviewState
from storage.errors import Conflict, InvalidInput, NotFound, NotPermitted
from storage.keys.source import Key
from storage.values import TenantId

VIEW, DECIDE = "review.view", "review.decide"  # actions of audit records
KEY_WITHIN = 60  # seconds from the record of a view to the request for its key


class HeaderKeys(Protocol):
    def header_key(self, tenant: TenantId, purpose: str) -> Key: ...


class Records(Protocol):
    """Where reviews, agreements and audit records are: an `Installation`, for one."""

    @property
    def control(self) -> Control: ...

    @property
    def audit(self) -> Audit: ...


class ReviewDesk:
    """Safe to use from many threads."""

    def __init__(
        self,
        records: Records,
        keys: HeaderKeys,
        clock: Clock,
        *,
        server_users: Collection[str],
        staff: Staff | None = None,
    ) -> None:
        """`server_users`: the Unix users whom the server's processes belong to; none of them is a reviewer."""
        self._records = records
        self._keys = keys
        self._clock = clock
        self._premises = Premises(records.control, staff or Staff(), frozenset(server_users))

    def reviews(self, person: Person) -> list[ReviewCase]:
        self._check(person)
        found = self._records.control.reviews.in_state(ReviewState.WAITING, LISTED_MAX)
        return [self._case(review) for review in found]

    def view(self, person: Person, quarantine_id: str, tenant: str, reason: str) -> Recorded:
        """See `Reviewing.view_review`."""
        actor = self._check(person)
        reason = _checked(reason)
        found = self._find(quarantine_id, tenant)
        if found.state is ReviewState.GONE:
            raise Conflict("The message is not in the quarantine any more.")
        details = {"message": quarantine_id, "reason": reason}
        number = self._records.audit.append(VIEW, actor, found.tenant_id, details=details)
        viewed = self._records.control.reviews.view(found.tenant_id, quarantine_id)
        return Recorded(number, self._case(viewed))

    def header_key(self, person: Person, tenant_id: TenantId, purpose: str) -> Key:
        """See `Reviewing.header_key`."""
        actor = self._check(person)
        try:
            record = self._records.audit.find(record_of(purpose))
        except NotFound:
            raise NotPermitted("There is no record of this view.") from None
        if (record.action, record.actor, record.tenant_id) != (VIEW, actor, tenant_id):
            raise NotPermitted("The audit record is not one of this view.")
        if not record.time <= self._clock.now() <= record.time + KEY_WITHIN:
            raise NotPermitted("The view was recorded too long ago; begin anew.")
        return self._keys.header_key(tenant_id, purpose)

    def decide(self, person: Person, quarantine_id: str, tenant: str, reason: str, *, wrong: bool) -> Recorded:
        """See `Reviewing.decide_review`."""
        actor = self._check(person)
        reason = _checked(reason)
        found = self._find(quarantine_id, tenant)
        following = ReviewState.WRONG if wrong else ReviewState.RIGHT
        if following not in NEXT[found.state]:
            raise Conflict(f"This review is over: {found.state}.")
        if found.viewed is None:
            raise Conflict("Nobody has looked at its header yet; do that first.")
        details = {"message": quarantine_id, "decision": following.value, "reason": reason}
        number = self._records.audit.append(DECIDE, actor, found.tenant_id, details=details)
        decided = self._records.control.reviews.decide(found.tenant_id, quarantine_id, wrong=wrong, person=actor)
        return Recorded(number, self._case(decided))

    def _check(self, person: Person) -> str:
        """By which name audit records know who asks."""
        return self._premises.check(person, Action.REVIEW).name

    def _find(self, quarantine_id: str, tenant: str) -> Review:
        control = self._records.control
        tenant_id = control.tenant_by_slug(tenant).tenant_id if tenant else None
        return control.reviews.find(quarantine_id, tenant_id)

    def _case(self, review: Review) -> ReviewCase:
        return ReviewCase.of(review, self._records.control.tenant(review.tenant_id).slug)


def _checked(reason: str) -> str:
    reason = reason.strip()
    if not reason:
        raise InvalidInput("A reason is needed: it is what the audit records will say.")
    if len(reason) > REASON_MAX:
        raise InvalidInput(f"The reason is longer than {REASON_MAX} characters.")
    return reason
