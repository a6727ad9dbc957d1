"""One data directory and everything in it, opened as it is needed.

A process has one Installation. Nothing is opened before it is asked for, since a role may hold only some of the keys;
`account` and `tenant` keep what they open, up to a number, and hold the tenant's lease meanwhile. What is provisioned
here (`make_tenant`, `make_account`) is durable on return and may be repeated.

Raises: NotFound, Gone (a key was destroyed), NotPermitted (keys that this role may not hold), Unavailable.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar, cast

from storage import heap
from storage.audit import Audit
from storage.awake import Awake
from storage.background import Background
from storage.changes import (
    AccountChanged,
    AccountEnded,
    Published,
    Publisher,
    RightsChanged,
    TenantChanged,
    TenantEnded,
)
from storage.clock import Clock
from storage.clock_guard import ClockGuard
from storage.database.checkpointer import Checkpointer
from storage.database.commits import Commits
from storage.directory.control import Control
from storage.directory.tenant import Tenant
from storage.errors import AlreadyExists, CleanmailError, NotFound
from storage.files import durable
from storage.files.incarnation import Incarnation
from storage.files.recent import Recent
from storage.filter.counts import Counts
from storage.keys.source import KeySource
from storage.logs.access import AccessLog
from storage.logs.buffered import BufferedLog
from storage.logs.traces import TraceLog
from storage.logs.transcript_log import TranscriptLog
from storage.mail.account import Account, Surroundings
from storage.mail.quota import Limits
from storage.open_tenants import LEASE_PATIENCE, OpenTenants, Steps
from storage.persons.whose import Owners
from storage.pool import AccountPool, Lease
from storage.queue.queue import Queue
from storage.recent_claims import RecentClaims
from storage.register.folder_rules import NO_RULES, FolderRules
from storage.register.periods import STANDARD, Periods
from storage.values import AccountId, TenantId

_log = logging.getLogger("cleanmail.storage")

T = TypeVar("T")

MAX_OPEN = 256  # accounts
_MANY_RESTED = 50  # accounts that let go of their connections: what they held is worth giving back
FORGET_PATIENCE = 2.0  # seconds in which what is under way for an ended tenant or account may finish

_MAIL = "mail"  # what keys are asked for


class Installation:
    def __init__(
        self,
        data: Path,
        keys: KeySource,
        clock: Clock,
        *,
        max_open: int = MAX_OPEN,
        periods: Periods = STANDARD,
        folder_rules: FolderRules = NO_RULES,
    ) -> None:
        """`periods` is the policy of how long data is kept, `folder_rules` how long mail stays where nobody chose."""
        self.data = data
        self.keys = keys
        self.clock = clock
        self.periods = periods
        self.folder_rules = folder_rules
        self.acting_as = ""  # the role of the person whom this process works for, for audit records
        self.clock_guard = ClockGuard(data, clock)  # asked before anything is removed by time
        self.background = Background()
        self._checkpointer = Checkpointer(clock)
        self._checkpointer.start()
        self._opening = RLock()
        self._made: dict[str, Any] = {}
        self._steps = Steps()
        self._tenants = OpenTenants(
            data, lambda: self.keys, clock, self._checkpointer, self._opening, self._steps, self.forget_tenant
        )
        self._held: set[tuple[TenantId, AccountId]] = set()  # accounts whose keys this process was given, open or not
        self._accounts = AccountPool(self._open_account, max_open)
        self.recent_claims = RecentClaims(data)
        self.recent = Recent()  # messages that were read lately; who serves people says how much is kept
        self._awake = Awake(self.background, clock.monotonic)  # accounts whose databases are open

    @classmethod
    def create(cls, data: Path, keys: KeySource, clock: Clock) -> None:
        """Folders, control.db, queue.db and audit.db of a new installation. Repeated after a crash it goes on."""
        for folder in ("run", "tenants", "logs"):
            durable.make_directory(data / folder)
        with suppress(AlreadyExists):
            Control.create(data / "control.db", keys, clock).close()
        Audit.open(data, keys, clock).close()
        ClockGuard.begin(data, clock)
        incarnation = Incarnation(data)
        try:
            with suppress(AlreadyExists):
                Queue.create(data, keys, clock, incarnation.name).close()
        finally:
            incarnation.close()

    def close(self) -> None:
        """Finish what works in the background, then close everything."""
        self.flush_logs()  # while tenants can be asked whose their records are
        self._accounts.close()
        self._tenants.close()
        for name in ("counts", "control", "queue", "feed", "access_log", "traces", "transcripts", "audit"):
            self._close_made(name)
        self.background.close()
        self._checkpointer.stop()
        self._close_made("incarnation")
        self.recent_claims.close()

    def _close_made(self, name: str) -> None:
        made = self._made.pop(name, None)
        if made is not None:
            made.close()

    # What there is once

    @property
    def incarnation(self) -> Incarnation:
        """This process as a writer of files."""
        return self._once("incarnation", lambda: Incarnation(self.data))

    @property
    def control(self) -> Control:
        path = self.data / "control.db"

        def opened() -> Control:
            control = Control.open(path, self.keys, self.clock, checkpointer=self._checkpointer)
            control.approvals.recorded_in(lambda: self.audit)
            return control

        return self._once("control", opened)

    @property
    def queue(self) -> Queue:
        return self._once(
            "queue",
            lambda: Queue.open(
                self.data,
                self.keys,
                self.clock,
                self.incarnation.name,
                checkpointer=self._checkpointer,
                announce=self._publish,
                using=self._tenants.using,
            ),
        )

    @property
    def audit(self) -> Audit:
        """What administrators did and read."""

        def opened() -> Audit:
            return Audit.open(
                self.data,
                self.keys,
                self.clock,
                identity=lambda: self.control.installation_id(),  # noqa: PLW0108 - opened when it is asked for
                role=lambda: self.acting_as,
            )

        return self._once("audit", opened)

    @property
    def access_log(self) -> AccessLog:
        return self._once("access_log", lambda: AccessLog(self.data, self.keys, self.incarnation.name, self.clock))

    @property
    def traces(self) -> TraceLog:
        """What became of messages; every process records what it does to them."""
        return self._once(
            "traces", lambda: TraceLog(self.data, self.keys, self.incarnation.name, self.clock, self._owners)
        )

    @property
    def transcripts(self) -> TranscriptLog:
        """SMTP dialogues; written by the gateway's processes, read by log auditors only."""
        return self._once(
            "transcripts", lambda: TranscriptLog(self.data, self.keys, self.incarnation.name, self.clock, self._owners)
        )

    @property
    def _owners(self) -> Owners:
        """Whose key seals what records say of an address."""
        return self._once("owners", lambda: Owners(self, self.clock))

    @property
    def counts(self) -> Counts:
        """How many messages were judged how; every process adds what it judges."""
        return self._once("counts", lambda: Counts(lambda: self.control.judged, self.clock))

    @property
    def feed(self) -> Publisher:
        """Made when the first change is published: every new publisher makes everybody look again."""
        return self._once("feed", lambda: Publisher(self.data, self.clock))

    @property
    def _surroundings(self) -> Surroundings:
        return self._once(
            "surroundings",
            lambda: Surroundings(
                self.clock,
                self.incarnation.name,
                self.background,
                self._publish,
                self._checkpointer,
                recent=self.recent,
                awake=self._awake,
                commits=Commits(self.data, self.clock.precise()),
            ),
        )

    def _once(self, name: str, make: Callable[[], T]) -> T:
        made = self._made.get(name)
        if made is None:
            with self._opening:
                made = self._made.get(name)
                if made is None:
                    made = self._made[name] = make()
        return cast(T, made)

    def flush_logs(self) -> None:
        """Bring what was recorded here to the disk; every process does it each second."""
        for log in ("access_log", "traces", "transcripts"):
            made: BufferedLog[Any] | None = self._made.get(log)
            if made is not None:
                made.flush()

    def flush_counts(self) -> None:
        """Bring what was counted here to control.db, every few seconds; every process calls it each second."""
        counts: Counts | None = self._made.get("counts")
        if counts is not None:
            counts.flush_due()

    def flush_tenants(self) -> None:
        """Bring what was recorded here of tenants' correspondents and senders to their databases; likewise."""
        for tenant in self._tenants.all():
            try:
                tenant.flush()
            except CleanmailError as error:  # it is kept, and tried again a second later
                _log.error("tenant %d: what it got cannot be noted: %s", tenant.tenant_id, error.detail or error.public)

    def rest_accounts(self) -> int:
        """Close the connections of accounts that nobody looked at since the last call; how many have none now.

        They stay open as they are, whoever holds them: sessions that wait cost no page cache and no descriptors. Every
        process does this each few seconds, in a thread of its own, since closing may write; where very many are opened
        at once, some rest sooner (`storage.awake`).
        """
        self.recent.age(self.clock.monotonic())  # first: whatever becomes of the connections
        self._awake.rest()
        if self._awake.many_rested(_MANY_RESTED):
            heap.give_back()
        return len(self._accounts) - len(self._awake)

    def announce(self, *changes: AccountChanged | RightsChanged | TenantChanged | TenantEnded | AccountEnded) -> None:
        """Tell every process."""
        self.feed.publish(*changes)

    # Looking without waiting

    def at_hand(self, steps: int) -> AbstractContextManager[None]:
        """For an event loop: inside, this thread opens nothing and looks at tenants no more than `steps` times.

        Raises Busy where it would have to: then the same belongs into a worker thread.
        """
        return self._steps.allowed(steps)

    # Tenants

    def tenant(self, tenant_id: TenantId) -> Tenant:
        """Its directory; not to be kept, since it may be closed when many others have been used."""
        return self._tenants.get(tenant_id)

    def forget_tenant(self, tenant_id: TenantId, patience: float = FORGET_PATIENCE) -> None:
        """Its contract has ended: afterwards nothing of it is open here, no key of it is kept, and nothing is opened.

        What is under way has `patience` to finish, and fails after that. Every process does this when `TenantEnded`
        is told; the lease, which it gives back last, tells who has not. May be repeated, by any thread.
        """
        self._tenants.end(tenant_id)
        self._accounts.expel(tenant_id, None, patience)
        self._tenants.let_go(tenant_id)
        queue: Queue | None = self._made.get("queue")
        if queue is not None:
            queue.forget(tenant_id)
        self.keys.forget(tenant_id)

    def forget_account(self, tenant_id: TenantId, account_id: AccountId, patience: float = FORGET_PATIENCE) -> None:
        """Likewise for one account, when `AccountEnded` is told. What was noted of it here is written down before."""
        queue: Queue | None = self._made.get("queue")
        if queue is not None:
            queue.refuse(tenant_id, account_id)
        self._accounts.expel(tenant_id, account_id, patience)
        tenant = self._tenants.open_already(tenant_id)
        if tenant is not None:
            with suppress(CleanmailError):
                tenant.flush(at_once=True)

    def make_tenant(self, tenant_id: TenantId) -> None:
        """The tenant's key, folder and database."""
        self._tenants.make(tenant_id)

    # Accounts

    def account(self, tenant_id: TenantId, account_id: AccountId, *, limits: Limits | None = None) -> Lease:
        """A context that holds the account open; entering it may block. With `limits` they become the account's."""
        if not self._accounts.is_open((tenant_id, account_id)):
            self._steps.may_open()
        return self._accounts.lease(tenant_id, account_id, limits)

    def make_account(self, tenant_id: TenantId, account_id: AccountId) -> None:
        """The account's key, folder and database with its first mailboxes."""
        self._tenants.check_not_ended(tenant_id)
        self._held.add((tenant_id, account_id))
        key = self.keys.create_account_key(tenant_id, account_id)
        with self._tenants.lease(tenant_id).shared(LEASE_PATIENCE):
            folder = self._account_folder(tenant_id, account_id)
            with suppress(AlreadyExists):
                Account.create(folder, tenant_id, account_id, key, self._surroundings).close()

    def held(self, tenant_id: TenantId, account_id: AccountId) -> bool:
        """Whether this process was ever given the account's key, so that its memory may show traces of it."""
        return (tenant_id, account_id) in self._held

    def _open_account(self, tenant_id: TenantId, account_id: AccountId) -> Account:
        self._tenants.check_not_ended(tenant_id)
        folder = self._account_folder(tenant_id, account_id)
        if not os.path.isdir(folder):
            raise NotFound("There is no such account.")
        self._held.add((tenant_id, account_id))
        key = self.keys.account_key(tenant_id, account_id, _MAIL)
        lease = self._tenants.lease(tenant_id)
        lease.acquire(LEASE_PATIENCE)
        try:
            return Account.open(folder, tenant_id, account_id, key, self._surroundings, closed=lease.release)
        except BaseException:
            lease.release()
            raise

    def _publish(self, *changes: Published) -> None:
        self.feed.publish(*changes)

    def _account_folder(self, tenant_id: TenantId, account_id: AccountId) -> Path:
        return self._tenants.folder(tenant_id) / "accounts" / str(int(account_id))
