"""Reviews of withheld mail: their states, what is counted with them, and when they are forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from directory_premises import DirectoryPremises

from storage.clock import FixedClock
from storage.directory.reviews import NEXT, Review, Reviews, ReviewState
from storage.errors import Conflict, NotFound
from storage.filter.counts import Counted
from storage.values import TenantId

ONE, TWO = TenantId(1), TenantId(2)


class Desk:
    def __init__(self, premises: DirectoryPremises) -> None:
        self.premises = premises
        self.clock: FixedClock = premises.clock
        self.reviews: Reviews = premises.control.reviews

    def counted(self) -> dict[Counted, int]:
        return {what: count for what, count in self.premises.control.judged.sums(1).items() if count}

    def bring_to(self, state: ReviewState) -> Review:
        if state is ReviewState.SEEN:
            self.reviews.see(ONE, "q1")
            return Review(ONE, "q1", self.clock.now(), None, "", state, self.clock.now())
        found = self.reviews.ask(ONE, "q1")
        if state is ReviewState.GONE:
            return self.reviews.gone(ONE, "q1")
        if state is not ReviewState.WAITING:
            self.reviews.view(ONE, "q1")
            found = self.reviews.decide(ONE, "q1", wrong=state is not ReviewState.RIGHT, person="rita")
        if state is ReviewState.RELEASED:
            found = self.reviews.released(ONE, "q1")
        return found


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    premises = DirectoryPremises(tmp_path)
    yield Desk(premises)
    premises.close()


def test_what_is_reported_waits_once(desk: Desk) -> None:
    asked = desk.reviews.ask(ONE, "q1", received=5, reason="spam")
    desk.clock.advance(10)
    assert desk.reviews.ask(ONE, "q1", received=6, reason="malware") == asked
    assert asked == Review(ONE, "q1", desk.clock.now() - 10, 5, "spam", ReviewState.WAITING)
    assert desk.reviews.in_state(ReviewState.WAITING) == [asked]
    assert desk.counted() == {Counted.REPORTED: 1}


def test_the_oldest_come_first(desk: Desk) -> None:
    for number in (3, 1, 2):
        desk.reviews.ask(TenantId(number), f"q{number}")
        desk.clock.advance(1)
    assert [one.tenant_id for one in desk.reviews.in_state(ReviewState.WAITING)] == [3, 1, 2]
    assert [one.tenant_id for one in desk.reviews.in_state(ReviewState.WAITING, 1)] == [3]


def test_the_first_view_is_counted(desk: Desk) -> None:
    desk.reviews.ask(ONE, "q1")
    first = desk.reviews.view(ONE, "q1")
    desk.clock.advance(100)
    assert desk.reviews.view(ONE, "q1") == first
    assert desk.counted() == {Counted.REPORTED: 1, Counted.VIEWED: 1}


def test_a_message_is_counted_once_whoever_sees_it_on_which_way(desk: Desk) -> None:
    desk.reviews.see(ONE, "q1")
    desk.clock.advance(10)
    desk.reviews.see(ONE, "q1")
    desk.reviews.see(TWO, "q1")
    assert desk.counted() == {Counted.VIEWED: 2}
    desk.reviews.ask(ONE, "q2")
    desk.reviews.view(ONE, "q2")
    desk.reviews.see(ONE, "q2")
    assert desk.counted() == {Counted.VIEWED: 3, Counted.REPORTED: 1}


def test_what_was_seen_only_is_no_review_until_somebody_asks_for_one(desk: Desk) -> None:
    desk.reviews.see(ONE, "q1", received=5, reason="spam")
    seen = desk.clock.now()
    for state in (ReviewState.WAITING, ReviewState.WRONG):
        assert desk.reviews.in_state(state) == []
    with pytest.raises(NotFound):
        desk.reviews.find("q1")
    desk.clock.advance(10)
    asked = desk.reviews.ask(ONE, "q1", received=5, reason="spam")
    assert asked == Review(ONE, "q1", seen + 10, 5, "spam", ReviewState.WAITING, seen)
    assert desk.reviews.in_state(ReviewState.WAITING) == [asked] == [desk.reviews.find("q1")]
    assert desk.reviews.view(ONE, "q1") == asked == desk.reviews.ask(ONE, "q1")
    assert desk.counted() == {Counted.VIEWED: 1, Counted.REPORTED: 1}


@pytest.mark.parametrize(("wrong", "state"), [(True, ReviewState.WRONG), (False, ReviewState.RIGHT)])
def test_a_decision(desk: Desk, wrong: bool, state: ReviewState) -> None:
    desk.reviews.ask(ONE, "q1")
    with pytest.raises(Conflict, match="looked"):
        desk.reviews.decide(ONE, "q1", wrong=wrong, person="rita")
    desk.reviews.view(ONE, "q1")
    decided = desk.reviews.decide(ONE, "q1", wrong=wrong, person="rita")
    assert (decided.state, decided.decided, decided.decided_by) == (state, desk.clock.now(), "rita")
    assert desk.reviews.find("q1") == decided
    assert desk.counted().get(Counted.WRONG, 0) == wrong
    for again in (True, False):
        with pytest.raises(Conflict):
            desk.reviews.decide(ONE, "q1", wrong=again, person="rita")
    assert desk.counted().get(Counted.WRONG, 0) == wrong


STEPS: dict[ReviewState, Callable[[Reviews], Review]] = {
    ReviewState.RIGHT: lambda reviews: reviews.decide(ONE, "q1", wrong=False, person="rita"),
    ReviewState.WRONG: lambda reviews: reviews.decide(ONE, "q1", wrong=True, person="rita"),
    ReviewState.RELEASED: lambda reviews: reviews.released(ONE, "q1"),
    ReviewState.GONE: lambda reviews: reviews.gone(ONE, "q1"),
}


@pytest.mark.parametrize("state", [state for state in ReviewState if state is not ReviewState.SEEN])
@pytest.mark.parametrize("following", STEPS)
def test_only_the_steps_of_the_table_are_taken(desk: Desk, state: ReviewState, following: ReviewState) -> None:
    before = desk.bring_to(state)
    desk.reviews.view(ONE, "q1")
    repeated = state is following and following in (ReviewState.RELEASED, ReviewState.GONE)
    if following in NEXT[state] or repeated:
        assert STEPS[following](desk.reviews).state is following
    else:
        with pytest.raises(Conflict):
            STEPS[following](desk.reviews)
        assert desk.reviews.find("q1").state is before.state


@pytest.mark.parametrize("following", STEPS)
def test_no_step_is_taken_of_what_was_seen_only(desk: Desk, following: ReviewState) -> None:
    desk.bring_to(ReviewState.SEEN)
    for step in (STEPS[following], lambda reviews: reviews.view(ONE, "q1")):
        with pytest.raises(NotFound):
            step(desk.reviews)


def test_messages_of_two_tenants_with_one_number(desk: Desk) -> None:
    desk.reviews.ask(ONE, "q1")
    desk.reviews.see(TWO, "q1")
    assert desk.reviews.find("q1").tenant_id == ONE
    desk.reviews.ask(TWO, "q1")
    with pytest.raises(Conflict, match="2 tenants"):
        desk.reviews.find("q1")
    assert desk.reviews.find("q1", TWO).tenant_id == TWO


def test_what_nobody_asked_for_is_not_found(desk: Desk) -> None:
    desk.reviews.ask(ONE, "q1")
    for missing in (
        lambda: desk.reviews.find("q2"),
        lambda: desk.reviews.find("q1", TWO),
        lambda: desk.reviews.view(TWO, "q1"),
        lambda: desk.reviews.decide(ONE, "q2", wrong=True, person="rita"),
        lambda: desk.reviews.gone(TWO, "q1"),
    ):
        with pytest.raises(NotFound):
            missing()


def test_who_decided_is_in_no_log(desk: Desk) -> None:
    assert "rita" not in repr(desk.bring_to(ReviewState.RIGHT))
