"""The jobs role brings scheduling messages on their way that something kept from it, and reads those that came by mail.

After a crash, or where limits on sending let it wait, a message is taken up here, once. Blocking: it runs in threads of
the jobs role. Which accounts have something that waits is kept in memory: those whose collections change are looked at
within a minute, and all when the role starts.

Raises: NotFound, Gone, Unavailable and others of an account.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock

from hosting.config import Config
from hosting.metrics import Metrics
from hosting.scheduling.assembly import SchedulingParts, make_scheduling
from hosting.scheduling.incoming import Incoming
from storage.collections.values import Kind
from storage.errors import CleanmailError, Gone, NotFound
from storage.installation import Installation
from storage.itip.store import DAY, Scheduling
from storage.mail.account import Account
from storage.values import AccountId, TenantId

log = logging.getLogger("scheduling")

EVERY = 60.0  # seconds between two looks at accounts that have something that waits
INBOX_DAYS = 60  # that a message stays in an inbox whose owner's programs do not remove it


class SchedulingRound:
    def __init__(
        self,
        installation: Installation,
        config: Config,
        parts: SchedulingParts | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        made = parts or make_scheduling(installation, config, metrics)
        self._metrics = metrics
        self._installation = installation
        self._carrying = made.carrying
        self._incoming = Incoming(installation, made.people, config.server.name)
        self._clock = installation.clock
        self._guard = Lock()  # of the next three
        self._waiting: dict[AccountId, TenantId] = {}
        self._left: dict[AccountId, int] = {}  # how many messages wait in an account, when it was last looked at
        self._tidied: dict[AccountId, int] = {}
        self._stopping = False

    def stop(self) -> None:
        self._stopping = True

    def work(self, tenant_id: TenantId, account_id: AccountId, stopping: Callable[[], bool] = lambda: False) -> None:
        """One account, whose mail has changed: what waits there, and what came."""
        with self._installation.account(tenant_id, account_id) as account:
            self._carry(account)
            self._tidy(account)
        self._incoming.look(tenant_id, account_id, stopping)

    def changed(self, tenant_id: TenantId, account_id: AccountId) -> None:
        """Something changed in its collections: a message may wait that others could not bring anywhere."""
        with self._guard:
            self._waiting[account_id] = tenant_id

    def again(self) -> None:
        """All accounts in which something waits, or may."""
        with self._guard:
            waiting = dict(self._waiting)
        for account_id, tenant_id in waiting.items():
            if self._stopping:
                return
            try:
                with self._installation.account(tenant_id, account_id) as account:
                    self._carry(account)
            except (NotFound, Gone):
                with self._guard:
                    self._waiting.pop(account_id, None)
                    self._left.pop(account_id, None)
            except CleanmailError as error:
                log.error("account %d of tenant %d: %s", account_id, tenant_id, error.detail or error.public)
        if self._metrics is not None:
            with self._guard:
                self._metrics.scheduling_waiting.set(sum(self._left.values()))

    def _carry(self, account: Account) -> None:
        while not self._stopping and self._carrying.carry_due(account):
            pass
        left = Scheduling(account, self._clock).count()
        with self._guard:
            if left:
                self._waiting[account.account_id] = account.tenant_id
                self._left[account.account_id] = left
            else:
                self._waiting.pop(account.account_id, None)
                self._left.pop(account.account_id, None)

    def _tidy(self, account: Account) -> None:
        """Once a day: what nobody asks for any more."""
        today = self._clock.now() // DAY
        with self._guard:
            if self._tidied.get(account.account_id) == today:
                return
            self._tidied[account.account_id] = today
        Scheduling(account, self._clock).remove_expired()
        before = self._clock.now() - INBOX_DAYS * DAY
        for inbox in account.collections.list(Kind.INBOX):
            for each in account.objects.list(inbox.id):
                if each.modified < before:
                    account.objects.delete(inbox.id, each.name)
