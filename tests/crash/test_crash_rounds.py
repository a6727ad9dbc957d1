"""The real server is killed under load, and started again; everything that it acknowledged is there once.

A few rounds; `scripts/crash` plays as many as one likes.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from crash_ledger import Ledger
from crash_rounds import Rounds, target

ROUNDS_MIN = 2  # everything is killed, and single roles
ROUNDS_MAX = 8  # by then there has been mail of each kind


@pytest.mark.slow
def test_nothing_that_was_acknowledged_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    with target(tmp_path) as (server, hop):
        ledger = Ledger(hop)
        rounds = Rounds(server, hop, ledger, seed=20261123, commands=60)
        for number, _ in enumerate(rounds.play(ROUNDS_MAX), 1):
            if number >= ROUNDS_MIN and ledger.junk and ledger.withheld and hop.messages:
                break
        rounds.finish()
        assert ledger.junk and ledger.withheld and hop.messages
        assert server.stop() == 0
