"""Whoever destroys a key or wraps keys anew is killed at each step: everybody else's keys open at once and afterwards,
what was to be destroyed is, and the old master opens nothing of what is left.

He dies in forks of a process that does nothing else, as in test_crash_steps. After each death keys are read first as
they are, by somebody who may not go on with what was interrupted, then as after a start.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from key_tree import ACCOUNT, FAR, NEIGHBOUR, OTHER, TENANT, KeyPlace, every_key, openable, perform
from whole_server import environment

from storage.clock import FixedClock
from storage.errors import Gone
from storage.keys.destruction import Destroyed
from storage.keys.keystore import KeyStore
from storage.keys.mirror import Mirror
from storage.keys.places import MasterFile
from storage.values import AccountId, TenantId

STEPS_MAX = 300  # a bound for the test, not for the server
MEMORY = Path("/dev/shm")  # SIGKILL asks nothing of a disk


class Killed:
    """The fork server."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("keys_child.py"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())

    def at(self, base: Path, operation: str, stop: int) -> bool:
        """Whether it got through before that step."""
        assert self._process.stdin is not None and self._process.stdout is not None
        request = {"base": str(base), "operation": operation, "stop": stop}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        ended = json.loads(self._process.stdout.readline())["ended"]
        assert ended in (0, -signal.SIGKILL)
        return bool(ended == 0)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@pytest.fixture(scope="module")
def killed() -> Iterator[Killed]:
    killed = Killed()
    yield killed
    killed.close()


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder)


def opened(base: Path) -> KeyStore:
    return KeyStore(base / "keys", MasterFile(base / "master"), FixedClock(), mirror=base / "mirror")


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["destroy_tenant", "destroy_account", "rotate"])
def test_at_every_step(killed: Killed, base: Path, operation: str) -> None:
    (base / operation).mkdir()
    first = KeyPlace(base / operation, mirror=True)
    for tenant in (TENANT, NEIGHBOUR, FAR):
        first.store.create_tenant(tenant)
        for account in (ACCOUNT, OTHER):
            first.store.create_account(tenant, account)
    keys = every_key(first.store)
    ended: dict[str, set[tuple[TenantId, AccountId | None]]] = {
        "destroy_tenant": {each for each in keys if each[0] == TENANT},
        "destroy_account": {(TENANT, ACCOUNT)},
        "rotate": set(),
    }
    gone = ended[operation]
    left = {each: key for each, key in keys.items() if each not in gone}
    old = first.place.read()
    for stop in range(1, STEPS_MAX, 1 if operation == "destroy_tenant" else 2):
        place = base / f"{operation} {stop}"
        shutil.copytree(first.base, place)
        through = killed.at(place, operation, stop)

        with (place / "keys" / ".lock").open("r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            store = opened(place)
            for (whose, number), key in left.items():
                assert (store.account(whose, number) if number else store.tenant(whose)) == key
        begun = (place / "keys" / "unfinished.json").exists()
        mirrored = set(openable(place / "mirror", MasterFile(place / "master").read()))
        assert {key.secret for key in left.values()} <= mirrored

        store = opened(place)
        assert not (place / "keys" / "unfinished.json").exists()
        done = perform(store, operation)
        again = opened(place)
        assert every_key(store) == left == every_key(again)
        for whose, number in gone:
            with pytest.raises(Gone):
                store.account(whose, number or ACCOUNT)
        if isinstance(done, Destroyed):
            assert perform(again, operation) == done
            assert set(done.key_ids) == {keys[each].id for each in gone} and done.old_master_destroyed
            assert done.master_before == 1 and len(done.mirrors) == 1
        assert Mirror(place / "mirror").differences(place / "keys") == []
        assert set(MasterFile(place / "master").read().secrets) & {1} == set()
        assert not set(openable(place / "keys", old)) - set(old.secrets.values())
        octets = b"".join(path.read_bytes() for path in place.rglob("*") if path.is_file())
        assert old.secrets[1].hex().encode() not in octets
        assert sorted(path.name for path in place.iterdir()) == ["keys", "master", "mirror"]
        shutil.rmtree(place)
        if through:
            assert not begun and stop > 20
            return
    pytest.fail("it has more steps than the test allows")
