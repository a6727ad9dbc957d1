"""Lessons: what teaches, what is taken back to the bit, how far one account reaches; nothing is learned twice."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from learning_place import LearningPlace, letter, new_learning_place

from gateway.classifier.correction import BOUND, PLACES, PLACES_BITS, contribution, empty
from gateway.classifier.features import features_of, folded
from gateway.learning import learn as module
from gateway.learning.learn import LOOKED_AT, Outcome, Said, learn_all, renew_aggregate
from gateway.learning.ordinary import Ordinary
from gateway.policy.rules import Rules
from storage.directory.tenant import Tenant
from storage.errors import CleanmailError, NotFound
from storage.filter.reputation import VOICE, Counts, domain_subject, network_subject
from storage.filter.rules import WHOLE_TENANT, of_account
from storage.values import AccountId, Domain

OFFER = letter("Cheap pills for you", "Buy our cheap pills today, no prescription, ships worldwide.")
ANOTHER = letter("Cheap pills for you and yours", "Buy our cheap pills today, no prescription, free shipping.")
NOTE = letter("Minutes of the meeting", "Here are the minutes of Tuesday's meeting of the board.")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[LearningPlace]:
    with new_learning_place(tmp_path) as place:
        yield place


def test_what_is_like_a_lesson_is_scored_so(place: LearningPlace) -> None:
    learned = place.say(place.ann, OFFER, spam=True)
    assert learned.outcome is Outcome.TAUGHT
    assert learned.before == 0.0
    assert learned.after == pytest.approx(place.score(place.ann, OFFER))
    assert place.score(place.ann, OFFER) > 1.5
    assert place.score(place.ann, ANOTHER) > 1.0
    assert abs(place.score(place.ann, NOTE)) < place.score(place.ann, ANOTHER) / 2
    assert 0.0 < place.score(place.bob, OFFER) <= BOUND
    assert 0.0 < place.score(None, OFFER) <= BOUND
    assert place.the_books_balance()


def test_what_is_wanted_is_scored_so(place: LearningPlace) -> None:
    place.say(place.ann, NOTE, spam=False, filed=True)
    assert place.score(place.ann, NOTE) < -1.5


def test_the_contrary_takes_a_lesson_back_to_the_bit(place: LearningPlace) -> None:
    place.say(place.ann, NOTE, spam=False)
    own, aggregate = place.own(place.ann), place.aggregate()
    place.say(place.ann, OFFER, spam=True)
    assert not np.array_equal(place.own(place.ann), own)
    assert place.say(place.ann, OFFER, spam=False).outcome is Outcome.TAKEN_BACK
    assert np.array_equal(place.own(place.ann), own)
    assert np.array_equal(place.aggregate(), aggregate)


@pytest.mark.parametrize(
    ("filed", "said", "outcomes"),
    [
        (False, [True], "taught"),
        (False, [True, True], "taught nothing"),
        (False, [True, False], "taught taken-back"),
        (False, [True, False, False], "taught taken-back nothing"),  # a program that says everything twice
        (False, [True, False, True], "taught taken-back taught"),
        (False, [False], "nothing"),  # the filter thought so too
        (False, [False, True], "nothing taught"),
        (False, [None], "nothing"),
        (False, [True, None], "taught taken-back"),
        (False, [True, None, None], "taught taken-back nothing"),
        (False, [True, None, True], "taught taken-back taught"),
        (True, [True], "nothing"),
        (True, [False], "taught"),
        (True, [False, True], "taught taken-back"),
        (True, [False, True, False], "taught taken-back taught"),
        (None, [False, True, True], "taught taken-back nothing"),
        (None, [False, True, False], "taught taken-back taught"),
    ],
)
def test_what_follows_on_what(place: LearningPlace, filed: bool | None, said: list[bool | None], outcomes: str) -> None:
    found = [place.say(place.ann, OFFER, each, filed=filed).outcome.value.replace(" ", "-") for each in said]
    assert " ".join(found) == outcomes
    assert place.the_books_balance()
    if found[-1] == "taken-back":
        assert not place.own(place.ann).any()


def test_what_ordinary_mail_has_in_common_is_not_learned(place: LearningPlace) -> None:
    """Twenty of one kind called spam, and nothing else said: other mail gets nothing of it."""
    header = "From: {}@far.test\r\nTo: ann@one.test\r\nReceived: by mx.one.test\r\nSubject: {}\r\n\r\n{}\r\n"

    def kind(name: str, topic: str, number: int) -> bytes:
        return header.format(
            name, f"{topic} {number}", f"Our {topic} of today, number {number}, is {topic} again."
        ).encode()

    place.ordinary = Ordinary([features_of(kind("friend", "report", number)) for number in range(30)])
    for number in range(20):
        place.say(place.ann, kind("shop", "discount", number), spam=True)
    assert place.score(place.ann, kind("shop", "discount", 99)) > 1.5
    assert abs(place.score(place.ann, kind("friend", "report", 99))) < 0.3
    # Taken back with other mail around, nothing is left either.
    place.ordinary = Ordinary([features_of(NOTE)])
    for number in range(20):
        place.say(place.ann, kind("shop", "discount", number), spam=None)
    assert not place.taught(place.ann).any()
    assert not place.own(place.ann).any()
    assert place.the_books_balance()


vectors = st.lists(st.integers(-(2**20), 2**20), min_size=64, max_size=64)


@given(vectors, st.lists(st.sampled_from([OFFER, ANOTHER, NOTE, b"", b"x"]), max_size=6))
@settings(max_examples=25, deadline=None)
def test_a_projection_makes_nothing_longer(few: list[int], mails: list[bytes]) -> None:
    at = folded(features_of(OFFER), PLACES_BITS)[:64]
    vector = empty()
    vector[at] = few[: len(at)]
    left = Ordinary([features_of(each) for each in mails]).without(vector)
    assert np.linalg.norm(left.astype(np.float64)) <= np.linalg.norm(vector.astype(np.float64)) + np.sqrt(PLACES)


def test_a_batch_learns_what_single_lessons_learn(place: LearningPlace, tmp_path: Path) -> None:
    said = [Said(OFFER, True), Said(NOTE, False), Said(OFFER, False), Said(ANOTHER, True), Said(ANOTHER, True)]
    learned = learn_all(place.tenant, place.models, place.ann, said, place.ordinary)
    assert [each.outcome for each in learned] == [
        Outcome.TAUGHT, Outcome.TAUGHT, Outcome.TAKEN_BACK, Outcome.TAUGHT, Outcome.NOTHING,
    ]  # fmt: skip
    with new_learning_place(tmp_path / "other") as other:
        for each in said:
            other.say(other.ann, each.message, each.spam)
        assert np.array_equal(other.own(other.ann), place.own(place.ann))
        assert np.array_equal(other.aggregate(), place.aggregate())
    assert place.tenant.corrections.rows(place.ann).lessons == 2


def test_a_message_is_known_by_its_beginning(place: LearningPlace) -> None:
    large = letter("Large", "x" * LOOKED_AT)
    assert place.say(place.ann, large, spam=True).outcome is Outcome.TAUGHT
    assert place.say(place.ann, large[:LOOKED_AT], spam=True).outcome is Outcome.NOTHING


def test_an_account_teaches_so_much_a_day(place: LearningPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LESSONS_A_DAY", 3)
    many = [Said(letter(f"Offer {number}"), True) for number in range(5)]
    outcomes = [each.outcome for each in learn_all(place.tenant, place.models, place.ann, many, place.ordinary)]
    assert outcomes == [Outcome.TAUGHT] * 3 + [Outcome.ENOUGH] * 2
    assert place.say(place.bob, OFFER, spam=True).outcome is Outcome.TAUGHT
    assert place.say(place.ann, many[0].message, spam=False).outcome is Outcome.TAKEN_BACK
    place.town.premises.clock.advance(86_400)
    assert place.say(place.ann, many[4].message, spam=True).outcome is Outcome.TAUGHT


def test_who_does_not_want_it_teaches_nothing(place: LearningPlace) -> None:
    assert place.say(place.ann, OFFER, spam=True, rules=Rules(learn=False)).outcome is Outcome.OFF
    place.tenant.filter_rules.set_rule(of_account(place.ann), "learn", "off")
    assert place.say(place.ann, OFFER, spam=True).outcome is Outcome.OFF
    assert place.say(place.bob, OFFER, spam=True).outcome is Outcome.TAUGHT
    place.tenant.filter_rules.set_rule(WHOLE_TENANT, "learn", "off")
    assert place.say(place.bob, NOTE, spam=True).outcome is Outcome.OFF
    assert place.tenant.corrections.lesson(place.ann, place.tenant.corrections.message_hash(OFFER)) is None


def test_an_account_that_is_gone_teaches_nothing(place: LearningPlace) -> None:
    with pytest.raises(NotFound):
        place.say(AccountId(999), OFFER, spam=True)


def test_people_speak_for_and_against_senders(place: LearningPlace) -> None:
    shop = Domain("shop.example")
    subjects = (domain_subject(shop),)

    def known() -> Counts:
        place.tenant.reputation.flush()
        return place.tenant.reputation.look(shop, "")[0]

    place.say(place.ann, OFFER, spam=True, subjects=subjects)
    assert known() == Counts(0.0, 1.0)
    place.say(place.bob, OFFER, spam=False, subjects=subjects)
    assert known() == Counts(1.0, 1.0)
    place.say(place.ann, OFFER, spam=True, subjects=subjects)
    assert known() == Counts(1.0, 1.0)
    place.say(place.ann, OFFER, spam=False, subjects=subjects)
    assert known() == Counts(1.0, 0.0)


def test_one_account_is_one_voice_about_a_sender(place: LearningPlace) -> None:
    """Whoever throws a hundred messages of a list away, or of everybody's provider, says so once."""
    subjects = (domain_subject(Domain("shop.example")), network_subject("192.0.2.7"))
    clock = place.town.premises.clock

    def known() -> tuple[Counts, Counts]:
        place.tenant.reputation.flush()
        return place.tenant.reputation.look(Domain("shop.example"), "192.0.2.9")

    many = [Said(letter(f"Offer {number}"), True, False, subjects) for number in range(20)]
    learn_all(place.tenant, place.models, place.ann, many[:10], place.ordinary)
    learn_all(place.tenant, place.models, place.ann, many[10:], place.ordinary)
    assert known() == (Counts(0.0, 1.0), Counts(0.0, 1.0))
    place.say(place.bob, OFFER, spam=True, subjects=subjects)
    assert known() == (Counts(0.0, 2.0), Counts(0.0, 2.0))
    # What has faded is taken back as it is now: nothing of what others said goes along.
    clock.advance(VOICE)
    assert known()[0] == Counts(0.0, 1.0)
    place.say(place.ann, many[0].message, spam=False, subjects=subjects)
    assert known() == (Counts(0.0, 0.5), Counts(0.0, 0.5))
    place.say(place.ann, many[1].message, spam=False, subjects=subjects)  # which had not counted
    assert known() == (Counts(0.0, 0.5), Counts(0.0, 0.5))
    clock.advance(1)
    place.say(place.bob, ANOTHER, spam=True, subjects=subjects)  # what it said before has had its time
    assert known()[0].spam == pytest.approx(1.5)


def test_said_and_taken_back_in_one_go_is_as_if_nothing_had_been(place: LearningPlace) -> None:
    subjects = (domain_subject(Domain("shop.example")),)
    said = [Said(OFFER, spam, False, subjects) for spam in (True, False, True, None)]
    learn_all(place.tenant, place.models, place.ann, said, place.ordinary)
    place.tenant.reputation.flush()
    assert place.tenant.reputation.look(Domain("shop.example"), "")[0] == Counts()


def test_a_removed_account_takes_along_what_it_said_of_senders(place: LearningPlace) -> None:
    shop = Domain("shop.example")
    for account_id, message, spam in ((place.ann, OFFER, True), (place.bob, ANOTHER, True), (place.ann, NOTE, False)):
        place.say(account_id, message, spam=spam, subjects=(domain_subject(shop),))
    place.tenant.reputation.flush()
    assert place.tenant.reputation.look(shop, "")[0] == Counts(1.0, 2.0)
    place.end(place.ann)
    assert place.tenant.reputation.look(shop, "")[0] == Counts(0.0, 1.0)


def test_a_removed_account_takes_along_what_it_taught(place: LearningPlace) -> None:
    place.say(place.ann, OFFER, spam=True)
    place.say(place.bob, NOTE, spam=False)
    place.end(place.ann)
    assert place.score(place.bob, OFFER) == pytest.approx(place.look(place.bob).score(0.0, features_of(OFFER)).own)
    assert place.look(None).score(0.0, features_of(OFFER)).total == 0.0  # at once
    assert renew_aggregate(place.tenant)
    assert not renew_aggregate(place.tenant)
    assert np.array_equal(place.aggregate(), contribution(place.own(place.bob)))


def test_a_row_that_cannot_be_read_stops_nobody_else(place: LearningPlace, caplog: pytest.LogCaptureFixture) -> None:
    place.say(place.ann, OFFER, spam=True)
    place.say(place.bob, NOTE, spam=False)
    damaged = place.tenant.corrections.rows(place.ann)
    place.tenant.corrections.replace(
        place.ann, damaged, own=b"no vector", taught=b"", aggregate=b"", lessons=1, written=[], forgotten=[]
    )
    with caplog.at_level(logging.ERROR):
        assert renew_aggregate(place.tenant)
    told = f"what account {place.ann} of tenant {place.tenant_id} taught the filter cannot be read"
    assert caplog.messages == [told]
    assert np.array_equal(place.aggregate(), contribution(place.own(place.bob)))
    assert place.say(place.bob, ANOTHER, spam=True).outcome is Outcome.TAUGHT
    assert np.array_equal(place.aggregate(), contribution(place.own(place.bob)))


def test_a_lesson_after_a_removal_makes_the_sum_anew(place: LearningPlace) -> None:
    place.say(place.ann, OFFER, spam=True)
    place.say(place.bob, NOTE, spam=False)
    place.end(place.ann)
    place.say(place.bob, ANOTHER, spam=True)
    assert place.the_books_balance()
    assert not renew_aggregate(place.tenant)


def test_many_who_learn_at_once_all_succeed(place: LearningPlace) -> None:
    """Two in one process, and one whose database connections are its own, as another process has them."""
    key = place.town.premises.keys.tenant_key(place.tenant_id, "test")
    there = Tenant.open(place.tenant._database.path, place.tenant_id, key, place.town.premises.clock)
    errors: list[CleanmailError] = []

    def teach(tenant: Tenant, account_id: AccountId, name: str) -> None:
        for number in range(5):
            try:
                learn_all(tenant, place.models, account_id, [Said(letter(f"{name} {number}"), True)], place.ordinary)
            except CleanmailError as error:
                errors.append(error)

    who = ((place.tenant, place.ann, "a"), (place.tenant, place.ann, "b"), (there, place.bob, "c"))
    threads = [threading.Thread(target=teach, args=each) for each in who]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    there.close()
    assert errors == []
    assert place.tenant.corrections.rows(place.ann).lessons == 10
    assert place.tenant.corrections.rows(place.bob).lessons == 5
    assert place.the_books_balance()


words = st.lists(st.sampled_from(["cheap", "pills", "minutes", "board", "casino", "invoice"]), min_size=1, max_size=6)
messages = st.builds(lambda subject, body: letter(" ".join(subject), " ".join(body * 3)), words, words)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=st.lists(st.tuples(messages, st.sampled_from([True, False, None])), min_size=1, max_size=30), asked=messages
)
def test_one_account_moves_nobody_else_s_mail_further_than_the_bound(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[bytes, bool | None]], asked: bytes
) -> None:
    with new_learning_place(tmp_path_factory.mktemp("bound")) as place:
        place.say(place.bob, asked, spam=False)
        before, outside = place.score(place.bob, asked), place.score(None, asked)
        learn_all(
            place.tenant, place.models, place.ann, [Said(message, spam) for message, spam in said], place.ordinary
        )
        assert abs(place.score(place.bob, asked) - before) <= BOUND + 1e-9
        assert abs(place.score(None, asked) - outside) <= BOUND + 1e-9
        assert place.the_books_balance()
        # And whatever was said, taking all of it back leaves nothing.
        learn_all(place.tenant, place.models, place.ann, [Said(message, None) for message, _ in said], place.ordinary)
        assert not place.own(place.ann).any()
        assert place.score(place.bob, asked) == before
