"""Reviews of withheld mail, in control.db: what was reported as wrongly withheld, and what a reviewer found.

Only what a recipient or an administrator of the tenant reported is reviewed. A review says which message (by its
number in the tenant's quarantine), when it was received and the name of the reason; nothing of the message itself.
`NEXT` is the whole life of one. Every change is durable on return, and reports, first views and messages that were
found wrong are counted (`storage.filter.counts`) in the same commit. So that a message is counted once, whoever sees
it on which way, an operator's look at what nobody reported stands here as well (SEEN): it is no review, and is found
by nobody who reviews, until somebody asks for one.

Raises: NotFound, Conflict (the state does not allow it).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import bindparam, insert, select, update

from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.database.prepared import Connection, prepare
from storage.errors import Conflict, NotFound
from storage.filter.counts import Counted, count_one
from storage.schema.control import review
from storage.values import TenantId


class ReviewState(StrEnum):
    SEEN = "seen"  # nobody has asked for a review; somebody saw its header all the same, which is counted
    WAITING = "waiting"
    RIGHT = "right"  # it was rightly withheld
    WRONG = "wrong"  # it was wrongly withheld and has to be released
    RELEASED = "released"
    GONE = "gone"  # its message was released, deleted or expired meanwhile, or its tenant ended


# Which state may follow which.
NEXT: dict[ReviewState, frozenset[ReviewState]] = {
    ReviewState.SEEN: frozenset({ReviewState.WAITING}),
    ReviewState.WAITING: frozenset({ReviewState.RIGHT, ReviewState.WRONG, ReviewState.GONE}),
    ReviewState.RIGHT: frozenset(),
    ReviewState.WRONG: frozenset({ReviewState.RELEASED, ReviewState.GONE}),
    ReviewState.RELEASED: frozenset(),
    ReviewState.GONE: frozenset(),
}

_COLUMNS = (
    review.c.tenant_id,
    review.c.quarantine_id,
    review.c.asked,
    review.c.received,
    review.c.reason,
    review.c.state,
    review.c.viewed,
    review.c.decided,
    review.c.decided_by,
)
_THIS = (review.c.tenant_id == bindparam("tenant"), review.c.quarantine_id == bindparam("id"))

_ONE = prepare(select(*_COLUMNS).where(*_THIS))
_BY_ID = prepare(select(*_COLUMNS).where(review.c.quarantine_id == bindparam("id")).order_by(review.c.tenant_id))
_IN_STATE = prepare(
    select(*_COLUMNS)
    .where(review.c.state == bindparam("which"))
    .order_by(review.c.asked, review.c.tenant_id, review.c.quarantine_id)
    .limit(bindparam("most"))
)
_INSERT = prepare(insert(review))
_VIEW = prepare(update(review).where(*_THIS, review.c.viewed.is_(None)).values(viewed=bindparam("time")))
_ASK = prepare(
    update(review)
    .where(*_THIS)
    .values(asked=bindparam("time"), received=bindparam("came"), reason=bindparam("why"), state=bindparam("next"))
)
_MOVE = prepare(update(review).where(*_THIS).values(state=bindparam("next")))
_DECIDE = prepare(
    update(review)
    .where(*_THIS)
    .values(state=bindparam("next"), decided=bindparam("time"), decided_by=bindparam("person"))
)


@dataclass(frozen=True, slots=True)
class Review:
    tenant_id: TenantId
    quarantine_id: str
    asked: int  # when somebody said that it was wrongly withheld; SEEN: when it was seen
    received: int | None  # the message
    reason: str  # the name of the verdict's reason
    state: ReviewState
    viewed: int | None = None  # when a reviewer saw its header first
    decided: int | None = None
    decided_by: str | None = field(default=None, repr=False)


class Reviews:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def ask(self, tenant_id: TenantId, quarantine_id: str, *, received: int | None = None, reason: str = "") -> Review:
        """Somebody said that the message was wrongly withheld. Asked again it is the review that is there."""
        asked = Review(tenant_id, quarantine_id, self._clock.now(), received, reason, ReviewState.WAITING)

        def work(transaction: Transaction) -> Review:
            found = _known(transaction, tenant_id, quarantine_id)
            if found is not None and found.state is not ReviewState.SEEN:
                return found
            if found is None:
                _insert(transaction, asked)
            else:
                values = {"time": asked.asked, "came": received, "why": reason, "next": asked.state.value}
                _ASK.run(transaction, tenant=tenant_id, id=quarantine_id, **values)
            count_one(transaction, self._clock, tenant_id, Counted.REPORTED)
            return asked if found is None else replace(asked, viewed=found.viewed)

        return self._write(work)

    def find(self, quarantine_id: str, tenant_id: TenantId | None = None) -> Review:
        """By the number of its message. Raises Conflict if messages of several tenants have that number."""
        with self._database.reading() as connection:
            rows = _BY_ID.rows(connection, id=quarantine_id)
        reviews = [one for one in map(_row, rows) if one.state is not ReviewState.SEEN]
        found = [one for one in reviews if tenant_id in (None, one.tenant_id)]
        if not found:
            raise NotFound(f"No review of a message {quarantine_id[:40]} was asked for.")
        if len(found) > 1:
            raise Conflict(f"Messages of {len(found)} tenants have the number {quarantine_id[:40]}; say of which.")
        return found[0]

    def in_state(self, state: ReviewState, most: int = 1000) -> list[Review]:
        """The oldest first."""
        with self._database.reading() as connection:
            return [_row(row) for row in _IN_STATE.rows(connection, which=state.value, most=most)]

    def view(self, tenant_id: TenantId, quarantine_id: str) -> Review:
        """A reviewer is about to see its header; the first view is counted. Reviews in every state may be seen."""

        def work(transaction: Transaction) -> Review:
            return self._viewed(transaction, _find(transaction, tenant_id, quarantine_id))

        return self._write(work)

    def see(self, tenant_id: TenantId, quarantine_id: str, *, received: int | None = None, reason: str = "") -> None:
        """As `view`, of a message for which maybe nobody asked for a review."""
        seen = Review(tenant_id, quarantine_id, self._clock.now(), received, reason, ReviewState.SEEN)

        def work(transaction: Transaction) -> Review:
            found = _known(transaction, tenant_id, quarantine_id)
            if found is None:
                _insert(transaction, seen)
            return self._viewed(transaction, found or seen)

        self._write(work)

    def decide(self, tenant_id: TenantId, quarantine_id: str, *, wrong: bool, person: str) -> Review:
        """RIGHT or WRONG, by whom. Raises Conflict if it was decided before, or if nobody looked at it."""

        def work(transaction: Transaction) -> Review:
            found = _find(transaction, tenant_id, quarantine_id)
            if found.state is ReviewState.WAITING and found.viewed is None:
                raise Conflict("Nobody has looked at it yet; do that first.")
            following = ReviewState.WRONG if wrong else ReviewState.RIGHT
            _check_step(found, following)
            now = self._clock.now()
            _DECIDE.run(transaction, tenant=tenant_id, id=quarantine_id, next=following.value, time=now, person=person)
            if wrong:
                count_one(transaction, self._clock, tenant_id, Counted.WRONG)
            return replace(found, state=following, decided=now, decided_by=person)

        return self._write(work)

    def released(self, tenant_id: TenantId, quarantine_id: str) -> Review:
        """What was found wrong has been released; may be repeated."""
        return self._move(tenant_id, quarantine_id, ReviewState.RELEASED)

    def gone(self, tenant_id: TenantId, quarantine_id: str) -> Review:
        """There is nothing left to look at or to release; may be repeated."""
        return self._move(tenant_id, quarantine_id, ReviewState.GONE)

    def _move(self, tenant_id: TenantId, quarantine_id: str, following: ReviewState) -> Review:
        def work(transaction: Transaction) -> Review:
            found = _find(transaction, tenant_id, quarantine_id)
            if found.state is following:
                return found
            _check_step(found, following)
            _MOVE.run(transaction, tenant=tenant_id, id=quarantine_id, next=following.value)
            return replace(found, state=following)

        return self._write(work)

    def _viewed(self, transaction: Transaction, found: Review) -> Review:
        if found.viewed is not None:
            return found
        now = self._clock.now()
        _VIEW.run(transaction, tenant=found.tenant_id, id=found.quarantine_id, time=now)
        count_one(transaction, self._clock, found.tenant_id, Counted.VIEWED)
        return replace(found, viewed=now)

    def _write(self, work: Callable[[Transaction], Review]) -> Review:
        written: Review = self._database.write(work)
        return written


def _check_step(found: Review, following: ReviewState) -> None:
    if following not in NEXT[found.state]:
        raise Conflict(f"A review that is {found.state} cannot become {following}.")


def _insert(transaction: Transaction, new: Review) -> None:
    _INSERT.run(
        transaction,
        tenant_id=new.tenant_id,
        quarantine_id=new.quarantine_id,
        asked=new.asked,
        received=new.received,
        reason=new.reason,
        state=new.state.value,
        viewed=None,
        decided=None,
        decided_by=None,
    )


def _known(connection: Connection, tenant_id: TenantId, quarantine_id: str) -> Review | None:
    """Also what was seen only."""
    row = _ONE.one(connection, tenant=tenant_id, id=quarantine_id)
    return None if row is None else _row(row)


def _find(connection: Connection, tenant_id: TenantId, quarantine_id: str) -> Review:
    found = _known(connection, tenant_id, quarantine_id)
    if found is None or found.state is ReviewState.SEEN:
        raise NotFound(f"No review of a message {quarantine_id[:40]} was asked for.")
    return found


def _row(row: tuple[Any, ...]) -> Review:
    return Review(TenantId(row[0]), row[1], row[2], row[3], row[4], ReviewState(row[5]), row[6], row[7], row[8])
