"""Answers that come no earlier than a while after their question."""

from __future__ import annotations

import threading
import time

import pytest

from hosting.auth.floor import Floor


def fails() -> int:
    raise ValueError("refused")


def test_results_and_refusals_wait_and_keep_their_order() -> None:
    floor, started = Floor(0.02), time.monotonic()
    answers = [floor.answer(lambda number=number: number) for number in range(100)]
    refusal = floor.answer(fails)
    assert [answer.result(20) for answer in answers] == [*range(100)]
    with pytest.raises(ValueError, match="refused"):
        refusal.result(20)
    assert time.monotonic() - started >= 0.02


def test_the_work_is_done_at_once_by_who_asks_for_it() -> None:
    threads: list[threading.Thread] = []
    Floor(0.01).answer(lambda: threads.append(threading.current_thread())).result(20)
    assert threads == [threading.current_thread()]


def test_a_result_that_tells_nothing_need_not_wait() -> None:
    floor = Floor(3600)
    assert floor.answer(lambda: 1, only_refusals=True).done()


def test_what_took_longer_is_told_at_once() -> None:
    assert Floor(0).answer(lambda: 1).done()
    assert Floor(0).answer(fails).done()
