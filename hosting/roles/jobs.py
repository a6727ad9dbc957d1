"""The jobs role: the search index in the background, what people teach the filter, the sweep after a crash, retention.

Indexing follows the change feed: an account whose mail changed is worked on when it has been quiet for a moment, so
that the write lock is not taken from people who wait, or at last after [jobs] index_patience. At the start, after a gap
in the feed (once a minute at most, since every run of the command line is a new voice on it) and every hour every
account is looked at; merges of the index must go on where nothing arrives. After its index an account's opinions of
spam are learned from (`hosting.learning_round`), and invitations in its mail are worked on
(`hosting.scheduling_round`); calendars elsewhere are fetched beside it (`hosting.feed_round`). The sweep looks at every
account at the start and whenever a worker was killed. Texts that an earlier version read are renewed behind all that.
All of it runs in one thread, an account at a time, so that one core at most is taken from people who wait.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from gateway.classifier.model import FILE, Models
from hosting.backup_round import EVERY as BACKUP_EVERY
from hosting.backup_round import BackupRound
from hosting.composition import Parts
from hosting.contract_round import EVERY as CONTRACT_EVERY
from hosting.contract_round import ContractRound
from hosting.dkim_round import EVERY, dkim_round
from hosting.ending import LettingGo
from hosting.ending_round import EndingRound
from hosting.feed_round import EVERY as FEED_EVERY
from hosting.feed_round import FeedRound
from hosting.journal_round import EVERY as JOURNAL_EVERY
from hosting.journal_round import JournalRound
from hosting.keys_round import EVERY as KEYS_EVERY
from hosting.keys_round import KeysRound
from hosting.learning_round import LearningRound
from hosting.operational_log import log_failure
from hosting.quarantine.assembly import make_quarantine, make_releases
from hosting.quarantine.fill import FillWatch
from hosting.quarantine_round import EVERY as QUARANTINE_EVERY
from hosting.quarantine_round import quarantine_round
from hosting.retention_round import CLOCK_EVERY, ClockWatch, RetentionRound
from hosting.review.watch import Watch
from hosting.review_round import EVERY as REVIEW_EVERY
from hosting.review_round import review_round
from hosting.roles.feed import FeedReader
from hosting.roles.housekeeping import Ticking, every_second
from hosting.roles.service import RoleService
from hosting.scheduling_round import EVERY as SCHEDULING_EVERY
from hosting.scheduling_round import SchedulingRound
from storage.changes import Change, CollectionChanged, Gap, Published
from storage.directory.resolve import Resolver
from storage.directory.rows import State
from storage.errors import CleanmailError, Gone, NotFound
from storage.sweep import sweep_account
from storage.values import AccountId, TenantId

log = logging.getLogger("jobs")

HOUR = 3600.0
PAUSE = 0.5  # seconds in which changes pile up: indexing works in batches anyway
AFTER_GAP = 60.0  # seconds between two rounds over every account that gaps in the feed asked for


@dataclass(slots=True)
class _Wish:
    """When an account's mail changed: first since it was worked on, and last (seconds of the reactor's clock)."""

    first: float
    last: float


class Rounds(Service):
    """What has to be done for accounts, and the one thread that does it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        models = Models(parts.data / FILE, parts.clock)
        self._learning = LearningRound(parts.installation, models, parts.config.filter.rules)
        self.scheduling = SchedulingRound(parts.installation, parts.config, metrics=parts.metrics)
        self.feeds = FeedRound(parts.installation, parts.config, metrics=parts.metrics)
        self._feed = FeedReader(parts.reactor, parts.subscribe(collections=True), self._changed, pause=PAUSE)
        self._owners: dict[AccountId, TenantId] = {}
        self._waiting: dict[AccountId, _Wish] = {}
        self._overdue: set[AccountId] = set()
        self._to_renew: dict[AccountId, None] = {}  # accounts with texts of an earlier version; the last goes first
        self._everybody = True
        self._sweep_wanted = True
        self._stopping = False
        self._running: Deferred[Any] | None = None
        self._timer: Any = None
        self._gap: Any = None  # the round that a gap asked for

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        super().startService()  # type: ignore[no-untyped-call]
        self._feed.start()
        self._soon()

    def stopService(self) -> Deferred[Any] | None:  # noqa: N802 - Twisted's name
        """Fires when the account that is being worked on is left at a whole step."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._stopping = True
        self._feed.stop()
        for timer in (self._timer, self._gap):
            if timer is not None and timer.active():
                timer.cancel()
        return self._running

    def sweep(self) -> None:
        """A worker was killed."""
        self._sweep_wanted = True
        self._soon()

    def look_at_everybody(self) -> None:
        self._everybody = True
        self._soon()

    def _changed(self, changes: list[Published | Gap]) -> None:
        now = self._parts.reactor.seconds()
        for change in changes:
            match change:
                case Change(account_id=account_id):
                    self._waiting.setdefault(account_id, _Wish(now, now)).last = now
                case CollectionChanged(account_id=account_id):
                    self.feeds.changed(account_id)
                    tenant_id = self._owners.get(account_id)
                    if tenant_id is None:  # it is new
                        self._waiting.setdefault(account_id, _Wish(now, now)).last = now
                    else:
                        self.scheduling.changed(tenant_id, account_id)
                case Gap() if self._gap is None or not self._gap.active():
                    self._gap = self._parts.reactor.callLater(AFTER_GAP, self.look_at_everybody)
        if self._waiting:
            self._soon()

    def _soon(self) -> None:
        """A round a moment from now, so that mail that arrives together is indexed together."""
        if self._stopping or self._running is not None or (self._timer is not None and self._timer.active()):
            return
        self._timer = self._parts.reactor.callLater(self._parts.config.jobs.index_pause, self._begin)

    def _due(self) -> set[AccountId]:
        """Accounts that are quiet, or have waited long enough; the others wait on."""
        now, jobs = self._parts.reactor.seconds(), self._parts.config.jobs
        self._overdue = {
            account_id for account_id, wish in self._waiting.items() if now - wish.first >= jobs.index_patience
        }
        due = self._overdue | {
            account_id for account_id, wish in self._waiting.items() if now - wish.last >= jobs.index_pause * 0.9
        }
        self._waiting = {account_id: wish for account_id, wish in self._waiting.items() if account_id not in due}
        return due

    def _begin(self) -> None:
        waiting = self._due()
        everybody, self._everybody = self._everybody, False
        sweep, self._sweep_wanted = self._sweep_wanted, False
        if not (waiting or everybody or sweep):
            if self._waiting:
                self._soon()
            return
        reactor = self._parts.reactor
        self._running = deferToThreadPool(
            reactor, reactor.getThreadPool(), self._round, None if everybody else waiting, sweep
        )
        self._running.addBoth(self._over)

    def _over(self, result: object) -> None:
        self._running = None
        if isinstance(result, Failure):
            log_failure(log, "a round failed", result)
            self._everybody = True
        if self._is_wanted():
            self._soon()

    # In the thread

    def _round(self, only: set[AccountId] | None, sweep: bool) -> None:
        if sweep:
            self._sweep_all()
        if only is None or not only <= self._owners.keys():
            self._owners = dict(self._accounts())
        for account_id in list(self._owners) if only is None else only:
            if self._stopping:
                return
            tenant_id = self._owners.get(account_id)
            if tenant_id is not None:
                self._guarded("indexing", tenant_id, account_id, self._index)
                self._guarded("learning from", tenant_id, account_id, self._learn)
                self._guarded("scheduling for", tenant_id, account_id, self._schedule)
                self._guarded("feeds of", tenant_id, account_id, self.feeds.work)
        self._renew_texts()

    def _accounts(self) -> Iterator[tuple[AccountId, TenantId]]:
        installation = self._parts.installation
        for tenant in installation.control.tenants():
            if tenant.state is not State.ENDED:
                with suppress(Gone):  # it has ended since
                    for account in installation.tenant(tenant.tenant_id).accounts():
                        yield account.account_id, tenant.tenant_id

    def _index(self, tenant_id: TenantId, account_id: AccountId) -> None:
        with self._parts.installation.account(tenant_id, account_id) as account:
            before = account.index.unindexed()
            while not self._stopping and account.index.work():
                # Somebody has come back to it: they go first, and what is left follows when it is quiet again.
                if account_id in self._waiting and account_id not in self._overdue:
                    break
            if not account.index.is_renewed():
                self._to_renew[account_id] = None
            self._parts.metrics.indexed.inc(max(before - account.index.unindexed(), 0))

    def _renew_texts(self) -> None:
        """A piece at least of what an earlier version read out of messages, and more as long as nothing else waits."""
        while self._to_renew and not self._stopping:
            account_id, _ = self._to_renew.popitem()
            tenant_id = self._owners.get(account_id)
            if tenant_id is not None:
                self._guarded("renewing texts of", tenant_id, account_id, self._renew)
            if self._is_wanted():
                return

    def _renew(self, tenant_id: TenantId, account_id: AccountId) -> None:
        with self._parts.installation.account(tenant_id, account_id) as account:
            while account.index.renew():
                if self._stopping or self._is_wanted():
                    self._to_renew[account_id] = None  # the next to be gone on with
                    return

    def _is_wanted(self) -> bool:
        """Whether there is something for the next round."""
        return bool(self._waiting or self._everybody or self._sweep_wanted)

    def _learn(self, tenant_id: TenantId, account_id: AccountId) -> None:
        self._learning.learn(tenant_id, account_id, lambda: self._stopping)

    def _schedule(self, tenant_id: TenantId, account_id: AccountId) -> None:
        self.scheduling.work(tenant_id, account_id, lambda: self._stopping)

    def _sweep_all(self) -> None:
        installation = self._parts.installation
        installation.incarnation.forget_dead()
        for tenant_id in {tenant_id for _, tenant_id in self._accounts()}:
            swept = installation.queue.sweep(tenant_id, installation.incarnation.is_alive)
            swept += installation.tenant(tenant_id).quarantine.sweep(installation.incarnation.is_alive)
            self._parts.metrics.swept.inc(swept)
        for account_id, tenant_id in self._accounts():
            if self._stopping:
                self._sweep_wanted = True
                return
            self._guarded("sweeping", tenant_id, account_id, self._sweep_one)

    def _sweep_one(self, tenant_id: TenantId, account_id: AccountId) -> None:
        with self._parts.installation.account(tenant_id, account_id) as account:
            swept = sweep_account(account, self._parts.installation.incarnation)
            account.note_settling.settle()
            account.note_settling.mend()
        self._parts.metrics.swept.inc(swept.tmp + swept.new + swept.unlinked)

    def _guarded(self, what: str, tenant_id: TenantId, account_id: AccountId, do: Any) -> None:
        try:
            do(tenant_id, account_id)
        except (NotFound, Gone):
            self._owners.pop(account_id, None)
        except CleanmailError as error:
            log.error(
                "%s account %d of tenant %d failed: %s", what, account_id, tenant_id, error.detail or error.public
            )


def make_service(parts: Parts) -> RoleService:
    rounds = Rounds(parts)
    hourly = Ticking(parts.reactor, HOUR, quick=[rounds.look_at_everybody])
    waiting = rounds.scheduling
    inviting = Ticking(parts.reactor, SCHEDULING_EVERY, blocking=[waiting.again], at_stop=False, stop=waiting.stop)
    feeds = rounds.feeds
    fetching = Ticking(parts.reactor, FEED_EVERY, blocking=[feeds.again], at_stop=False, stop=feeds.stop)
    look = partial(dkim_round, parts.installation, parts.config.dns)
    dkim = Ticking(parts.reactor, EVERY, blocking=[look], at_once=True, at_stop=False)
    removing = RetentionRound(parts.installation, parts.metrics)
    retention = Ticking(parts.reactor, HOUR, blocking=[removing.run], at_once=True, at_stop=False, stop=removing.stop)
    clock = ClockWatch(parts.installation, parts.metrics)
    clock_watch = Ticking(parts.reactor, CLOCK_EVERY, blocking=[clock.look], at_once=True, at_stop=False)
    withheld = partial(quarantine_round, parts.installation, parts.config)
    fill = FillWatch(parts.installation, make_quarantine(parts.installation, parts.config), parts.metrics)
    quarantine = Ticking(parts.reactor, QUARANTINE_EVERY, blocking=[withheld, fill.look], at_once=True, at_stop=False)
    watch = Watch(parts.installation, parts.metrics, parts.config.filter.alarm_share)
    decided = partial(_carry_out_reviews, parts)
    reviews = Ticking(parts.reactor, REVIEW_EVERY, blocking=[decided, watch.look], at_once=True, at_stop=False)
    agreed = ContractRound(parts.installation, parts.config)
    contracts = Ticking(
        parts.reactor, CONTRACT_EVERY, blocking=[agreed.look], at_once=True, at_stop=False, stop=agreed.stop
    )
    saving = BackupRound(parts.installation, parts.config)
    backups = Ticking(
        parts.reactor, BACKUP_EVERY, blocking=[saving.look], at_once=True, at_stop=False, stop=saving.stop
    )
    keys = KeysRound(parts.installation, parts.config.keys, parts.metrics)
    key_copies = Ticking(parts.reactor, KEYS_EVERY, blocking=[keys.look], at_once=True, at_stop=False)
    journals = JournalRound(parts.installation, parts.config.server.name)
    telling = Ticking(
        parts.reactor, JOURNAL_EVERY, blocking=[journals.run], at_once=True, at_stop=False, stop=journals.stop
    )
    services = [rounds, hourly, dkim, key_copies, retention, clock_watch, quarantine, reviews, backups, contracts]
    services += [EndingRound(parts), LettingGo(parts), telling, inviting, fetching, every_second(parts)]
    return RoleService(services, sweep=rounds.sweep)


def _carry_out_reviews(parts: Parts) -> None:
    resolver = Resolver(parts.installation, parts.config.postmaster)
    review_round(parts.installation, make_releases(parts.installation, parts.config, resolver))
