"""What the jobs role does about reviews: what was found wrongly withheld is released, what is gone is not waited for.

A round may be repeated at any time and after any crash: a release is done once for each recipient, and a review leaves
its state only after it. What cannot be released now, since a mailbox is full for instance, is tried again with the next
round, until it is released, deleted or expires. Blocking.
"""

from __future__ import annotations

import logging

from gateway.quarantine.release import Releases
from storage.directory.reviews import Review, ReviewState
from storage.directory.rows import State
from storage.errors import CleanmailError, Conflict, Gone, NotFound
from storage.installation import Installation
from storage.quarantine.values import HeldState, ReleasedBy, Withheld

log = logging.getLogger("review")

EVERY = 60.0  # seconds between two rounds


def review_round(installation: Installation, releases: Releases) -> None:
    reviews = installation.control.reviews
    for review in reviews.in_state(ReviewState.WRONG):
        _guarded(installation, releases, review)
    for review in reviews.in_state(ReviewState.WAITING):
        _guarded(installation, None, review)


def _guarded(installation: Installation, releases: Releases | None, review: Review) -> None:
    """One review's failure is no other's."""
    try:
        _carry_out(installation, releases, review)
    except Conflict:  # decided, or carried out by somebody else, this moment
        return
    except CleanmailError as error:
        log.error(
            "the review of message %s of tenant %d was not carried out: %s",
            review.quarantine_id,
            review.tenant_id,
            error.detail or error.public,
        )


def _carry_out(installation: Installation, releases: Releases | None, review: Review) -> None:
    """`releases`: None if nobody has decided so far."""
    reviews = installation.control.reviews
    message = _find(installation, review)
    if message is None:
        reviews.gone(review.tenant_id, review.quarantine_id)
        return
    if releases is None:
        return
    positions = _concerned(message)
    if positions:
        done = releases.release(review.tenant_id, review.quarantine_id, positions, ReleasedBy.REVIEW)
        for error in done.failed.values():
            log.warning(
                "message %s of tenant %d is held for one more round: %s",
                review.quarantine_id,
                review.tenant_id,
                error.detail or type(error).__name__,
            )
        if done.failed:
            return
        log.info("message %s of tenant %d was released by review", review.quarantine_id, review.tenant_id)
    elif all(each.released_by is not ReleasedBy.REVIEW for each in message.recipients):
        reviews.gone(review.tenant_id, review.quarantine_id)  # whoever reported it has let it go, or deleted it
        return
    reviews.released(review.tenant_id, review.quarantine_id)


def _find(installation: Installation, review: Review) -> Withheld | None:
    """The message, while it is held for somebody."""
    try:
        if installation.control.tenant_state(review.tenant_id)[0] is State.ENDED:
            return None
        return installation.tenant(review.tenant_id).quarantine.show(review.quarantine_id)
    except (NotFound, Gone):
        return None


def _concerned(message: Withheld) -> list[int]:
    """Who waits for this decision: those who reported it, and for whom it was withheld for the same reason.

    A recipient's own rule against the sender stands, whatever a reviewer found of the message.
    """
    reasons = {each.reason for each in message.recipients if each.reported is not None}
    return [each.position for each in message.recipients if each.state is HeldState.HELD and each.reason in reasons]
