"""Open accounts of a process: as few as allowed, as many as are in use.

An account stays open as long as somebody holds it, and after that until its place is needed; the one that was used
longest ago goes first. Opening the thousandth costs what opening the first did. Accounts in use are never closed, so
there may be more than `max_open` when more are in use.

Raises: what opening raises; Gone for what was expelled; Unavailable once the pool is closed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Condition
from types import TracebackType

from storage.errors import Gone, Unavailable
from storage.mail.account import Account
from storage.mail.quota import Limits
from storage.values import AccountId, TenantId

Owner = tuple[TenantId, AccountId]
Open = Callable[[TenantId, AccountId], Account]


class _Place:
    __slots__ = ("account", "closed", "users")

    def __init__(self) -> None:
        self.closed = False  # while it is in use: it has ended, and whoever uses it last leaves the place
        self.account: Account | None = None  # None: somebody opens or closes it
        self.users = 0


class Lease(AbstractContextManager[Account]):
    """Holds an account open between `__enter__`, which may open it and so blocks, and `__exit__`, which is quick."""

    __slots__ = ("_account", "_limits", "_owner", "_pool")

    def __init__(self, pool: AccountPool, owner: Owner, limits: Limits | None) -> None:
        self._pool = pool
        self._owner = owner
        self._limits = limits
        self._account: Account | None = None

    def __enter__(self) -> Account:
        account = self._account = self._pool.take(self._owner)
        if self._limits is not None:
            account.limits = self._limits
        return account

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._account is not None:
            self._account = None
            self._pool.give_back(self._owner)


class AccountPool:
    def __init__(self, open_account: Open, max_open: int) -> None:
        self._open = open_account
        self._max_open = max_open
        self._changed = Condition()
        self._places: dict[Owner, _Place] = {}
        self._unused: OrderedDict[Owner, _Place] = OrderedDict()  # that nobody holds, the one used longest ago first
        self._expelled: set[tuple[TenantId, AccountId | None]] = set()  # their numbers are never used again
        self._closed = False

    def lease(self, tenant_id: TenantId, account_id: AccountId, limits: Limits | None = None) -> Lease:
        """With `limits`, they become what the account may store."""
        return Lease(self, (tenant_id, account_id), limits)

    def is_open(self, owner: Owner) -> bool:
        """Whether taking it would open nothing, at this moment."""
        place = self._places.get(owner)
        return place is not None and place.account is not None

    def take(self, owner: Owner) -> Account:
        """The account, open, with one more user."""
        with self._changed:
            while True:
                if self._closed:
                    raise Unavailable(detail="the accounts are closed")
                self._check_not_expelled(owner)
                place = self._places.get(owner)
                if place is None:
                    place = self._places[owner] = _Place()
                    break
                if place.account is not None:
                    place.users += 1
                    self._unused.pop(owner, None)
                    return place.account
                self._changed.wait()
            idle = self._idle()
        for account in idle:
            account.close()
        return self._fill(owner, place)

    def _fill(self, owner: Owner, place: _Place) -> Account:
        try:
            account = self._open(*owner)
        except BaseException:
            self._leave(owner)
            raise
        with self._changed:
            if not self._is_expelled(owner):
                place.account, place.users = account, 1
                self._changed.notify_all()
                return account
        account.close()
        self._leave(owner)
        raise Gone(detail=f"account {owner[1]} has ended")

    def give_back(self, owner: Owner) -> None:
        with self._changed:
            place = self._places[owner]
            place.users -= 1
            if not place.users:
                if place.closed:
                    del self._places[owner]
                else:
                    self._unused[owner] = place
            self._changed.notify_all()

    def expel(self, tenant_id: TenantId, account_id: AccountId | None, patience: float) -> None:
        """Close an account, or all of a tenant's, for good: whoever asks for one again gets Gone.

        Those in use are waited for until `patience` is over; then what they still do fails as Unavailable.
        """
        with self._changed:
            self._expelled.add((tenant_id, account_id))
            self._changed.notify_all()
            self._changed.wait_for(lambda: all(map(self._is_idle, self._expelled_now())), patience)
            found = [(owner, self._places[owner].account) for owner in self._expelled_now()]
        for _, account in found:
            if account is not None:
                account.database.close()  # first, so that its background work ends at its next step
                account.close()
        with self._changed:
            for owner, account in found:
                place = self._places.get(owner)
                if account is not None and place is not None:
                    place.closed = True
                    if not place.users:
                        del self._places[owner]
                        self._unused.pop(owner, None)
            self._changed.notify_all()

    def _expelled_now(self) -> list[Owner]:
        return [owner for owner in self._places if self._is_expelled(owner)]

    def _is_expelled(self, owner: Owner) -> bool:
        return owner in self._expelled or (owner[0], None) in self._expelled

    def _check_not_expelled(self, owner: Owner) -> None:
        if self._is_expelled(owner):
            raise Gone(detail=f"account {owner[1]} has ended")

    def opened(self) -> list[Account]:
        """Those that are open at this moment, in use or not."""
        with self._changed:
            return [place.account for place in self._places.values() if place.account is not None]

    def close(self) -> None:
        """Close all of them; what is still in use gets Unavailable from then on."""
        with self._changed:
            self._closed = True
            accounts = [place.account for place in self._places.values() if place.account is not None]
            self._places = {owner: place for owner, place in self._places.items() if place.users}
            self._unused.clear()
            self._changed.notify_all()
        for account in accounts:
            account.close()

    def __len__(self) -> int:
        return len(self._places)

    def _is_idle(self, owner: Owner) -> bool:
        place = self._places.get(owner)
        return place is None or (place.account is not None and not place.users)

    def _idle(self) -> list[Account]:
        """Take out what has to make room; not what still works in the background."""
        found: list[Account] = []
        excess = len(self._places) - self._max_open
        if excess <= 0:
            return found
        for owner, place in list(self._unused.items()):  # not those in use, which may be thousands
            if len(found) >= excess:
                break
            if place.account is not None and not place.account.is_busy:
                found.append(place.account)
                del self._places[owner], self._unused[owner]
        return found

    def _leave(self, owner: Owner) -> None:
        with self._changed:
            self._places.pop(owner, None)
            self._changed.notify_all()
