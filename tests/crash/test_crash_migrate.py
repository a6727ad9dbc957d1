"""A move is killed at its steps, and finds the disk full there; run again, both sides are equal, nothing is twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import crash_town
import pytest
from other_server import Box, Kept, OtherServer, letters
from whole_server import environment

from storage.files.durable import EXIT_FSYNC_FAILED

STEPS_MAX = 600  # a bound for the test
STRIDE = {"kill": 17, "full": 41}  # steps between two deaths: every one would take minutes


class Mover:
    def __init__(self, data: Path, port: int) -> None:
        command = [sys.executable, str(Path(__file__).with_name("migrate_child.py")), str(data)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
        self._port = port
        self._accounts = 0

    def run(self, operation: str, stop: int = 0, at: str = "kill", **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        words = {"operation": operation, "stop": stop, "at": at, "port": self._port, "delete": False, **request}
        self._process.stdin.write(json.dumps(words).encode() + b"\n")
        self._process.stdin.flush()
        said: dict[str, Any] = {}
        while "ended" not in said:
            said |= json.loads(self._process.stdout.readline())
        assert said["ended"] in (0, -signal.SIGKILL, EXIT_FSYNC_FAILED), said
        return said

    def new_account(self) -> int:
        self._accounts += 1
        return int(self.run("make", number=self._accounts)["done"]["account"])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@pytest.fixture(scope="module")
def server() -> Iterator[OtherServer]:
    with OtherServer({b"INBOX": Box(7, letters(5)), b"Work/x": Box(8, letters(3))}) as server:
        yield server


@pytest.fixture(scope="module")
def mover(tmp_path_factory: pytest.TempPathFactory, server: OtherServer) -> Iterator[Mover]:
    data = tmp_path_factory.mktemp("crash") / "data"
    data.mkdir()
    crash_town.make(data)
    mover = Mover(data, server.port)
    yield mover
    mover.close()


@pytest.mark.parametrize("at", ["kill", "full"])
def test_a_move_that_dies_anywhere_goes_on(mover: Mover, server: OtherServer, at: str) -> None:
    first, second = letters(5), [*letters(5)[1:], *[Kept(each.uid + 10, each.octets + b"+") for each in letters(2)]]
    second[0].flags = ["\\Flagged", "word"]
    inbox = server.boxes[b"INBOX"]
    wanted: list[Any] = []
    whole = mover.new_account()
    for messages in (first, second):
        inbox.messages = messages
        assert mover.run("migrate", account=whole, delete=True)["done"]["complete"]
        wanted.append(mover.run("look", account=whole)["done"])
    for stop in range(1, STEPS_MAX, STRIDE[at]):
        account = mover.new_account()
        ended = []
        for messages, expected in zip((first, second), wanted, strict=True):
            inbox.messages = messages
            request = {"account": account, "delete": True}
            ended.append("done" in mover.run("migrate", stop, at, **request))
            again = mover.run("migrate", **request)["done"]
            assert again["complete"] and again["there"] == again["here"] == len(messages) + 3
            assert mover.run("look", account=account)["done"] == expected
        if all(ended):
            break
    else:
        pytest.fail("the move never ended")
    assert stop > 30
