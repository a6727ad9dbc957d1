#!/usr/bin/env python3
"""What an erasure costs among many tenants and among few, and how fast it removes, beside `rm -rf` of the same tree.

    scripts/bench/ending.py [--tenants 10000] [--accounts 20] [--messages 2000] [--large 20000] [--size 8000] [--on DIR]

Makes one installation with ten tenants and one with so many, each with keys of its own and of two accounts, a domain, a
folder and a lease, by the same code as always, but without waiting for the disk and without databases in those folders,
which no erasure of somebody else opens. In both, contracts of three tenants with so many accounts and
messages end, by turns, with everything durable; the median counts. Printed are the seconds to unreadable (the keys are
destroyed), of the search for remains, and to the certificate, and how many files are opened meanwhile. Then a large
tenant ends, and `rm -rf` removes a copy of its folder, in the same run. The page cache is warm.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from storage.clock import SystemClock
from storage.directory.provisioning import Provisioning
from storage.ending.ending import carry_out
from storage.ending.orders import order_tenant
from storage.ending.processes import Nobody
from storage.ending.steps import Step
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master, read_master_file, write_master_file
from storage.keys.source import LocalKeys
from storage.mail.outcomes import NewMessage
from storage.values import Domain, EmailAddress, TenantId

CLOCK = SystemClock()
FEW = 10
ACCOUNTS_OF_OTHERS = 2
ENDED = 3  # of each kind
_WORDS = [f"word{n:04d}" for n in range(4000)]
_opened = itertools.count()


def _count_opens(event: str, _: tuple[Any, ...]) -> None:
    if event == "open":
        next(_opened)


def _opened_until_now() -> int:
    return next(_opened)


@dataclass(frozen=True)
class Measured:
    unreadable: float
    search: float
    whole: float
    opened: int
    removal: float  # of it, seconds in which files were removed


class Town:
    def __init__(self, folder: Path, tenants: int) -> None:
        folder.mkdir()
        self.data = folder / "data"
        self.data.mkdir()
        write_master_file(folder / "master", Master.generate())
        self._master = read_master_file(folder / "master")
        self._place = folder / "master"
        keys = LocalKeys(KeyStore.create(self.data / "keys", self._master, CLOCK))
        Installation.create(self.data, keys, CLOCK)
        self.installation = Installation(self.data, keys, CLOCK)
        begun = time.monotonic()
        with without_fsync():
            for number in range(tenants):
                self.other(f"t{number}")
        seconds = time.monotonic() - begun
        print(f"{tenants:,} tenants made in {seconds:.1f} s ({tenants / seconds:.0f}/s, not durable)", flush=True)

    def other(self, slug: str) -> None:
        """What an erasure of another tenant may come across: keys, rows of the directory, a folder, a lease."""
        control, keys = self.installation.control, self.installation.keys
        tenant_id = control.next_tenant_id()
        keys.create_tenant_key(tenant_id)
        for _ in range(ACCOUNTS_OF_OTHERS):
            keys.create_account_key(tenant_id, control.next_account_id())
        (self.data / "tenants" / str(int(tenant_id)) / "accounts").mkdir(parents=True)
        leases = self.data / "run" / "leases"
        leases.mkdir(parents=True, exist_ok=True)
        (leases / str(int(tenant_id))).touch()
        control.insert_tenant(tenant_id, slug, slug)
        control.add_domain(tenant_id, Domain.parse(f"{slug}.test"))

    def tenant(self, slug: str, accounts: int = 0, messages: int = 0, size: int = 0) -> TenantId:
        provisioning, draw = Provisioning(self.installation), random.Random(1)
        tenant_id = provisioning.create_tenant(slug, slug).tenant_id
        self.installation.control.add_domain(tenant_id, Domain.parse(f"{slug}.test"))
        for number in range(accounts):
            address = EmailAddress.parse(f"user{number}@{slug}.test")
            account_id = provisioning.create_account(tenant_id, address).account_id
            with self.installation.account(tenant_id, account_id) as account:
                inbox = account.mailboxes.find("INBOX").id
                for first in range(0, messages // accounts, 100):
                    count = min(100, messages // accounts - first)
                    account.messages.append_many(inbox, [_mail(draw, size) for _ in range(count)])
        self.installation.forget_tenant(tenant_id)
        return tenant_id

    def end(self, tenant_id: TenantId) -> Measured:
        """As a process that has just begun."""
        self.installation.close()
        keys = LocalKeys(KeyStore(self.data / "keys", read_master_file(self._place), CLOCK))
        self.installation = Installation(self.data, keys, CLOCK)
        at: dict[Step, float] = {}

        def progress(step: Step, done: int, total: int) -> None:
            at.setdefault(step, time.monotonic())

        os.sync()
        before, begun = _opened_until_now(), time.monotonic()
        ending_id = order_tenant(self.installation, tenant_id, "bench", "")
        carry_out(self.installation, ending_id, people=Nobody(), progress=progress)
        end = time.monotonic()
        return Measured(
            unreadable=at[Step.MOVED] - begun,
            search=at[Step.CERTIFIED] - at[Step.SEARCHED],
            whole=end - begun,
            opened=_opened_until_now() - before,
            removal=at[Step.SEARCHED] - at[Step.FILES_REMOVED],
        )


@contextmanager
def without_fsync() -> Iterator[None]:
    """Nothing waits for the disk: for what is thrown away afterwards."""
    kept = os.fsync, os.fdatasync
    os.fsync = os.fdatasync = lambda _: None  # type: ignore[assignment]
    try:
        yield
    finally:
        os.fsync, os.fdatasync = kept


def _mail(draw: random.Random, size: int) -> NewMessage:
    text = " ".join(draw.choices(_WORDS, k=size // 9))
    return NewMessage(f"From: a@example.org\r\nSubject: {draw.choice(_WORDS)}\r\n\r\n{text}\r\n".encode())


def _files(folder: Path) -> tuple[int, int]:
    """How many, and their octets."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, default=10_000)
    parser.add_argument("--accounts", type=int, default=20)
    parser.add_argument("--messages", type=int, default=2_000, help="of a tenant")
    parser.add_argument("--large", type=int, default=20_000, help="messages of the large tenant")
    parser.add_argument("--size", type=int, default=8_000, help="octets of a message, more or less")
    parser.add_argument("--on", type=Path, default=None, help="where it is done; the system's folder for such things")
    asked = parser.parse_args()
    sys.addaudithook(_count_opens)
    with tempfile.TemporaryDirectory(prefix="ending-bench-", dir=asked.on) as folder:
        bench(Path(folder), asked)


def bench(folder: Path, asked: argparse.Namespace) -> None:
    towns = {FEW: Town(folder / "few", FEW), asked.tenants: Town(folder / "many", asked.tenants)}
    measured: dict[int, list[Measured]] = {count: [] for count in towns}
    for number in range(ENDED):
        for count, town in towns.items():
            with without_fsync():
                tenant_id = town.tenant(f"gone{number}", asked.accounts, asked.messages, asked.size)
            measured[count].append(town.end(tenant_id))
    print(f"\nOne tenant of {asked.accounts} accounts and {asked.messages:,} messages ends")
    print(f"{'':24} {'unreadable':>11} {'search':>8} {'whole':>8} {'files opened':>13}")
    medians = []
    for count, each in measured.items():
        values = [statistics.median(getattr(one, name) for one in each) for name in ("unreadable", "search", "whole")]
        medians.append(values)
        opened = int(statistics.median(one.opened for one in each))
        print(f"among {count:>8,} tenants {values[0]:>11.2f} s {values[1]:>6.2f} s {values[2]:>6.2f} s {opened:>12,}")
    ratios = [many / few for few, many in zip(*medians, strict=True)]
    print(f"{'ratio':24} {ratios[0]:>11.2f} {ratios[1]:>8.2f} {ratios[2]:>8.2f}\n")
    _removal(folder, towns[FEW], asked)


def _removal(folder: Path, town: Town, asked: argparse.Namespace) -> None:
    with without_fsync():
        tenant_id = town.tenant("large", asked.accounts, asked.large, asked.size)
    tree = town.data / "tenants" / str(int(tenant_id))
    files, octets = _files(tree)
    print(f"A tenant of {asked.large:,} messages, {files:,} files, {octets / 1e6:.0f} MB ends")
    shutil.copytree(tree, folder / "copy")
    os.sync()
    begun = time.monotonic()
    subprocess.run(["rm", "-rf", str(folder / "copy")], check=True)
    plain = time.monotonic() - begun
    found = town.end(tenant_id)
    for name, seconds in (("rm -rf", plain), ("files removed", found.removal), ("to the certificate", found.whole)):
        rates = f"{asked.large / seconds:>10,.0f} messages/s {octets / seconds / 1e6:>8,.0f} MB/s"
        print(f"{name:24} {seconds:>8.2f} s {rates}")
    print(f"{'unreadable':24} {found.unreadable:>8.2f} s")


if __name__ == "__main__":
    main()
