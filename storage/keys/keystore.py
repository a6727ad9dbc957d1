"""The wrapped keys of an installation, in the files of keys/ and nowhere else.

    service.key                 the root of the keys of our own databases and logs, under the master
    <tenant>/tenant.key         a tenant's key, under the master
    <tenant>/<account>.key      an account's key, under the tenant's key
    <tenant>.destroyed, <tenant>/<account>.destroyed     a key that was destroyed: its id is never given a new one

A file is JSON and lists the generations of one key, the newest last; each is an AES-256-GCM box whose context binds its
owner, its id, its generation and what it is wrapped under, so no file works in another's place. Every step is durable
when it returns, and a crash leaves the old file or the new one.

Raises: NotFound (never made), Gone (destroyed), AlreadyExists, Corrupt (does not open: wrong master, changed file),
Unavailable (the generation of the master that it needs is not there).
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from storage.clock import Clock
from storage.errors import AlreadyExists, Corrupt, Gone, NotFound, Unavailable
from storage.files import durable
from storage.keys.destruction import Destroyed
from storage.keys.master import Master
from storage.keys.sealing import KEY_SIZE, Key, new_secret, open_sealed, seal
from storage.values import AccountId, TenantId

_FORMAT = 1
_NUMBERED = re.compile(r"([1-9][0-9]*)\.key\Z")

Unwrap = Callable[[str], bytes]  # the wrapping secret that a name ("master:2", a key id) stands for


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """One generation of a key as it stands in its file."""

    id: str  # 32 hexadecimal digits
    generation: int
    created: int
    under: str  # "master:<generation>" or the id of the tenant's key
    box: bytes

    def context(self, owner: str) -> bytes:
        return f"cleanmail key {owner} {self.id} {self.generation} {self.created} {self.under}".encode()

    def unwrap(self, owner: str, wrapping: bytes) -> Key:
        secret = open_sealed(wrapping, self.box, self.context(owner))
        if len(secret) != KEY_SIZE:
            raise Corrupt(detail=f"key of {owner}: wrong length")
        return Key(self.id, secret)


class KeyStore:
    def __init__(self, directory: Path, master: Master, clock: Clock) -> None:
        """Opens what `create` has made, and tells at once whether the master fits."""
        self._directory = directory
        self._master = master
        self._clock = clock
        try:
            self._service = self._load("service", self._service_path, self._master_secret)[-1]
        except NotFound:
            raise Unavailable("There are no keys in this data directory yet.") from None
        except Corrupt:
            raise Corrupt("The master key does not fit the keys of this installation.") from None

    @classmethod
    def create(cls, directory: Path, master: Master, clock: Clock) -> KeyStore:
        """The keys/ of a new installation."""
        durable.make_directory(directory)
        path = directory / "service.key"
        if path.exists():
            raise AlreadyExists("There are keys in this data directory already.")
        _save(path, [_wrap("service", new_secret(), 1, clock.now(), _under(master), master.secrets[master.generation])])
        return cls(directory, master, clock)

    @property
    def service(self) -> Key:
        return self._service

    # Tenants

    def tenant(self, tenant: TenantId) -> Key:
        """The generation in use."""
        return self.tenant_generations(tenant)[-1]

    def tenant_generations(self, tenant: TenantId) -> list[Key]:
        """Every generation that still opens something, the newest last."""
        return self._load(f"tenant {tenant}", self._tenant_path(tenant), self._master_secret)

    def create_tenant(self, tenant: TenantId) -> Key:
        path = self._tenant_path(tenant)
        _check_free(path, _destroyed(path.parent))
        durable.make_directory(path.parent)
        secret, newest = new_secret(), self._master.secrets[self._master.generation]
        wrapped = _wrap(f"tenant {tenant}", secret, 1, self._clock.now(), _under(self._master), newest)
        _save(path, [wrapped])
        return Key(wrapped.id, secret)

    def destroy_tenant(self, tenant: TenantId) -> Destroyed:
        """Remove the tenant's key, and with it the means to unwrap every key of its accounts; idempotent.

        The marker comes first: after a crash in between nobody makes or uses a key for this tenant again.
        """
        path = self._tenant_path(tenant)
        self._mark_destroyed(path.parent)
        durable.remove_file(path)
        if path.parent.is_dir():
            for file in path.parent.iterdir():
                durable.remove_file(file)
            path.parent.rmdir()
            durable.fsync_directory(self._directory)
        return self._facts(_destroyed(path.parent))

    def _facts(self, marker: Path) -> Destroyed:
        at = int(marker.read_text()) if marker.exists() else self._clock.now()
        return Destroyed((), at, self._master.generation, None, "", False, "clear", (), None)

    def tenants(self) -> list[TenantId]:
        return sorted(
            TenantId(int(entry.name))
            for entry in self._directory.iterdir()
            if entry.name.isdecimal() and (entry / "tenant.key").exists()
        )

    # Accounts

    def account(self, tenant: TenantId, account: AccountId) -> Key:
        """The generation in use."""
        return self.account_generations(tenant, account)[-1]

    def account_generations(self, tenant: TenantId, account: AccountId) -> list[Key]:
        owners = {key.id: key.secret for key in self.tenant_generations(tenant)}
        return self._load(f"account {tenant} {account}", self._account_path(tenant, account), _among(owners))

    def create_account(self, tenant: TenantId, account: AccountId) -> Key:
        owner = self.tenant(tenant)
        path = self._account_path(tenant, account)
        _check_free(path, _destroyed(path))
        secret = new_secret()
        wrapped = _wrap(f"account {tenant} {account}", secret, 1, self._clock.now(), owner.id, owner.secret)
        _save(path, [wrapped])
        return Key(wrapped.id, secret)

    def destroy_account(self, tenant: TenantId, account: AccountId) -> Destroyed:
        """Idempotent; an account of a destroyed tenant is destroyed already."""
        path = self._account_path(tenant, account)
        if path.parent.is_dir():
            self._mark_destroyed(path)
            durable.remove_file(path)
        return self._facts(_destroyed(path))

    def accounts(self, tenant: TenantId) -> list[AccountId]:
        directory = self._tenant_path(tenant).parent
        names = [entry.name for entry in directory.iterdir()] if directory.is_dir() else []
        return sorted(AccountId(int(match[1])) for name in names if (match := _NUMBERED.match(name)))

    # The master's generations

    def rewrap(self) -> int:
        """Wrap everything that an older generation of the master wraps under the newest one; how many files changed.

        May be repeated after a crash: every file opens with the master's text of before and of after.
        """
        changed = self._rewrap_file("service", self._service_path)
        return changed + sum(self._rewrap_file(f"tenant {t}", self._tenant_path(t)) for t in self.tenants())

    def rotate(self) -> int:
        """Wrap everything under the newest generation of the master, which it gives."""
        self.rewrap()
        return self._master.generation

    def _rewrap_file(self, owner: str, path: Path) -> int:
        stored, newest = _read(path, owner), _under(self._master)
        if all(wrapped.under == newest for wrapped in stored):
            return 0
        secret = self._master.secrets[self._master.generation]
        renewed = []
        for wrapped in stored:
            plain = wrapped.unwrap(owner, self._master_secret(wrapped.under)).secret
            following = replace(wrapped, under=newest)
            renewed.append(replace(following, box=seal(secret, plain, following.context(owner))))
        _save(path, renewed)
        return 1

    def _master_secret(self, under: str) -> bytes:
        kind, _, number = under.partition(":")
        if kind != "master" or not number.isdecimal():
            raise Corrupt(detail="key file: not wrapped under the master")
        try:
            return self._master.secrets[int(number)]
        except KeyError:
            raise Unavailable(f"Generation {number} of the master key is needed and not there.") from None

    # Files

    @property
    def _service_path(self) -> Path:
        return self._directory / "service.key"

    def _tenant_path(self, tenant: TenantId) -> Path:
        return self._directory / str(int(tenant)) / "tenant.key"

    def _account_path(self, tenant: TenantId, account: AccountId) -> Path:
        return self._directory / str(int(tenant)) / f"{int(account)}.key"

    def _load(self, owner: str, path: Path, wrapping: Unwrap) -> list[Key]:
        markers = [_destroyed(path), *([_destroyed(path.parent)] if path.parent != self._directory else [])]
        if any(marker.exists() for marker in markers):
            raise Gone(detail=f"key of {owner}")
        return [wrapped.unwrap(owner, wrapping(wrapped.under)) for wrapped in _read(path, owner)]

    def _mark_destroyed(self, path: Path) -> None:
        marker = _destroyed(path)
        if not marker.exists():
            durable.write_file(marker, f"{self._clock.now()}\n".encode("ascii"))


def _destroyed(path: Path) -> Path:
    return path.with_name(f"{path.name.removesuffix('.key')}.destroyed")


def _check_free(path: Path, marker: Path) -> None:
    if marker.exists():
        raise Gone("A destroyed key is never made again.")
    if path.exists():
        raise AlreadyExists("There is a key for it already.")


def _under(master: Master) -> str:
    return f"master:{master.generation}"


def _among(secrets_by_id: dict[str, bytes]) -> Unwrap:
    def find(under: str) -> bytes:
        try:
            return secrets_by_id[under]
        except KeyError:
            raise Corrupt(detail="key file: wrapped under a key that is not there") from None

    return find


def _wrap(owner: str, secret: bytes, generation: int, created: int, under: str, wrapping: bytes) -> WrappedKey:
    wrapped = WrappedKey(secrets.token_hex(16), generation, created, under, b"")
    return replace(wrapped, box=seal(wrapping, secret, wrapped.context(owner)))


def _save(path: Path, generations: list[WrappedKey]) -> None:
    entries = [
        {"id": k.id, "generation": k.generation, "created": k.created, "under": k.under, "box": k.box.hex()}
        for k in generations
    ]
    durable.write_file(path, json.dumps({"format": _FORMAT, "keys": entries}, indent=1).encode("ascii") + b"\n")


def _read(path: Path, owner: str) -> list[WrappedKey]:
    try:
        document: Any = json.loads(path.read_bytes())
        if document["format"] != _FORMAT:
            raise Unavailable("A key file has a newer format than this program knows.", detail=f"key of {owner}")
        stored = [
            WrappedKey(str(e["id"]), int(e["generation"]), int(e["created"]), str(e["under"]), bytes.fromhex(e["box"]))
            for e in document["keys"]
        ]
    except FileNotFoundError:
        raise NotFound("There is no key for it.", detail=f"key of {owner}") from None
    except (ValueError, KeyError, TypeError):
        raise Corrupt(detail=f"key of {owner}: unreadable file") from None
    if not stored:
        raise Corrupt(detail=f"key of {owner}: empty file")
    return stored
