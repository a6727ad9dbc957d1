"""Who learns is killed at each step; every opinion is learned once, and vectors and lessons never disagree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import crash_town
import numpy as np
import pytest
from crash_town import WHOSE, mail
from test_crash_steps import STEPS_MAX, Writer

from gateway.classifier.correction import contribution, empty, unpack
from storage.schema.tenant import lesson
from storage.values import UID_MAX, UidSet

TENANT, ALICE = WHOSE["alice@one.test"]
MESSAGES = 3
NEVER = STEPS_MAX * 10

pytestmark = pytest.mark.slow


class Place:
    def __init__(self, data: Path) -> None:
        self.data = data
        data.mkdir(exist_ok=True)
        crash_town.make(data)
        with crash_town.opened(data) as installation, installation.account(TENANT, ALICE) as account:
            inbox = account.mailboxes.find("INBOX").id
            for number in range(MESSAGES):
                account.messages.append(inbox, mail(f"t{number}"))
        self.writer = Writer(data)

    def move(self, source: str, target: str) -> None:
        with crash_town.opened(self.data) as installation, installation.account(TENANT, ALICE) as account:
            source_id, target_id = (account.mailboxes.find(name).id for name in (source, target))
            account.messages.move(source_id, UidSet(((1, UID_MAX),)), target_id)

    def learned(self) -> tuple[bytes, int]:
        """Alice's vector and how many lessons are in force; the books balance whenever somebody looks."""
        with crash_town.opened(self.data) as installation:
            tenant = installation.tenant(TENANT)
            rows = tenant.corrections.rows(ALICE)
            with tenant._database.reading() as connection:
                lessons = connection.execute(lesson.select().where(lesson.c.step != 0.0))
        assert rows.lessons == len(lessons)
        if not rows.own:
            return empty().tobytes(), 0
        own = unpack(rows.own)
        assert np.array_equal(unpack(rows.aggregate), contribution(own))
        return own.tobytes(), rows.lessons

    def waiting(self) -> int:
        with crash_town.opened(self.data) as installation, installation.account(TENANT, ALICE) as account:
            return len(account.opinions.waiting(10))


@pytest.fixture
def places(tmp_path: Path) -> Iterator[tuple[Place, Place]]:
    made = Place(tmp_path / "dying"), Place(tmp_path / "living")
    yield made
    for place in made:
        place.writer.close()


def test_every_opinion_is_learned_once_whoever_dies(places: tuple[Place, Place]) -> None:
    dying, living = places
    for source, target, lessons in (("INBOX", "Junk", MESSAGES), ("Junk", "INBOX", 0)):
        for place in places:
            place.move(source, target)
        assert living.writer.run("learn", NEVER)[0]
        before, after = dying.learned(), living.learned()
        assert after[1] == lessons
        seen = set()
        for stop in range(1, STEPS_MAX):
            done, _ = dying.writer.run("learn", stop)
            seen.add(dying.learned())
            if done:
                break
        else:
            pytest.fail("the operation never got through")
        assert seen == {before, after}  # all three or none
        assert dying.waiting() == living.waiting() == 0
