"""What differs between the ending of a tenant and that of one account: the fence, what is gathered, keys and rows.

Every method may be repeated. `alone` is entered when no process has anything of it open, and keeps it so.

Raises: NotFound, Gone, Unavailable (somebody has it open), StorageFull.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from storage.changes import AccountChanged, AccountEnded, TenantChanged, TenantEnded
from storage.database.driver import Error, connect, database_key
from storage.database.lockfile import LockFile, lock_path
from storage.directory.rows import AliasRow, State
from storage.directory.tenant import SCHEMA, Tenant
from storage.ending.remains import SoughtDatabase
from storage.ending.sought import Sought
from storage.ending.terms import KeyTerm
from storage.errors import CleanmailError, Gone, NotFound, Unavailable
from storage.installation import Installation
from storage.keys.destruction import Destroyed
from storage.keys.sealing import Key
from storage.leases import TenantLease
from storage.mail.account import DATABASE
from storage.mail.versions import SCHEMA as ACCOUNT_SCHEMA
from storage.queue.withdrawal import Withdrawn
from storage.values import AccountId, TenantId

PURPOSE = "ending"  # why keys are asked for
# Accounts whose keys are searched for and whose entries are counted: each key is asked for, and each database opened,
# before anything is unreadable. All end with the tenant's; of more the entries are not counted.
_KEYS_MAX = 1000


@contextmanager
def _as_far_as_it_opens() -> Iterator[None]:
    """What is damaged, or made by half, ends all the same. What cannot be reached now is gathered later.

    Else nobody would look for what was not gathered, and it would be certified.
    """
    try:
        yield
    except Unavailable:
        raise
    except CleanmailError:
        pass


class Scope(ABC):
    holds_keys = False  # whether processes that hold keys of it have to say that they forgot them

    def __init__(self, installation: Installation, tenant_id: TenantId, account_id: AccountId | None) -> None:
        self.installation = installation
        self.tenant_id = tenant_id
        self.account_id = account_id

    @property
    @abstractmethod
    def folder(self) -> Path: ...

    @property
    @abstractmethod
    def absent(self) -> tuple[str, ...]:
        """Paths that must not be there afterwards, relative to the data directory."""

    @property
    @abstractmethod
    def databases(self) -> tuple[SoughtDatabase, ...]:
        """The databases that go on and held rows of it."""

    @abstractmethod
    def fence(self) -> None:
        """Nobody begins anything with it any more."""

    @abstractmethod
    def tell(self) -> None:
        """Have every process let go of it, this one too."""

    @abstractmethod
    @contextmanager
    def alone(self, timeout: float) -> Iterator[None]: ...

    @abstractmethod
    def gather(self, sought: Sought) -> tuple[Sought, int | None]:
        """What can only be known while its keys are there; and how many entries there are, if all could be counted."""

    @abstractmethod
    def destroy(self) -> Destroyed: ...

    @abstractmethod
    def remove_rows(self, sought: Sought) -> None: ...

    @abstractmethod
    def truncate_logs(self) -> bool:
        """Nothing of it is in logs of databases any more; False: somebody uses them, try again."""

    def waiting(self) -> Withdrawn:
        return self.installation.queue.what_waits(self.tenant_id, self.account_id)

    def check_holds(self) -> None:
        """Raises Conflict while a legal hold is on it; one that ends by a clock that is not believed has not ended."""
        believed = self.installation.clock_guard.reading().doubt is None
        self.installation.control.holds.check(self.tenant_id, self.account_id, clock_is_believed=believed)

    def _services(self) -> tuple[SoughtDatabase, ...]:
        keys = self.installation.keys
        return tuple(
            SoughtDatabase(f"{name}.db", database_key(keys.service_key(name), name).hex())
            for name in ("control", "queue", "audit")
        )


class TenantScope(Scope):
    holds_keys = True

    @property
    def folder(self) -> Path:
        return self.installation.data / "tenants" / str(int(self.tenant_id))

    @property
    def absent(self) -> tuple[str, ...]:
        return (f"tenants/{self.tenant_id}", f"run/leases/{self.tenant_id}", f"keys/{self.tenant_id}")

    @property
    def databases(self) -> tuple[SoughtDatabase, ...]:
        return self._services()

    def fence(self) -> None:
        """It is ENDED since the commit that ordered it."""

    def tell(self) -> None:
        self.installation.announce(TenantChanged(self.tenant_id), TenantEnded(self.tenant_id))
        self.installation.forget_tenant(self.tenant_id)

    @contextmanager
    def alone(self, timeout: float) -> Iterator[None]:
        with TenantLease(self.installation.data, self.tenant_id).exclusive(timeout):
            yield

    def gather(self, sought: Sought) -> tuple[Sought, int | None]:
        texts, keys, accounts = {sought.slug, *sought.domains}, list[KeyTerm](), self._account_folders()
        entries = list[int | None]()
        with _as_far_as_it_opens():
            key = self.installation.keys.tenant_key(self.tenant_id, PURPOSE)
            keys.append(KeyTerm.of(key.id, key.secret))
            tenant = Tenant.open(self.folder / "tenant.db", self.tenant_id, key, self.installation.clock)
            try:
                for row in tenant.accounts():
                    accounts.add(row.account_id)
                    texts |= {str(row.login), row.name}
            finally:
                tenant.close()
        for account_id in sorted(accounts)[:_KEYS_MAX]:
            with _as_far_as_it_opens():
                key = self.installation.keys.account_key(self.tenant_id, AccountId(account_id), PURPOSE)
                keys.append(KeyTerm.of(key.id, key.secret))
                entries.append(_entries(self.folder / "accounts" / str(account_id), key))
        self.installation.keys.forget(self.tenant_id)
        return sought.with_texts(texts, keys, accounts), _sum(entries, len(accounts))

    def _account_folders(self) -> set[int]:
        folder = self.folder / "accounts"
        return {int(path.name) for path in folder.iterdir() if path.name.isdecimal()} if folder.is_dir() else set()

    def destroy(self) -> Destroyed:
        return self.installation.keys.destroy_tenant_key(self.tenant_id)

    def remove_rows(self, sought: Sought) -> None:
        installation = self.installation
        (installation.data / "run" / "leases" / str(int(self.tenant_id))).unlink(missing_ok=True)
        installation.queue.withdraw_tenant(self.tenant_id)
        accounts = [AccountId(account_id) for account_id in sought.accounts]
        for start in range(0, max(len(accounts), 1), 1000):
            installation.control.endings.remove_rows(self.tenant_id, accounts[start : start + 1000], whole=True)

    def truncate_logs(self) -> bool:
        installation = self.installation
        return installation.control.database.truncate_log() and installation.queue.database.truncate_log()


class AccountScope(Scope):
    account_id: AccountId

    @property
    def folder(self) -> Path:
        return self.installation.data / "tenants" / str(int(self.tenant_id)) / "accounts" / str(int(self.account_id))

    @property
    def absent(self) -> tuple[str, ...]:
        return (
            f"tenants/{self.tenant_id}/accounts/{self.account_id}",
            f"keys/{self.tenant_id}/{self.account_id}.key",
        )

    @property
    def databases(self) -> tuple[SoughtDatabase, ...]:
        with suppress(Gone, NotFound):
            key = self.installation.keys.tenant_key(self.tenant_id, PURPOSE)
            own = SoughtDatabase(f"tenants/{self.tenant_id}/tenant.db", database_key(key.secret, SCHEMA.name).hex())
            return (*self._services(), own)
        return self._services()

    def fence(self) -> None:
        with suppress(Gone, NotFound):  # its tenant has ended meanwhile, or its rows are removed
            self.installation.tenant(self.tenant_id).change_state(self.account_id, State.ENDED)

    def tell(self) -> None:
        self.installation.announce(
            AccountChanged(self.tenant_id, self.account_id), AccountEnded(self.tenant_id, self.account_id)
        )
        self.installation.forget_account(self.tenant_id, self.account_id)

    @contextmanager
    def alone(self, timeout: float) -> Iterator[None]:
        database = self.folder / DATABASE
        if not database.exists():
            yield
            return
        lock = LockFile(lock_path(database))
        try:
            with lock.exclusively(timeout):
                yield
        finally:
            lock.close()

    def gather(self, sought: Sought) -> tuple[Sought, int | None]:
        texts, others, keys = set[str](), set[str](), list[KeyTerm]()
        entries = list[int | None]()
        with _as_far_as_it_opens():
            tenant = self.installation.tenant(self.tenant_id)
            for row in tenant.accounts():
                whose = texts if row.account_id == self.account_id else others
                whose |= {str(row.login), row.login.key, row.name}
            own, shared = _aliases(tenant.addresses.aliases(), self.account_id)
            texts |= own
            others |= shared
        with _as_far_as_it_opens():
            key = self.installation.keys.account_key(self.tenant_id, self.account_id, PURPOSE)
            keys.append(KeyTerm.of(key.id, key.secret))
            entries.append(_entries(self.folder, key))
        return sought.with_texts(texts, keys, {self.account_id}, others), _sum(entries, 1)

    def destroy(self) -> Destroyed:
        return self.installation.keys.destroy_account_key(self.tenant_id, self.account_id)

    def remove_rows(self, sought: Sought) -> None:
        installation = self.installation
        installation.queue.withdraw_tenant(self.tenant_id, self.account_id)
        installation.control.endings.remove_rows(self.tenant_id, [self.account_id], whole=False)
        with suppress(Gone, NotFound):
            installation.tenant(self.tenant_id).remove_account(self.account_id)

    def truncate_logs(self) -> bool:
        installation = self.installation
        if not (installation.control.database.truncate_log() and installation.queue.database.truncate_log()):
            return False
        with suppress(Gone, NotFound):
            return installation.tenant(self.tenant_id).database.truncate_log()
        return True


def _entries(folder: Path, key: Key) -> int | None:
    """How many an account's collections say they hold; None if its database cannot be read, which keeps no end waiting.

    Notes are among them and among the messages: they are stored as both. Who ends it has it alone, so no lock is taken.
    """
    path = folder / DATABASE
    if not path.exists():
        return 0
    try:
        with closing(connect(path, database_key(key.secret, ACCOUNT_SCHEMA.name))) as driver:
            if not driver.execute("SELECT 1 FROM sqlite_schema WHERE name = 'collection'").fetchall():
                return 0  # nobody has opened it since there are collections
            [(count,)] = driver.execute("SELECT coalesce(sum(objects), 0) FROM collection").fetchall()
            return int(count)
    except (CleanmailError, Error):
        return None


def _sum(entries: list[int | None], accounts: int) -> int | None:
    """None unless those of all accounts are known."""
    known = [each for each in entries if each is not None]
    return sum(known) if len(known) == accounts else None


def _aliases(aliases: list[AliasRow], account_id: AccountId) -> tuple[set[str], set[str]]:
    """The addresses of those that go with an account, since they lead to it alone; and of all others."""
    targets = {str(target) for alias in aliases for target in alias.addresses}
    own = {
        alias.address
        for alias in aliases
        if not alias.catch_all
        and set(alias.accounts) == {account_id}
        and not alias.addresses
        and alias.address not in targets
    }
    return own, {alias.address for alias in aliases} - own | targets


def scope_of(installation: Installation, tenant_id: TenantId, account_id: AccountId | None) -> Scope:
    if account_id is None:
        return TenantScope(installation, tenant_id, None)
    return AccountScope(installation, tenant_id, account_id)


def still_in_use(scope: Scope) -> Unavailable:
    what = "tenant" if scope.account_id is None else "account"
    return Unavailable(
        f"Another process uses data of the {what} and does not let go of it; its ending goes on as soon as it does.",
        detail=f"ending of tenant {scope.tenant_id}, account {scope.account_id or '-'}: in use",
    )
