"""An account on the disk for tests of what works on accounts."""

from __future__ import annotations

from pathlib import Path

from storage.background import Background
from storage.clock import FixedClock
from storage.files.incarnation import Incarnation
from storage.keys.sealing import Key
from storage.mail.account import Account, Surroundings
from storage.values import AccountId, TenantId

KEY = Key("a" * 32, b"k" * 32)
TENANT, ACCOUNT = TenantId(1), AccountId(7)


class AccountPlace:
    """One data directory with one account, and the process that has it open."""

    def __init__(self, data: Path, *, new: bool = True) -> None:
        self.data = data
        self.root = data / "tenants" / "1" / "accounts" / "7"
        self.clock = FixedClock()
        self.background = Background()
        self.incarnation = Incarnation(data)
        self.surroundings = Surroundings(self.clock, self.incarnation.name, self.background, boot="boot")
        if new:
            Account.create(self.root, TENANT, ACCOUNT, KEY, self.surroundings).close()
        self.account = self.open()

    def open(self) -> Account:
        self.account = Account.open(self.root, TENANT, ACCOUNT, KEY, self.surroundings)
        return self.account

    def settle(self) -> None:
        """Wait for the work in the background."""
        self.background.settle()

    def close(self) -> None:
        self.account.close()
        self.background.close()
        self.incarnation.close()
