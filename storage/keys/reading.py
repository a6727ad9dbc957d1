"""Reads keys: through the tree, or in the layout of before, where tenants' keys are under the master.

What another process changes meanwhile is read again until it fits. Raises: NotFound, Gone, Corrupt, Unavailable.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence

from storage.errors import Corrupt, Gone, NotFound
from storage.keys import names
from storage.keys.files import KeyFiles
from storage.keys.known import KnownMaster
from storage.keys.sealing import Key
from storage.keys.tree import MovedError, Tree
from storage.keys.wrapping import Unwrap, WrappedKey, decode_keys
from storage.values import AccountId, TenantId

_log = logging.getLogger("cleanmail.keys")


class Reader:
    def __init__(self, files: KeyFiles, tree: Tree, master: KnownMaster) -> None:
        self._files = files
        self._tree = tree
        self._master = master

    def service(self) -> list[Key]:
        return self._tree.consistent(lambda: self._open("service", names.SERVICE, self._master.secret))

    def tenant(self, tenant: TenantId) -> list[Key]:
        """Every generation of its key, the newest last."""
        markers = [names.tenant_marker(tenant)]
        return self._load(f"tenant {tenant}", names.tenant_file(tenant), markers, lambda: self.over_tenant(tenant))

    def account(self, tenant: TenantId, account: AccountId) -> list[Key]:
        markers = [names.account_marker(tenant, account), names.tenant_marker(tenant)]
        owner, name = f"account {tenant} {account}", names.account_file(tenant, account)
        return self._load(owner, name, markers, lambda: self._over_account(tenant))

    def stored(self, owner: str, name: str) -> list[WrappedKey]:
        """As they stand in their file."""
        try:
            return decode_keys(self._files.read(name), owner)
        except FileNotFoundError:
            raise NotFound("There is no key for it.", detail=f"key of {owner}") from None

    def over_tenant(self, tenant: TenantId) -> Unwrap:
        """What opens a tenant's key: its ring, or the master in the layout of before."""

        def find(under: str) -> bytes:
            if under.startswith("master:"):
                return self._master.secret(under)
            return among(self._tree.ring_secrets(tenant))(under)

        return find

    # What there is

    def tenants(self) -> list[TenantId]:
        found = [name for name in os.listdir(self._files.directory) if names.NUMBER.match(name)]
        return sorted(TenantId(int(name)) for name in found if self._files.exists(f"{name}/tenant.key"))

    def accounts(self, tenant: TenantId) -> list[AccountId]:
        folder = self._files.path(names.tenant_folder(tenant))
        found = os.listdir(folder) if folder.is_dir() else []
        return sorted(AccountId(int(match[1])) for name in found if (match := names.ACCOUNT_KEY.match(name)))

    def in_old_layout(self) -> list[TenantId]:
        return [] if self._tree.complete() else [tenant for tenant in self.tenants() if self.is_old(tenant)]

    def is_old(self, tenant: TenantId) -> bool:
        try:
            stored = self.stored(f"tenant {tenant}", names.tenant_file(tenant))
        except Corrupt:
            _log.error("the key file of tenant %d is damaged", tenant)
            return False
        return any(wrapped.under.startswith("master:") for wrapped in stored)

    def _over_account(self, tenant: TenantId) -> Unwrap:
        """What opens an account's key: its tenant's ring, or the tenant's key in the layout of before."""

        def find(under: str) -> bytes:
            if is_of_tenant(under):
                return among({key.id: key.secret for key in self.tenant(tenant)})(under)
            return among(self._tree.ring_secrets(tenant))(under)

        return find

    def _load(self, owner: str, name: str, markers: Sequence[str], over: Callable[[], Unwrap]) -> list[Key]:
        self._check_not_destroyed(owner, markers)
        try:
            return self._tree.consistent(lambda: self._open(owner, name, over()))
        except (Corrupt, NotFound):
            self._check_not_destroyed(owner, markers)  # this moment
            raise

    def _open(self, owner: str, name: str, unwrap: Unwrap) -> list[Key]:
        return [wrapped.unwrap(owner, unwrap(wrapped.under)) for wrapped in self.stored(owner, name)]

    def _check_not_destroyed(self, owner: str, markers: Sequence[str]) -> None:
        if any(self._files.exists(marker) for marker in markers):
            raise Gone(detail=f"key of {owner}")


def among(secrets_by_name: Mapping[str, bytes]) -> Unwrap:
    def find(under: str) -> bytes:
        try:
            return secrets_by_name[under]
        except KeyError:
            raise MovedError from None

    return find


def is_of_tenant(under: str) -> bool:
    """Whether it is the id of a tenant's key, as in the layout of before."""
    return ":" not in under
