"""Pauses between attempts: the schedule in numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.queue.backoff import ELSEWHERE, HERE, LAST_ATTEMPT, Backoff

MIDDLE = 0.5  # no jitter


@pytest.mark.parametrize(
    ("failures", "minutes"),
    [(0, 5), (1, 5), (2, 10), (3, 20), (4, 40), (5, 80), (6, 160), (7, 240), (8, 240), (1000, 240)],
)
def test_pauses_elsewhere_double_from_five_minutes_to_four_hours(failures: int, minutes: int) -> None:
    assert ELSEWHERE.pause(failures, MIDDLE) == minutes * 60


@pytest.mark.parametrize(("failures", "minutes"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 60), (50, 60)])
def test_pauses_here_double_from_one_minute_to_one_hour(failures: int, minutes: int) -> None:
    assert HERE.pause(failures, MIDDLE) == minutes * 60


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 225), (0.5, 300), (0.999999, 375)])
def test_a_pause_varies_by_a_quarter(chance: float, seconds: int) -> None:
    assert ELSEWHERE.pause(1, chance) == seconds


@pytest.mark.parametrize(
    ("now", "expires", "following"),
    [
        (0, 100_000, 300),
        (0, 361, 300),
        (0, 360, 300),  # the usual attempt falls on the last one
        (0, 359, 299),  # the pause would lead beyond: once more before the end
        (0, 200, 140),
        (0, 61, 1),
        (0, 60, 300),  # the last attempt has just been made: what comes is the end
        (100, 100, 400),
    ],
)
def test_an_entry_is_tried_once_more_before_it_expires(now: int, expires: int, following: int) -> None:
    assert ELSEWHERE.next_attempt(now, 1, MIDDLE, expires) == following


@given(st.integers(-5, 10_000), st.floats(0, 1, exclude_max=True), st.integers(0, 10**6), st.integers(0, 10**6))
def test_no_pause_is_nothing_and_none_beyond_the_cap(failures: int, chance: float, now: int, expires: int) -> None:
    for backoff in (ELSEWHERE, HERE, Backoff(1, 1)):
        assert 1 <= backoff.pause(failures, chance) <= backoff.cap
        assert now < backoff.next_attempt(now, failures, chance, expires) <= now + backoff.cap
    assert ELSEWHERE.first > LAST_ATTEMPT
