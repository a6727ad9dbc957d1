"""Whoever makes or restores a backup is killed on the way: what is half is no backup and no installation, and the same
again completes it.

The steps are those of crash_child.py: fsync, rename, link, unlink, write, COMMIT. Of those that are alike (a link for
each message) some are tried; at the end every step by which something comes into place.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from backup_town import ALICE, ONE, BackupTown, contents
from whole_server import environment

from storage.backup.manifest import DATA
from storage.backup.restoring import folder_of
from storage.backup.verifying import verify
from storage.check import check_installation

STEPS_MAX = 2000  # a bound for the test


@dataclass
class Town:
    folder: Path
    base: BackupTown
    process: subprocess.Popen[bytes]
    steps: int = 0  # of the last run that got through

    def run(self, operation: str, stop: int, target: Path | None = None) -> bool:
        """Whether it got through."""
        assert self.process.stdin is not None and self.process.stdout is not None
        request = {"operation": operation, "stop": stop, "target": str(target)}
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        words: dict[str, int] = {}
        while "ended" not in words:
            words |= json.loads(self.process.stdout.readline())
        assert words["ended"] in (0, -signal.SIGKILL)
        self.steps = words.get("steps", self.steps)
        return words["ended"] == 0


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("backups")
    base = BackupTown(folder)
    base.settle()
    base.close()
    command = [sys.executable, str(Path(__file__).with_name("backup_child.py")), str(base.data), str(base.to)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
    try:
        yield Town(folder, base, process)
    finally:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def some_steps(factor: float) -> Iterator[int]:
    """1, 2, 3 … and then further apart."""
    step = 1.0
    while step < STEPS_MAX:
        yield int(step)
        step = max(step + 1, step * factor)
    raise AssertionError("it never got through")


def look_at_backups(town: Town, through: bool) -> None:
    installation = town.base.open()
    try:
        names = town.base.place.names() if town.base.to.exists() else []
        for name in names[-1:]:  # maybe killed after it was complete, before it had its row
            stored = town.base.place.open(name)
            assert verify(installation, stored, every=True).is_right and stored.manifest.tenants() == [1, 2]
            assert stored.manifest.files == sum(path.is_file() for path in (stored.root / DATA).rglob("*"))
        if through:
            assert town.base.place.incomplete() == []
            assert len(installation.control.backups.all()) == len(names)
    finally:
        installation.close()


def test_a_backup_that_was_killed_is_none_and_the_next_is_complete(town: Town) -> None:
    for stop in some_steps(1.8):
        through = town.run("backup", stop)
        look_at_backups(town, through)
        if through:
            break
    assert town.run("backup", STEPS_MAX)  # nothing is left to be removed first, and much is shared
    steps, killed = town.steps, 0
    for stop in range(steps - 5, steps + 1):  # from the manifest on
        through = town.run("backup", stop)
        killed += not through
        look_at_backups(town, through)
        for name in town.base.place.incomplete():  # so that the next one takes the same steps
            shutil.rmtree(town.base.to / name)
    assert killed >= 3
    assert town.run("backup", STEPS_MAX)
    look_at_backups(town, True)


def test_a_restored_account_is_whole_whoever_was_killed(town: Town) -> None:
    installation = town.base.open()
    with installation.account(ONE, ALICE) as account:
        before = {name: rows for name, rows in contents(account).items() if not name.startswith("Restored")}
    installation.close()
    folder = folder_of(town.base.place.at(None))
    for stop in some_steps(1.3):
        if not town.run("account", stop):
            continue
        installation = town.base.open()
        try:
            with installation.account(ONE, ALICE) as account:
                assert contents(account, f"{folder}/") == before
        finally:
            installation.close()
        assert stop > 20
        return


def restored(town: Town, target: Path, stop: int) -> bool:
    """Whether it is there, after one more try that dies at that step."""
    through = town.run("installation", stop, target)
    if through or (not (target / ".restoring").exists() and (target / "control.db").exists()):
        assert sorted(os.listdir(target / "tenants")) == ["1", "2"]
        return True
    if not (target / ".restoring" / "ready").exists():  # nothing was moved into place
        assert not (target / "control.db").exists() and not (target / "tenants").exists()
    return False


def test_an_installation_is_restored_whole_or_not_there(town: Town) -> None:
    def empty(name: str) -> Path:
        target = town.folder / name
        target.mkdir()
        shutil.copytree(town.base.data / "keys", target / "keys")
        return target

    first = empty("first")
    assert any(restored(town, first, stop) for stop in some_steps(1.3))
    assert restored(town, empty("whole"), STEPS_MAX)
    steps = town.steps
    for stop in range(steps - 15, steps + 1):  # from the moment on at which all is ready
        target = empty(f"stop-{stop}")
        assert restored(town, target, stop) or restored(town, target, STEPS_MAX)
        assert not (target / ".restoring").exists()
    for name in ("first", f"stop-{steps - 8}"):
        installation = town.base.open(town.folder / name)
        try:
            assert list(check_installation(installation, contents=True)) == []
        finally:
            installation.close()
