"""An account is deleted and contracts end while everybody is at work, and while the server is killed.

Nobody waits for ever, what was acknowledged to those who stay is there once, nothing is acknowledged after the keys are
gone, no file and no row is left over, and whatever process held keys is another one afterwards. What is looked at
stands in tests/support/ending_rounds.py; `scripts/erasure_check` plays as many rounds as one likes.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ending_load import KILLED
from ending_rounds import Rounds, premises

pytestmark = pytest.mark.slow
SEED = 20261126


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rounds]:
    with premises(tmp_path_factory.mktemp("load")) as rounds:
        yield rounds


def test_a_busy_account_is_deleted_and_its_colleagues_go_on(rounds: Rounds) -> None:
    assert rounds.delete_account(SEED)


def test_a_busy_tenant_ends_and_the_others_go_on(rounds: Rounds) -> None:
    assert rounds.end_tenant(SEED)


def test_an_ending_goes_on_by_itself_when_everything_was_killed(rounds: Rounds) -> None:
    """At some moment of it: tests/crash has each step, and scripts/erasure_check more moments."""
    assert len(list(rounds.kill(SEED, KILLED[:1]))) == 1
    assert rounds.server.stop() == 0
