"""The threads of an IMAP process: those who sign in wait for each other and for nobody else, and nobody for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import Queue
from typing import Any

import pytest

from hosting.imap.effects import Proof, SignInWork, Work
from hosting.imap.shell.workers import AT_ONCE, THREADS, Workers
from storage.errors import Unavailable


class Loop:
    """The event loop's one part that is needed here."""

    def __init__(self) -> None:
        self._calls: Queue[tuple[Callable[..., None], tuple[Any, ...]]] = Queue()

    def callFromThread(self, call: Callable[..., None], *args: Any) -> None:
        self._calls.put((call, args))

    def turn(self) -> None:
        call, args = self._calls.get(timeout=10)
        call(*args)


class Town:
    """Workers, and sign-ins that are not answered before the auth role `answers`."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.workers = Workers(self.loop)
        self.answers = threading.Event()
        self.asked: list[str] = []
        self.told: dict[str, Any] = {}

    def sign_in(self, who: str, proof: Proof = Proof.PASSWORD) -> Callable[[Any, BaseException | None], None]:
        def verify() -> str:
            self.asked.append(who)
            return who if proof is Proof.QUICK or self.answers.wait(10) else ""

        def done(result: Any, error: BaseException | None) -> None:
            self.told[who] = error or result

        self.workers.run(SignInWork(verify, proof), done)
        return done

    def work(self, name: str) -> None:
        self.workers.run(Work(lambda: name), lambda result, error: self.told.update({name: error or result}))


@pytest.fixture
def town() -> Iterator[Town]:
    made = Town()
    made.workers.start()
    yield made
    made.answers.set()
    made.workers.stop()


def test_a_thousand_who_sign_in_leave_threads_to_all_others(town: Town) -> None:
    for number in range(1000):
        town.sign_in(f"slow {number}", Proof.TOKEN if number % 2 else Proof.PASSWORD)
    town.work("mail")
    town.sign_in("phone", Proof.QUICK)
    town.loop.turn()
    town.loop.turn()
    assert town.told == {"mail": "mail", "phone": "phone"}
    assert len([who for who in town.asked if who != "phone"]) <= 2 * AT_ONCE
    assert len(Proof) * AT_ONCE < THREADS


def test_all_have_their_turn_in_the_order_of_their_coming(town: Town) -> None:
    names = [str(number) for number in range(50)]
    for name in names:
        town.sign_in(name)
    town.answers.set()
    while len(town.told) < len(names):
        town.loop.turn()
    assert town.told == {name: name for name in names}
    for place, name in enumerate(town.asked):  # nobody before those who came earlier, but for the few at the same time
        assert int(name) < place + AT_ONCE


def test_whose_client_has_gone_is_not_asked_for(town: Town) -> None:
    ends = {name: town.sign_in(name) for name in map(str, range(AT_ONCE + 3))}
    last = str(AT_ONCE + 1)
    town.workers.leave(ends[last])
    assert isinstance(town.told.pop(last), Unavailable)
    town.workers.leave(ends[last])
    town.workers.leave(ends["0"])  # it is under way: its answer comes
    town.answers.set()
    while len(town.told) < len(ends) - 1:
        town.loop.turn()
    assert set(town.told) == set(ends) - {last} and last not in town.asked


def test_who_waits_when_the_server_stops_is_told_so(town: Town) -> None:
    for number in range(AT_ONCE + 2):
        town.sign_in(str(number))
    town.workers.refuse_waiting()
    assert [type(told) for told in town.told.values()] == [Unavailable, Unavailable]
    town.answers.set()
    for _ in range(AT_ONCE):
        town.loop.turn()
    assert sorted(town.asked) == [str(number) for number in range(AT_ONCE)]
