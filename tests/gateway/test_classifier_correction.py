"""A tenant's correction: lessons are felt and can be taken back, and nobody spoils the others' mail."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from gateway.classifier import correction
from gateway.classifier.correction import (
    BOUND,
    OWN_HAM_LIMIT,
    OWN_SPAM_LIMIT,
    SHARE_UNIT,
    TENANT_LIMIT,
    Vector,
    changed_aggregate,
    contribution,
    corrected,
    empty,
    lesson_step,
    pack,
    undo,
    unpack,
)
from gateway.classifier.features import Features, features_of
from storage.errors import Corrupt

NEWSLETTER = features_of(
    b"From: Shop <news@shop.example>\nSubject: Our offers of the week\nList-Id: <news.shop.example>\n\n"
    b"Dear customer, this week shoes and hats are cheaper. Unsubscribe by answering this letter.\n"
)
NEXT_WEEK = features_of(
    b"From: Shop <news@shop.example>\nSubject: Our offers of this week\nList-Id: <news.shop.example>\n\n"
    b"Dear customer, this week coats and gloves are cheaper. Unsubscribe by answering this letter.\n"
)
LETTER = features_of(
    b"From: Ada <ada@friends.test>\nSubject: Sunday\nMessage-ID: <1@friends.test>\n\nShall we walk along the river?\n"
)


def alone(shared: float, features: Features, own: Vector) -> float:
    share = contribution(own)
    return corrected(shared, features, share, own, share).total


@pytest.mark.parametrize(
    ("total", "is_spam", "least", "most"),
    [
        (-5, True, 3.9, 4.0),
        (0, True, 2.5, 4.0),
        (10, True, 0, 0.01),
        (8, False, -8.0, -7.9),
        (3.5, False, -8.0, -7.0),
        (-8, False, -0.01, 0),
    ],
)
def test_a_lesson_goes_as_far_as_the_judgement_was_wrong(
    total: float, is_spam: bool, least: float, most: float
) -> None:
    assert least <= lesson_step(total, is_spam) <= most


@pytest.mark.parametrize(("shared", "is_spam"), [(-1.0, True), (5.0, False), (0.0, True), (0.0, False)])
def test_one_lesson_is_felt_by_the_same_kind_of_mail(shared: float, is_spam: bool) -> None:
    step = lesson_step(shared, is_spam)
    own = correction.apply(empty(), NEWSLETTER, step)
    moved = alone(shared, NEWSLETTER, own) - shared
    assert moved == pytest.approx(min(step, OWN_SPAM_LIMIT), abs=0.02)
    assert (alone(shared, NEXT_WEEK, own) - shared) / moved > 0.5
    assert (alone(shared, LETTER, own) - shared) / moved < 0.35


def test_own_lessons_may_overrule_the_shared_model() -> None:
    own = empty()
    for _ in range(10):
        own = correction.apply(own, NEWSLETTER, lesson_step(alone(7.0, NEWSLETTER, own), False))
    assert alone(7.0, NEWSLETTER, own) < 0


def test_what_is_summed() -> None:
    mine = correction.apply(empty(), NEWSLETTER, -3.0)
    other = correction.apply(empty(), NEWSLETTER, 4.0)
    aggregate = contribution(mine) + contribution(other)
    score = corrected(1.0, NEWSLETTER, aggregate, mine, contribution(mine))
    assert score.shared == 1.0
    assert score.own == pytest.approx(-3.0, abs=0.02)
    assert score.tenant == pytest.approx(BOUND, abs=0.01)  # the other's vector, shortened
    assert score.total == score.shared + score.tenant + score.own
    nobody = corrected(1.0, NEWSLETTER, aggregate, empty(), empty())
    assert nobody.own == 0
    assert nobody.tenant == pytest.approx(0.0, abs=0.02)


def test_many_who_agree_are_limited_too() -> None:
    vote = contribution(correction.apply(empty(), NEWSLETTER, 4.0))
    assert corrected(0.0, NEWSLETTER, vote * 5, empty(), empty()).total == pytest.approx(5 * BOUND, abs=0.05)
    assert corrected(0.0, NEWSLETTER, vote * 1000, empty(), empty()).total == TENANT_LIMIT
    for step, limit in ((4.0, OWN_SPAM_LIMIT), (-4.0, -OWN_HAM_LIMIT)):
        own = reduce(lambda vector, _, by=step: correction.apply(vector, NEWSLETTER, by), range(10), empty())
        assert corrected(0.0, NEWSLETTER, empty(), own, empty()).total == limit


def test_messages_without_features_teach_nothing() -> None:
    nothing = features_of(b"")
    assert not correction.apply(empty(), nothing, 4.0).any()
    assert corrected(2.0, nothing, empty(), empty(), empty()).total == 2.0


def test_values_end_instead_of_turning_round() -> None:
    one = features_of(b"aaaa")
    vector = empty()
    at = np.flatnonzero(correction.apply(vector, one, 4.0))
    vector[at] = 2**31 - 5
    assert np.all(correction.apply(vector, one, 4.0)[at] == 2**31 - 1)


# Messages of every size, some alike, and lessons of every size that `lesson_step` gives.
MESSAGES: SearchStrategy[Features] = st.one_of(
    st.sampled_from([NEWSLETTER, NEXT_WEEK, LETTER, features_of(b""), features_of(b"aaaa"), features_of(b"a" * 9000)]),
    st.binary(max_size=300).map(features_of),
    st.lists(st.sampled_from([b"pills", b"lunch", b"news", b"a", b"\n\n", b"Subject:"]), max_size=40).map(
        lambda words: features_of(b" ".join(words))
    ),
)
STEPS = st.floats(-8.0, 8.0, allow_nan=False)
LESSONS = st.lists(st.tuples(MESSAGES, STEPS), max_size=12)


def taught(lessons: list[tuple[Features, float]]) -> Vector:
    return reduce(lambda vector, lesson: correction.apply(vector, *lesson), lessons, empty())


@settings(max_examples=60, deadline=None)
@given(LESSONS, st.data())
def test_lessons_are_undone_exactly_in_any_order(lessons: list[tuple[Features, float]], data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.sampled_from(range(len(lessons))), unique=True)) if lessons else []
    vector = taught(lessons)
    for number in data.draw(st.permutations([n for n in range(len(lessons)) if n not in kept])):
        vector = undo(vector, *lessons[number])
    assert np.array_equal(vector, taught([lessons[number] for number in kept]))


@settings(max_examples=60, deadline=None)
@given(LESSONS)
def test_a_contribution_is_no_longer_than_the_bound(lessons: list[tuple[Features, float]]) -> None:
    share = contribution(taught(lessons)).astype(np.float64) / SHARE_UNIT
    assert np.sqrt(np.dot(share, share)) <= BOUND


@settings(max_examples=40, deadline=None)
@given(LESSONS, LESSONS, LESSONS, MESSAGES, st.floats(-20, 20))
def test_no_account_moves_the_mail_of_another_by_more_than_the_bound(
    hostile: list[tuple[Features, float]],
    honest: list[tuple[Features, float]],
    mine: list[tuple[Features, float]],
    message: Features,
    shared: float,
) -> None:
    own = taught(mine)
    share = contribution(own)
    without = contribution(taught(honest)) + share
    # What the account that is up to no good learns, and then repeats a thousand times.
    vector = taught(hostile) * 1000
    score = corrected(shared, message, changed_aggregate(without, empty(), contribution(vector)), own, share)
    assert abs(score.total - corrected(shared, message, without, own, share).total) <= BOUND + 1e-9


@settings(max_examples=15, deadline=None)
@given(st.lists(LESSONS, max_size=4))
def test_an_aggregate_follows_its_accounts_exactly(accounts: list[list[tuple[Features, float]]]) -> None:
    aggregate = empty()
    for lessons in accounts:
        vector = empty()
        for features, step in lessons:
            after = correction.apply(vector, features, step)
            aggregate = changed_aggregate(aggregate, contribution(vector), contribution(after))
            vector = after
    shares = [contribution(taught(lessons)) for lessons in accounts]
    assert np.array_equal(aggregate, sum(shares, empty()))
    for share in shares:
        aggregate = changed_aggregate(aggregate, share, empty())
    assert not aggregate.any()


@settings(max_examples=60, deadline=None)
@given(LESSONS)
def test_vectors_are_packed_exactly(lessons: list[tuple[Features, float]]) -> None:
    vector = taught(lessons)
    octets = pack(vector)
    assert np.array_equal(unpack(octets), vector)
    assert len(octets) < 20_000


def test_the_largest_values_are_packed() -> None:
    vector = empty()
    vector[:4] = [2**31 - 1, -(2**31), -1, 1]
    assert np.array_equal(unpack(pack(vector)), vector)


@pytest.mark.parametrize("cut", [0, 3, 5, 9, -1])
def test_damaged_octets_are_no_vector(cut: int) -> None:
    octets = pack(correction.apply(empty(), LETTER, 1.0))
    with pytest.raises(Corrupt):
        unpack(octets[:cut])


@given(st.binary(max_size=60))
def test_foreign_octets_are_no_vector(octets: bytes) -> None:
    for packed in (octets, pack(empty())[:5] + octets):
        with pytest.raises(Corrupt):
            unpack(packed)


def test_units_are_fine_enough() -> None:
    """A message of 8000 features still gets what it should, to a hundredth."""
    features = features_of(b"\n\n" + np.random.default_rng(1).integers(33, 126, 8000, np.uint8).tobytes())
    own = correction.apply(empty(), features, 1.0)
    assert corrected(0.0, features, empty(), own, empty()).own == pytest.approx(1.0, abs=0.02)
