"""Whoever withholds or releases a message is killed at each step: nothing that was accepted is lost, and what is
released is delivered once, here and elsewhere. So are digests.

Both die in forks of a process without connections, as in test_crash_steps. After each death the queue is worked to its
end first, so that whatever could leave has left, and then what was interrupted goes on, as in the jobs role.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import crash_town
import pytest
from crash_quarantine import MAILBOXES, ONE, PREFIX, ask_for_digests, digest, held, keep, opened, release, releases
from crash_queue import TAKES, work_queue
from crash_town import WHOSE, mail
from whole_server import environment

from storage.errors import NotFound
from storage.files.durable import EXIT_FSYNC_FAILED
from storage.installation import Installation
from storage.quarantine.store import Quarantine
from storage.values import UID_MAX

STEPS_MAX = 300  # a bound for the test, not for the server
TOLD = "Withheld mail: 1 message"


@dataclass
class Town:
    data: Path
    worker: subprocess.Popen[bytes]
    taken: Counter[tuple[str, str]] = field(default_factory=Counter)  # by the next hop
    # From now, in which the next digests are sent: at noon, so that the day does not change meanwhile.
    hours: int = field(default_factory=lambda: (10 - datetime.now(UTC).hour) % 24)

    def run(self, operation: str, stop: int, at: str, **request: str | int) -> dict[str, Any]:
        """Who dies at the step, or finds the disk full there; what it said."""
        assert self.worker.stdin is not None and self.worker.stdout is not None
        words = {"operation": operation, "stop": stop, "at": at, **request}
        self.worker.stdin.write(json.dumps(words).encode() + b"\n")
        self.worker.stdin.flush()
        said: dict[str, Any] = {}
        while "ended" not in said:
            said |= json.loads(self.worker.stdout.readline())
        assert said["ended"] in (0, -signal.SIGKILL, EXIT_FSYNC_FAILED)
        return said

    def work_queue(self, installation: Installation) -> None:
        work_queue(installation, lambda recipient, token: self.taken.update([(recipient, token)]))

    def told(self, hours: int) -> tuple[int, int]:
        """The digests that alice has, and those that the next hop has taken."""
        with opened(self.data, hours) as (installation, _):
            return copies(installation, MAILBOXES[0], TOLD), self.taken[TAKES, TOLD]

    def files(self, folder: str) -> list[Path]:
        return [path for path in self.data.glob(f"tenants/*/{folder}/*") if path.is_file()]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    data = tmp_path_factory.mktemp("crash")
    crash_town.make(data)
    command = [sys.executable, str(Path(__file__).with_name("quarantine_child.py")), str(data)]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
    try:
        yield Town(data, worker)
    finally:
        assert worker.stdin is not None
        worker.stdin.close()
        worker.wait(30)


def copies(installation: Installation, address: str, token: str) -> int:
    with installation.account(*WHOSE[address]) as account:
        inbox = account.mailboxes.find("INBOX")
        ids = account.messages.fetch_rows(inbox.id, 1, UID_MAX, ("message_id",))
        return sum(f"Subject: {token}\r\n".encode() in account.messages.read_message(id_) for (id_,) in ids)


def whole(quarantine: Quarantine, quarantine_id: str, token: str) -> bool:
    return quarantine.content(ONE, quarantine.show(ONE, quarantine_id)) == (PREFIX, mail(token))


def withhold(town: Town, token: str, stop: int, at: str) -> dict[str, Any]:
    """A message is withheld, or not at all; the sender of one that was not acknowledged sends it again."""
    said = town.run("keep", stop, at, token=token)
    with opened(town.data) as (installation, quarantine):
        found = held(quarantine)
        assert found == [said["acknowledged"]] if "acknowledged" in said else len(found) <= 1
        assert all(whole(quarantine, quarantine_id, token) for quarantine_id in found)
        quarantine.sweep(ONE)
        assert len(town.files("quarantine")) == 2 * len(found)
        again = keep(installation, quarantine, token)
        assert held(quarantine) == [again] and found in ([], [again])
        assert whole(quarantine, again, token)
        quarantine.of(ONE).delete(again, range(3))
        assert town.files("quarantine") == []
    return said


def let_go(town: Town, token: str, stop: int, at: str) -> dict[str, Any]:
    """A release for two mailboxes and an address elsewhere; in the end each has the message, once."""
    with opened(town.data) as (installation, quarantine):
        quarantine_id = keep(installation, quarantine, token)
    said = town.run("release", stop, at, id=quarantine_id)
    with opened(town.data, 1) as (installation, quarantine):
        town.work_queue(installation)
        releases(installation, quarantine).resume(ONE)
        town.work_queue(installation)
        try:
            release(installation, quarantine, quarantine_id)  # it had not begun, or was held again
        except NotFound:
            assert held(quarantine) == []
        town.work_queue(installation)
        for address in MAILBOXES:
            assert copies(installation, address, token) == 1, (stop, address)
        assert town.taken[TAKES, token] == 1, stop
        assert held(quarantine) == [] and installation.queue.entries() == []
        quarantine.sweep(ONE)
        installation.queue.sweep(ONE, installation.incarnation.is_alive)
        assert town.files("quarantine") == town.files("spool") == []
    return said


def tell(town: Town, token: str, stop: int, at: str) -> dict[str, Any]:
    """The digests of a day, one into a mailbox and one that leaves: each is sent, once."""
    hours = town.hours = town.hours + 24
    with opened(town.data, hours) as (installation, quarantine):
        ask_for_digests(installation)
        quarantine_id = keep(installation, quarantine, token)
    before = town.told(hours)
    said = town.run("digest", stop, at, hours=hours + 2)
    with opened(town.data, hours + 2) as (installation, quarantine):
        town.work_queue(installation)
        digest(installation, quarantine)
        town.work_queue(installation)
        assert installation.queue.entries() == []
        quarantine.of(ONE).delete(quarantine_id, range(3))
    alice, elsewhere = town.told(hours)
    if at == "kill":  # a full disk may cost a reader one digest; the mail is held all the same
        assert (alice, elsewhere) == (before[0] + 1, before[1] + 1), stop
    assert alice <= before[0] + 1 and elsewhere <= before[1] + 1
    return said


@pytest.mark.parametrize("at", ["kill", "full"])
@pytest.mark.parametrize("play", [withhold, let_go, tell])
def test_at_each_step(town: Town, play: Any, at: str) -> None:
    for stop in range(1, STEPS_MAX):
        said = play(town, f"{play.__name__}-{at}-{stop}", stop, at)
        if said["ended"] == 0 and said.get("steps", stop) < stop:
            break
    assert 5 < stop < STEPS_MAX - 1
