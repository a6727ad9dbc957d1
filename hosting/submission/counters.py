"""What submission counts: for the limit of connections per account, and for metrics (plain numbers, no addresses)."""

from __future__ import annotations

from dataclasses import dataclass, field

from storage.logs.access import AccessResult
from storage.values import AccountId

_RESULTS = (
    AccessResult.SUCCESS,
    AccessResult.REFUSED,  # by the rules, for good
    AccessResult.UNAVAILABLE,  # for now
)


@dataclass(slots=True)
class Counters:
    connections_per_account: int
    sign_ins_open: dict[AccountId, int] = field(default_factory=dict)
    messages: dict[AccessResult, int] = field(default_factory=lambda: dict.fromkeys(_RESULTS, 0))

    def enter(self, account_id: AccountId) -> bool:
        """Counts one more signed-in connection of the account; False, and it isn't, if there are too many."""
        open_now = self.sign_ins_open.get(account_id, 0)
        if open_now >= self.connections_per_account:
            return False
        self.sign_ins_open[account_id] = open_now + 1
        return True

    def leave(self, account_id: AccountId) -> None:
        left = self.sign_ins_open[account_id] - 1
        if left:
            self.sign_ins_open[account_id] = left
        else:
            del self.sign_ins_open[account_id]
