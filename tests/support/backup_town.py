"""An installation with two tenants and a folder of backups, for tests of backup and restore."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from storage.backup.backup import BackupRun, Made
from storage.backup.place import Keep, Place
from storage.clock import FixedClock
from storage.directory.provisioning import Provisioning
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master, read_master_file, write_master_file
from storage.keys.source import LocalKeys
from storage.mail.account import Account
from storage.mail.outcomes import NewMessage
from storage.values import AccountId, Domain, EmailAddress, TenantId

ONE, TWO = TenantId(1), TenantId(2)
ALICE, BOB, MALLORY = AccountId(1), AccountId(2), AccountId(3)
ADDRESSES = {"alice@one.test": (ONE, ALICE), "bob@one.test": (ONE, BOB), "mallory@two.test": (TWO, MALLORY)}


class BackupTown:
    def __init__(self, folder: Path, *, another: bool = False) -> None:
        """All of them are copies of one installation, unless it has to be another."""
        self.data = folder / "data"
        self.to = folder / "to"
        self.place = Place(self.to)
        self.clock = FixedClock(float(int(time.time())))
        if another:
            self._make()
        else:
            shutil.copytree(_template(), self.data)
        self.installation = self.open()

    def _make(self) -> None:
        self.data.mkdir(mode=0o700)
        write_master_file(self.data / "keys" / "master", Master.generate())
        KeyStore.create(self.data / "keys", read_master_file(self.data / "keys" / "master"), self.clock)
        Installation.create(self.data, self.keys(), self.clock)
        self.installation = self.open()
        provisioning = Provisioning(self.installation)
        for slug in ("one", "two"):
            tenant_id = provisioning.create_tenant(slug, slug).tenant_id
            self.installation.control.add_domain(tenant_id, Domain.parse(f"{slug}.test"))
            self.installation.control.verify_domain(Domain.parse(f"{slug}.test"), None)
        for address, whose in ADDRESSES.items():
            row = provisioning.create_account(whose[0], EmailAddress.parse(address))
            assert row.account_id == whose[1]
            self.fill(whose, address, 3)
        self.installation.close()

    def keys(self, data: Path | None = None) -> LocalKeys:
        folder = (data or self.data) / "keys"
        return LocalKeys(KeyStore(folder, read_master_file(folder / "master"), self.clock))

    def open(self, data: Path | None = None) -> Installation:
        return Installation(data or self.data, self.keys(data), self.clock)

    def fill(self, whose: tuple[TenantId, AccountId], token: str, count: int, mailbox: str = "INBOX") -> None:
        with self.installation.account(*whose) as account:
            account.messages.append_many(account.mailboxes.find(mailbox).id, [mail(token, n) for n in range(count)])

    def backup(self, keep: Keep | None = None, **options: Any) -> Made:
        """A minute later than the one before."""
        self.clock.advance(60)
        return BackupRun(self.installation, self.place, keep, **options).make()

    def settle(self) -> None:
        """As if nobody had written to a database for a while, and nothing of a log waited to be moved."""
        self.installation.close()
        for path in self.data.rglob("*.db*"):
            os.utime(path, (1_700_000_000, 1_700_000_000))
        self.installation = self.open()

    def with_account(self, whose: tuple[TenantId, AccountId], do: Callable[[Account], Any]) -> Any:
        with self.installation.account(*whose) as account:
            return do(account)

    def close(self) -> None:
        self.installation.close()


@cache
def _template() -> Path:
    """Made once in a process."""
    folder = Path(tempfile.mkdtemp(prefix="backup-town-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    town = BackupTown(folder, another=True)
    town.close()
    return town.data


def mail(token: str, number: int) -> NewMessage:
    text = f"From: someone@else.test\r\nSubject: {token} {number}\r\n\r\nText of {token}, {number}.\r\n"
    return NewMessage(text.encode(), keywords=("work",) if number % 2 else (), internal_date=1_600_000_000 + number)


def contents(account: Account, below: str = "") -> dict[str, list[tuple[bytes, int, frozenset[str], int]]]:
    """By mailbox: octets, flags, keywords and date of each message."""
    found = {}
    for mailbox in account.mailboxes.list():
        if not mailbox.name.startswith(below):
            continue
        names = account.mailboxes.keywords(mailbox.id)
        columns = ("message_id", "flags", "internal_date")
        found[mailbox.name.removeprefix(below)] = [
            (
                account.messages.read_message(message_id),
                flags & 0xFF,
                frozenset(name for bit, name in names.items() if flags >> bit & 1),
                internal_date,
            )
            for message_id, flags, internal_date in account.messages.fetch_rows(mailbox.id, 1, 2**32 - 1, columns)
        ]
    return found
