"""What mail is scored with: unpacked once, fresh after each lesson wherever it was learned, in bounded memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from learning_place import LearningPlace, letter, new_learning_place

from gateway.classifier.correction import PLACES
from gateway.classifier.features import features_of
from gateway.learning.corrections import NOTHING, Corrections
from storage.directory.tenant import Tenant
from storage.values import AccountId

OFFER = letter("Cheap pills")
VECTOR = 4 * PLACES  # octets


@pytest.fixture
def place(tmp_path: Path) -> Iterator[LearningPlace]:
    with new_learning_place(tmp_path) as place:
        yield place


def test_who_learned_nothing_costs_nothing(place: LearningPlace) -> None:
    assert place.look(place.ann) is NOTHING
    assert place.look(None) is NOTHING
    assert NOTHING.score(1.25, features_of(OFFER)).total == 1.25


def test_the_same_vectors_serve_until_something_is_learned(place: LearningPlace) -> None:
    place.say(place.ann, OFFER, spam=True)
    first, again = place.look(place.ann), place.look(place.ann)
    assert again.own is first.own and again.aggregate is first.aggregate and again.share is first.share
    assert place.look(place.bob).aggregate is first.aggregate
    place.say(place.bob, OFFER, spam=True)
    later = place.look(place.ann)
    assert later.own is first.own
    assert later.aggregate is not first.aggregate


def test_what_another_process_learned_is_seen_at_once(place: LearningPlace) -> None:
    place.say(place.ann, OFFER, spam=True)
    before = place.score(place.ann, OFFER)
    key = place.town.premises.keys.tenant_key(place.tenant_id, "test")
    there = Tenant.open(place.tenant._database.path, place.tenant_id, key, place.town.premises.clock)
    here = Corrections()
    assert here.look(there, place.ann).score(0.0, features_of(OFFER)).total == before
    place.say(place.ann, OFFER, spam=None)
    assert here.look(there, place.ann).score(0.0, features_of(OFFER)).total == 0.0
    there.close()


def test_nobody_changes_what_others_score_with(place: LearningPlace) -> None:
    place.say(place.ann, OFFER, spam=True)
    for vector in (place.look(place.ann).own, place.look(place.ann).aggregate, NOTHING.own):
        with pytest.raises(ValueError, match="read-only"):
            vector[0] = 1


def test_memory_is_bounded(place: LearningPlace) -> None:
    accounts = [place.ann, place.bob] + [
        place.town.account(place.tenant_id, f"n{number}@one.test").account_id for number in range(4)
    ]
    for account_id in accounts:
        place.say(account_id, OFFER, spam=True)
    small = Corrections(memory=5 * VECTOR)
    for account_id in accounts * 2:
        assert small.look(place.tenant, account_id).score(0.0, features_of(OFFER)).own > 0.5
        assert small._octets <= 5 * VECTOR
    assert small._octets == sum(vector.nbytes for _, vectors in small._kept.values() for vector in vectors)


def test_what_cannot_be_read_counts_as_nothing_learned(place: LearningPlace, caplog: pytest.LogCaptureFixture) -> None:
    place.say(place.ann, OFFER, spam=True)
    rows = place.tenant.corrections.rows(place.bob)
    place.tenant.corrections.replace(
        place.bob,
        rows,
        own=b"of another format",
        taught=b"taught",
        aggregate=rows.aggregate,
        lessons=1,
        written=[],
        forgotten=[],
    )
    with caplog.at_level(logging.ERROR):
        score = place.look(place.bob).score(0.0, features_of(OFFER))
    assert score.own == 0.0
    assert score.tenant > 0.0
    assert [record.name for record in caplog.records] == ["cleanmail.learning"]


def test_an_account_elsewhere_has_only_the_others(place: LearningPlace) -> None:
    place.say(place.ann, OFFER, spam=True)
    nobody = place.look(AccountId(999))
    assert nobody.score(0.0, features_of(OFFER)) == place.look(None).score(0.0, features_of(OFFER))
