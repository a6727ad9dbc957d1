"""Wraps keys anew: rings, groups, the master, and what is still in the layout of before.

Every step is durable when it returns; while one is under way the old secret and the new one both open what is under
them, and each step may be repeated. Called under the lock of the files alone.

Raises: Corrupt, Unavailable.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from storage.errors import Corrupt
from storage.keys import names
from storage.keys.files import KeyFiles
from storage.keys.known import KnownMaster
from storage.keys.reading import Reader, among, is_of_tenant
from storage.keys.sealing import Key
from storage.keys.tree import MovedError, Tree
from storage.keys.wrapping import WrappedKey, encode_keys, new_key, rewrap
from storage.values import TenantId

_log = logging.getLogger("cleanmail.keys")


class Renewal:
    def __init__(self, files: KeyFiles, tree: Tree, master: KnownMaster, reader: Reader) -> None:
        self._files = files
        self._tree = tree
        self._master = master
        self._reader = reader

    # The master

    def master(self) -> bool:
        """A new generation, everything under it, and the old ones destroyed. False where it cannot be replaced.

        Always a new one, also after a crash in the middle: what is to be destroyed may be wrapped under the newest.
        """
        self._master.look_again()
        if not self._master.place.can_store():
            self._under_newest()
            return False
        self._master.add_generation()
        self._under_newest()
        self._files.follow()  # before the old generation goes: a mirror under it would open nothing
        self._master.keep_newest()
        self._tree.forget()
        return True

    def under_newest(self) -> int:
        """Under the newest generation that somebody gave; how many files were not, with what had to be moved."""
        self._master.look_again()
        changed = self.move(self._reader.in_old_layout())
        if self._tree.under() != self._master.under or not self._tree.complete():
            self._write_groups_in_use()
            changed += 1
        return changed + self._service()

    def _under_newest(self) -> None:
        self._write_groups_in_use()
        self._service()

    def _service(self) -> int:
        stored, under = self._reader.stored("service", names.SERVICE), self._master.under
        if all(wrapped.under == under for wrapped in stored):
            return 0
        renewed = rewrap("service", stored, self._master.secret, under, self._master.secret(under))
        self._files.write(names.SERVICE, encode_keys(renewed))
        return 1

    # Groups

    def group(self, number: int, rings: Mapping[int, Sequence[Key]]) -> None:
        """A new secret for the group, and these rings under it. The old one goes with the next master."""
        groups = self._tree.groups()
        under, complete = self._tree.under() or self._master.under, self._tree.complete()
        if not rings:
            self._files.remove(names.rings_file(number))
            self._tree.write_groups({n: keys for n, keys in groups.items() if n != number}, under, complete=complete)
            return
        following = new_key()
        both = {**groups, number: [*groups.get(number, []), following]}
        self._tree.write_groups(both, under, complete=complete)
        self._tree.write_rings(number, rings, following)

    def _write_groups_in_use(self) -> None:
        """Without secrets that were replaced."""
        kept: dict[int, Sequence[Key]] = {}
        for number, keys in self._tree.groups().items():
            kept[number] = keys if len(keys) == 1 else self._in_use(number, keys)
        self._tree.write_groups(kept, self._master.under, complete=True)

    def _in_use(self, number: int, keys: Sequence[Key]) -> Sequence[Key]:
        try:
            used = self._tree.group_in_use(number)
        except (Corrupt, MovedError):
            used = None
        if used is None:
            _log.error("the file of group %d of keys is damaged or not there", number)
            return keys  # whatever somebody may find of it opens still
        return [key for key in keys if key.id == used]

    # Rings

    def ring(self, tenant: TenantId) -> None:
        """A new ring for the tenant, its keys under it, and a new secret for its group."""
        self.make_ring(tenant)
        number, following = names.group_of(tenant), new_key()
        rings, group = self._rings(number), self._tree.groups()[number][-1]
        self._tree.write_rings(number, {**rings, int(tenant): [*rings[int(tenant)], following]}, group)
        files = {"tenant.key": f"tenant {tenant}"}
        files |= {f"{account}.key": f"account {tenant} {account}" for account in self._reader.accounts(tenant)}
        renewed = {name: self._under_ring(tenant, name, owner, following) for name, owner in files.items()}
        self._files.write_many(names.tenant_folder(tenant), {name: data for name, data in renewed.items() if data})
        self.group(number, {**rings, int(tenant): [following]})

    def make_ring(self, tenant: TenantId) -> Key:
        """The tenant's ring; a new one if it has none, in the mirror before it is used."""
        number = names.group_of(tenant)
        groups, rings = self._tree.groups(), self._rings(number)
        there = rings.get(int(tenant))
        if there:
            return there[-1]
        group = groups[number][-1] if groups.get(number) else None
        if group is None:
            group = new_key()
            under, complete = self._tree.under() or self._master.under, self._tree.complete()
            self._tree.write_groups({**groups, number: [group]}, under, complete=complete, new=True)
        ring = new_key()
        self._tree.write_rings(number, {**rings, int(tenant): [ring]}, group, new=True)
        return ring

    def _under_ring(self, tenant: TenantId, name: str, owner: str, ring: Key) -> bytes:
        """The file's new octets; none if nothing opens it as it is."""
        try:
            stored = self._reader.stored(owner, f"{names.tenant_folder(tenant)}/{name}")
            unwrap = among(self._tree.ring_secrets(tenant))
            return encode_keys(rewrap(owner, stored, unwrap, f"ring:{ring.id}", ring.secret))
        except (Corrupt, MovedError):
            _log.error("the key file of %s is damaged", owner)
            return b""

    def _rings(self, number: int) -> dict[int, list[Key]]:
        return self._tree.consistent(lambda: self._tree.rings(number))

    # The layout of before

    def move(self, tenants: Sequence[TenantId]) -> int:
        """Into the tree; how many tenants were not there. Their keys open at each step.

        An account's key remembers it: a copy of its old file opens as long as its tenant's key is there.
        """
        old = [tenant for tenant in tenants if not self._tree.complete() and self._reader.is_old(tenant)]
        for tenant in old:
            ring, owner, folder = self.make_ring(tenant), f"tenant {tenant}", names.tenant_folder(tenant)
            over = self._reader.over_tenant(tenant)
            stored = self._reader.stored(owner, names.tenant_file(tenant))
            own = {each.id: each.unwrap(owner, over(each.under)).secret for each in stored}
            accounts = {
                f"{account}.key": self._moved(f"account {tenant} {account}", f"{folder}/{account}.key", own, ring)
                for account in self._reader.accounts(tenant)
            }
            self._files.write_many(folder, {name: data for name, data in accounts.items() if data})
            renewed = rewrap(owner, stored, over, f"ring:{ring.id}", ring.secret)
            self._files.write(names.tenant_file(tenant), encode_keys(renewed))
        return len(old)

    def _moved(self, owner: str, name: str, own: Mapping[str, bytes], ring: Key) -> bytes:
        try:
            stored: list[WrappedKey] = self._reader.stored(owner, name)
            if not all(is_of_tenant(each.under) for each in stored):
                return b""  # a run that was killed has done it
            return encode_keys(rewrap(owner, stored, among(own), f"ring:{ring.id}", ring.secret, moved=True))
        except (Corrupt, MovedError):
            _log.error("the key file of %s is damaged", owner)
            return b""
