"""Makes one backup of an installation that may be at work.

The queue first, then the installation's own databases, then a tenant after the other: what moves meanwhile moves from
what is copied early to what is copied late, so nothing is in neither. Of each database a snapshot is taken in one step
(`storage.backup.snapshot`), then the files that its rows name are linked; nothing of that account is removed meanwhile
(`storage.backup.lease`), so every row in the snapshot has its file. What has not changed since the backup before is
linked from there: neither read nor hashed, so an unchanged installation costs as much as making the links.

Keys are never in it, nor run/. A tenant's lease is held shared while its part is copied; when the tenant ends in the
middle, its part is given up and removed. When `make` returns, the backup is whole, on the disk, and recorded. When it
raises, nothing of it is left but a folder that ends in .incomplete, if even that could not be removed.

Raises: InvalidInput (the place), Conflict (another one is at work), StorageFull, Unavailable, and what `look` raises.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from storage.backup import files, lease
from storage.backup import manifest as manifests
from storage.backup.manifest import INSTALLATION, QUEUE, Entry, Manifest, Part, part_of_tenant
from storage.backup.place import Keep, Place, Stored, alone_in
from storage.backup.snapshots import Snapshots, Taken
from storage.database.driver import database_key
from storage.directory.backups import BackupRow
from storage.directory.control import SCHEMA as CONTROL
from storage.directory.rows import State
from storage.directory.tenant import SCHEMA as TENANT
from storage.errors import CleanmailError, Conflict, Gone, NotFound, Unavailable
from storage.installation import Installation
from storage.leases import TenantLease
from storage.mail.account import DATABASE, MAILDIR
from storage.mail.account import SCHEMA as ACCOUNT
from storage.quarantine.files import BODY, HEADER
from storage.register.values import Kept
from storage.values import AccountId, TenantId

_log = logging.getLogger("cleanmail.storage")

PURPOSE = "backup"
_LEASE_PATIENCE = 5.0  # seconds
_LOOK = 0.25  # seconds between two looks at whether the tenant ended
_TRIES = 3  # snapshots of one database, until the files that it names are there
# In the data directory: not part of a backup, or part of it in a way of its own. `clock` is about this machine's clock.
_APART = frozenset({"keys", "run", "tenants", "erasing", "clock", "control.db", "queue.db", "audit.db"})
_SIDE_FILES = ("-wal", "-shm", "-journal", ".lock")


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


@dataclass
class _Tally:
    linked: int = 0
    taken: int = 0
    snapshots: int = 0
    missing: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


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
        self._data = installation.data
        self._place = place
        self._keep = keep or Keep()
        self._excluded = {path.resolve() for path in excluded}
        self._whole = whole
        self._forget = forget
        self._progress = progress
        self._look = look
        self._longest = longest
        self._snapshots = Snapshots(self._pause)
        self._tally = _Tally()
        self._tenant_id: TenantId | None = None  # whose part is copied
        self._looked = 0.0
        self._root = Path()
        self._previous: Stored | None = None
        self._before: dict[str, Entry] = {}  # the part that is copied, in the backup before
        self._entries: list[Entry] = []  # of the part that is copied
        self._base = self._base_before = ""  # of the paths in this backup and the one before
        self._folders: set[str] = set()  # that were made

    def make(self) -> Made:
        self._place.prepare(self._data)
        with alone_in(self._data), self._place.alone():
            self._place.tidy()
            return self._make()

    def _make(self) -> Made:
        keys, began = self._installation.keys, self._installation.clock.now()
        public, whose = keys.verifying_key("manifest"), manifests.installation_id(keys)
        earlier = self._place.all()
        if any(stored.manifest.installation != whose for stored in earlier):
            raise Conflict(f"{self._place.folder} holds backups of another installation; take another place.")
        if earlier and not self._whole:
            self._previous = earlier[-1]
            self._base_before = f"{self._previous.root}/{manifests.DATA}/"
        self._reconcile(earlier)
        name, self._root = self._begin(began)
        self._base = f"{self._root}/{manifests.DATA}/"
        try:
            parts = self._parts()
            manifest = Manifest(
                id=f"{name}-{secrets.token_hex(4)}",
                installation=whose,
                made=began,
                finished=self._installation.clock.now(),
                expires=self._keep.until(began, [stored.manifest.made for stored in earlier]),
                previous=self._previous.name if self._previous else "",
                parts=tuple(parts),
                missing=tuple(self._tally.missing),
                skipped=tuple(self._tally.skipped),
            )
            files.sync(self._root)
            manifests.write(self._root, manifest, lambda text: keys.sign("manifest", text), public)
            stored = self._place.complete(name, self._root)
        except BaseException as error:
            self._snapshots.stop()
            shutil.rmtree(self._root, ignore_errors=True)
            if isinstance(error, OSError):
                raise files.failed(error) from error
            raise
        finally:
            self._snapshots.stop()
        self._record(stored)
        return Made(stored, self._tally.linked, self._tally.taken, self._tally.snapshots)

    def _begin(self, now: int) -> tuple[str, Path]:
        try:
            return self._place.begin(now)
        except OSError as error:
            raise files.failed(error) from error

    def _reconcile(self, earlier: Sequence[Stored]) -> None:
        """Rows and folders: what a crash left without a row gets one, and whose folder is gone loses it."""
        backups, here = self._installation.control.backups, str(self._place.folder.resolve())
        known = {row.backup_id: row for row in backups.all()}
        for stored in earlier:
            if stored.manifest.id not in known:
                self._record(stored)
        there = {stored.manifest.id for stored in earlier}
        for row in known.values():
            if row.place == here and row.backup_id not in there:
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
        self._installation.control.backups.add(row)

    # Parts

    def _parts(self) -> list[Part]:
        data = self._data
        tenants = _numbers(data / "tenants")
        self._report(0, len(tenants), [])
        queue = self._queue()
        parts = [self._installation_part()]
        for done, number in enumerate(tenants, start=1):
            part = self._tenant_part(TenantId(number))
            if part is not None:
                parts.append(part)
            self._report(done, len(tenants), parts)
        ended = {number for number in tenants if self._has_ended(TenantId(number))}
        for number in ended:  # whoever ended meanwhile, after its part was copied
            shutil.rmtree(self._root / manifests.DATA / "tenants" / str(number), ignore_errors=True)
            (self._root / manifests.PARTS / f"{part_of_tenant(number)}.jsonl").unlink(missing_ok=True)
        queue = [entry for entry in queue if _tenant_of(entry.path) not in ended]
        parts = [part for part in parts if part.name not in {part_of_tenant(number) for number in ended}]
        return [manifests.write_part(self._root, QUEUE, queue), *parts]

    def _report(self, done: int, total: int, parts: Iterable[Part]) -> None:
        if self._progress is not None:
            parts = list(parts)
            self._progress(Progress(done, total, sum(p.files for p in parts), sum(p.bytes for p in parts)))

    def _begin_part(self, name: str) -> None:
        self._entries, self._before = [], {}
        self._folders.clear()
        if self._previous is not None:
            with suppress(CleanmailError):  # what is damaged there is copied anew
                self._before = {entry.path: entry for entry in self._previous.entries(name)}

    def _queue(self) -> list[Entry]:
        """The queue's database and the content of what waits."""
        self._begin_part(QUEUE)
        key = database_key(self._installation.keys.service_key("queue"), "queue")
        self._with_files("queue.db", key, "queue", lease.QUEUE, _spooled, self._spool_entries)
        self._finish_removals()
        return self._entries

    def _spool_entries(self) -> list[Entry]:
        return [entry for entry in self._before.values() if "/spool/" in entry.path]

    def _installation_part(self) -> Part:
        """The installation's databases, records, certificates, configuration."""
        self._begin_part(INSTALLATION)
        keys = self._installation.keys
        self._database("control.db", database_key(keys.service_key("control"), CONTROL.name), "")
        if (self._data / "audit.db").exists():
            self._database("audit.db", database_key(keys.service_key("audit"), "audit"), "")
        self._tree("", _APART)
        return manifests.write_part(self._root, INSTALLATION, self._entries)

    def _tenant_part(self, tenant_id: TenantId) -> Part | None:
        name = part_of_tenant(tenant_id)
        self._begin_part(name)
        self._tenant_id = tenant_id
        try:
            self._check_ended()
            with TenantLease(self._data, tenant_id).shared(_LEASE_PATIENCE):
                self._check_ended()
                self._tenant(tenant_id)
                self._check_ended()
            self._tenant_id = None
            return manifests.write_part(self._root, name, self._entries)
        except (Ended, Gone):
            self._snapshots.stop()  # it held keys of the tenant
        except NotFound as error:  # being made, or without its key
            self._skip(name, error)
        except Unavailable as error:
            if not self._has_ended(tenant_id):
                self._skip(name, error)
        finally:
            self._tenant_id = None
            if self._forget is not None:
                self._forget(tenant_id)
        shutil.rmtree(self._root / manifests.DATA / "tenants" / str(tenant_id), ignore_errors=True)
        return None

    def _skip(self, name: str, error: CleanmailError) -> None:
        if isinstance(error, Unavailable) and type(error) is not Unavailable:
            raise error  # the disk is full
        _log.error("backup: %s was left out: %s", name, error.detail or error.public)
        self._tally.skipped.append(name)

    def _tenant(self, tenant_id: TenantId) -> None:
        keys, folder = self._installation.keys, f"tenants/{tenant_id}"

        def tenant_key() -> bytes:
            return database_key(keys.tenant_key(tenant_id, PURPOSE).secret, TENANT.name)

        def withheld(name: str) -> list[str]:
            return [f"{folder}/quarantine/{name}{ending}" for ending in (HEADER, BODY)]

        def before() -> list[Entry]:
            return [entry for entry in self._before.values() if entry.path.startswith(f"{folder}/quarantine/")]

        self._with_files(
            f"{folder}/tenant.db", tenant_key, "tenant", lease.scope_of_tenant(tenant_id), withheld, before
        )
        accounts = manifests.by_folder(self._before.values(), 4)
        self._folder(f"{folder}/accounts")
        for number in _numbers(self._data / folder / "accounts"):
            self._account(tenant_id, AccountId(number), accounts.get(f"{folder}/accounts/{number}", []))
        self._tree(folder, frozenset({"tenant.db", "accounts", "spool", "quarantine"}))

    def _account(self, tenant_id: TenantId, account_id: AccountId, before: list[Entry]) -> None:
        folder = f"tenants/{tenant_id}/accounts/{account_id}"
        stored = f"{folder}/{MAILDIR}/cur/"

        def key() -> bytes:
            secret = self._installation.keys.account_key(tenant_id, account_id, PURPOSE).secret
            return database_key(secret, ACCOUNT.name)

        count = len(self._entries)
        try:
            self._with_files(
                f"{folder}/{DATABASE}",
                key,
                "account",
                lease.scope_of_account(tenant_id, account_id),
                lambda name: [stored + name],
                lambda: [entry for entry in before if entry.path.startswith(stored)],
            )
            self._tree(folder, frozenset({DATABASE, MAILDIR}))
        except (Gone, NotFound):  # it is being deleted, or being made
            self._check_ended()
            del self._entries[count:]
            shutil.rmtree(self._root / manifests.DATA / folder, ignore_errors=True)

    # Databases and what their rows name

    def _with_files(
        self,
        path: str,
        key: bytes | Callable[[], bytes],
        kind: str,
        scope: str,
        paths_of: Callable[[str], list[str]],
        before: Callable[[], list[Entry]],
    ) -> None:
        """A database, and the files of each name that its rows have; `before`: those in the backup before."""
        linked: set[str] = set()  # in the backup, and not measured yet
        for attempt in range(1, _TRIES + 1):
            count = len(self._entries)
            missing: list[str] = []
            with lease.hold(self._data, scope, self._longest) as held:
                taken = self._database(path, key, kind)
                names = self._named(path, taken, paths_of, before)
                linked.update(relative for relative in names if not self._link(relative, missing))
                over = held.is_over
            if not missing or not over or attempt == _TRIES:
                break
            del self._entries[count:]  # files went, since it took too long; the next time less is to be done
            self._before.pop(path, None)
        for relative in linked.difference(names):  # of a snapshot that was given up
            (self._root / manifests.DATA / relative).unlink(missing_ok=True)
        self._measure(sorted(linked.intersection(names)))
        self._tally.missing += missing
        for relative in missing:
            _log.error("backup: a file that a row names is not there: %s", relative)

    def _named(
        self, path: str, taken: Taken | None, paths_of: Callable[[str], list[str]], before: Callable[[], list[Entry]]
    ) -> list[str]:
        """The files that the rows of a snapshot name."""
        if taken is not None:
            return [each for name in taken.names for each in paths_of(name)]
        assert self._previous is not None
        folder = f"{path.rpartition('/')[0]}/"
        lost = [each for each in self._previous.manifest.missing if each.startswith(folder)]
        return [entry.path for entry in before()] + lost

    def _database(self, path: str, key: bytes | Callable[[], bytes], kind: str) -> Taken | None:
        """A snapshot of it; None if it is the one of the backup before."""
        source, target = self._data / path, self._root / manifests.DATA / path
        self._folder(path.rpartition("/")[0])
        before = self._before.get(path)
        unchanged = before is not None and before.mark and before.mark == files.mark_of_database(str(source))
        if before is not None and unchanged and self._link_previous(before):
            return None
        if not source.exists():
            raise NotFound("There is no such database.")
        target.unlink(missing_ok=True)
        taken = self._snapshots.take(source, target, key if isinstance(key, bytes) else key(), kind)
        self._entries.append(Entry(path, taken.size, taken.digest, taken.mark))
        self._tally.snapshots += 1
        return taken

    def _link(self, path: str, missing: list[str]) -> bool:
        """A file that is never written again. True: its entry is there already; False: it has to be measured."""
        self._pause()
        before = self._before.get(path)
        if before is not None and self._link_previous(before):
            return True
        target = self._base + path
        self._folder(path.rpartition("/")[0])
        for _ in range(2):  # it may move from new/ to cur/ while we look
            for source in _sources(path):
                with suppress(FileNotFoundError):
                    files.link(str(self._data / source), target)
                    self._tally.taken += 1
                    return False
        missing.append(path)
        return True

    def _link_previous(self, before: Entry) -> bool:
        """A file as it is in the backup before."""
        if self._previous is None:
            return False
        self._folder(before.path.rpartition("/")[0])
        try:
            files.link(self._base_before + before.path, self._base + before.path)
        except FileNotFoundError:  # somebody removed it there
            return False
        self._entries.append(before)
        self._tally.linked += 1
        return True

    def _measure(self, paths: Iterable[str]) -> None:
        for path in paths:
            self._pause()
            size, digest = files.measure(str(self._root / manifests.DATA / path))
            self._entries.append(Entry(path, size, digest))

    # Everything else

    def _tree(self, folder: str, apart: frozenset[str]) -> None:
        """Files that may be written again: copied, unless they look as they did."""
        for path in sorted(self._files_below(folder, apart)):
            self._pause()
            source, target = str(self._data / path), str(self._root / manifests.DATA / path)
            mark = files.mark_of(source)
            before = self._before.get(path)
            if before is not None and mark and before.mark == mark and self._link_previous(before):
                continue
            self._folder(path.rpartition("/")[0])
            try:
                size, digest = files.copy_hashed(source, target)
            except FileNotFoundError:
                continue  # removed meanwhile
            self._entries.append(Entry(path, size, digest, mark))
            self._tally.taken += 1

    def _files_below(self, folder: str, apart: frozenset[str] = frozenset()) -> Iterator[str]:
        with suppress(FileNotFoundError), os.scandir(self._data / folder) as found:
            for entry in found:
                if entry.name in apart or entry.name.startswith(".") or entry.name.endswith(_SIDE_FILES):
                    continue
                if entry.name.startswith(DATABASE) or (self._excluded and Path(entry.path).resolve() in self._excluded):
                    continue
                path = f"{folder}/{entry.name}".lstrip("/")
                if entry.is_dir(follow_symlinks=False):
                    yield from self._files_below(path)
                elif entry.is_file(follow_symlinks=False):
                    yield path

    def _folder(self, path: str) -> None:
        if path not in self._folders:
            os.makedirs(self._base + path, mode=0o700, exist_ok=True)
            self._folders.add(path)

    # Meanwhile

    def _pause(self) -> None:
        now = time.monotonic()
        if now - self._looked >= _LOOK:
            self._looked = now
            if self._look is not None:
                self._look()
            self._check_ended()

    def _check_ended(self) -> None:
        if self._tenant_id is not None and self._has_ended(self._tenant_id):
            raise Ended

    def _has_ended(self, tenant_id: TenantId) -> bool:
        try:
            return self._installation.control.tenant_state(tenant_id)[0] is State.ENDED
        except NotFound:
            return False

    def _finish_removals(self) -> None:
        """What had to stay in the spools while they were copied goes now."""
        installation, alive = self._installation, self._installation.incarnation.is_alive
        for number in _numbers(self._data / "tenants"):
            if (self._data / "tenants" / str(number) / "spool").is_dir():
                with suppress(CleanmailError):
                    installation.queue.sweep(TenantId(number), alive)


def prune(installation: Installation, place: Place, *, check: Callable[[], None] | None = None) -> list[str]:
    """Remove the backups that have had their time; names of those that went. `check` raises if the clock is wrong."""
    with place.alone():
        place.tidy()
        most = installation.periods.of(Kept.BACKUPS).floor_days
        assert most is not None
        expired = place.expired(installation.clock.now(), most)
        if expired and check is not None:
            check()
        for stored in expired:
            place.remove(stored.name)
            installation.control.backups.removed(stored.manifest.id)
    return [stored.name for stored in expired]


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


def _sources(path: str) -> tuple[str, ...]:
    """Where a file may be: messages whose commit is new stand in new/ still."""
    if f"/{MAILDIR}/cur/" in path:
        return path, path.replace(f"/{MAILDIR}/cur/", f"/{MAILDIR}/new/"), path
    return (path,)
