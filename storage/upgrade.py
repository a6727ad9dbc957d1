"""Which databases of an installation are older than this program, and bringing all of them to its version.

Databases are found by their place in the data directory, not through each other, so asking changes nothing. Each is
migrated when it is first used anyway; `upgrade` only does it for all at once. When it returns, every file is of this
version; interrupted, it goes on where it stopped.

Raises: Unavailable (a file is newer than this program, or in use by an older one), Corrupt, StorageFull.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from storage.audit import SCHEMA as AUDIT
from storage.clock import Clock
from storage.database.database import Database
from storage.database.migrations import Schema, pending
from storage.directory.control import SCHEMA as CONTROL
from storage.directory.tenant import SCHEMA as TENANT
from storage.errors import Gone, NotFound
from storage.keys.source import KeySource
from storage.mail.versions import SCHEMA as ACCOUNT
from storage.queue.queue import SCHEMA as QUEUE
from storage.values import AccountId, TenantId

_PURPOSE = "upgrade"


@dataclass(frozen=True, slots=True)
class Found:
    """A database file; `name` is its path in the data directory, which holds ids only."""

    name: str
    path: Path
    schema: Schema
    key: Callable[[], bytes] = field(repr=False)


def databases(data: Path, keys: KeySource) -> Iterator[Found]:
    """All of them, the installation's own first."""
    yield _found(data, "control.db", CONTROL, lambda: keys.service_key("control"))
    yield _found(data, "queue.db", QUEUE, lambda: keys.service_key("queue"))
    yield _found(data, "audit.db", AUDIT, lambda: keys.service_key("audit"))
    for tenant in _numbered(data / "tenants"):
        yield _found(data, f"tenants/{tenant}/tenant.db", TENANT, _tenant_key(keys, tenant))
        for account in _numbered(data / "tenants" / str(tenant) / "accounts"):
            name = f"tenants/{tenant}/accounts/{account}/account.db"
            yield _found(data, name, ACCOUNT, _account_key(keys, tenant, account))


def outdated(data: Path, keys: KeySource) -> Iterator[Found]:
    """Those that this program would migrate."""
    for found in databases(data, keys):
        try:
            if pending(found.path, found.key(), found.schema):
                yield found
        except (NotFound, Gone):
            continue  # being made, or its key is destroyed: `storage.check` tells of it


def upgrade(data: Path, keys: KeySource, clock: Clock, *, done: Callable[[Found], None]) -> None:
    """Migrate all that are outdated; `done` is told of each."""
    for found in outdated(data, keys):
        Database.open(found.path, found.key(), found.schema, clock).close()
        done(found)


def _found(data: Path, name: str, schema: Schema, key: Callable[[], bytes]) -> Found:
    return Found(name, data / name, schema, key)


def _tenant_key(keys: KeySource, tenant: int) -> Callable[[], bytes]:
    return lambda: keys.tenant_key(TenantId(tenant), _PURPOSE).secret


def _account_key(keys: KeySource, tenant: int, account: int) -> Callable[[], bytes]:
    return lambda: keys.account_key(TenantId(tenant), AccountId(account), _PURPOSE).secret


def _numbered(folder: Path) -> list[int]:
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdecimal())
