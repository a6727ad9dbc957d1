"""The real server is killed under load, and started again; everything that it acknowledged is there once.

A few rounds; `scripts/crash` plays as many as one likes.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from crash_ledger import Ledger
from crash_rounds import Rounds, target


@pytest.mark.slow
def test_nothing_that_was_acknowledged_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    with target(tmp_path) as (server, hop):
        rounds = Rounds(server, hop, Ledger(hop), seed=20261123, seconds=1.5)
        lines = list(rounds.play(2))
        rounds.finish()
        assert len(lines) == 2 and rounds.ledger.acknowledged > 100 and hop.messages
        assert rounds.ledger.junk and rounds.ledger.withheld
        assert server.stop() == 0
