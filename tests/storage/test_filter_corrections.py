"""Rows of what was learned: revisions that never come again, no write over another's, nothing left of an account."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from directory_premises import Town, new_town

from storage.directory.rows import State
from storage.directory.tenant import Tenant
from storage.errors import Conflict, NotFound
from storage.filter import corrections as module
from storage.filter.corrections import DAY, LESSONS_KEPT, NOTHING, Corrections, Lesson, Revisions
from storage.schema.tenant import lesson
from storage.values import AccountId

ONE, TWO = b"1" * 32, b"2" * 32


class Place:
    def __init__(self, town: Town) -> None:
        self.town = town
        self.tenant_id = town.tenant("one", "one.test")
        self.ann, self.bob = (town.account(self.tenant_id, f"{name}@one.test").account_id for name in ("ann", "bob"))

    @property
    def tenant(self) -> Tenant:
        return self.town.premises.tenant(self.tenant_id)

    @property
    def corrections(self) -> Corrections:
        return self.tenant.corrections

    def learn(self, account_id: AccountId, *lessons: Lesson, own: bytes = b"own", aggregate: bytes = b"sum") -> None:
        self.corrections.replace(
            account_id,
            self.corrections.rows(account_id),
            own=own,
            taught=b"taught",
            aggregate=aggregate,
            lessons=len(lessons),
            written=lessons,
            forgotten=[],
        )

    def end(self, account_id: AccountId) -> None:
        self.tenant.change_state(account_id, State.ENDED)
        self.tenant.remove_account(account_id)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with new_town(tmp_path) as town:
        yield Place(town)


def test_a_tenant_that_learned_nothing(place: Place) -> None:
    assert place.corrections.revisions(place.ann) == Revisions(0, 0)
    assert place.corrections.rows(place.ann) == NOTHING
    assert place.corrections.lesson(place.ann, ONE) is None
    assert not place.corrections.is_outdated()


def test_what_was_learned_is_there_for_all(place: Place) -> None:
    place.learn(place.ann, Lesson(ONE, True, 1.5), own=b"ann", aggregate=b"a")
    rows = place.corrections.rows(place.ann)
    assert (rows.own, rows.taught, rows.aggregate, rows.lessons) == (b"ann", b"taught", b"a", 1)
    assert rows.revisions == place.corrections.revisions(place.ann) == Revisions(1, 1)
    others = place.corrections.rows(place.bob)
    assert (others.own, others.aggregate, others.revisions) == (b"", b"a", Revisions(1, 0))
    assert place.corrections.rows(None).aggregate == b"a"
    assert place.corrections.lesson(place.ann, ONE) == Lesson(ONE, True, 1.5, place.town.premises.clock.now())
    assert place.corrections.lesson(place.bob, ONE) is None


def test_nobody_writes_over_what_another_learned(place: Place) -> None:
    seen = place.corrections.rows(place.bob)
    place.learn(place.ann, Lesson(ONE, True, 1.0))
    with pytest.raises(Conflict):
        place.corrections.replace(
            place.bob,
            seen,
            own=b"",
            taught=b"taught",
            aggregate=b"",
            lessons=1,
            written=[Lesson(TWO, True, 1.0)],
            forgotten=[],
        )
    assert place.corrections.lesson(place.bob, TWO) is None
    assert place.corrections.revisions(place.bob) == Revisions(1, 0)


def test_lessons_change_and_go_with_the_vectors(place: Place) -> None:
    place.learn(place.ann, Lesson(ONE, True, 1.0), Lesson(TWO, False, -2.0))
    assert place.corrections.learned_today(place.ann) == 2
    place.corrections.replace(
        place.ann,
        place.corrections.rows(place.ann),
        own=b"x",
        taught=b"z",
        aggregate=b"y",
        lessons=0,
        written=[Lesson(ONE, False, 0.0)],
        forgotten=[TWO],
    )
    found = place.corrections.lesson(place.ann, ONE)
    assert found is not None and (found.spam, found.step) == (False, 0.0)
    assert place.corrections.lesson(place.ann, TWO) is None
    assert place.corrections.learned_today(place.ann) == 0


def test_a_day_has_its_own_lessons(place: Place) -> None:
    clock = place.town.premises.clock
    place.learn(place.ann, Lesson(ONE, True, 1.0))
    clock.advance(DAY)
    place.learn(place.ann, Lesson(TWO, True, 1.0))
    assert place.corrections.learned_today(place.ann) == 1
    assert place.corrections.learned_today(place.bob) == 0


def test_nothing_is_left_of_a_removed_account(place: Place) -> None:
    place.learn(place.ann, Lesson(ONE, True, 1.0), own=b"ann")
    place.learn(place.bob, Lesson(ONE, True, 1.0), own=b"bob", aggregate=b"both")
    seen = place.corrections.rows(None)
    place.end(place.ann)
    assert place.corrections.is_outdated()
    assert place.corrections.rows(place.bob).aggregate == b""
    revision, vectors = place.corrections.every_account()
    assert vectors == [(place.bob, b"bob")]
    assert revision > seen.revisions.aggregate
    with place.tenant._database.reading() as connection:
        assert {row[0] for row in connection.execute(lesson.select())} == {place.bob}
    place.corrections.renew(revision, b"bob alone")
    assert place.corrections.rows(place.bob).aggregate == b"bob alone"
    assert not place.corrections.is_outdated()


def test_the_sum_is_made_anew_of_what_there_is_now(place: Place) -> None:
    place.learn(place.ann, Lesson(ONE, True, 1.0))
    revision, _ = place.corrections.every_account()
    place.learn(place.bob, Lesson(ONE, True, 1.0), aggregate=b"both")
    with pytest.raises(Conflict):
        place.corrections.renew(revision, b"ann alone")
    assert place.corrections.rows(None).aggregate == b"both"


def test_who_taught_nothing_leaves_the_sum_as_it_is(place: Place) -> None:
    place.learn(place.ann, Lesson(ONE, True, 1.0))
    place.end(place.bob)
    assert place.corrections.rows(place.ann).aggregate == b"sum"


def test_an_account_that_is_gone_learns_nothing(place: Place) -> None:
    seen = place.corrections.rows(place.bob)
    place.end(place.bob)
    with pytest.raises(NotFound):
        place.corrections.replace(
            place.bob, seen, own=b"x", taught=b"taught", aggregate=b"x", lessons=0, written=[], forgotten=[]
        )
    assert place.corrections.every_account()[1] == []


def test_revisions_never_come_again(place: Place) -> None:
    seen = []
    for _ in range(3):
        place.learn(place.ann, Lesson(ONE, True, 1.0))
        place.learn(place.bob, Lesson(ONE, True, 1.0))
        seen += [place.corrections.revisions(each).own for each in (place.ann, place.bob)]
        seen.append(0)
    place.end(place.ann)
    place.corrections.renew(place.corrections.every_account()[0], b"x")
    place.learn(place.bob, Lesson(TWO, True, 1.0))
    seen.append(place.corrections.revisions(place.bob).own)
    assert [each for each in seen if each] == sorted({each for each in seen if each})


def test_old_lessons_are_forgotten_and_what_they_taught_stays(place: Place) -> None:
    place.learn(place.ann, Lesson(ONE, True, 1.0), own=b"learned")
    place.town.premises.clock.advance(LESSONS_KEPT)
    place.learn(place.ann, Lesson(TWO, True, 1.0), own=b"learned")
    assert place.corrections.remove_expired() == 0
    place.town.premises.clock.advance(1)
    assert place.corrections.remove_expired() == 1
    assert place.corrections.lesson(place.ann, ONE) is None
    assert place.corrections.lesson(place.ann, TWO) is not None
    assert place.corrections.rows(place.ann).own == b"learned"


def test_of_too_many_lessons_the_oldest_go(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LESSONS_MAX", 2)
    hashes = [bytes([number]) * 32 for number in range(5)]
    for hash_ in hashes:
        place.learn(place.ann, Lesson(hash_, True, 1.0))
        place.town.premises.clock.advance(1)
    assert place.corrections.remove_expired() == 3
    assert [place.corrections.lesson(place.ann, each) is not None for each in hashes] == [False] * 3 + [True] * 2


def test_a_message_is_remembered_by_a_hash_of_its_tenant_s(place: Place) -> None:
    other = place.town.premises.tenant(place.town.tenant("two", "two.test"))
    message = b"Subject: x\r\n\r\n"
    assert place.corrections.message_hash(message) == place.corrections.message_hash(message)
    assert place.corrections.message_hash(message) != other.corrections.message_hash(message)
