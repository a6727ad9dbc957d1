"""Whoever edits a note is killed at each step: both faces say what they said before, or both say what is new."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from whole_server import environment

BEFORE = ["Shopping\nMilk"]
CONFLICT = "Shopping (conflict)\n"  # its client died before it removed the old message
LARGE = "Shopping\n" + "y" * 11

# What is there when the edit has happened, at once and when it is settled.
AFTER = {
    "put": (["Shopping\nEggs"], ["Shopping\nEggs"]),
    "append": (["Shopping\nEggs"], ["Shopping\nEggs", CONFLICT]),
    "append_large": ([LARGE], [LARGE, CONFLICT]),
    "expunge": ([], []),
}


@pytest.fixture(scope="module")
def tries(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    command = [sys.executable, str(Path(__file__).with_name("notes_child.py")), str(tmp_path_factory.mktemp("notes"))]
    done = subprocess.run(command, capture_output=True, env=environment(), timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("way", AFTER)
def test_an_edit_happens_on_both_faces_or_on_none(tries: list[dict[str, Any]], way: str) -> None:
    mine = [each for each in tries if each["way"] == way]
    assert [each["status"] for each in mine] == [-signal.SIGKILL] * (len(mine) - 1) + [0]
    at_once, settled = AFTER[way]
    happened = [each["at_once"] != BEFORE for each in mine]
    assert happened == sorted(happened)  # from one step on
    assert happened.index(True) > 0
    for each, has_happened in zip(mine, happened, strict=True):
        assert each["at_once"] == (at_once if has_happened else BEFORE)
        assert each["settled"] == (settled if has_happened else BEFORE)
        assert not each["wrong"]
        assert not each["left"]
        assert each["files"] == len(each["settled"])
