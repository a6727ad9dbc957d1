"""Makes an installation anew from a backup, in a data directory that holds nothing but its keys.

Everything is built beside, in DATA/.restoring, and checked against the manifest while it is copied; only what is whole
is moved into place, control.db last, so nothing is served before. A crash leaves DATA/.restoring, and the same command
made again begins anew, or goes on with moving.

What may not come back: data of tenants and accounts that were erased since the backup (`storage.backup.ledger`) is left
out, their rows are removed, and keys of theirs that came back with an older copy are destroyed again. What may not be
repeated (`storage.backup.renewal`): mailboxes get new UIDVALIDITYs from the persistent counter, and ids of tenants,
accounts, mailboxes and messages go on behind all that may have been given out since. Queued mail comes back only if it
is wanted: it may have been sent meanwhile.

Raises: AlreadyExists (the data directory is not empty), InvalidInput (damaged, or of another installation), Conflict
(the restore of another backup was interrupted there), NotFound, StorageFull, Unavailable.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sqlalchemy import delete, select

from storage.backup import files
from storage.backup import manifest as manifests
from storage.backup.ledger import PURPOSE, Ledger, Owner
from storage.backup.manifest import INSTALLATION, QUEUE, Entry, part_of_tenant
from storage.backup.place import Place, Stored, alone_in
from storage.backup.renewal import highest_in, raise_ids, renew_account
from storage.clock import Clock
from storage.database.database import Transaction
from storage.database.prepared import prepare
from storage.directory.rows import State
from storage.errors import AlreadyExists, Conflict, Gone, InvalidInput, NotFound
from storage.files import durable
from storage.installation import Installation
from storage.keys.source import KeySource
from storage.mail.account import DATABASE, MAILDIR, OBJECTS
from storage.schema import queue as queue_schema
from storage.values import AccountId, TenantId

STAGING = ".restoring"
_READY = "ready"  # the staged data directory is whole
# What may stand in a data directory into which an installation is restored; `run` is worthless.
_ALLOWED = frozenset({"keys", "run", "tls", "clock", "lost+found", "certificates", "cleanmail.toml", STAGING})

_ALL_ENTRIES = tuple(
    prepare(delete(table)) for table in (queue_schema.recipient, queue_schema.entry, queue_schema.unlink)
)
_ENTRIES = prepare(select(queue_schema.entry.c.queue_id, queue_schema.entry.c.tenant_id, queue_schema.entry.c.file))


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
    keys_destroyed: int = 0  # of what was erased, and were there again
    without_key: list[str] = field(default_factory=list)  # parts that no key opens, though nothing says they ended
    without_part: list[str] = field(default_factory=list)  # tenants of which the backup holds nothing


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
        return _Restore(place, Stored(stored.root, manifest), data, keys, clock, queue, progress).run()


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
        self._backups: list[Stored] = []  # all of this installation that lie there
        self._ledger = Ledger(keys)

    def run(self) -> Whole:
        ready, wanted = self._staging / _READY, {"backup": self._stored.manifest.id, "queue": self._queue}
        if ready.exists():
            found = json.loads(ready.read_bytes())
            self._whole = Whole(**found.pop("whole"))
            if found != wanted:
                raise Conflict(
                    f"The restore of the backup {found['backup'].partition('-')[0]} into {self._data} was interrupted "
                    "while it came into place: finish it with the same command, or begin with an empty data directory."
                )
        else:
            shutil.rmtree(self._staging, ignore_errors=True)
            try:
                self._build()
                ended = json.dumps({**wanted, "whole": asdict(self._whole)})
                durable.write_file(ready, ended.encode("ascii"))
            except BaseException as error:
                shutil.rmtree(self._staging, ignore_errors=True)
                if isinstance(error, OSError):
                    raise files.failed(error) from error
                raise
        self._move()
        return self._whole

    def _build(self) -> None:
        self._find_erased()
        durable.make_directory(self._target)
        for folder in ("run", "tenants", "logs"):
            durable.make_directory(self._target / folder)
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

    # What was erased since

    def _find_erased(self) -> None:
        """By certificates; keys that the copy of before brought back are destroyed again."""
        self._ledger.read(self._data, keep=False)  # they stay
        self._backups = self._place.all(self._keys.verifying_key("manifest"))
        for stored in self._backups:
            self._ledger.read(stored.root / manifests.DATA, keep=True)
        self._whole.keys_destroyed = self._ledger.destroy_keys()

    def _is_readable(self, number: int) -> bool:
        """Whether a tenant's part comes back; which of its accounts do is found out too."""
        tenant_id = TenantId(number)
        if self._ledger.has((tenant_id, None)):
            return False
        try:
            self._keys.tenant_key(tenant_id, PURPOSE)
        except Gone:
            self._ledger.add((tenant_id, None))
            return False
        except NotFound:
            self._whole.without_key.append(f"tenant {number}")
            return False
        for account_id in _account_ids(self._stored.entries(part_of_tenant(number))):
            try:
                self._keys.account_key(tenant_id, account_id, PURPOSE)
            except Gone:
                self._ledger.add((tenant_id, account_id))
            except NotFound:
                self._whole.without_key.append(f"account {account_id} of tenant {number}")
                self._ledger.add((tenant_id, account_id))
        return True

    # Copying

    def _copy(self, entries: Iterable[Entry]) -> None:
        made: set[Path] = set()
        for entry in entries:
            owner = _owner(entry.path)
            if owner is not None and self._ledger.has(owner):
                continue
            target = self._target / entry.path
            if target.parent not in made:
                _make_parents(target.parent)
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
        whole, copied = self._whole, set(tenants)
        for row in installation.control.tenants():
            if row.state is State.ENDED or self._ledger.has((row.tenant_id, None)):
                continue
            durable.make_directory(self._target / "tenants" / str(row.tenant_id) / "accounts")
            if row.tenant_id not in copied and f"tenant {row.tenant_id}" not in whole.without_key:
                whole.without_part.append(f"tenant {row.tenant_id}")
        for tenant_id in tenants:
            self._whole.tenants += 1
            self._renew_tenant(installation, tenant_id)
        self._apply_erasures(installation)
        self._renew_queue(installation)
        self._raise_ids(installation)
        details = {"backup": self._stored.name, "queue": "yes" if self._queue else "no"}
        installation.audit.append("backup.restore", "system", details=details)

    def _renew_tenant(self, installation: Installation, tenant_id: TenantId) -> None:
        folder = self._target / "tenants" / str(tenant_id)
        tenant, logins = installation.tenant(tenant_id), installation.control.login_hashes()
        for row in tenant.accounts():
            if self._ledger.has((tenant_id, row.account_id)):
                continue
            root = folder / "accounts" / str(row.account_id)
            if not (root / DATABASE).exists():
                continue
            for store in (MAILDIR, OBJECTS):
                for name in ("tmp", "new", "cur"):
                    durable.make_directory(root / store / name)
            with installation.account(tenant_id, row.account_id) as account:
                renew_account(account, self._clock.now())
            self._whole.accounts += 1
            # One that was made while the backup was taken signs in too.
            if row.state is not State.ENDED and row.account_id not in logins:
                with suppress(AlreadyExists):
                    installation.control.claim_login(row.login, tenant_id, row.account_id)

    def _apply_erasures(self, installation: Installation) -> None:
        applied = self._ledger.apply(installation)
        self._whole.erased_tenants, self._whole.erased_accounts = applied.tenants, applied.accounts
        for tenant_id, account_id in self._ledger:
            folder = self._target / "tenants" / str(tenant_id)
            shutil.rmtree(folder if account_id is None else folder / "accounts" / str(account_id), ignore_errors=True)

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

    def _raise_ids(self, installation: Installation) -> None:
        """Ids are never used again; keys, certificates and newer backups say which were given out since."""
        tenant_id, account_id = highest_in(self._data / "keys")
        tenants = [number for stored in self._backups for number in stored.manifest.tenants()]
        tenants += [int(owner[0]) for owner in self._ledger]
        accounts = [int(owner[1] or 0) for owner in self._ledger]
        raise_ids(installation.control, max([tenant_id, *tenants]), max([account_id, *accounts]))

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


def _forget_entries(transaction: Transaction) -> None:
    for statement in _ALL_ENTRIES:
        statement.run(transaction)


def _make_parents(folder: Path) -> None:
    """Each of them for nobody else to look into."""
    if not folder.is_dir():
        _make_parents(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _account_ids(entries: Iterable[Entry]) -> list[AccountId]:
    found = {owner[1] for entry in entries if (owner := _owner(entry.path)) is not None and owner[1] is not None}
    return sorted(found)


def _owner(path: str) -> Owner | None:
    """Whose a file is."""
    parts = path.split("/")
    if len(parts) < 3 or parts[0] != "tenants" or not parts[1].isdecimal():
        return None
    whole_account = len(parts) > 4 and parts[2] == "accounts" and parts[3].isdecimal()
    return TenantId(int(parts[1])), AccountId(int(parts[3])) if whole_account else None
