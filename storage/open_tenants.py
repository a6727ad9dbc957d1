"""The tenants of an installation that this process has open, and their leases.

A tenant is open while its lease is held; of more than `TENANTS_OPEN` the one that was used longest ago is closed. One
whose contract has ended is never opened again. An event loop asks with `Steps`: it may look, but open nothing.

Raises: Gone (its contract has ended, its key was destroyed), NotPermitted (a key that this role may not hold), Busy
(not in an event loop), Unavailable.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock, RLock, local

from storage.clock import Clock
from storage.database.checkpointer import Checkpointer
from storage.directory.tenant import Tenant
from storage.errors import AlreadyExists, Busy, Gone
from storage.files import durable
from storage.keys.source import KeySource
from storage.leases import TenantLease
from storage.values import TenantId

TENANTS_OPEN = 500
LEASE_PATIENCE = 5.0  # seconds until a tenant's lease is given

_DIRECTORY = "directory"  # what keys are asked for


class Steps(local):
    """What a thread may do now; None: anything."""

    left: int | None = None

    @contextmanager
    def allowed(self, steps: int) -> Iterator[None]:
        """Inside, this thread opens nothing and looks at tenants no more than so many times."""
        self.left = steps
        try:
            yield
        finally:
            self.left = None

    def count(self) -> None:
        if self.left is not None:
            if self.left <= 0:
                raise Busy
            self.left -= 1

    def may_open(self) -> None:
        if self.left is not None:
            raise Busy


class OpenTenants:
    """Any thread may use it. `opening` is held for moments only; `ended` is told of a tenant that ended meanwhile.

    `keys` is asked each time: a process may come to hold fewer of them.
    """

    def __init__(
        self,
        data: Path,
        keys: Callable[[], KeySource],
        clock: Clock,
        checkpointer: Checkpointer,
        opening: RLock,
        steps: Steps,
        ended: Callable[[TenantId], object],
    ) -> None:
        self._data = data
        self._keys = keys
        self._clock = clock
        self._checkpointer = checkpointer
        self._opening = opening
        self._steps = steps
        self._told = ended
        self._tenants: OrderedDict[TenantId, Tenant] = OrderedDict()
        self._leases: dict[TenantId, TenantLease] = {}
        self._turns: dict[TenantId, Lock] = {}  # to open a tenant
        self._ended: set[TenantId] = set()  # forgotten for good: their numbers are never used again

    def get(self, tenant_id: TenantId) -> Tenant:
        self._steps.count()
        tenant = self.open_already(tenant_id)
        if tenant is not None:
            return tenant
        self._steps.may_open()
        with self._opening:
            alone = self._turns.setdefault(tenant_id, Lock())
        with alone:  # a key or a lease that lets us wait stops those of this tenant only
            return self.open_already(tenant_id) or self._open(tenant_id)

    def open_already(self, tenant_id: TenantId) -> Tenant | None:
        with self._opening:
            if tenant_id in self._tenants:
                self._tenants.move_to_end(tenant_id)
            return self._tenants.get(tenant_id)

    def all(self) -> list[Tenant]:
        """Those that are open."""
        with self._opening:
            return list(self._tenants.values())

    def _open(self, tenant_id: TenantId) -> Tenant:
        self.check_not_ended(tenant_id)
        key = self._keys().tenant_key(tenant_id, _DIRECTORY)
        lease = self.lease(tenant_id)
        lease.acquire(LEASE_PATIENCE)
        try:
            path = self.folder(tenant_id) / "tenant.db"
            tenant = Tenant.open(path, tenant_id, key, self._clock, checkpointer=self._checkpointer)
        except BaseException:
            lease.release()
            raise
        with self._opening:
            ended = tenant_id in self._ended
            self._tenants[tenant_id] = tenant
            while len(self._tenants) > TENANTS_OPEN:
                self._close(next(iter(self._tenants)))
        if ended:  # while it was being opened
            self._told(tenant_id)
            raise _ended()
        return tenant

    def make(self, tenant_id: TenantId) -> None:
        """The tenant's key, folder and database."""
        key = self._keys().create_tenant_key(tenant_id)
        folder = self.folder(tenant_id)
        durable.make_directory(folder / "accounts")
        with self.lease(tenant_id).shared(LEASE_PATIENCE), suppress(AlreadyExists):
            Tenant.create(folder / "tenant.db", tenant_id, key, self._clock).close()

    def _close(self, tenant_id: TenantId) -> None:
        self._tenants.pop(tenant_id).close()
        self.lease(tenant_id).release()

    def close(self) -> None:
        with self._opening:
            for tenant_id in list(self._tenants):
                self._close(tenant_id)

    # The end of a contract

    def end(self, tenant_id: TenantId) -> None:
        """From here on it is not opened."""
        with self._opening:
            self._ended.add(tenant_id)

    def let_go(self, tenant_id: TenantId) -> None:
        """Close it, if it is open."""
        with self._opening:
            if tenant_id in self._tenants:
                self._close(tenant_id)

    def check_not_ended(self, tenant_id: TenantId) -> None:
        if tenant_id in self._ended:
            raise _ended()

    @contextmanager
    def using(self, tenant_id: TenantId) -> Iterator[None]:
        """While something is written for the tenant elsewhere than in its databases."""
        self.check_not_ended(tenant_id)
        with self.lease(tenant_id).shared():
            yield

    def lease(self, tenant_id: TenantId) -> TenantLease:
        with self._opening:
            lease = self._leases.get(tenant_id)
            if lease is None:
                lease = self._leases[tenant_id] = TenantLease(self._data, tenant_id)
            return lease

    def folder(self, tenant_id: TenantId) -> Path:
        return self._data / "tenants" / str(int(tenant_id))


def _ended() -> Gone:
    return Gone("The tenant's contract has ended.")
