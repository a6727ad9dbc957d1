"""The queue's runner is killed at each of its steps: nobody loses a message, and nobody here gets one twice.

Another server may get one twice only if the kill came between its reply and the commit that notes it, which nothing can
rule out (RFC 5321 §6.1). A sender is told of a failure once. The runner dies in forks of a process without connections,
as in test_crash_steps; after each death this process works the queue to its end, as a role does that was started again.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import crash_town
import pytest
from crash_queue import REFUSES, TAKES, enqueue, opened, work_queue
from crash_town import WHOSE
from whole_server import environment

from storage.files.durable import EXIT_FSYNC_FAILED
from storage.installation import Installation
from storage.values import UID_MAX, TenantId

STEPS_MAX = 400  # a bound for the test, not for the server


@dataclass
class Town:
    data: Path
    worker: subprocess.Popen[bytes]
    taken: Counter[tuple[str, str]] = field(default_factory=Counter)  # by the next hop

    def work(self, stop: int, at: str = "kill") -> dict[str, Any]:
        """A runner that dies at the step, or finds the disk full there; what it said."""
        said: dict[str, Any] = {}
        assert self.worker.stdin is not None and self.worker.stdout is not None
        self.worker.stdin.write(json.dumps({"stop": stop, "at": at}).encode() + b"\n")
        self.worker.stdin.flush()
        while True:
            words: dict[str, Any] = json.loads(self.worker.stdout.readline())
            said |= words
            if "taken" in words:
                self.taken[tuple(words["taken"])] += 1
            if "ended" in words:
                assert words["ended"] in (0, -signal.SIGKILL, EXIT_FSYNC_FAILED)
                return said

    def resume(self, installation: Installation) -> None:
        work_queue(installation, lambda recipient, token: self.taken.update([(recipient, token)]))


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    data = tmp_path_factory.mktemp("crash")
    crash_town.make(data)
    command = [sys.executable, str(Path(__file__).with_name("queue_child.py")), str(data)]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
    try:
        yield Town(data, worker)
    finally:
        assert worker.stdin is not None
        worker.stdin.close()
        worker.wait(30)


def subjects(installation: Installation, address: str) -> Counter[str]:
    """The messages in somebody's INBOX: by subject, and reports by that of the message they are about."""
    found: Counter[str] = Counter()
    with installation.account(*WHOSE[address]) as account:
        inbox = account.mailboxes.find("INBOX")
        for (message_id,) in account.messages.fetch_rows(inbox.id, 1, UID_MAX, ("message_id",)):
            octets = account.messages.read_message(message_id)
            report = b"multipart/report" in octets
            token = octets.rpartition(b"Subject: ")[2].partition(b"\r\n")[0].decode()
            found[f"report on {token}" if report else token] += 1
    return found


def spooled(data: Path) -> int:
    return sum(path.is_file() for path in data.glob("tenants/*/spool/*"))


def play(town: Town, token: str, stop: int, at: str) -> dict[str, Any]:
    """A message to a mailbox, to one whom the next hop takes and to one whom it refuses; all of it must end well."""
    with opened(town.data, 0) as installation:
        enqueue(installation, token, "bob@one.test", TAKES, REFUSES)
    said = town.work(stop, at)
    with opened(town.data, 2) as installation:
        town.resume(installation)
        assert installation.queue.entries() == []
        for tenant_id in (TenantId(1), TenantId(2)):
            installation.queue.sweep(tenant_id, installation.incarnation.is_alive)
        assert spooled(town.data) == 0
        assert subjects(installation, "bob@one.test")[token] == 1, token
        assert subjects(installation, "alice@one.test")[f"report on {token}"] == 1, token
    return said


def test_killed_at_each_step_between_claim_and_removal(town: Town) -> None:
    doubles = 0
    for stop in range(1, STEPS_MAX):
        token = f"kill-{stop}"
        through = play(town, token, stop, "kill")["ended"] == 0
        times = town.taken[TAKES, token]
        assert times == 1 if through else times in (1, 2)
        doubles += times - 1
        if through:
            break
    assert through and stop > 30
    assert 1 <= doubles <= stop // 3, "only between the next hop's reply and our commit"


def test_a_disk_that_is_full_at_any_step_costs_nobody_a_message_and_doubles_none(town: Town) -> None:
    for stop in range(1, STEPS_MAX):
        token = f"full-{stop}"
        said = play(town, token, stop, "full")
        if said["ended"] == 0:
            assert town.taken[TAKES, token] == 1
        if said.get("steps", stop) < stop:
            break
    assert stop > 15
