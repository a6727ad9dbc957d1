"""Whoever erases a person is killed at each step; the next one goes on, and in the end everything is erased.

Each process dies some steps later than the one before, counted from where that one left it, until one gets through.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from person_town import ADA, BO, CLIENT, STRANGER, PersonTown
from whole_server import environment

from storage.logs.subjects import ERASED
from storage.persons.erase import ask_for_logs, erase, left_in_logs
from storage.persons.sought import seek

STEPS_MAX = 400  # a bound for the test, not for the server


@pytest.mark.parametrize("account", [True, False], ids=["account", "stranger"])
def test_an_erasure_is_interrupted_at_each_step(tmp_path: Path, account: bool) -> None:
    data = tmp_path / "data"
    town = PersonTown.made(data)
    if account:
        asked = ask_for_logs(seek(town.installation, ADA), "a letter", "olga")
        town.installation.control.approvals.decide(asked.approval_id, "ruth", True)
    town.close()

    deaths = 0
    command = [sys.executable, str(Path(__file__).with_name("persons_child.py")), str(data)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as child:
        for stop in range(1, STEPS_MAX, 2):
            if run(child, {"account": account, "stop": stop, "at": "kill"}):
                break
            deaths += 1
        else:
            pytest.fail("it never got through")
        assert child.stdin is not None
        child.stdin.close()
    assert deaths > 5

    town = PersonTown.again(data)
    try:
        installation = town.installation
        installation.audit.verify()
        events = list(installation.access_log.read(0, town.clock.now() + 1))
        others = ["192.0.2.2", "192.0.2.3"]
        assert sorted(event.address for event in events) == sorted([*others, ERASED if account else CLIENT])
        if account:
            assert set(left_in_logs(installation, town.ada).values()) == {0}
            assert not any(str(ADA) in (event.sender, event.recipient) for event in installation.traces.read())
            assert any(event.sender == str(BO) for event in installation.traces.read())
        else:
            assert not any(erase(seek(installation, STRANGER), "olga", "again").counts.values())
    finally:
        town.close()


def run(child: subprocess.Popen[bytes], request: dict[str, object]) -> bool:
    """Whether it got through undisturbed."""
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(json.dumps(request).encode() + b"\n")
    child.stdin.flush()
    acknowledged, taken = False, 0
    while True:
        words = json.loads(child.stdout.readline())
        assert "refused" not in words
        acknowledged |= "acknowledged" in words
        taken = words.get("steps", taken)
        if "ended" in words:
            assert words["ended"] in (0, -signal.SIGKILL)
            return acknowledged and 0 < taken < int(str(request["stop"]))
