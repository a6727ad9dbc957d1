"""Deaths between a record and its deed, in the round of the journals, in an extract, and while the chain is cut."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

DRIVER = Path(__file__).with_name("audit_driver.py")


def play(operation: str, folder: Path) -> list[dict[str, Any]]:
    """Of each step: what was there after the death, and after the repetition."""
    done = subprocess.run(
        [sys.executable, str(DRIVER), operation, str(folder)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(steps) > 2 and [step["died"] for step in steps] == [True] * (len(steps) - 1) + [False]
    for step in steps:
        assert step["repeated"] == 0 and step["after"]["wrong"] == step["again"]["wrong"] == []
    return steps


def test_each_record_is_in_the_journal_once(tmp_path: Path) -> None:
    for step in play("journal", tmp_path):
        again = step["again"]
        # two looks at the account, the record of the case; of what two persons agreed on nobody is told
        assert (again["journals"], again["behind"]) == ([3, 1], {})
        assert again["position"] == again["signed"] == 6
        assert step["after"]["journals"][0] <= 3


def test_what_is_disclosed_is_handed_over_once(tmp_path: Path) -> None:
    for step in play("extract", tmp_path):
        after, again = step["after"], step["again"]
        assert after["there"] == after["out"]  # whole, or not at all
        assert after["case"] != "disclosed" or after["out"]
        if after["there"]:
            assert "disclosure.extract" in after["actions"]  # the record comes first
        assert (again["case"], again["items"], again["out"], again["rubbish"]) == ("disclosed", 1, True, [])
        for action in ("disclosure.extract", "disclosure.finish", "approval.use"):
            assert again["actions"].count(action) <= (2 if action == "approval.use" else 1)
        assert {"disclosure.extract", "disclosure.finish", "approval.use"} <= set(again["actions"])


def test_the_chain_is_cut_in_one_step(tmp_path: Path) -> None:
    for step in play("cut", tmp_path):
        after, again = step["after"], step["again"]
        assert (after["first"], "audit.cut" in after["actions"]) in {(1, False), (4, True)}
        assert (again["first"], again["actions"].count("audit.cut")) == (4, 1)


def test_no_deed_is_without_its_record(tmp_path: Path) -> None:
    for step in play("freeze", tmp_path):
        after, again = step["after"], step["again"]
        assert not after["frozen"] or "account.freeze" in after["actions"]
        assert again["frozen"] and "account.freeze" in again["actions"]
