"""Writers race over HTTP on two web workers, which are killed meanwhile: one wins, nothing acknowledged is lost.

A short run; `scripts/crash_dav` plays ten thousand changes and more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier

import pytest
from dav_rounds import ALICE, BOOK, CALENDAR, Rounds, body, kind, target
from http_wire import HttpAnswer
from whole_server import WholeServer

pytestmark = pytest.mark.slow

WRITERS, ROUNDS = 8, 6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeServer]:
    with target(tmp_path_factory.mktemp("crash")) as server:
        yield server
        assert server.stop() == 0


def race(server: WholeServer, what: Callable[[int], tuple[str, bytes]], **fields: str) -> list[HttpAnswer]:
    """The answers to eight PUTs at once, each over a connection of its own."""
    begin = Barrier(WRITERS)
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    with ExitStack() as stack, ThreadPoolExecutor(WRITERS) as pool:
        wires = [stack.enter_context(server.dav(ALICE)) for _ in range(WRITERS)]

        def write(number: int) -> HttpAnswer:
            path, data = what(number)
            begin.wait(30)
            return wires[number].ask("PUT", path, data, headers)

        return list(pool.map(write, range(WRITERS)))


@pytest.mark.parametrize("collection", [CALENDAR, BOOK])
def test_of_eight_writers_exactly_one_wins(server: WholeServer, collection: str) -> None:
    path = f"{collection}raced"
    etag = ""
    for number in range(ROUNDS):
        condition = {"If_Match": etag} if etag else {"If_None_Match": "*"}
        bodies = [body(collection, "raced", f"{number}-{n}", large=n % 2 == 0) for n in range(WRITERS)]
        pairs = [(path, each) for each in bodies]
        answers = race(server, pairs.__getitem__, Content_Type=kind(collection), **condition)
        statuses = [answer.status for answer in answers]
        assert sorted(statuses) == [204 if etag else 201, *[412] * (WRITERS - 1)]
        winner = next(n for n in range(WRITERS) if statuses[n] < 300)
        with server.dav(ALICE) as client:
            got = client.ask("GET", path)
        assert got.body == bodies[winner] and got.headers["etag"] == answers[winner].headers["etag"] != etag
        etag = got.headers["etag"]


def test_a_uid_is_given_once(server: WholeServer) -> None:
    answers = race(
        server,
        lambda n: (f"{CALENDAR}place{n}", body(CALENDAR, "only-one", str(n))),
        Content_Type=kind(CALENDAR),
    )
    assert sorted(answer.status for answer in answers) == [201, *[403] * (WRITERS - 1)]
    assert {answer.condition for answer in answers if answer.status == 403} == {"no-uid-conflict"}


def test_who_follows_the_tokens_has_what_the_server_has(server: WholeServer) -> None:
    rounds = Rounds(server, seed=6)
    rounds.play(changes=240, kills=3)
    assert rounds.killed[-1] == "everything"
