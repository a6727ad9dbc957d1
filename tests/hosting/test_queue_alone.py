"""Only one runner works a queue, though the worker of a server that was killed may still be finishing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from runner_town import RunnerTown, ScriptedRelay

from gateway.dns.resolver import Resolver as DnsResolver
from gateway.queue.runner import Runner
from gateway.queue.schedule import Schedule, Turn
from hosting.roles.queue import QueueService


async def until(holds: Callable[[], object]) -> None:
    while not holds():
        await asyncio.sleep(0.001)


def test_a_second_runner_waits_for_the_end_of_the_first(tmp_path: Path) -> None:
    town = RunnerTown(tmp_path)
    lock = tmp_path / "run" / "queue.lock"

    def service() -> tuple[QueueService, Runner, ScriptedRelay]:
        town.relay = ScriptedRelay()
        runner = town.runner()
        return QueueService(lambda: runner, DnsResolver(), ThreadPoolExecutor(1), lock), runner, town.relay

    async def play() -> None:
        loop = asyncio.get_running_loop()
        first, first_runner, first_relay = service()
        second, _, second_relay = service()
        town.submit("one@far.example")
        first.startService()
        await until(first_relay.taken)
        second.startService()
        town.submit("two@far.example")
        first_runner.look()
        await until(lambda: len(first_relay.taken()) == 2)
        stopping = first.stopService()
        assert stopping is not None
        await stopping.asFuture(loop)
        town.submit("three@far.example")
        await until(second_relay.taken)
        assert second_relay.taken() == ["three@far.example"]
        stopping = second.stopService()
        assert stopping is not None
        await stopping.asFuture(loop)

    try:
        asyncio.run(asyncio.wait_for(play(), 30))
    finally:
        town.close()


def test_one_that_waits_can_be_stopped(tmp_path: Path) -> None:
    town = RunnerTown(tmp_path)
    lock = tmp_path / "run" / "queue.lock"

    async def play() -> None:
        loop = asyncio.get_running_loop()
        first, second = (QueueService(town.runner, DnsResolver(), ThreadPoolExecutor(1), lock) for _ in range(2))
        first.startService()
        second.startService()
        for each in (second, first):
            stopping = each.stopService()
            assert stopping is not None
            await stopping.asFuture(loop)

    try:
        asyncio.run(asyncio.wait_for(play(), 30))
    finally:
        town.close()


def test_a_runner_that_ends_by_a_fault_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    town = RunnerTown(tmp_path)
    monkeypatch.setattr("hosting.roles.queue._BEGIN_AGAIN", 0.001)
    take, faults = Schedule.take, [KeyError("a fault"), KeyError("another")]

    def faulty(schedule: Schedule, now: int) -> Turn | None:
        if faults:
            raise faults.pop()
        return take(schedule, now)

    monkeypatch.setattr(Schedule, "take", faulty)

    async def play() -> None:
        service = QueueService(town.runner, DnsResolver(), ThreadPoolExecutor(1), tmp_path / "run" / "queue.lock")
        town.submit("one@far.example")
        service.startService()
        await until(town.relay.taken)
        stopping = service.stopService()
        assert stopping is not None
        await stopping.asFuture(asyncio.get_running_loop())

    try:
        asyncio.run(asyncio.wait_for(play(), 30))
    finally:
        town.close()
    assert town.relay.taken() == ["one@far.example"]
