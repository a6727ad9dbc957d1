"""A writer of files and events is killed at each of its steps; what was acknowledged is there, nothing is half there.

After each death the account is opened anew, swept and checked with all octets. A client follows sync tokens through all
of it and has what the server has.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from accounts import ACCOUNT, KEY, TENANT
from whole_server import environment

from storage.background import Background
from storage.check import check_account
from storage.clock import SystemClock
from storage.collections.tokens import TokenTooOld
from storage.collections.values import Kind, NewCollection
from storage.errors import NotFound
from storage.files.durable import EXIT_FSYNC_FAILED
from storage.files.incarnation import Incarnation
from storage.mail.account import Account, Surroundings
from storage.sweep import sweep_account

STEPS_MAX = 200  # a bound for the test, not for the server
LARGE = 9_000  # times a token of ten octets: a file of its own

State = dict[str, bytes]


class Town:
    """The data, the fork server, and a client that follows tokens."""

    def __init__(self, data: Path) -> None:
        self.data = data
        command = [sys.executable, str(Path(__file__).with_name("collections_child.py")), str(data)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
        self._tokens: dict[int, int] = {}  # modseq of each collection
        self._client: dict[int, dict[str, str]] = {}
        self.open(lambda account: [account.collections.create(NewCollection(Kind.FOLDER, "files"))], make=True)

    def run(self, operation: str, stop: int, at: str = "kill", **request: Any) -> tuple[bool, bool]:
        """Whether it got through, and whether it was acknowledged before it ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        words = {"operation": operation, "stop": stop, "at": at, "folder": "files", **request}
        self._process.stdin.write(json.dumps(words).encode() + b"\n")
        self._process.stdin.flush()
        acknowledged = False
        while True:
            line = self._process.stdout.readline()
            assert line, "the fork server ended"
            said: dict[str, Any] = json.loads(line)
            acknowledged |= "acknowledged" in said
            if "ended" in said:
                assert said["ended"] in (0, -signal.SIGKILL, EXIT_FSYNC_FAILED)
                return said["ended"] == 0, acknowledged

    def open(self, do: Callable[[Account], Any], *, make: bool = False) -> Any:
        incarnation, background = Incarnation(self.data), Background()
        surroundings = Surroundings(SystemClock(), incarnation.name, background, boot="boot")
        root = self.data / "account"
        if make:
            Account.create(root, TENANT, ACCOUNT, KEY, surroundings).close()
        account = Account.open(root, TENANT, ACCOUNT, KEY, surroundings)
        try:
            background.settle()
            sweep_account(account, incarnation)
            found = do(account)
            background.settle()
            files = account.octets.files
            assert [*files.names("tmp"), *files.names("new")] == []
            assert [*check_account(account, incarnation, contents=True)] == []
            return found
        finally:
            account.close()
            background.close()
            incarnation.close()

    def look(self, folder: str = "files") -> State | None:
        """What is in a folder; None: there is none."""

        def do(account: Account) -> State | None:
            try:
                where = account.collections.find(Kind.FOLDER, folder)
            except NotFound:
                return None
            objects = account.objects.list(where.id)
            self._follow(account, where.id, {each.name: each.etag for each in objects})
            return {each.name: data for each, data in account.objects.read_many(objects)}

        found: State | None = self.open(do)
        return found

    def _follow(self, account: Account, collection_id: Any, now: dict[str, str]) -> None:
        state = self._client.setdefault(collection_id, {})
        try:
            changes = account.objects.changes(collection_id, self._tokens.get(collection_id, 0))
        except TokenTooOld:
            raise AssertionError("a token was lost, or is from the future") from None
        for name in changes.gone:
            state.pop(name, None)
        state |= {each.name: each.etag for each in changes.changed}
        assert state == now
        self._tokens[collection_id] = changes.token_modseq

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    town = Town(tmp_path_factory.mktemp("collections"))
    try:
        yield town
    finally:
        town.close()


def deaths() -> Iterator[int]:
    yield from range(1, STEPS_MAX)
    raise AssertionError("the operation never got through")


def octets(token: str, times: int) -> bytes:
    return token.encode() * times


@pytest.mark.parametrize("at", ["kill", "full"])
@pytest.mark.parametrize(("before", "times"), [(0, 1), (0, LARGE), (LARGE, LARGE), (LARGE, 1)])
def test_what_is_put_is_there_whole_or_what_was_before(town: Town, before: int, times: int, at: str) -> None:
    name = f"put-{before}-{times}-{at}"
    if before:
        town.run("put", 0, name=name, data="beforehand", times=before)
    expected = octets("beforehand", before) if before else None
    for stop in deaths():
        token = f"token-{stop:04}"
        through, acknowledged = town.run("put", stop, at, name=name, data=token, times=times)
        state = town.look()
        assert state is not None
        found = state.get(name)
        assert found == octets(token, times) if acknowledged else found in (expected, octets(token, times))
        expected = found
        if through and acknowledged:
            assert stop > 2 or at == "full"
            return


@pytest.mark.parametrize("times", [1, LARGE])
def test_what_is_deleted_is_gone_or_there(town: Town, times: int) -> None:
    for stop in deaths():
        town.run("put", 0, name="goes", data="deleted-01", times=times)
        before = town.look()
        through, acknowledged = town.run("delete", stop, name="goes")
        after = town.look()
        assert before is not None and after is not None
        left = after.get("goes")
        assert left is None if acknowledged else left in (None, octets("deleted-01", times))
        assert {**before, "goes": b""} == {**after, "goes": b""}
        if through:
            assert stop > 2
            return


def test_what_is_moved_is_at_one_place(town: Town) -> None:
    town.run("put", 0, name="here", data="moves-0001", times=LARGE)
    here, there = "here", "there"
    for stop in deaths():
        through, acknowledged = town.run("move", stop, name=here, to=there)
        state = town.look()
        assert state is not None and (here in state) != (there in state)
        assert there in state or not acknowledged
        assert state.get(here, state.get(there)) == octets("moves-0001", LARGE)
        if through:
            return
        if there in state:
            here, there = there, here


def test_a_folder_is_copied_whole_or_not_at_all_and_deleted_likewise(town: Town) -> None:
    original = town.look()
    for stop in deaths():
        through, acknowledged = town.run("copy_folder", stop, to="copy")
        copy = town.look("copy")
        assert copy == original if acknowledged else copy in (None, original)
        gone, said = town.run("delete_folder", stop, folder="copy")
        copy = town.look("copy")
        assert copy is None if said else copy in (None, original)
        if through and gone:
            assert stop > 2 and town.look() == original
            return


def test_a_sweep_that_is_killed_is_finished_by_the_next(town: Town) -> None:
    before = town.look()
    for stop in deaths():
        for died in (2, 6):
            town.run("put", died, name=f"rubbish-{stop}-{died}", data="rubbish-01", times=LARGE)
        through, _ = town.run("sweep", stop)
        state = town.look()
        assert before is not None and state is not None and before.items() <= state.items()
        if through:
            return


def test_a_client_follows_three_writers_that_are_killed_again_and_again(town: Town) -> None:
    chance = random.Random(6)
    state = town.look() or {}
    for round_ in range(10):
        for _ in range(3):
            name = chance.choice("uvwxyz")
            stop = chance.choice((0, 0, chance.randint(1, 12)))
            if chance.random() < 0.3:
                through, acknowledged = town.run("delete", stop, name=name)
                if acknowledged:
                    state.pop(name, None)
                elif not through:
                    state = town.look() or {}
                continue
            data, times = f"round-{round_:04}", chance.choice((1, LARGE))
            _, acknowledged = town.run("put", stop, name=name, data=data, times=times)
            if acknowledged:
                state[name] = octets(data, times)
            else:
                found = town.look() or {}
                assert found.get(name) in (state.get(name), octets(data, times))
                state = found
    assert town.look() == state
