"""Makes an installation anew from a backup, in a data directory that holds nothing but its keys.

Everything is built beside, in DATA/.restoring, and checked against the manifest while it is copied; only what is whole
is moved into place, control.db last, so nothing is served before. A crash leaves DATA/.restoring, and the same command
made again begins anew, or goes on with moving.

What may not come back: data of tenants and accounts that were erased since the backup (by their certificates, or since
their keys were destroyed) is left out and their rows are removed. What may not be repeated: mailboxes get new
UIDVALIDITYs from the persistent counter, and ids of tenants, accounts, mailboxes and messages go on behind all that
may have been given out since. Queued mail comes back only if it is wanted: it may have been sent meanwhile.

Raises: AlreadyExists (the data directory is not empty), InvalidInput (damaged, or of another installation), NotFound,
StorageFull, Unavailable.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from sqlalchemy import bindparam, delete, func, select, update

from storage.backup import files
from storage.backup import manifest as manifests
from storage.backup.manifest import INSTALLATION, QUEUE, Entry, part_of_tenant
from storage.backup.place import Place, Stored, alone_in
from storage.certificates.certificate import Certificate
from storage.certificates.store import Certificates
from storage.clock import Clock
from storage.database.database import Transaction
from storage.database.prepared import prepare
from storage.directory.control import Control
from storage.directory.rows import State
from storage.errors import AlreadyExists, Corrupt, Gone, InvalidInput, NotFound
from storage.files import durable
from storage.installation import Installation
from storage.keys.source import KeySource
from storage.mail.account import DATABASE, MAILDIR, Account
from storage.schema import account as account_schema
from storage.schema import control as control_schema
from storage.schema import queue as queue_schema
from storage.values import AccountId, TenantId

PURPOSE = "restore"
STAGING = ".restoring"
_READY = "ready"  # the staged data directory is whole
# What may stand in a data directory into which an installation is restored; `run` is worthless.
_ALLOWED = frozenset({"keys", "run", "tls", "clock", "lost+found", "certificates", "cleanmail.toml", STAGING})
_MAILBOX_IDS, _MESSAGE_IDS = 10_000, 1_000_000  # that may have been given out since the backup
_OTHER_IDS = 1_000
_NUMBER = re.compile(r"([1-9][0-9]*)(?:\.key|\.destroyed)?\Z")

_mailbox, _counter = account_schema.mailbox, account_schema.counter
_MAILBOXES = prepare(select(_mailbox.c.mailbox_id).where(_mailbox.c.account_id == bindparam("account")))
_RENEW = prepare(
    update(_mailbox)
    .where(_mailbox.c.account_id == bindparam("account"), _mailbox.c.mailbox_id == bindparam("mailbox"))
    .values(uidvalidity=bindparam("fresh"))
)
_tenant, _domain, _login, _ids = (
    control_schema.tenant,
    control_schema.domain,
    control_schema.login,
    control_schema.counter,
)
_FREE_SLUG = prepare(update(_tenant).where(_tenant.c.tenant_id == bindparam("tenant")).values(slug=bindparam("freed")))
_DELETE_DOMAINS = prepare(delete(_domain).where(_domain.c.tenant_id == bindparam("tenant")))
_DELETE_LOGINS = prepare(delete(_login).where(_login.c.tenant_id == bindparam("tenant")))
_TENANT_IDS = prepare(select(_tenant.c.tenant_id).order_by(_tenant.c.tenant_id))
_RAISE = prepare(
    update(_ids)
    .where(_ids.c.name == bindparam("which"))
    .values(value=func.max(_ids.c.value, bindparam("least")) + _OTHER_IDS)
)
_ALL_ENTRIES = tuple(
    prepare(delete(table)) for table in (queue_schema.recipient, queue_schema.entry, queue_schema.unlink)
)
_ENTRIES = prepare(select(queue_schema.entry.c.queue_id, queue_schema.entry.c.tenant_id, queue_schema.entry.c.file))

Erased = tuple[TenantId, AccountId | None]


@dataclass(slots=True)
class Whole:
    """What came back."""

    tenants: int = 0
    accounts: int = 0
    files: int = 0
    bytes: int = 0
    queued: int = 0  # entries of the queue
    erased_tenants: int = 0  # that ended since the backup, by certificate or key
    erased_accounts: int = 0
    without_key: list[str] = field(default_factory=list)  # parts that no key opens, though nothing says they ended


OnProgress = Callable[[int, int], None]  # files done, of how many


def restore_installation(
    place: Place,
    stored: Stored,
    data: Path,
    keys: KeySource,
    clock: Clock,
    *,
    queue: bool = False,
    progress: OnProgress | None = None,
) -> Whole:
    """The installation of the backup in `data`, whose keys are there; durable when it returns.

    Erasures are known from the certificates in `data`, those in newer backups of `place`, and keys that were destroyed.
    """
    check_target(data)
    manifest = manifests.read(stored.root, keys.verifying_key("manifest"))
    if manifest.installation != manifests.installation_id(keys):
        raise InvalidInput(f"The backup {stored.name} is of another installation than the keys in {data}.")
    with alone_in(data):
        return _Restore(place, stored, data, keys, clock, queue, progress).run()


def check_target(data: Path) -> None:
    """Raises AlreadyExists, NotFound."""
    if not (data / "keys").is_dir():
        raise NotFound(
            f"There are no keys in {data}; bring them back first with: cleanmail --data {data} keys restore."
        )
    if (data / STAGING / _READY).exists():
        return  # what stands beside was moved there by a restore that was interrupted
    there = sorted(entry.name for entry in data.iterdir() if entry.name not in _ALLOWED)
    if there:
        raise AlreadyExists(f"{data} is not empty ({', '.join(there[:3])}): an installation comes into an empty one.")


class _Restore:
    def __init__(
        self,
        place: Place,
        stored: Stored,
        data: Path,
        keys: KeySource,
        clock: Clock,
        queue: bool,
        progress: OnProgress | None,
    ) -> None:
        self._place = place
        self._stored = stored
        self._data = data
        self._keys = keys
        self._clock = clock
        self._queue = queue
        self._progress = progress
        self._staging = data / STAGING
        self._target = self._staging / "data"
        self._whole = Whole()
        self._erased: set[Erased] = set()

    def run(self) -> Whole:
        ready = self._staging / _READY
        if ready.exists():
            self._whole = Whole(**json.loads(ready.read_bytes()))
        else:
            shutil.rmtree(self._staging, ignore_errors=True)
            try:
                self._build()
            except BaseException as error:
                shutil.rmtree(self._staging, ignore_errors=True)
                if isinstance(error, OSError):
                    raise files.failed(error) from error
                raise
        self._move()
        return self._whole

    def _build(self) -> None:
        durable.make_directory(self._target)
        for folder in ("run", "tenants", "logs"):
            durable.make_directory(self._target / folder)
        self._find_erased()
        self._copy(self._stored.entries(INSTALLATION))
        self._copy(entry for entry in self._stored.entries(QUEUE) if self._queue or "/" not in entry.path)
        tenants = [TenantId(number) for number in self._stored.manifest.tenants() if self._is_readable(number)]
        for tenant_id in tenants:
            self._copy(self._stored.entries(part_of_tenant(tenant_id)))
        installation = Installation(self._target, self._keys, self._clock)
        try:
            self._renew(installation, tenants)
        finally:
            installation.close()
        shutil.rmtree(self._target / "run")
        files.sync(self._target)
        durable.write_file(self._staging / _READY, json.dumps(asdict(self._whole)).encode("ascii"))

    # What was erased since

    def _find_erased(self) -> None:
        made = self._stored.manifest.made
        ledgers = [self._data, *(newer.root / manifests.DATA for newer in self._place.all())]
        for ledger in ledgers:
            for certificate in _certificates(ledger, made):
                scope = certificate.scope
                account_id = None if scope.account_id is None else AccountId(scope.account_id)
                self._erased.add((TenantId(scope.tenant_id), account_id))

    def _is_readable(self, number: int) -> bool:
        """Whether a tenant's part comes back; which of its accounts do is found out too."""
        tenant_id = TenantId(number)
        if (tenant_id, None) in self._erased:
            return False
        try:
            self._keys.tenant_key(tenant_id, PURPOSE)
        except Gone:
            self._erased.add((tenant_id, None))
            return False
        except NotFound:
            self._whole.without_key.append(f"tenant {number}")
            return False
        for account_id in _account_ids(self._stored.entries(part_of_tenant(number))):
            try:
                self._keys.account_key(tenant_id, account_id, PURPOSE)
            except Gone:
                self._erased.add((tenant_id, account_id))
            except NotFound:
                self._whole.without_key.append(f"account {account_id} of tenant {number}")
                self._erased.add((tenant_id, account_id))
        return True

    # Copying

    def _copy(self, entries: Iterable[Entry]) -> None:
        made: set[Path] = set()
        for entry in entries:
            owner = _owner(entry.path)
            if owner is not None and (owner in self._erased or (owner[0], None) in self._erased):
                continue
            target = self._target / entry.path
            if target.parent not in made:
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                made.add(target.parent)
            try:
                size, digest = files.copy_hashed(str(self._stored.path(entry.path)), str(target))
            except FileNotFoundError:
                raise self._damaged(entry, "is missing from") from None
            if (size, digest) != (entry.size, entry.digest):
                raise self._damaged(entry, "was changed in")
            self._whole.files += 1
            self._whole.bytes += size
            if self._progress is not None and self._whole.files % 100 == 0:
                self._progress(self._whole.files, self._stored.manifest.files)

    def _damaged(self, entry: Entry, what: str) -> InvalidInput:
        return InvalidInput(
            f"The file {entry.path} {what} the backup {self._stored.name}; nothing was restored. "
            "Take another backup, or restore single accounts of this one."
        )

    # What goes on behind what was

    def _renew(self, installation: Installation, tenants: Sequence[TenantId]) -> None:
        control = installation.control
        known = {row.tenant_id: row for row in control.tenants()}
        for tenant_id in known:
            durable.make_directory(self._target / "tenants" / str(tenant_id) / "accounts")
        for tenant_id in tenants:
            self._whole.tenants += 1
            self._renew_tenant(installation, tenant_id)
        self._apply_erasures(installation)
        self._renew_queue(installation)
        self._raise_ids(control)
        details = {"backup": self._stored.name, "queue": "yes" if self._queue else "no"}
        installation.audit.append("backup.restore", "system", details=details)

    def _renew_tenant(self, installation: Installation, tenant_id: TenantId) -> None:
        folder = self._target / "tenants" / str(tenant_id)
        tenant, logins = installation.tenant(tenant_id), installation.control.login_hashes()
        for row in tenant.accounts():
            if (tenant_id, row.account_id) in self._erased:
                continue
            root = folder / "accounts" / str(row.account_id)
            if not (root / DATABASE).exists():
                continue
            for name in ("tmp", "new", "cur"):
                durable.make_directory(root / MAILDIR / name)
            with installation.account(tenant_id, row.account_id) as account:
                renew(account, self._clock.now())
            self._whole.accounts += 1
            # One that was made while the backup was taken signs in too.
            if row.state is not State.ENDED and row.account_id not in logins:
                with suppress(AlreadyExists):
                    installation.control.claim_login(row.login, tenant_id, row.account_id)

    def _apply_erasures(self, installation: Installation) -> None:
        control = installation.control
        known = {row.tenant_id: row for row in control.tenants()}
        for tenant_id, account_id in sorted(self._erased, key=lambda each: (each[0], each[1] or 0)):
            if account_id is None:
                if tenant_id in known and known[tenant_id].state is not State.ENDED:
                    _end_tenant(control, tenant_id)
                    self._whole.erased_tenants += 1
                installation.queue.withdraw_tenant(tenant_id)
                shutil.rmtree(self._target / "tenants" / str(tenant_id), ignore_errors=True)
            elif (tenant_id, None) not in self._erased and tenant_id in known:
                self._whole.erased_accounts += _end_account(installation, tenant_id, account_id)
                shutil.rmtree(self._target / "tenants" / str(tenant_id) / "accounts" / str(account_id), True)

    def _renew_queue(self, installation: Installation) -> None:
        queue = installation.queue
        if not self._queue:
            queue.database.write(_forget_entries)
            return
        with queue.database.reading() as connection:
            rows = _ENTRIES.rows(connection)
        for queue_id, tenant_id, file in rows:
            if (self._target / "tenants" / str(tenant_id) / "spool" / file).exists():
                self._whole.queued += 1
            else:
                queue.withdraw(queue_id)

    def _raise_ids(self, control: Control) -> None:
        """Ids are never used again, and keys say which were given out since."""
        tenants, accounts = _numbers_in(self._data / "keys")
        for which, least in (("tenant_id", tenants), ("account_id", accounts)):
            control.database.write(partial(_RAISE.run, which=which, least=least))

    # Into place

    def _move(self) -> None:
        """Everything that is there already stays: configuration, certificates; control.db is the last."""
        names = sorted((entry.name for entry in self._target.iterdir()), key=lambda name: (name == "control.db", name))
        for name in names:
            source, target = self._target / name, self._data / name
            if name == "certificates" and target.exists():
                for file in source.iterdir():
                    if not (target / file.name).exists():
                        file.rename(target / file.name)
            elif not target.exists():
                source.rename(target)
            durable.fsync_directory(self._data)
        # In one step it is over: until then the same command made again goes on here.
        left = self._data / "run" / "restored"
        shutil.rmtree(left, ignore_errors=True)
        self._staging.rename(left)
        durable.fsync_directory(self._data)
        shutil.rmtree(left, ignore_errors=True)


def renew(account: Account, now: int) -> None:
    """After a database was restored: nothing that a client knows of the account is taken for what it has now."""

    def work(transaction: Transaction) -> None:
        ledger = account.ledger
        ledger.take(transaction, "mailbox_id", _MAILBOX_IDS)
        ledger.take(transaction, "message_id", _MESSAGE_IDS)
        # UIDVALIDITYs began with the time of the account, and rise more slowly than time: those given out since the
        # backup are below now (RFC 9051 §2.3.1.1).
        last = ledger.take(transaction, "uidvalidity", 0) - 1
        if last < now:
            ledger.take(transaction, "uidvalidity", now - last)
        for (mailbox_id,) in _MAILBOXES.rows(transaction, account=account.account_id):
            fresh = ledger.take(transaction, "uidvalidity")
            _RENEW.run(transaction, account=account.account_id, mailbox=mailbox_id, fresh=fresh)

    account.database.write(work)


def _certificates(ledger: Path, since: int) -> list[Certificate]:
    try:
        return Certificates(ledger).since(since)
    except Corrupt as error:
        raise InvalidInput(
            f"A certificate of erasure in {ledger} is damaged ({error.detail}), so nobody knows what was "
            "erased since: put it right first."
        ) from None


def _forget_entries(transaction: Transaction) -> None:
    for statement in _ALL_ENTRIES:
        statement.run(transaction)


def _end_tenant(control: Control, tenant_id: TenantId) -> None:
    """As its ending did: the row says that there was one, and nothing else is left."""
    control.change_tenant_state(tenant_id, State.ENDED)

    def work(transaction: Transaction) -> None:
        _DELETE_DOMAINS.run(transaction, tenant=tenant_id)
        _DELETE_LOGINS.run(transaction, tenant=tenant_id)
        _FREE_SLUG.run(transaction, tenant=tenant_id, freed=f"ended-{tenant_id}")

    control.database.write(work)


def _end_account(installation: Installation, tenant_id: TenantId, account_id: AccountId) -> bool:
    tenant = installation.tenant(tenant_id)
    installation.control.release_login(account_id)
    installation.queue.withdraw_tenant(tenant_id, account_id)
    try:
        tenant.change_state(account_id, State.ENDED)
    except NotFound:
        return False
    tenant.remove_account(account_id)
    return True


def _account_ids(entries: Iterable[Entry]) -> list[AccountId]:
    found = {owner[1] for entry in entries if (owner := _owner(entry.path)) is not None and owner[1] is not None}
    return sorted(found)


def _owner(path: str) -> Erased | None:
    """Whose a file is."""
    parts = path.split("/")
    if len(parts) < 3 or parts[0] != "tenants" or not parts[1].isdecimal():
        return None
    whole_account = len(parts) > 4 and parts[2] == "accounts" and parts[3].isdecimal()
    return TenantId(int(parts[1])), AccountId(int(parts[3])) if whole_account else None


def _numbers_in(keys: Path) -> tuple[int, int]:
    """The highest numbers of tenants and accounts that key files or their markers have."""
    tenants = accounts = 0
    for path in keys.rglob("*"):
        parts = path.relative_to(keys).parts
        match = _NUMBER.match(parts[-1])
        if match is None or parts[0] in ("logs", "endings", "groups"):
            continue
        if len(parts) == 1:
            tenants = max(tenants, int(match[1]))
        elif len(parts) == 2:
            accounts = max(accounts, int(match[1]))
    return tenants, accounts
