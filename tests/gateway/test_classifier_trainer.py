"""Online learning: it learns, goes on where it stopped, does the same every time, and stays finite."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.classifier.features import features_of
from gateway.classifier.model import Learned, sigmoid
from gateway.classifier.online import make
from gateway.classifier.trainer import Trainer

HAM_WORDS = b"meeting lunch report thanks regards project minutes agenda draft holiday".split()
SPAM_WORDS = b"pills cheap winner casino prize credit offer viagra loan click".split()


def message(number: int, is_spam: bool) -> bytes:
    """Each different; what is usual for its kind occurs in it, and a little of the other kind."""
    own, other = (SPAM_WORDS, HAM_WORDS) if is_spam else (HAM_WORDS, SPAM_WORDS)
    word = number // 2
    words = [own[word % 10], own[word * 7 % 10], own[word * 3 % 10], other[word % 10]]
    return b"From: %d@example.test\nSubject: number %d\n\n%s\n" % (number * 7919 % 1000, number, b" ".join(words))


def test_it_tells_what_it_never_saw() -> None:
    trainer = Trainer(bits=16)
    for number in range(200):
        trainer.learn(features_of(message(number, number % 2 == 0)), number % 2 == 0)
    spam = [trainer.score(features_of(message(number, True))) for number in range(500, 540)]
    ham = [trainer.score(features_of(message(number, False))) for number in range(500, 540)]
    assert min(spam) > max(ham)
    assert trainer.learned == Learned(ham=100, spam=100)


def test_it_goes_on_where_it_stopped() -> None:
    whole, first = Trainer(bits=14), Trainer(bits=14)
    for number in range(30):
        for trainer in (whole, first):
            trainer.learn(features_of(message(number, number % 3 == 0)), number % 3 == 0)
    model = first.model(1)
    kept = model.weights.copy()
    second = Trainer.of(model)
    for number in range(30, 60):
        for trainer in (whole, second):
            trainer.learn(features_of(message(number, number % 3 == 0)), number % 3 == 0)
    assert np.array_equal(whole.model(2).weights, second.model(2).weights)
    assert whole.learned == second.learned
    assert np.array_equal(model.weights, kept)


def test_repeating_does_not_count_as_learned() -> None:
    trainer = Trainer(bits=12)
    features = features_of(message(1, True))
    trainer.learn(features, True)
    before = trainer.score(features)
    trainer.learn(features, True, again=True)
    assert trainer.score(features) > before
    assert trainer.learned == Learned(0, 1)


def test_without_features_nothing_is_learned() -> None:
    trainer = Trainer(bits=12)
    trainer.learn(features_of(b""), True)
    assert trainer.score(features_of(b"")) == 0
    assert not trainer.model(1).weights.any()


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from([b"", b"a", b"aaaa", b"\n\na b", b"\n\n" + b"x" * 5000]), st.booleans())))
def test_scores_stay_finite(lessons: list[tuple[bytes, bool]]) -> None:
    trainer = Trainer(bits=8)
    for octets, is_spam in lessons:
        trainer.learn(features_of(octets), is_spam)
        assert math.isfinite(trainer.score(features_of(octets)))


@pytest.mark.parametrize(("value", "probability"), [(0, 0.5), (-1000, 0), (1000, 1), (math.log(3), 0.75)])
def test_probability(value: float, probability: float) -> None:
    assert sigmoid(value) == pytest.approx(probability)


def test_the_learner_for_measuring_tools() -> None:
    learner = make()
    for number in range(60):
        octets = message(number, number % 2 == 0)
        learner.score(octets)
        learner.train(octets, number % 2 == 0)
    learner.train(message(1000, True), True)  # one that was not scored before
    assert learner.score(message(100, True)) > 0 > learner.score(message(101, False))
