"""Figures of a filter, by hand and by counting pairs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.classifier.evaluation import figures


def test_by_hand() -> None:
    scores = [-3.0, -1.0, 0.0, 2.0, -1.0, 1.0, 2.0, 5.0]
    labels = [False] * 4 + [True] * 4
    measured = figures(scores, labels, [0.0, 2.0, 9.0])
    assert (measured.ham, measured.spam) == (4, 4)
    # Of 16 pairs the spam is below in 3 (-1 against 0 and 2, 1 against 2) and level in 2.
    assert measured.one_minus_roca_percent == pytest.approx(100 * 4 / 16)
    assert measured.spam_missed_percent == 75.0  # all that is not above the highest ham
    assert [(at.ham_filtered, at.spam_filtered) for at in measured.thresholds] == [(2, 3), (1, 2), (0, 0)]
    assert measured.thresholds[0].ham_filtered_percent == 50.0


def test_one_ham_message_in_a_thousand_may_be_filtered() -> None:
    scores = [9.0, *[0.0] * 999, 1.0, 10.0]
    labels = [*[False] * 1000, True, True]
    assert figures(scores, labels, []).spam_missed_percent == 0.0


@pytest.mark.parametrize("labels", [[], [True, True], [False]])
def test_one_kind_alone_has_no_curve(labels: list[bool]) -> None:
    measured = figures([1.0] * len(labels), labels, [0.5])
    assert measured.one_minus_roca_percent is measured.spam_missed_percent is None
    assert measured.thresholds[0].spam_filtered == sum(labels)


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), max_size=30))
def test_roca_counts_pairs(messages: list[tuple[int, bool]]) -> None:
    ham = [score for score, is_spam in messages if not is_spam]
    spam = [score for score, is_spam in messages if is_spam]
    measured = figures([score for score, _ in messages], [is_spam for _, is_spam in messages], [])
    if not ham or not spam:
        assert measured.one_minus_roca_percent is None
        return
    wrong = sum((s < h) + (s == h) / 2 for s in spam for h in ham)
    assert measured.one_minus_roca_percent == pytest.approx(100 * wrong / (len(ham) * len(spam)))
