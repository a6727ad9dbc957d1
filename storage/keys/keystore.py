"""The wrapped keys of an installation, in the files of keys/ and nowhere else.

    service.key                 the root of the keys of our own databases and logs, under the master
    groups.key, groups/<n>.key  the secrets between the master and the tenants (`storage.keys.tree`)
    <tenant>/tenant.key         a tenant's key, under the tenant's ring
    <tenant>/<account>.key      an account's key, under the same ring
    <tenant>.destroyed, <tenant>/<account>.destroyed     a key that was destroyed: its id is never given a new one
    unfinished.json             changes that a crash interrupted; they are gone through again at the next start
    .lock                       taken by whoever changes keys

In the layout of before, tenants' keys are under the master and accounts' keys under their tenant's. They are read as
they are, and moved into the tree by the first change.

Every step is durable when it returns, and after a crash at any of them every key that is not to be destroyed opens:
while something is wrapped anew, the old and the new secret above it are both there, and the old one is forgotten last.
Destroying (`destroy_tenant`, `destroy_account`) is over when the generation of the master that had wrapped the key is
destroyed where it lives, so that no copy of keys/ from before opens it again.

Raises: NotFound (never made), Gone (destroyed), AlreadyExists, Corrupt (does not open: wrong master, changed file),
Unavailable (the generation of the master that it needs is not there, the mirror cannot be written), Conflict (the
master can never be replaced where it lives).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from storage.clock import Clock
from storage.errors import AlreadyExists, CleanmailError, Conflict, Corrupt, Gone, NotFound, Unavailable
from storage.files import durable
from storage.keys import names, unfinished
from storage.keys.destruction import Destroyed, Marker
from storage.keys.files import KeyFiles
from storage.keys.known import KnownMaster
from storage.keys.master import Master
from storage.keys.mirror import Mirror
from storage.keys.places import HeldMaster, MasterPlace
from storage.keys.reading import Reader, is_of_tenant
from storage.keys.renewal import Renewal
from storage.keys.sealing import Key, new_secret
from storage.keys.tree import Tree
from storage.keys.unfinished import Change
from storage.keys.wrapping import decode_keys, encode_keys, encode_set, generation_of, wrap
from storage.values import AccountId, TenantId

_PAUSE = 60.0  # seconds before a change that failed is tried again by who makes a new key

_log = logging.getLogger("cleanmail.keys")


class KeyStore:
    def __init__(
        self,
        directory: Path,
        master: Master | MasterPlace,
        clock: Clock,
        *,
        mirror: Path | None = None,
        backups_until: Callable[[], int | None] = lambda: None,
    ) -> None:
        """Opens what `create` has made, tells at once whether the master fits, and ends what a crash interrupted.

        `master`: where it lives; one that was read elsewhere cannot be replaced. `backups_until`: until when a dated
        copy of keys/ could exist.
        """
        self.backups_until = backups_until
        self._resume_at = 0.0
        self._directory = directory
        self._clock = clock
        self._master = KnownMaster(HeldMaster(master) if isinstance(master, Master) else master)
        self._files = KeyFiles(directory, Mirror(mirror) if mirror is not None else None)
        self._tree = Tree(self._files, self._master.secret)
        self._reader = Reader(self._files, self._tree, self._master)
        self._renewal = Renewal(self._files, self._tree, self._master, self._reader)
        try:
            self._service = self._reader.service()[-1]
        except NotFound:
            raise Unavailable("There are no keys in this data directory yet.") from None
        except Corrupt:
            raise Corrupt("The master key does not fit the keys of this installation.") from None
        self._end_interrupted()

    @classmethod
    def create(
        cls, directory: Path, master: Master | MasterPlace, clock: Clock, *, mirror: Path | None = None
    ) -> KeyStore:
        """The keys/ of a new installation."""
        durable.make_directory(directory)
        if (directory / names.SERVICE).exists():
            raise AlreadyExists("There are keys in this data directory already.")
        files = KeyFiles(directory, Mirror(mirror) if mirror is not None else None)
        known = KnownMaster(HeldMaster(master) if isinstance(master, Master) else master)
        under, secret = known.under, known.secret(known.under)
        files.write_new(names.GROUPS, encode_set("groups", {}, under, secret, complete=True))
        files.write_new(names.SERVICE, encode_keys([wrap("service", new_secret(), clock.now(), under, secret)]))
        return cls(directory, master, clock, mirror=mirror)

    @property
    def service(self) -> Key:
        return self._service

    @property
    def generation(self) -> int:
        """Of the master: the newest that this process knows."""
        return self._master.generation

    # Tenants

    def tenant(self, tenant: TenantId) -> Key:
        """The generation in use."""
        return self.tenant_generations(tenant)[-1]

    def tenant_generations(self, tenant: TenantId) -> list[Key]:
        """Every generation that still opens something, the newest last."""
        return self._reader.tenant(tenant)

    def create_tenant(self, tenant: TenantId) -> Key:
        """Durable, here and in the mirror, when it returns."""
        with self._changing():
            self._check_free(names.tenant_file(tenant), names.tenant_marker(tenant))
            self._files.check_mirror(names.rings_file(names.group_of(tenant)))
            return self._new_key(f"tenant {tenant}", names.tenant_file(tenant), self._renewal.make_ring(tenant))

    def destroy_tenant(self, tenant: TenantId) -> Destroyed:
        """Take the keys of the tenant and its accounts out of reach for good; idempotent, with the same facts.

        The marker comes first: from then on nobody makes or uses a key for this tenant again.
        """
        return self._destroy(Change("destroy_tenant", int(tenant)), names.tenant_marker(tenant))

    def tenants(self) -> list[TenantId]:
        return self._reader.tenants()

    # Accounts

    def account(self, tenant: TenantId, account: AccountId) -> Key:
        """The generation in use."""
        return self.account_generations(tenant, account)[-1]

    def account_generations(self, tenant: TenantId, account: AccountId) -> list[Key]:
        return self._reader.account(tenant, account)

    def create_account(self, tenant: TenantId, account: AccountId) -> Key:
        """Durable, here and in the mirror, when it returns."""
        name = names.account_file(tenant, account)
        with self._changing():
            self.tenant(tenant)
            self._check_free(name, names.account_marker(tenant, account))
            self._files.check_mirror(names.rings_file(names.group_of(tenant)), names.tenant_file(tenant))
            self._renewal.move([tenant])
            return self._new_key(f"account {tenant} {account}", name, self._renewal.make_ring(tenant))

    def destroy_account(self, tenant: TenantId, account: AccountId) -> Destroyed:
        """Take an account's key out of reach for good; idempotent, with the same facts.

        An account of a destroyed tenant is destroyed with it.
        """
        if self._files.exists(names.tenant_marker(tenant)):
            return self.destroy_tenant(tenant)
        if not self._files.path(names.tenant_folder(tenant)).is_dir():
            raise NotFound("There is no key for it.", detail=f"key of tenant {tenant}")
        return self._destroy(
            Change("destroy_account", int(tenant), int(account)), names.account_marker(tenant, account)
        )

    def accounts(self, tenant: TenantId) -> list[AccountId]:
        return self._reader.accounts(tenant)

    def _new_key(self, owner: str, name: str, ring: Key) -> Key:
        wrapped = wrap(owner, new_secret(), self._clock.now(), f"ring:{ring.id}", ring.secret)
        self._files.write_new(name, encode_keys([wrapped]))
        return wrapped.unwrap(owner, ring.secret)

    def _check_free(self, name: str, marker: str) -> None:
        if self._files.exists(marker):
            raise Gone("A destroyed key is never made again.")
        if self._files.exists(name):
            raise AlreadyExists("There is a key for it already.")

    # The master's generations

    def rotate(self) -> int:
        """Everything under a new generation of the master, which it gives; the old one is destroyed where it lives.

        Where it cannot be replaced, everything is wrapped under the newest generation that is there.
        """
        with self._changing():
            self._files.check_mirror(whole=True)
            if self._master.place.can_store():
                change = Change("rotate")
                unfinished.add(self._directory, change)
                self._carry_out(change)
            elif not self._renewal.under_newest():
                raise Conflict(  # trying again would not help
                    "Everything is under the newest generation of the master already, and no new one can be stored "
                    "where it lives: set [keys] master_store_command, or add a line to its text."
                )
        return self._master.generation

    def rewrap(self) -> int:
        """Wrap what an older generation of the master wraps under the newest that is there; how many files changed.

        May be repeated after a crash: every file opens with the master's text of before and of after.
        """
        with self._changing():
            changed = self._renewal.under_newest()
            self._files.follow()
            return changed

    # Changes

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Alone, and after what a crash interrupted is ended, if that can be done now.

        What failed a moment ago is left to who asks for it: a key store of the operator that hangs holds nobody up.
        """
        with self._files.locked():
            self._tree.forget()
            if time.monotonic() >= self._resume_at:
                self._resume()
            yield

    def _end_interrupted(self) -> None:
        """At start, unless somebody else is at it."""
        if unfinished.there(self._directory):
            with self._files.locked(wait=False) as mine:
                if mine:
                    self._resume()

    def _resume(self, but: Change | None = None) -> None:
        for change in unfinished.read(self._directory):
            self._files.mirror_behind = self._files.mirror is not None  # nobody knows how far it had followed
            if change != but:
                try:
                    self._carry_out(change)
                except CleanmailError as error:  # it stays in the list; every key opens all the same
                    self._resume_at = time.monotonic() + _PAUSE
                    _log.error("an interrupted change of keys waits: %s", error.detail or error.public)

    def _destroy(self, change: Change, marker: str) -> Destroyed:
        known = self._marker(marker)
        if known is not None and known.facts is not None:
            return known.facts
        with self._files.locked():
            self._tree.forget()
            self._resume(but=change)
            # Here, since a copy is recorded before it waits for the lock: of whoever copied the key, this knows.
            change = replace(change, until=self.backups_until())
            self._carry_out(unfinished.add(self._directory, change))
        known = self._marker(marker)
        if known is None:  # an account's went with its tenant, this moment
            known = self._marker(names.tenant_marker(TenantId(change.tenant)))
        if known is None or known.facts is None:
            raise Unavailable("The keys of the whole tenant are being destroyed, which has not ended yet.")
        return known.facts

    def _carry_out(self, change: Change) -> None:
        """From its beginning or from where it was interrupted: each step may be repeated."""
        tenant = TenantId(change.tenant)
        self._files.sweep("", "groups", *([names.tenant_folder(tenant)] if change.tenant else []))
        match change.what:
            case "destroy_tenant":
                self._carry_out_tenant(tenant, change.until)
            case "destroy_account":
                self._carry_out_account(tenant, AccountId(change.account), change.until)
            case "rotate":
                self._renewal.move(self._reader.in_old_layout())
                self._renewal.master()
        self._files.follow()
        unfinished.remove(self._directory, change)

    def _carry_out_tenant(self, tenant: TenantId, until: int | None) -> None:
        name, folder, number = names.tenant_marker(tenant), names.tenant_folder(tenant), names.group_of(tenant)
        marker = self._begin(name, [names.tenant_file(tenant), *self._account_files(tenant)])
        if marker.facts is not None:
            return
        self._files.remove_folder(folder)
        self._renewal.move(self._reader.in_old_layout())
        rings = self._tree.consistent(lambda: self._tree.rings(number))
        if int(tenant) in rings or (not rings and number in self._tree.groups()):
            self._renewal.group(number, {each: keys for each, keys in rings.items() if each != int(tenant)})
        self._conclude(name, marker, self._renewal.master(), until)

    def _carry_out_account(self, tenant: TenantId, account: AccountId, until: int | None) -> None:
        name, file = names.account_marker(tenant, account), names.account_file(tenant, account)
        if self._files.exists(names.tenant_marker(tenant)):
            return  # it went with its tenant meanwhile
        marker = self._begin(name, [file])
        if marker.facts is not None:
            return
        self._files.remove(file)
        self._renewal.move(self._reader.in_old_layout())
        self._renewal.ring(tenant)
        self._conclude(name, marker, self._renewal.master(), until)

    def _begin(self, name: str, files: list[str]) -> Marker:
        """The marker of what is destroyed, with what is known only as long as it is there."""
        known = self._marker(name)
        if known is not None:
            return known
        ids: list[str] = []
        moved = False
        for file in files:
            with suppress(FileNotFoundError, CleanmailError):  # what nobody can read is destroyed all the same
                stored = decode_keys(self._files.read(file), file)
                ids += [wrapped.id for wrapped in stored]
                moved |= any(wrapped.moved or is_of_tenant(wrapped.under) for wrapped in stored)
        of_tenant = name == f"{files[0].partition('/')[0]}.destroyed"
        begun = Marker(self._clock.now(), tuple(ids), self._wrapping_generation(), moved=moved and not of_tenant)
        self._files.write(name, begun.encode())
        return begun

    def _conclude(self, name: str, marker: Marker, old_master_destroyed: bool, until: int | None) -> None:
        place, sanitization = self._master.place.describe(self._directory)
        self._files.follow()
        if self._files.mirror_behind and not old_master_destroyed:
            raise Unavailable(
                "The key is destroyed here, but the mirror of the keys ([keys] backup) cannot be written, and the "
                "master that opens it stays as it is: the destruction goes on when the mirror is back."
            )
        gone = old_master_destroyed and not marker.moved
        after = self._wrapping_generation()
        facts = Destroyed(
            key_ids=marker.key_ids,
            at=self._clock.now(),
            master_before=marker.master,
            master_after=after if after != marker.master else None,
            master_place=place,
            old_master_destroyed=gone,
            sanitization=sanitization if gone else "clear",
            mirrors=self._files.mirrors(),
            backups_until=until,
        )
        self._files.write(name, replace(marker, facts=facts).encode())

    def _account_files(self, tenant: TenantId) -> list[str]:
        return [names.account_file(tenant, account) for account in self._reader.accounts(tenant)]

    def _wrapping_generation(self) -> int:
        under = self._tree.under()
        return generation_of(under if under is not None else self._reader.stored("service", names.SERVICE)[-1].under)

    def _marker(self, name: str) -> Marker | None:
        try:
            return Marker.decode(self._files.read(name))
        except FileNotFoundError:
            return None
