"""Each second's housekeeping does not wait for accounts that are let rest."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.task import Clock as Hands
from twisted.python.threadpool import ThreadPool

from hosting.roles.housekeeping import every_second
from storage.clock import FixedClock
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.values import AccountId, TenantId


class Reactor(Hands):
    """Time goes on when it is told to; what threads have done is waited for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pool = ThreadPool(2, 2)  # type: ignore[no-untyped-call]
        self.done: queue.Queue[Callable[[], object]] = queue.Queue()
        self.pool.start()  # type: ignore[no-untyped-call]

    def getThreadPool(self) -> ThreadPool:
        return self.pool

    def callFromThread(self, call: Callable[..., object], *values: Any) -> None:
        self.done.put(lambda: call(*values))

    def pass_second(self) -> None:
        """And what is done in a thread in it."""
        self.advance(1)  # type: ignore[no-untyped-call]
        self.done.get(timeout=10)()


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    yield reactor
    reactor.pool.stop()  # type: ignore[no-untyped-call]


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    clock = FixedClock()
    keys = LocalKeys(KeyStore.create(tmp_path / "keys", Master.generate(), clock))
    Installation.create(tmp_path, keys, clock)
    installation = Installation(tmp_path, keys, clock)
    yield installation
    installation.close()


def test_heartbeats_go_on_while_a_disk_is_slow_for_accounts_that_rest(
    reactor: Reactor, installation: Installation
) -> None:
    tenant, account = TenantId(1), AccountId(1)
    installation.make_tenant(tenant)
    installation.make_account(tenant, account)
    beats: list[int] = []
    service = every_second(SimpleNamespace(reactor=reactor, installation=installation), lambda: beats.append(1))  # type: ignore[arg-type]
    with installation.account(tenant, account) as opened:
        database = opened.database
        database.data_version()
        installation.rest_accounts()
        database._checkpointing.acquire()  # as long as the disk works on it
        try:
            service.startService()  # type: ignore[no-untyped-call]
            for _ in range(15):
                reactor.pass_second()
        finally:
            database._checkpointing.release()
        reactor.done.get(timeout=10)()
        assert len(beats) == 15
        assert database.rest()  # it was let go of
        service.stopService()  # type: ignore[no-untyped-call]
        reactor.done.get(timeout=10)()
