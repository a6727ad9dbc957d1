"""Makes one backup of an installation that may be at work.

The queue first, then the installation's own databases, then a tenant after the other: what moves meanwhile moves from
what is copied early to what is copied late, so nothing is in neither. How a part is copied is `storage.backup.copier`;
an unchanged installation costs as much as making the links.

Keys are never in it, nor run/. A tenant's lease is held shared while its part is copied; when the tenant ends in the
middle, its part is given up and removed, and so is an account's. A database that is damaged keeps nothing else from
being copied. When `make` returns, the backup is whole, on the disk, and recorded. When it raises, nothing of it is left
but a folder that ends in .incomplete, if even that could not be removed.

Raises: InvalidInput (the place), Conflict (another one is at work), StorageFull, Unavailable, Corrupt (one of the
installation's own databases is damaged), and what `look` raises.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storage.backup import files, lease
from storage.backup import manifest as manifests
from storage.backup.copier import Copier
from storage.backup.manifest import INSTALLATION, QUEUE, Entry, Manifest, Part, part_of_tenant
from storage.backup.place import Keep, Place, Stored, alone_in
from storage.database.driver import database_key
from storage.directory.backups import BackupRow
from storage.directory.control import SCHEMA as CONTROL
from storage.directory.rows import State
from storage.directory.tenant import SCHEMA as TENANT
from storage.errors import CleanmailError, Conflict, Corrupt, Gone, NotFound, Unavailable
from storage.installation import Installation
from storage.leases import TenantLease
from storage.mail.account import DATABASE, MAILDIR, OBJECTS
from storage.mail.versions import SCHEMA as ACCOUNT
from storage.quarantine.files import BODY, HEADER
from storage.values import AccountId, TenantId

_log = logging.getLogger("cleanmail.storage")

PURPOSE = "backup"
_LEASE_PATIENCE = 5.0  # seconds
_LOOK = 0.25  # seconds between two looks at whether the tenant ended
# In the data directory: not part of a backup, or part of it in a way of its own. `clock` is about this machine's clock.
_APART = frozenset({"keys", "run", "tenants", "erasing", "clock", "control.db", "queue.db", "audit.db"})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: parts done, of how many, and what they hold."""

    done: int
    total: int
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was made."""

    stored: Stored
    linked: int  # files shared with the backup before, unread
    taken: int  # files that are new in it
    snapshots: int  # databases that were copied


class Ended(Exception):  # noqa: N818
    """The tenant whose part is copied ended."""


class BackupRun:
    def __init__(
        self,
        installation: Installation,
        place: Place,
        keep: Keep | None = None,
        *,
        excluded: Collection[Path] = (),
        whole: bool = False,
        forget: Callable[[TenantId], None] | None = None,
        progress: Callable[[Progress], None] | None = None,
        look: Callable[[], None] | None = None,
        longest: float = lease.LONGEST,
    ) -> None:
        """`excluded`: files and folders in the data directory that have to stay out, the master key above all.
        `whole`: share nothing with the backup before. `forget` says that this process has no key of a tenant any more.
        `look` is called several times a second; what it raises ends the backup. `longest`: seconds that the removal
        of files waits for one account."""
        self._installation = installation
        self._control = installation.control
        self._data = installation.data
        self._place = place
        self._keep = keep or Keep()
        self._excluded = excluded
        self._whole = whole
        self._forget = forget
        self._progress = progress
        self._look = look
        self._longest = longest
        self._tenant_id: TenantId | None = None  # whose part is copied
        self._looked = 0.0
        self._endings: set[str] = set()  # that are known
        self._root = Path()

    def make(self) -> Made:
        self._place.prepare(self._data)
        with alone_in(self._data), self._place.alone():
            self._place.tidy()
            return self._make()

    def _make(self) -> Made:
        keys, began = self._installation.keys, self._installation.clock.now()
        public, whose = keys.verifying_key("manifest"), manifests.installation_id(keys)
        if any(stored.manifest.installation != whose for stored in self._place.all()):
            raise Conflict(f"{self._place.folder} holds backups of another installation; take another place.")
        earlier = self._place.all(public)  # what anybody else signed is shared with nobody
        previous = earlier[-1] if earlier and not self._whole else None
        self._reconcile(earlier)
        name, self._root = self._begin(began)
        copier = self._copier = Copier(
            self._data, self._root, previous, self._pause, excluded=self._excluded, longest=self._longest
        )
        try:
            parts = self._parts()
            manifest = Manifest(
                id=f"{name}-{secrets.token_hex(4)}",
                installation=whose,
                made=began,
                finished=self._installation.clock.now(),
                expires=self._keep.until(began, [stored.manifest.made for stored in earlier]),
                previous=previous.name if previous else "",
                parts=tuple(parts),
                missing=tuple(copier.tally.missing),
                skipped=tuple(copier.tally.skipped),
            )
            files.sync(self._root)
            manifests.write(self._root, manifest, lambda text: keys.sign("manifest", text), public)
            stored = self._place.complete(name, self._root)
        except BaseException as error:
            copier.snapshots.stop()
            shutil.rmtree(self._root, ignore_errors=True)
            if isinstance(error, OSError):
                raise files.failed(error) from error
            raise
        finally:
            copier.snapshots.stop()
        self._record(stored)
        return Made(stored, copier.tally.linked, copier.tally.taken, copier.tally.snapshots)

    def _begin(self, now: int) -> tuple[str, Path]:
        try:
            return self._place.begin(now)
        except OSError as error:
            raise files.failed(error) from error

    def _reconcile(self, earlier: Sequence[Stored]) -> None:
        """Rows and folders: what a crash left without a row gets one, and whose folder is gone loses it."""
        backups, here = self._control.backups, str(self._place.folder.resolve())
        known = {row.backup_id: row for row in backups.all()}
        for stored in earlier:
            if stored.manifest.id not in known:
                self._record(stored)
        for row in known.values():
            if row.place == here and not (self._place.folder / row.name).exists():
                backups.removed(row.backup_id)

    def _record(self, stored: Stored) -> None:
        manifest = stored.manifest
        row = BackupRow(
            manifest.id,
            manifest.made,
            str(self._place.folder.resolve()),
            manifest.files,
            manifest.bytes,
            None,
            manifest.expires,
        )
        self._control.backups.add(row)

    # Parts

    def _parts(self) -> list[Part]:
        queue = self._queue()
        parts = [self._installation_part()]
        # After the directory: whoever stands in it has a folder by now.
        tenants = _numbers(self._data / "tenants")
        self._report(0, len(tenants), [])
        for done, number in enumerate(tenants, start=1):
            part = self._tenant_part(TenantId(number))
            if part is not None:
                parts.append(part)
            self._report(done, len(tenants), parts)
        ended = {number for number in tenants if self._has_ended(TenantId(number))}
        ended |= {number for number in {_tenant_of(entry.path) for entry in queue} if self._has_ended(TenantId(number))}
        for number in ended:  # whoever ended meanwhile, after its part was copied
            self._copier.remove(f"tenants/{number}")
            (self._root / manifests.PARTS / f"{part_of_tenant(number)}.jsonl").unlink(missing_ok=True)
        tally = self._copier.tally
        tally.missing = [path for path in tally.missing if _tenant_of(path) not in ended]
        queue = [entry for entry in queue if _tenant_of(entry.path) not in ended]
        parts = [part for part in parts if part.name not in {part_of_tenant(number) for number in ended}]
        return [manifests.write_part(self._root, QUEUE, queue), *parts]

    def _report(self, done: int, total: int, parts: Iterable[Part]) -> None:
        if self._progress is not None:
            parts = list(parts)
            self._progress(Progress(done, total, sum(p.files for p in parts), sum(p.bytes for p in parts)))

    def _queue(self) -> list[Entry]:
        """The queue's database and the content of what waits."""
        copier = self._copier
        copier.begin(QUEUE)

        def before() -> list[Entry]:
            return [entry for entry in copier.before.values() if "/spool/" in entry.path]

        key = database_key(self._installation.keys.service_key("queue"), "queue")
        copier.with_files("queue.db", key, "queue", lease.QUEUE, _spooled, before)
        self._finish_removals()
        return copier.entries

    def _installation_part(self) -> Part:
        """The installation's databases, records, certificates, configuration."""
        copier, keys = self._copier, self._installation.keys
        copier.begin(INSTALLATION)
        copier.database("control.db", database_key(keys.service_key("control"), CONTROL.name), "")
        if (self._data / "audit.db").exists():
            copier.database("audit.db", database_key(keys.service_key("audit"), "audit"), "")
        copier.tree("", _APART)
        return copier.write(INSTALLATION)

    def _tenant_part(self, tenant_id: TenantId) -> Part | None:
        name, copier = part_of_tenant(tenant_id), self._copier
        copier.begin(name)
        point, self._tenant_id = copier.point(), tenant_id
        try:
            self._check_ended()
            with TenantLease(self._data, tenant_id).shared(_LEASE_PATIENCE):
                self._check_ended()
                self._tenant(tenant_id)
                self._check_ended()
            copied = True
        except (Ended, Gone):
            copied = False
            copier.snapshots.stop()  # it held keys of the tenant
        except (NotFound, Corrupt) as error:  # being made, without its key, or damaged
            copied = self._skip(name, error)
        except Unavailable as error:
            copied = self._has_ended(tenant_id) or self._skip(name, error)
        finally:
            self._tenant_id = None
            if self._forget is not None:  # before anything else is done: who ends it waits for this
                self._forget(tenant_id)
        if copied and not self._has_ended(tenant_id):
            return copier.write(name)
        copier.back_to(point, f"tenants/{tenant_id}")
        return None

    def _skip(self, name: str, error: CleanmailError) -> bool:
        if isinstance(error, Unavailable) and type(error) is not Unavailable:
            raise error  # the disk is full
        _log.error("backup: %s was left out: %s", name, error.detail or error.public)
        self._copier.tally.skipped.append(name)
        return False

    def _tenant(self, tenant_id: TenantId) -> None:
        keys, copier, folder = self._installation.keys, self._copier, f"tenants/{tenant_id}"

        def tenant_key() -> bytes:
            return database_key(keys.tenant_key(tenant_id, PURPOSE).secret, TENANT.name)

        def withheld(name: str) -> list[str]:
            return [f"{folder}/quarantine/{name}{ending}" for ending in (HEADER, BODY)]

        def before() -> list[Entry]:
            return [entry for entry in copier.before.values() if entry.path.startswith(f"{folder}/quarantine/")]

        copier.with_files(
            f"{folder}/tenant.db", tenant_key, "tenant", lease.scope_of_tenant(tenant_id), withheld, before
        )
        accounts = manifests.by_folder(copier.before.values(), 4)
        copier.folder(f"{folder}/accounts")
        for number in _numbers(self._data / folder / "accounts"):
            self._account(tenant_id, AccountId(number), accounts.get(f"{folder}/accounts/{number}", []))
        copier.tree(folder, frozenset({"tenant.db", "accounts", "spool", "quarantine"}))

    def _account(self, tenant_id: TenantId, account_id: AccountId, before: list[Entry]) -> None:
        folder = f"tenants/{tenant_id}/accounts/{account_id}"
        point = self._copier.point()
        try:
            self._copy_account(tenant_id, account_id, folder, before)
            if self._control.endings.of(tenant_id, account_id) is None:
                return
        except (Gone, NotFound):  # it is being deleted, or being made
            self._check_ended()
        except Corrupt as error:
            self._skip(f"account {account_id} of tenant {tenant_id}", error)
        self._copier.back_to(point, folder)

    def _copy_account(self, tenant_id: TenantId, account_id: AccountId, folder: str, before: list[Entry]) -> None:
        stored, objects = f"{folder}/{MAILDIR}/cur/", f"{folder}/{OBJECTS}/cur/"

        def key() -> bytes:
            secret = self._installation.keys.account_key(tenant_id, account_id, PURPOSE).secret
            return database_key(secret, ACCOUNT.name)

        self._copier.with_files(
            f"{folder}/{DATABASE}",
            key,
            "account",
            lease.scope_of_account(tenant_id, account_id),
            lambda name: [f"{folder}/{name}" if "/" in name else stored + name],
            lambda: [entry for entry in before if entry.path.startswith((stored, objects))],
        )
        self._copier.tree(folder, frozenset({DATABASE, MAILDIR, OBJECTS}))

    # Meanwhile

    def _pause(self) -> None:
        now = time.monotonic()
        if now - self._looked >= _LOOK:
            self._looked = now
            if self._look is not None:
                self._look()
            self._check_ended()
            endings = {row.ending_id for row in self._control.endings.open()}
            if endings - self._endings:  # it may have had a key of what ends
                self._endings |= endings
                self._copier.snapshots.renew()

    def _check_ended(self) -> None:
        if self._tenant_id is not None and self._has_ended(self._tenant_id):
            raise Ended

    def _has_ended(self, tenant_id: TenantId) -> bool:
        try:
            return self._control.tenant_state(tenant_id)[0] is State.ENDED
        except NotFound:
            return False

    def _finish_removals(self) -> None:
        """What had to stay in the spools while they were copied goes now."""
        installation, alive = self._installation, self._installation.incarnation.is_alive
        for number in _numbers(self._data / "tenants"):
            if (self._data / "tenants" / str(number) / "spool").is_dir():
                with suppress(CleanmailError):
                    installation.queue.sweep(TenantId(number), alive)


def _numbers(folder: Path) -> list[int]:
    """The names of its folders that are ids."""
    try:
        with os.scandir(folder) as found:
            return sorted(int(entry.name) for entry in found if entry.name.isdecimal() and entry.is_dir())
    except FileNotFoundError:
        return []


def _tenant_of(path: str) -> int:
    parts = path.split("/", 2)
    return int(parts[1]) if parts[0] == "tenants" else 0


def _spooled(name: str) -> list[str]:
    tenant, _, file = name.partition("/")
    return [f"tenants/{tenant}/spool/{file}"]
