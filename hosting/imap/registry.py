"""How many connections an account and an address have in this worker, against the limits."""

from __future__ import annotations

from typing import TypeVar

from hosting.imap.limits import Limits
from storage.errors import LimitReached
from storage.values import AccountId

_Key = TypeVar("_Key")


class Registry:
    """Counts; confined to the event loop."""

    __slots__ = ("_accounts", "_addresses", "_limits", "_open")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._accounts: dict[AccountId, int] = {}
        self._addresses: dict[str, int] = {}
        self._open = 0

    def connect(self, address: str) -> bool:
        """Counts a connection; False: one too many, and it is not counted."""
        count = self._addresses.get(address, 0)
        if count >= self._limits.connections_per_address or self._open >= self._limits.connections:
            return False
        self._addresses[address] = count + 1
        self._open += 1
        return True

    def disconnect(self, address: str) -> None:
        self._open -= 1
        _decrease(self._addresses, address)

    def addresses(self) -> dict[str, int]:
        return dict(self._addresses)

    def enter(self, account_id: AccountId) -> None:
        """Counts a signed-in session. Raises LimitReached."""
        count = self._accounts.get(account_id, 0)
        if count >= self._limits.connections_per_account:
            raise LimitReached("This account has too many connections open.")
        self._accounts[account_id] = count + 1

    def leave(self, account_id: AccountId) -> None:
        _decrease(self._accounts, account_id)


def _decrease(counts: dict[_Key, int], key: _Key) -> None:
    if counts.get(key, 0) <= 1:
        counts.pop(key, None)
    else:
        counts[key] -= 1
