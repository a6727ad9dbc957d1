"""Key directories for tests: many tenants at once, the layout of before, and what a thief with copies could open."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from storage.clock import FixedClock
from storage.errors import CleanmailError
from storage.keys.destruction import Destroyed
from storage.keys.keystore import KeyStore
from storage.keys.master import Master, write_master_file
from storage.keys.mirror import wrapped_files
from storage.keys.places import MasterFile
from storage.keys.sealing import Key, new_secret, open_sealed
from storage.keys.wrapping import decode_keys, decode_set, encode_keys, encode_set, new_key, wrap
from storage.values import AccountId, TenantId


class KeyPlace:
    """keys/ with its master in a file beside it, as an installation has them."""

    def __init__(self, base: Path, *, mirror: bool = False) -> None:
        self.base = base
        self.keys = base / "keys"
        self.place = MasterFile(base / "master")
        self.mirror = base / "mirror" if mirror else None
        if self.mirror is not None:
            self.mirror.mkdir()
        self.clock = FixedClock()
        write_master_file(self.place.path, Master.generate())
        self.store = KeyStore.create(self.keys, self.place, self.clock, mirror=self.mirror)

    def reopen(self) -> KeyStore:
        self.store = KeyStore(self.keys, self.place, self.clock, mirror=self.mirror)
        return self.store

    def copy(self, name: str) -> Path:
        """keys/ as it is now, as a backup or a thief has it."""
        return Path(shutil.copytree(self.keys, self.base / name))


def fill(keys: Path, master: Master, tenants: int) -> None:
    """Tenants 1 to `tenants`, as `create_tenant` makes them, but without waiting for the disk.

    All of them are in the tree, the first hundred with their own files.
    """
    groups = {number: [new_key()] for number in range(min(256, tenants + 1))}
    rings = {tenant: new_key() for tenant in range(1, tenants + 1)}
    under = f"master:{master.generation}"
    secret = master.secrets[master.generation]
    (keys / "groups.key").write_bytes(encode_set("groups", groups, under, secret, complete=True))
    (keys / "groups").mkdir()
    for number, group in groups.items():
        members = {tenant: [ring] for tenant, ring in rings.items() if tenant % 256 == number}
        name = f"rings {number}"
        encoded = encode_set(name, members, f"group:{group[0].id}", group[0].secret, complete=True)
        (keys / "groups" / f"{number}.key").write_bytes(encoded)
    for tenant, ring in list(rings.items())[:100]:
        (keys / str(tenant)).mkdir()
        wrapped = wrap(f"tenant {tenant}", new_secret(), 1, f"ring:{ring.id}", ring.secret)
        (keys / str(tenant) / "tenant.key").write_bytes(encode_keys([wrapped]))


def old_layout(keys: Path, master: Master, whose: dict[int, list[int]]) -> dict[tuple[int, int], Key]:
    """keys/ as before there was a tree, accounts under tenants, and the keys in it; account 0 is the tenant itself."""
    under, secret = f"master:{master.generation}", master.secrets[master.generation]
    keys.mkdir()
    made: dict[tuple[int, int], Key] = {}
    (keys / "service.key").write_bytes(encode_keys([wrap("service", new_secret(), 1, under, secret)]))
    for tenant, accounts in whose.items():
        (keys / str(tenant)).mkdir()
        plain = new_secret()
        wrapped = wrap(f"tenant {tenant}", plain, 1, under, secret)
        (keys / str(tenant) / "tenant.key").write_bytes(encode_keys([wrapped]))
        made[tenant, 0] = Key(wrapped.id, plain)
        for account in accounts:
            own = new_secret()
            inner = wrap(f"account {tenant} {account}", own, 1, wrapped.id, plain)
            (keys / str(tenant) / f"{account}.key").write_bytes(encode_keys([inner]))
            made[tenant, account] = Key(inner.id, own)
    return made


def openable(keys: Path, master: Master) -> Iterator[bytes]:
    """Every secret that somebody with these files and this master comes to, however he puts them together."""
    known = {f"master:{number}": secret for number, secret in master.secrets.items()}
    names = [name for name in wrapped_files(keys) if name.endswith(".key")]
    for _ in range(4):  # the depth of the tree
        for name in names:
            path = keys / name
            owner = _owner(name)
            try:
                if owner is None:
                    label = "groups" if name == "groups.key" else f"rings {path.stem}"
                    sealed = decode_set(path.read_bytes(), label)
                    if sealed.under in known:
                        kind = "group" if name == "groups.key" else "ring"
                        for entries in sealed.open(label, known[sealed.under]).values():
                            known |= {f"{kind}:{key.id}": key.secret for key in entries}
                    continue
                for wrapped in decode_keys(path.read_bytes(), owner):
                    if wrapped.under in known:
                        secret = open_sealed(known[wrapped.under], wrapped.box, wrapped.context(owner))
                        known[wrapped.id] = secret
            except CleanmailError:
                continue
    yield from known.values()


def _owner(name: str) -> str | None:
    folder, _, file = name.partition("/")
    if name == "service.key":
        return "service"
    if name == "groups.key" or folder == "groups":
        return None
    return f"tenant {folder}" if file == "tenant.key" else f"account {folder} {file[:-4]}"


def every_key(store: KeyStore) -> dict[tuple[TenantId, AccountId | None], Key]:
    """All that the store gives."""
    found: dict[tuple[TenantId, AccountId | None], Key] = {}
    for tenant in store.tenants():
        found[tenant, None] = store.tenant(tenant)
        for account in store.accounts(tenant):
            found[tenant, account] = store.account(tenant, account)
    return found


TENANT, NEIGHBOUR, FAR = TenantId(1), TenantId(257), TenantId(2)  # the first two share a group
ACCOUNT, OTHER = AccountId(11), AccountId(12)


def perform(store: KeyStore, operation: str) -> Destroyed | int:
    match operation:
        case "destroy_tenant":
            return store.destroy_tenant(TENANT)
        case "destroy_account":
            return store.destroy_account(TENANT, ACCOUNT)
        case _:
            return store.rotate()
