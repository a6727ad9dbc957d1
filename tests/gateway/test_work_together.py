"""Work that goes together: each gets its own result, nobody waits for a batch to fill, none is larger than allowed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.work import LARGE, Together, Work


class Batches:
    """Halves even numbers; the first run waits until it is let go."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.go = threading.Event()

    def carry_out(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.sizes.append(len(numbers))
        if len(self.sizes) == 1:
            assert self.go.wait(10)
        return [number // 2 if number % 2 == 0 else ValueError(number) for number in numbers]


def test_what_comes_meanwhile_goes_together_and_errors_are_its_own() -> None:
    batches = Batches()

    async def play() -> list[int | BaseException]:
        with ThreadPoolExecutor(4) as pool:
            together = Together(Work(pool), batches.carry_out, most=4)
            first = asyncio.create_task(together.run(100))
            while not batches.sizes:
                await asyncio.sleep(0)
            rest = [asyncio.create_task(together.run(number)) for number in range(9)]
            gone = asyncio.create_task(together.run(50))
            await asyncio.sleep(0)
            gone.cancel()
            batches.go.set()
            results = await asyncio.gather(first, *rest, return_exceptions=True)
            assert await together.run(4) == 2  # and it begins anew
            return results

    results = asyncio.run(play())
    assert results[0] == 50
    assert [result for result in results[1:] if isinstance(result, int)] == [0, 1, 2, 3, 4]
    assert [str(result) for result in results[1:] if isinstance(result, ValueError)] == ["1", "3", "5", "7"]
    assert batches.sizes == [1, 4, 4, 2, 1]


def test_a_run_that_fails_is_told_to_all_who_wait_for_it() -> None:
    def broken(numbers: Sequence[int]) -> list[int | Exception]:
        raise OSError("the disk is gone")

    async def play() -> list[int | BaseException]:
        with ThreadPoolExecutor(1) as pool:
            together: Together[int, int] = Together(Work(pool), broken)
            return await asyncio.gather(together.run(1), together.run(2), return_exceptions=True)

    results = asyncio.run(play())
    assert [type(result) for result in results] == [OSError, OSError]
    with pytest.raises(OSError, match="gone"):
        raise results[0]  # type: ignore[misc]


def test_a_large_message_keeps_its_turn_until_its_thread_is_done() -> None:
    """Whoever waited for it may have given up: the memory is in use all the same."""
    began, go = threading.Semaphore(0), threading.Event()

    def hold() -> None:
        began.release()
        assert go.wait(10)

    async def play() -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(4) as pool:
            work = Work(pool, large_at_once=1)
            given_up = asyncio.create_task(work.run_on(LARGE + 1, hold))
            await loop.run_in_executor(None, began.acquire)
            given_up.cancel()
            next_ = asyncio.create_task(work.run_on(LARGE + 1, hold))
            with pytest.raises(asyncio.CancelledError):
                await given_up
            assert not began.acquire(blocking=False), "the next one waits"
            assert await work.run_on(1, lambda: 7) == 7
            assert not began.acquire(blocking=False)
            go.set()
            await next_
            assert began.acquire(blocking=False)

    asyncio.run(play())
