"""Which accounts of a process have their databases open, and that they are no more than so many.

An account that is held without being looked at keeps 15 KiB, one whose database is open 290. Thousands of clients may
come within seconds, and each looks at its account once and then waits: all of them open at the same time would take
hundreds of megabytes, and leave the heap in pieces for as long as the process lives. So whenever one more is opened
than may be, one that nobody has used since it was looked at last is let rest, on the thread for what can be done later.
They are asked in turn, and one that was used meanwhile has a second chance; should all of them be in use, all stay.

Nobody is asked within a second of being opened, or asked, as long as they are not four times as many: a server on which
hundreds of accounts are busy would close and open the same databases over and over.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Final, Protocol

from storage.background import Background

MOST: Final = 128
_CROWD: Final = 4  # times as many: from here on nobody is spared
_SPARED: Final = 1.0  # seconds
_AT_ONCE: Final = 16  # accounts that are asked before other work has its turn

_KEY: Final = ("awake", "letting accounts rest")


class Restful(Protocol):
    """An account, as far as it matters here."""

    def rest(self) -> bool:
        """Closes its database unless it was used since the last call; whether it is closed."""

    @property
    def is_awake(self) -> bool:
        """Whether its database is open at this moment."""


class Awake:
    """Any thread may use it."""

    __slots__ = ("_accounts", "_asked", "_background", "_guard", "_most", "_now", "_rested")

    def __init__(self, background: Background, now: Callable[[], float], most: int = MOST) -> None:
        """`now`: monotonic seconds."""
        self._background = background
        self._now = now
        self._most = most
        self._guard = Lock()
        self._accounts: OrderedDict[Restful, float] = (
            OrderedDict()
        )  # opened or asked when; whose turn it is comes first
        self._asked = 0  # in a row that did not rest
        self._rested = 0  # since they were many

    def __len__(self) -> int:
        return len(self._accounts)

    def woke(self, account: Restful) -> None:
        """Its database was opened. Never waits for one that is closed."""
        with self._guard:
            self._accounts[account] = self._now()
            self._accounts.move_to_end(account)
            if len(self._accounts) <= self._most:
                return
            self._asked = 0
        self._background.submit(_KEY, self._rest_some)

    def forget(self, account: Restful) -> None:
        """To be called when it has been closed."""
        with self._guard:
            self._accounts.pop(account, None)

    def rest(self) -> None:
        """Asks each once; to be called every few seconds. As long as it takes to close those that nobody used."""
        with self._guard:
            accounts = list(self._accounts)
        for account in accounts:
            self._rest(account)

    def many_rested(self, many: int) -> bool:
        """Whether so many were let rest since the last time that this was true."""
        with self._guard:
            if self._rested < many:
                return False
            self._rested = 0
            return True

    def _rest_some(self) -> bool:
        """A step in the background; whether there are still too many that may rest."""
        for _ in range(_AT_ONCE):
            with self._guard:
                if len(self._accounts) <= self._most or self._asked > 2 * len(self._accounts):
                    return False
                account, since = next(iter(self._accounts.items()))
                now = self._now()
                if now < since + _SPARED and len(self._accounts) <= _CROWD * self._most:
                    return False  # the next that is opened, or `rest`, sees to it
                self._accounts[account] = now
                self._accounts.move_to_end(account)
                self._asked += 1
            self._rest(account)
        return True

    def _rest(self, account: Restful) -> None:
        rests = account.rest()
        with self._guard:
            # Somebody may have opened it again meanwhile, and said so.
            if rests and not account.is_awake and account in self._accounts:
                del self._accounts[account]
                self._asked = 0
                self._rested += 1
