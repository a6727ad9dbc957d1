"""What submission counts: signed-in connections of each account, over all processes, and messages for metrics."""

from __future__ import annotations

from gateway.smtp.shared_limits import SharedLimits
from storage.logs.access import AccessResult
from storage.values import AccountId

_KIND = "submission account"
_RESULTS = (
    AccessResult.SUCCESS,
    AccessResult.REFUSED,  # by the rules, for good
    AccessResult.UNAVAILABLE,  # for now
)


class Counters:
    def __init__(self, connections_per_account: int, shared: SharedLimits) -> None:
        self._most = connections_per_account
        self._shared = shared
        self.messages: dict[AccessResult, int] = dict.fromkeys(_RESULTS, 0)

    def enter(self, account_id: AccountId) -> bool:
        """Counts one more signed-in connection of the account; False, and it isn't, if there are too many."""
        return self._shared.enter(_KIND, str(account_id), self._most)

    def leave(self, account_id: AccountId) -> None:
        self._shared.leave(_KIND, str(account_id))
