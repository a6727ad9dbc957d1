"""Keys for the review command where no server runs, so that the process holds the key store itself: headers only.

Everything but the audit records goes through this narrow source: no step of the command can come to a key that opens
a body, a mailbox or a tenant's database, by mistake or by a later change of the program. It is no wall against whoever
runs the command with a program of his own: he has the master key then (docs/decisions/0022-review.md).

Raises: NotPermitted.
"""

from __future__ import annotations

from typing import Never

from storage.errors import NotPermitted
from storage.keys.source import Destroyed, Key, KeySource, ServiceName, SigningPurpose
from storage.values import AccountId, TenantId

_SERVICES: frozenset[ServiceName] = frozenset({"control", "directory"})  # what control.db is opened with


class ReviewerKeys:
    """A KeySource that gives header keys, and those that control.db needs."""

    def __init__(self, keys: KeySource) -> None:
        self._keys = keys

    def service_key(self, name: ServiceName) -> bytes:
        return self._keys.service_key(name) if name in _SERVICES else _refuse()

    def header_key(self, tenant: TenantId, purpose: str) -> Key:
        return self._keys.header_key(tenant, purpose)

    def auditor_key(self, purpose: str) -> bytes:
        return _refuse()

    def tenant_key(self, tenant: TenantId, purpose: str) -> Key:
        return _refuse()

    def account_key(self, tenant: TenantId, account: AccountId, purpose: str) -> Key:
        return _refuse()

    def create_tenant_key(self, tenant: TenantId) -> Key:
        return _refuse()

    def create_account_key(self, tenant: TenantId, account: AccountId) -> Key:
        return _refuse()

    def destroy_tenant_key(self, tenant: TenantId) -> Destroyed:
        return _refuse()

    def destroy_account_key(self, tenant: TenantId, account: AccountId) -> Destroyed:
        return _refuse()

    def sign(self, purpose: SigningPurpose, message: bytes) -> bytes:
        return _refuse()

    def verifying_key(self, purpose: SigningPurpose) -> bytes:
        return _refuse()

    def forget(self, tenant: TenantId) -> None:
        _refuse()

    def holders(self, tenant: TenantId) -> frozenset[int]:
        return _refuse()


def _refuse() -> Never:
    raise NotPermitted("A review opens headers only.")
