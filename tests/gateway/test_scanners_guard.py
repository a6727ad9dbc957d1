"""A scanner that fails is passed over, tried again, and costs nobody more than its time limit."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gateway.scanners.guard import AT_ONCE, FAILURES, PAUSE, Breaker, Guard, ScannerFailed
from storage.clock import FixedClock


async def works() -> str:
    return "result"


async def fails() -> str:
    raise ScannerFailed("is ill")


async def breaks() -> str:
    raise KeyError("a mistake of ours")


async def refuses() -> str:
    raise ConnectionRefusedError


async def hangs() -> str:
    await asyncio.Event().wait()
    return ""


def unknown(reason: str) -> str:
    return f"unknown: {reason}"


def test_the_breaker_opens_tries_and_closes() -> None:
    clock = FixedClock()
    breaker = Breaker(clock, failures=2, pause=10)
    assert breaker.admits() and breaker.admits()
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert breaker.closed
    breaker.failed()
    assert not breaker.closed and not breaker.admits()
    clock.advance(10)
    assert breaker.admits() and not breaker.admits()  # one tries, the others don't
    breaker.failed()
    assert not breaker.admits()
    clock.advance(10)
    assert breaker.admits()
    breaker.gave_up()
    assert breaker.admits()
    breaker.succeeded()
    assert breaker.closed and breaker.admits() and breaker.admits()


@pytest.mark.parametrize("scan", [fails, breaks, refuses, hangs])
def test_a_dead_scanner_costs_a_few_time_limits_not_one_for_each_message(scan: object) -> None:
    clock = FixedClock()
    guard = Guard("clamd", 0.05, clock)
    asked = 0

    async def ask() -> str:
        nonlocal asked
        asked += 1
        return await scan()  # type: ignore[operator]

    async def run() -> None:
        for _ in range(100):
            assert (await guard.run(ask, unknown)).startswith("unknown: clamd ")
        assert asked == FAILURES
        assert (guard.failures, guard.skipped, guard.answers) == (FAILURES, 100 - FAILURES, False)
        clock.advance(PAUSE)
        assert (await guard.run(works, unknown)) == "result"
        assert guard.answers and guard.scans == 1

    asyncio.run(run())


def test_the_log_says_it_once_and_says_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    clock = FixedClock()
    guard = Guard("clamd", 1.0, clock)

    async def run() -> None:
        for _ in range(20):
            await guard.run(fails, unknown)
        clock.advance(PAUSE)
        await guard.run(fails, unknown)
        clock.advance(PAUSE)
        for _ in range(3):
            await guard.run(works, unknown)

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert [record.getMessage() for record in caplog.records] == [
        "clamd fails; messages are judged without it (clamd is ill)",
        "clamd answers again",
    ]


def test_more_at_once_than_one_process_asks_are_not_waited_for() -> None:
    async def run() -> None:
        guard = Guard("clamd", 60.0)
        waiting = [asyncio.create_task(guard.run(hangs, unknown)) for _ in range(AT_ONCE)]
        await asyncio.sleep(0)
        assert await guard.run(works, unknown) == "unknown: clamd has too much to do"
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert await guard.run(works, unknown) == "result"
        assert guard.failures == 0

    asyncio.run(run())


def test_who_goes_away_while_trying_leaves_the_try_to_the_next() -> None:
    async def run() -> None:
        clock = FixedClock()
        guard = Guard("clamd", 60.0, clock)
        for _ in range(FAILURES):
            await guard.run(fails, unknown)
        clock.advance(PAUSE)
        trying = asyncio.create_task(guard.run(hangs, unknown))
        await asyncio.sleep(0)
        trying.cancel()
        await asyncio.gather(trying, return_exceptions=True)
        assert await guard.run(works, unknown) == "result"

    asyncio.run(run())
