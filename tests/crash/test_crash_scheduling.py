"""Whoever invites, answers or cancels is killed at each step: all concerned are told once, or nothing has happened."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from whole_server import environment

NOTHING: dict[str, Any] = {"alice": [], "bob": [], "inbox of alice": [], "inbox of bob": [], "mail": 0}
INVITED = {"alice": ["invited"], "bob": ["invited"], "inbox of alice": [], "inbox of bob": ["REQUEST"], "mail": 1}
ACCEPTED = {**INVITED, "alice": ["accepted"], "bob": ["accepted"], "inbox of alice": ["REPLY"]}
CANCELLED = {**INVITED, "alice": [], "bob": ["cancelled"], "inbox of bob": ["REQUEST", "CANCEL"], "mail": 2}
WAYS = {"invite": (NOTHING, INVITED, 201), "accept": (INVITED, ACCEPTED, 204), "cancel": (INVITED, CANCELLED, 204)}


@pytest.fixture(scope="module")
def tries(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    child = Path(__file__).with_name("scheduling_child.py")
    command = [sys.executable, str(child), str(tmp_path_factory.mktemp("scheduling"))]
    done = subprocess.run(command, capture_output=True, env=environment(), timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("way", WAYS)
def test_everybody_is_told_once_or_nothing_has_happened(tries: list[dict[str, Any]], way: str) -> None:
    before, after, status = WAYS[way]
    mine = [each for each in tries if each["way"] == way]
    assert [each["status"] for each in mine] == [-signal.SIGKILL] * (len(mine) - 1) + [0]
    assert mine[-1]["answered"] == status
    found = [{name: each[name] for name in before} for each in mine]
    happened = [each != before for each in found]
    assert happened == sorted(happened) and happened.index(True) > 0  # from one step on
    assert [each for each in found if each != before] == [after] * sum(happened)
    assert not any(each["wrong"] for each in mine)
