#!/usr/bin/env python3
"""What a backup costs, beside copying the same folder with `cp -a` and `rsync -a --link-dest`.

    scripts/bench/backup.py [--accounts 20] [--messages 20000] [--size 8000] [--on DIR]

Makes an installation with so many accounts and messages, all indexed as they would be, then takes turns in one run: a
full backup, one of the unchanged installation, one after every account got a message, and the same by cp and rsync
(which neither hash nor verify a page, and whose copies of databases under way would be worth nothing). Prints seconds,
messages/s and MB/s. The page cache is warm in all of them; `sync` is counted in, since a backup is durable when it is
done.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from storage.backup.backup import BackupRun
from storage.backup.place import Place
from storage.backup.restoring import restore_account
from storage.backup.saved import SavedTenant
from storage.backup.verifying import verify
from storage.backup.whole import restore_installation
from storage.clock import SystemClock
from storage.directory.provisioning import Provisioning
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master, read_master_file, write_master_file
from storage.keys.source import LocalKeys
from storage.mail.outcomes import NewMessage
from storage.values import AccountId, Domain, EmailAddress, TenantId

CLOCK = SystemClock()
TENANT = TenantId(1)
_WORDS = [f"word{n:04d}" for n in range(4000)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, default=20)
    parser.add_argument("--messages", type=int, default=20_000, help="of all accounts together")
    parser.add_argument("--size", type=int, default=8_000, help="octets of a message, more or less")
    parser.add_argument("--on", type=Path, default=None, help="where it is done; the system's folder for such things")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="backup-bench-", dir=asked.on) as folder:
        Bench(Path(folder), asked.accounts, asked.messages, asked.size).run()


class Bench:
    def __init__(self, folder: Path, accounts: int, messages: int, size: int) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir()
        self.messages = messages
        write_master_file(folder / "master", Master.generate())
        keys = LocalKeys(KeyStore.create(self.data / "keys", read_master_file(folder / "master"), CLOCK))
        Installation.create(self.data, keys, CLOCK)
        self.installation = Installation(self.data, keys, CLOCK)
        self.place = Place(folder / "to")
        self.ids = self._fill(accounts, messages, size)
        self.octets = _octets(self.data / "tenants")
        print(f"{accounts} accounts, {messages:,} messages, {self.octets / 1e6:.0f} MB on the disk\n")
        print(f"{'':44} {'seconds':>8} {'messages/s':>11} {'MB/s':>7}")

    def _fill(self, accounts: int, messages: int, size: int) -> list[AccountId]:
        provisioning, draw = Provisioning(self.installation), random.Random(1)
        provisioning.create_tenant("one", "one")
        self.installation.control.add_domain(TENANT, Domain.parse("one.test"))
        ids = []
        for number in range(accounts):
            row = provisioning.create_account(TENANT, EmailAddress.parse(f"user{number}@one.test"))
            ids.append(row.account_id)
            with self.installation.account(TENANT, row.account_id) as account:
                inbox = account.mailboxes.find("INBOX").id
                for first in range(0, messages // accounts, 100):
                    count = min(100, messages // accounts - first)
                    account.messages.append_many(inbox, [_mail(draw, size) for _ in range(count)])
                while account.index.work():
                    pass
        self.installation.close()
        keys = self.installation.keys
        self.installation = Installation(self.data, keys, CLOCK)
        time.sleep(2.5)  # until the file system's clock tells a write from the next
        return ids

    def run(self) -> None:
        self._measure("cleanmail backup, the first", self._backup)
        self._measure("cp -a", lambda: self._command("cp", "-a", str(self.data), str(self.folder / "cp1")))
        rsync = shutil.which("rsync")
        if rsync:
            self._measure("rsync -a", lambda: self._command(rsync, "-a", f"{self.data}/", str(self.folder / "r1")))
        print()
        self._measure("cleanmail backup, nothing changed", self._backup)
        self._measure(
            "cp -a, nothing changed", lambda: self._command("cp", "-a", str(self.data), str(self.folder / "cp2"))
        )
        if rsync:
            link = f"--link-dest={self.folder / 'r1'}"
            self._measure(
                "rsync -a --link-dest, nothing changed",
                lambda: self._command(rsync, "-a", link, f"{self.data}/", str(self.folder / "r2")),
            )
        print()
        self._write_one_to_each()
        self._measure("cleanmail backup, each account has a new one", self._backup)
        if rsync:
            link = f"--link-dest={self.folder / 'r2'}"
            self._measure(
                "rsync -a --link-dest, the same",
                lambda: self._command(rsync, "-a", link, f"{self.data}/", str(self.folder / "r3")),
            )
        print()
        stored = self.place.at(None)
        self._measure("cleanmail backup verify --all", lambda: verify(self.installation, stored, every=True))
        self._measure("cleanmail restore --account, one", self._restore_account, self.messages // len(self.ids))
        self._measure("cleanmail restore --installation", self._restore_installation)
        self.installation.close()

    def _measure(self, what: str, do: Callable[[], object], messages: int = 0) -> None:
        os.sync()
        began = time.perf_counter()
        do()
        seconds = time.perf_counter() - began
        count = messages or self.messages
        share = self.octets * count / self.messages
        print(f"{what:44} {seconds:8.2f} {count / seconds:11,.0f} {share / 1e6 / seconds:7.0f}", flush=True)

    def _backup(self) -> None:
        made = BackupRun(self.installation, self.place).make()
        assert not made.stored.manifest.missing and not made.stored.manifest.skipped

    def _command(self, *command: str) -> None:
        subprocess.run(command, check=True)
        os.sync()

    def _write_one_to_each(self) -> None:
        draw = random.Random(2)
        for account_id in self.ids:
            with self.installation.account(TENANT, account_id) as account:
                account.messages.append_many(account.mailboxes.find("INBOX").id, [_mail(draw, 8000)])

    def _restore_account(self) -> None:
        stored = self.place.at(None)
        with (
            SavedTenant(stored, TENANT, self.installation.keys, CLOCK, self.data) as saved,
            self.installation.account(TENANT, self.ids[0]) as account,
        ):
            assert not restore_account(saved.account(self.ids[0]), account).unreadable

    def _restore_installation(self) -> None:
        target = self.folder / "new"
        target.mkdir()
        shutil.copytree(self.data / "keys", target / "keys")
        keys = LocalKeys(KeyStore(target / "keys", read_master_file(self.folder / "master"), CLOCK))
        restore_installation(self.place, self.place.at(None), target, keys, CLOCK)


def _mail(draw: random.Random, size: int) -> NewMessage:
    words = " ".join(draw.choices(_WORDS, k=max(1, size // 9)))
    head = (
        f"From: a@else.test\r\nTo: b@one.test\r\nSubject: {words[:40]}\r\nMessage-ID: <{draw.random()}@else.test>\r\n"
    )
    return NewMessage(f"{head}\r\n{words}\r\n".encode())


def _octets(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
