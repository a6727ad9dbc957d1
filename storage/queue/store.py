"""What every part of the queue works on: its database, the tenants' spools and keys, and who is told of changes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from storage.changes import QueueChanged
from storage.clock import Clock
from storage.database.database import Database
from storage.keys.sealing import Key
from storage.keys.source import KeySource
from storage.queue.entries import Sealing
from storage.queue.removal import Removals
from storage.queue.spool import Spool
from storage.queue.sts import StsStore
from storage.queue.tls_results import TlsResults
from storage.values import AccountId, TenantId

PURPOSE = "queue"  # why a tenant's key is asked for
_KEYS_MAX = 500


class QueueStore:
    def __init__(
        self,
        database: Database,
        spool: Spool,
        keys: KeySource,
        clock: Clock,
        announce: Callable[[QueueChanged], None] | None = None,
        using: Callable[[TenantId], AbstractContextManager[None]] | None = None,
    ) -> None:
        """`announce` is called after a commit by which something became due; it must not wait.

        `using` is entered while something of a tenant is queued, and raises Gone or Unavailable when it has ended: what
        is queued is committed before the tenant's keys are destroyed, or fails.
        """
        self._database = database
        self._spool = spool
        self._keys = keys
        self._clock = clock
        self._announce = announce
        self._refused: set[tuple[TenantId, AccountId | None]] = set()  # their numbers are never used again
        self._using = using or (lambda tenant_id: nullcontext())
        self._removals = Removals(database, spool)
        self.sts = StsStore(database)
        self.tls_results = TlsResults(database)
        self._tenant_keys: dict[TenantId, Key] = {}  # of tenants in use; see `forget`

    def forget(self, tenant_id: TenantId) -> None:
        """Lets go of the tenant's key."""
        self._tenant_keys.pop(tenant_id, None)

    def refuse(self, tenant_id: TenantId, account_id: AccountId) -> None:
        """The account has ended: nothing that it submitted is queued here any more."""
        self._refused.add((tenant_id, account_id))

    def _key(self, tenant_id: TenantId) -> Key:
        """The tenant's key, asked for once: a lease is a round trip to the auth role."""
        key = self._tenant_keys.get(tenant_id)
        if key is None:
            if len(self._tenant_keys) >= _KEYS_MAX:
                self._tenant_keys.clear()
            key = self._tenant_keys[tenant_id] = self._keys.tenant_key(tenant_id, PURPOSE)
        return key

    def _sealing(self, tenant_id: TenantId, queue_id: str) -> Sealing:
        return Sealing(self._key(tenant_id).secret, queue_id)

    def _changed(self) -> None:
        if self._announce is not None:
            self._announce(QueueChanged())
