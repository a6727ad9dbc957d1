"""Retention is killed at steps all over a pass: the next one finishes it, and takes nothing that was not due."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import crash_retention
import pytest
from crash_retention import left, opened
from whole_server import environment

from hosting.data_register import REGISTER
from storage.check import check_installation
from storage.checks.finding import Severity
from storage.retention import remove_due

DEATHS = 12  # spread over all steps of a pass
BEFORE = {"access": 2, "traces": 2, "keys of traces": 2, "withheld": 2, "srs": 1, "mail": 2}
AFTER = {"access": 2, "traces": 1, "keys of traces": 1, "withheld": 1, "srs": 1, "mail": 1}


@dataclass
class Town:
    data: Path
    now: int
    worker: subprocess.Popen[bytes]

    def run(self, data: Path, stop: int) -> dict[str, Any]:
        assert self.worker.stdin is not None and self.worker.stdout is not None
        request = {"data": str(data), "now": self.now, "stop": stop, "at": "kill"}
        self.worker.stdin.write(json.dumps(request).encode() + b"\n")
        self.worker.stdin.flush()
        said: dict[str, Any] = {}
        while "ended" not in said:
            said |= json.loads(self.worker.stdout.readline())
        return said


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    data = tmp_path_factory.mktemp("retention") / "data"
    data.mkdir()
    now = crash_retention.make(data)
    command = [sys.executable, str(Path(__file__).with_name("retention_child.py"))]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
    try:
        yield Town(data, now, worker)
    finally:
        assert worker.stdin is not None
        worker.stdin.close()
        worker.wait(30)


def test_a_pass_that_dies_is_finished_by_the_next(town: Town, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(town.data, whole)
    said = town.run(whole, 0)
    assert said["ended"] == 0 and said["steps"] > DEATHS
    with opened(whole, town.now) as installation:
        assert left(installation) == AFTER
    for death in range(DEATHS):
        stop = 1 + death * (said["steps"] - 1) // DEATHS
        data = tmp_path / str(stop)
        shutil.copytree(town.data, data)
        assert town.run(data, stop)["ended"] == -signal.SIGKILL
        with opened(data, town.now) as installation:
            found = left(installation)
            assert all(AFTER[name] <= found[name] <= BEFORE[name] for name in AFTER), f"killed at {stop}"
            removed = remove_due(installation)
            assert (removed.failed, left(installation)) == (0, AFTER), f"killed at {stop}"
            assert len(installation.control.receipts.last()) == len(removed.receipts) == said["acknowledged"]
            installation.background.settle()
            wrong = [each for each in check_installation(installation) if each.severity is not Severity.NOTE]
            assert wrong == [], f"killed at {stop}"
        assert REGISTER.undeclared(data) == ["master"]  # the test's own
        shutil.rmtree(data)
