"""Whose turn it is: destinations and senders in turn, and nobody dead or massive in everybody's way."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.queue.schedule import NEVER, Limits, Schedule, Turn
from storage.queue.entries import LOCAL

NOW = 1000
A, B, C = "a.example", "b.example", "c.example"


def taken(schedule: Schedule, now: int = NOW, most: int = 1000) -> list[Turn]:
    turns: list[Turn] = []
    while len(turns) < most and (turn := schedule.take(now)) is not None:
        schedule.goes_on(turn)
        turns.append(turn)
    return turns


def names(turns: list[Turn]) -> list[tuple[str, int]]:
    return [(turn.destination, turn.lane) for turn in turns]


def test_destinations_take_turns_and_so_do_their_senders() -> None:
    schedule = Schedule(Limits(100, 4))
    for destination, lane in ((A, 1), (A, 2), (B, 1), (C, 3)):
        schedule.news(destination, lane, NOW)
    assert names(taken(schedule, most=8)) == [
        (A, 1), (B, 1), (C, 3), (A, 2), (B, 1), (C, 3), (A, 1), (B, 1),
    ]  # fmt: skip


def test_no_more_at_once_than_the_limits_allow() -> None:
    schedule = Schedule(Limits(10, 4, here=2))
    for number, destination in enumerate((A, B, C, LOCAL)):
        schedule.news(destination, number, NOW)
    assert Counter(turn.destination for turn in taken(schedule)) == {A: 4, B: 3, C: 3, LOCAL: 2}


def test_a_lane_has_one_turn_until_it_is_known_what_is_in_it() -> None:
    schedule = Schedule(Limits())
    schedule.news(A, 1, NOW)
    turn = schedule.take(NOW)
    assert turn is not None
    schedule.news(A, 1, NOW)
    assert schedule.take(NOW) is None
    schedule.goes_on(turn)
    following = schedule.take(NOW)
    assert following is not None and schedule.take(NOW) is None
    schedule.done(following)  # without a word: the next one finds out
    assert schedule.take(NOW) is not None


def test_nothing_is_taken_before_its_time() -> None:
    schedule = Schedule(Limits())
    schedule.news(A, 1, NOW + 5)
    assert schedule.take(NOW) is None and schedule.next_time() == NOW + 5
    assert schedule.take(NOW + 4) is None
    assert schedule.take(NOW + 5) is not None


def test_news_make_a_lane_due_earlier_never_later() -> None:
    schedule = Schedule(Limits())
    schedule.news(A, 1, NOW + 50)
    schedule.news(A, 1, NOW)
    schedule.news(A, 1, NOW + 90)
    assert names(taken(schedule, most=1)) == [(A, 1)]


def test_a_lane_that_is_empty_leaves_and_comes_back_with_news() -> None:
    schedule = Schedule(Limits())
    schedule.news(A, 1, NOW)
    [turn] = taken(schedule, most=1)
    schedule.looked(turn, None)
    schedule.done(turn)
    assert schedule.take(NOW + 10**6) is None and schedule.busy == 0
    schedule.news(A, 1, NOW)
    assert names(taken(schedule, most=1)) == [(A, 1)]


def test_news_that_came_while_a_lane_was_looked_at_are_not_lost() -> None:
    schedule = Schedule(Limits())
    schedule.news(A, 1, NOW)
    [turn] = taken(schedule, most=1)
    schedule.news(A, 1, NOW)  # committed after the look, told before its result
    schedule.looked(turn, None)
    schedule.done(turn)
    assert names(taken(schedule, most=1)) == [(A, 1)]


def test_a_paused_lane_waits_whatever_the_news() -> None:
    schedule = Schedule(Limits())
    schedule.news(A, 1, NOW)
    schedule.news(A, 2, NOW)
    turn = schedule.take(NOW)
    assert turn is not None and turn.lane == 1
    schedule.pause(turn, NOW + 30)
    schedule.done(turn)
    schedule.news(A, 1, NOW)
    assert {turn.lane for turn in taken(schedule)} == {2}
    assert schedule.next_time() == NOW + 30


def test_a_paused_lane_goes_on_afterwards() -> None:
    schedule = Schedule(Limits())
    schedule.news(A, 1, NOW)
    [turn] = taken(schedule, most=1)
    schedule.pause(turn, NOW + 30)
    schedule.done(turn)
    assert schedule.take(NOW + 29) is None
    assert schedule.take(NOW + 30) is not None


def test_a_destination_that_failed_waits_and_is_then_tried_with_one_message() -> None:
    schedule = Schedule(Limits(100, 5))
    schedule.news(A, 1, NOW)
    schedule.news(B, 1, NOW)
    schedule.failed(A, NOW + 300)
    assert {turn.destination for turn in taken(schedule)} == {B}
    assert names(taken(schedule, NOW + 300)) == [(A, 1)]
    assert schedule.is_failing(A)


def test_failures_are_forgotten_where_nothing_waits_any_more() -> None:
    schedule = Schedule(Limits())
    schedule.news(A, 1, NOW)
    for destination in (A, B, C):
        schedule.failed(destination, NOW + (500 if destination == C else 0))
    schedule.forget_failures(NOW + 100)
    assert [schedule.is_failing(each) for each in (A, B, C)] == [True, False, True]


def test_a_destination_that_answers_again_gets_all_its_turns() -> None:
    schedule = Schedule(Limits(100, 5))
    schedule.news(A, 1, NOW)
    schedule.failed(A, NOW)
    [turn] = taken(schedule)
    assert turn.was_failing
    schedule.answered(A)
    assert len(taken(schedule)) == 4
    schedule.done(turn)
    assert len(taken(schedule)) == 1


def test_dead_destinations_together_leave_room_for_the_others() -> None:
    schedule = Schedule(Limits(40, 10))
    for number in range(1000):
        schedule.news(f"dead{number}.example", number, NOW)
        schedule.failed(f"dead{number}.example", NOW)
    assert len(taken(schedule)) == 10
    schedule.news(A, 1, NOW)
    assert names(taken(schedule)) == [(A, 1)] * 10


def test_one_bulk_sender_leaves_half_of_everything_to_the_others() -> None:
    schedule = Schedule(Limits(20, 10))
    for number in range(1000):
        schedule.news(f"d{number}.example", 7, NOW)
    bulk = taken(schedule)
    assert len(bulk) == 10
    schedule.news("d999.example", 8, NOW)
    schedule.news("other.example", 9, NOW)
    assert Counter(turn.lane for turn in taken(schedule)) == {8: 5, 9: 5}
    for turn in bulk:
        schedule.looked(turn, None)
        schedule.done(turn)
    assert Counter(turn.lane for turn in taken(schedule)) == {7: 8, 8: 1, 9: 1}


def test_a_thousand_of_one_sender_do_not_delay_another_at_the_same_destination() -> None:
    schedule = Schedule(Limits(100, 2))
    schedule.news(A, 7, NOW)
    first = taken(schedule)
    schedule.news(A, 8, NOW)
    for turn in first:
        schedule.done(turn)
    assert sorted(names(taken(schedule))) == [(A, 7), (A, 8)]


def test_here_goes_on_when_all_connections_are_busy() -> None:
    schedule = Schedule(Limits(2, 2))
    schedule.news(A, 1, NOW)
    assert len(taken(schedule)) == 1  # of one sender, half
    schedule.news(B, 2, NOW)
    assert len(taken(schedule)) == 1
    schedule.news(LOCAL, 1, NOW)
    assert {turn.destination for turn in taken(schedule)} == {LOCAL}


def test_nothing_is_remembered_of_what_is_over() -> None:
    schedule = Schedule(Limits(10, 2))
    for number in range(100):
        schedule.news(f"d{number}.example", number % 3, NOW)
    for _ in range(1000):
        turn = schedule.take(NOW)
        if turn is None:
            break
        schedule.looked(turn, None)
        schedule.done(turn)
    assert schedule.take(NOW) is None
    assert (schedule._destinations, schedule._senders, schedule.busy) == ({}, {}, 0)


_steps = st.lists(
    st.tuples(
        st.sampled_from(["news", "take", "done", "empty", "fail", "answer", "pause", "time"]),
        st.sampled_from([A, B, C, LOCAL]),
        st.integers(1, 3),
        st.integers(0, 20),
    ),
    max_size=120,
)


@settings(max_examples=300, deadline=None)
@given(_steps, st.integers(1, 6), st.integers(1, 3))
def test_whatever_happens_limits_hold_and_everything_gets_its_turn(
    steps: list[tuple[str, str, int, int]], connections: int, per_destination: int
) -> None:
    limits = Limits(connections, per_destination, here=2)
    schedule, now = Schedule(limits), NOW
    turns: list[Turn] = []
    waiting: set[tuple[str, int]] = set()

    def finish(turn: Turn, *, empty: bool) -> None:
        if empty:
            schedule.looked(turn, None)
            waiting.discard((turn.destination, turn.lane))
        schedule.done(turn)

    for what, destination, lane, number in steps:
        if what == "news":
            schedule.news(destination, lane, now + number - 10)
            waiting.add((destination, lane))
            turns, old = [], turns
            for turn in old:  # their epoch is over: what they say of the lane counts no more
                schedule.done(turn)
        elif what == "take" and (turn := schedule.take(now)) is not None:
            if number % 2:
                schedule.goes_on(turn)
            turns.append(turn)
        elif what in ("done", "empty") and turns:
            finish(turns.pop(number % len(turns)), empty=what == "empty")
        elif what == "pause" and turns:
            schedule.pause(turns[number % len(turns)], now + number)
        elif what == "fail" and destination != LOCAL:
            schedule.failed(destination, now + number)
        elif what == "answer":
            schedule.answered(destination)
        elif what == "time":
            now += number
        elsewhere = Counter(turn.destination for turn in turns if turn.destination != LOCAL)
        assert elsewhere.total() <= connections
        assert all(count <= per_destination for count in elsewhere.values())
        assert sum(turn.destination == LOCAL for turn in turns) <= limits.here
        senders = Counter(turn.lane for turn in turns if turn.destination != LOCAL)
        assert all(count <= limits.per_sender for count in senders.values())
        assert schedule.busy == len(turns)
    for turn in turns:
        finish(turn, empty=False)
    now += 100
    for _ in range(500):
        turn = schedule.take(now)
        if turn is None:
            break
        finish(turn, empty=True)
    assert not waiting


@pytest.mark.parametrize("connections", [1, 2, 3, 4, 100])
def test_every_share_is_at_least_one(connections: int) -> None:
    limits = Limits(connections)
    assert 1 <= limits.failing <= limits.per_sender <= connections
    assert NEVER > 2**40
