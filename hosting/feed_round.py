"""The jobs role keeps what others give: feeds that are due are fetched, and what belongs to collections that are gone,
such as shares of them and links to them, goes too. Birthday calendars that do not say what the cards say are mended.

Which accounts have feeds, and when the next is due, is kept in memory; when the role starts, and each hour, all are
looked at, and those whose collections changed a moment later. Blocking: it runs in threads of the jobs role.

Raises: NotFound, Gone, Unavailable and others of an account.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Lock

from gateway.dns.resolver import Resolver
from gateway.networks import Reachable
from hosting.config import Config
from hosting.feeds.fetch import Fetcher
from hosting.feeds.refreshing import refresh_due
from hosting.metrics import Metrics
from storage.directory.rows import State
from storage.errors import CleanmailError, Gone, NotFound
from storage.installation import Installation
from storage.mail.account import Account
from storage.values import AccountId, TenantId

log = logging.getLogger("feeds")

EVERY = 15.0  # seconds between two looks
FAILING = 3  # failures in a row: one is nothing, and a feed's owner sees what it was
_DAY = 86_400


def make_fetcher(config: Config) -> Fetcher:
    """Public addresses only: what [relay] private_networks allows is for mail, and not for what users name."""
    context = ssl.create_default_context(cafile=config.relay.ca_file or None)
    return Fetcher(Resolver(config.dns), Reachable(), context)


class FeedRound:
    def __init__(
        self,
        installation: Installation,
        config: Config,
        fetcher: Callable[[], Fetcher] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._installation = installation
        self._fetcher = fetcher or (lambda: make_fetcher(config))
        self._metrics = metrics
        self._clock = installation.clock
        self._guard = Lock()  # of the next five
        self._owners: dict[AccountId, TenantId] = {}
        self._due: dict[AccountId, int] = {}
        self._failing: dict[AccountId, int] = {}  # feeds, by account
        self._changed: set[AccountId] = set()
        self._tidied: dict[AccountId, int] = {}
        self._stopping = False

    def stop(self) -> None:
        self._stopping = True

    def changed(self, account_id: AccountId) -> None:
        """Something changed in its collections: it may have a new feed."""
        with self._guard:
            self._changed.add(account_id)

    def work(self, tenant_id: TenantId, account_id: AccountId) -> None:
        """One account: when its next feed is due, and once a day what is left over in it."""
        with self._guard:
            self._owners[account_id] = tenant_id
        with self._installation.account(tenant_id, account_id) as account:
            self._look(account)
            self._tidy(account)

    def again(self) -> None:
        """All accounts with feeds that are due."""
        now = self._clock.now()
        with self._guard:
            concerned = self._changed | {account_id for account_id, due in self._due.items() if due <= now}
            self._changed = set()
            unknown = concerned - self._owners.keys()
        if unknown:
            self._learn_owners()
        for account_id in concerned:
            if self._stopping:
                return
            with self._guard:
                tenant_id = self._owners.get(account_id)
            if tenant_id is not None:
                self._refresh(tenant_id, account_id)
        if self._metrics is not None:
            with self._guard:
                self._metrics.feeds_failing.set(sum(self._failing.values()))

    def _refresh(self, tenant_id: TenantId, account_id: AccountId) -> None:
        try:
            if not self._is_open(tenant_id, account_id):
                raise NotFound
            with self._installation.account(tenant_id, account_id) as account:
                refresh_due(account, self._fetcher, lambda: self._stopping)
                self._look(account)
        except (NotFound, Gone):
            with self._guard:
                self._due.pop(account_id, None)
                self._failing.pop(account_id, None)
                self._owners.pop(account_id, None)
        except CleanmailError as error:
            log.error("account %d of tenant %d: %s", account_id, tenant_id, error.detail or error.public)

    def _is_open(self, tenant_id: TenantId, account_id: AccountId) -> bool:
        """Whether anything may be stored there: it neither rests nor has its end come near."""
        control = self._installation.control
        if control.tenant(tenant_id).state is not State.ACTIVE or control.contracts.is_read_only(tenant_id):
            return False
        return self._installation.tenant(tenant_id).account(account_id).state is State.ACTIVE

    def _learn_owners(self) -> None:
        found = dict(self._accounts())
        with self._guard:
            self._owners = found

    def _accounts(self) -> Iterator[tuple[AccountId, TenantId]]:
        for tenant in self._installation.control.tenants():
            if tenant.state is not State.ENDED:
                with suppress(Gone):
                    for account in self._installation.tenant(tenant.tenant_id).accounts():
                        yield account.account_id, tenant.tenant_id

    def _look(self, account: Account) -> None:
        due = account.feeds.next_due()
        failing = 0 if due is None else sum(feed.failures >= FAILING for feed in account.feeds.list())
        with self._guard:
            if due is None:
                self._due.pop(account.account_id, None)
            else:
                self._due[account.account_id] = due
            if failing:
                self._failing[account.account_id] = failing
            else:
                self._failing.pop(account.account_id, None)

    def _tidy(self, account: Account) -> None:
        """Once a day."""
        today = self._clock.now() // _DAY
        with self._guard:
            if self._tidied.get(account.account_id) == today:
                return
            self._tidied[account.account_id] = today
        account.birthdays.mend()
        living = [int(each.id) for each in account.collections.list()]
        tenant_id, account_id = account.tenant_id, account.account_id
        self._installation.control.public_links.forget_collections(tenant_id, account_id, living)
        shares = self._installation.tenant(tenant_id).shares
        for gone in {row.collection_id for row in shares.of_owner(account_id)} - set(living):
            shares.remove_collection(account_id, gone)
        rights = self._installation.tenant(tenant_id).mailbox_rights
        shared = {row.mailbox_id for row in rights.of_owner(account_id)}
        for mailbox_id in shared.difference(each.id for each in account.mailboxes.list()) if shared else ():
            rights.remove_mailbox(account_id, mailbox_id)
