"""A contract ends under load: what is acknowledged was there before the fence, the rest fails, and nobody hangs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from ending_town import EndingTown

from storage.changes import AccountEnded, Subscriber, TenantEnded
from storage.database.lockfile import LockFile, lock_path
from storage.errors import CleanmailError, Gone, NotFound
from storage.filter.correspondents import Correspondents
from storage.installation import Installation
from storage.queue.withdrawal import Withdrawn
from storage.values import AccountId, EmailAddress, TenantId

LOAD = 20  # acknowledged writes before it ends
JOIN = 20.0
ROOT = Path(__file__).resolve().parents[2]


class OtherProcess:
    """Lets go of what ends when it is told to, as every role does."""

    def __init__(self, town: EndingTown) -> None:
        self.installation: Installation = town.another()
        self._subscriber = Subscriber(town.data, town.clock, mailboxes=False)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self._over.wait(0.005):
            for change in self._subscriber.drain():
                if isinstance(change, TenantEnded):
                    self.installation.forget_tenant(change.tenant_id, 0.5)
                elif isinstance(change, AccountEnded):
                    self.installation.forget_account(change.tenant_id, change.account_id, 0.5)

    def close(self) -> None:
        self._over.set()
        self._thread.join(JOIN)
        self._subscriber.close()
        self.installation.close()


class Load:
    """Threads that write as fast as they can until they are told that it is over."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self.unexpected: list[BaseException] = []
        self._guard = threading.Lock()
        self._enough = threading.Event()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def add(self, write: Callable[[str], bool]) -> None:
        """`write` gets a name that nobody else has, and says whether it was acknowledged."""
        name = f"load-{len(self._threads)}"
        thread = threading.Thread(target=self._run, args=(name, write))
        self._threads.append(thread)
        thread.start()

    def _run(self, name: str, write: Callable[[str], bool]) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            try:
                acknowledged = write(f"{name}-{number}")
            except CleanmailError:
                acknowledged = False
                self._over.wait(0.01)  # so that who fails does not keep others from their work
            except BaseException as error:
                self.unexpected.append(error)
                return
            with self._guard:
                self.acknowledged += acknowledged
                if self.acknowledged >= LOAD:
                    self._enough.set()

    def under_way(self) -> None:
        assert self._enough.wait(JOIN)

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(JOIN)
            assert not thread.is_alive(), "it hangs"


@pytest.mark.parametrize("whole", [True, False], ids=["tenant", "account"])
def test_it_ends_under_load(tmp_path: Path, whole: bool) -> None:
    town = EndingTown(tmp_path)
    tenant_id = town.tenant()
    anna = town.account(tenant_id)
    other = OtherProcess(town)
    delivered, queued, learned = Load(), Load(), Load()
    loads = (delivered, queued, learned)
    for installation in (town.installation, other.installation):
        for _ in range(2):
            delivered.add(lambda name, by=installation: town.deliver(tenant_id, anna, name, by=by))  # type: ignore[misc]
            queued.add(lambda name, by=installation: bool(town.queued(tenant_id, anna, by=by)))  # type: ignore[misc]
        learned.add(lambda name, by=installation: learn(by, tenant_id, anna, name))  # type: ignore[misc]
    try:
        for load in loads:
            load.under_way()
        ending_id = town.order(tenant_id, None if whole else anna)
        certificate = town.carry_out(ending_id)
    finally:
        for load in loads:
            load.end()
    for load in loads:
        assert load.unexpected == []
    # Everything that was acknowledged was there to be erased; what failed may have been there, or not.
    assert certificate.counts.messages >= delivered.acknowledged
    if whole:
        assert certificate.counts.queue_entries == queued.acknowledged
        assert not (tmp_path / "tenants" / str(tenant_id)).exists()
        assert town.installation.queue.what_waits(tenant_id) == Withdrawn()
        with pytest.raises(Gone):
            town.installation.tenant(tenant_id)
    else:
        assert not (tmp_path / "tenants" / str(tenant_id) / "accounts" / str(anna)).exists()
        with pytest.raises(NotFound):
            town.installation.tenant(tenant_id).account(anna)
    assert list((tmp_path / "erasing").iterdir()) == []
    other.close()
    town.close()


def test_an_account_is_closed_when_its_last_user_leaves_while_it_is_let_go_of(tmp_path: Path) -> None:
    town = EndingTown(tmp_path)
    tenant_id = town.tenant()
    anna = town.account(tenant_id)
    lease = town.installation.account(tenant_id, anna)
    database = lease.__enter__().database.path
    forgetting = threading.Thread(target=town.installation.forget_account, args=(tenant_id, anna, JOIN))
    forgetting.start()
    refused = False
    while not refused:  # until it is waited for
        try:
            with town.installation.account(tenant_id, anna):
                pass
        except Gone:
            refused = True
    assert forgetting.is_alive()
    lease.__exit__(None, None, None)
    forgetting.join(JOIN)
    assert not forgetting.is_alive()
    lock = LockFile(lock_path(database))
    with lock.exclusively(0):  # nobody has it open
        pass
    lock.close()
    town.close()


def test_nothing_that_goes_on_holds_a_key_of_what_was_let_go_of(tmp_path: Path) -> None:
    """No object of a process that had opened everything: neither the key nor the database's, as octets or as digits."""
    program = Path(__file__).resolve().parents[1] / "support" / "key_memory.py"
    data = tmp_path / "data"
    data.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    said = subprocess.run(
        [sys.executable, str(program), str(data)], capture_output=True, check=True, env=environment, cwd=ROOT
    )
    held = json.loads(said.stdout)
    assert all(held["before"])
    account, tenant = held["account"]
    assert (account, bool(tenant)) == ({}, True)
    assert held["tenant"] == [{}, {}]


def learn(installation: Installation, tenant_id: TenantId, account_id: AccountId, name: str) -> bool:
    correspondents: Correspondents = installation.tenant(tenant_id).correspondents
    correspondents.record(account_id, [EmailAddress.parse(f"{name}@elsewhere.test")])
    installation.tenant(tenant_id).flush(at_once=True)
    return True
