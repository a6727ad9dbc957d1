"""The look of the jobs role at contracts: reminders, storage in use, holds that were approved, contracts that are over.

A round may be repeated at any time and after any crash. A contract that has reached its end is ended by ordering the
tenant's ending (`storage.ending`), which another part of the role carries out; a legal hold, or a clock that is not
believed, puts that off, and is told once. Blocking.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from hosting.config import Config
from hosting.contracts.holding import lift_holds, make_holds
from hosting.contracts.reminders import Reminders
from storage.changes import TenantChanged
from storage.directory.contracts import Contracts
from storage.directory.resolve import Resolver
from storage.directory.terms import DAY, Contract
from storage.ending.orders import CONTRACT, order_tenant
from storage.errors import CleanmailError, Gone, NotFound
from storage.installation import Installation
from storage.values import TenantId

log = logging.getLogger("contracts")

EVERY = 60.0  # seconds between two rounds
MEASURED_EVERY = 3600  # seconds between two looks at how much a tenant stores
AT_MOST = 20  # tenants that are measured in one round, where that is enough to look at each of them in time


class ContractRound:
    def __init__(self, installation: Installation, config: Config, *, at_most: int = AT_MOST) -> None:
        """`at_most` tenants are measured in one round, but as many as are needed to look at each once an hour."""
        self._at_most = at_most
        self._stopping = False
        self._installation = installation
        self._config = config
        self._days = config.contracts.days
        self._tried: dict[TenantId, int] = {}  # when a tenant was measured, or could not be
        self._told: dict[TenantId, str] = {}  # why a contract could not be ended

    @property
    def _contracts(self) -> Contracts:
        return self._installation.control.contracts

    def stop(self) -> None:
        """The round that is under way ends behind the tenant at hand; the next goes on."""
        self._stopping = True

    def look(self) -> None:
        self._guarded("holds", None, self._make_holds)
        now = self._installation.clock.now()
        believed = self._installation.clock_guard.reading().doubt is None
        for contract in self._contracts.ending(now + max(self._days, default=0) * DAY):
            if self._stopping:
                return
            if contract.is_due(now):
                self._end(contract)
            elif believed:
                self._guarded("reminders", contract.tenant_id, partial(self._remind, contract))
        limited = self._contracts.with_storage_limit()
        waiting = [each for each in limited if not self._is_fresh(each, now)]
        # Some in each round: whoever has reached an end, or has to be reminded, does not wait for all the others.
        for contract in waiting[: max(self._at_most, -(-len(limited) * int(EVERY) * 2 // MEASURED_EVERY))]:
            if self._stopping:
                return
            self._tried[contract.tenant_id] = now
            self._guarded("storage", contract.tenant_id, partial(self._measure, contract))

    def _is_fresh(self, contract: Contract, now: int) -> bool:
        """Whether it was looked at in the last hour, even in vain: tenants that fail must not be all that is tried."""
        looked = (contract.measured, self._tried.get(contract.tenant_id))
        return any(time is not None and 0 <= now - time < MEASURED_EVERY for time in looked)

    def _make_holds(self) -> None:
        for hold in make_holds(self._installation):
            log.info("tenant %d: the legal hold %s is in force", hold.tenant_id, hold.hold_id)
        for hold in lift_holds(self._installation):
            log.info("tenant %d: the legal hold %s is lifted", hold.tenant_id, hold.hold_id)

    def _remind(self, contract: Contract) -> None:
        resolver = Resolver(self._installation, self._config.postmaster)
        reminders = Reminders(self._installation, resolver, self._days, self._config.server.name)
        count = reminders.send_due(contract)
        if count:
            log.info("tenant %d: %d were reminded of the end of the contract", contract.tenant_id, count)

    def _end(self, contract: Contract) -> None:
        tenant_id = contract.tenant_id
        try:
            ending_id = order_tenant(self._installation, tenant_id, CONTRACT, "The contract has reached its end.")
        except CleanmailError as error:
            if self._told.get(tenant_id) != error.public:
                self._told[tenant_id] = error.public
                log.warning("the contract of tenant %d cannot be ended: %s", tenant_id, error.public)
            return
        self._told.pop(tenant_id, None)
        log.info("the contract of tenant %d has ended: ending %s", tenant_id, ending_id)

    def _measure(self, contract: Contract) -> None:
        """What all accounts of a tenant take up. Whoever is signed in is told when it comes to matter, or no more."""
        tenant_id = contract.tenant_id
        used = 0
        for row in self._installation.tenant(tenant_id).accounts():
            try:
                with self._installation.account(tenant_id, row.account_id) as account:
                    used += account.usage().bytes
            except (NotFound, Gone):  # it is being deleted
                continue
        self._contracts.set_used(tenant_id, used)
        if (used > contract.limits.bytes) != contract.is_over_quota:
            self._installation.announce(TenantChanged(tenant_id))
            over = used > contract.limits.bytes
            log.warning("tenant %d is %s the storage of its contract", tenant_id, "above" if over else "within")

    def _guarded(self, what: str, tenant_id: TenantId | None, do: Callable[[], None]) -> None:
        """One tenant's failure is no other's."""
        try:
            do()
        except (NotFound, Gone):  # ended meanwhile
            return
        except CleanmailError as error:
            log.error("%s of %s: %s", what, f"tenant {tenant_id}" if tenant_id else "all", error.detail or error.public)
