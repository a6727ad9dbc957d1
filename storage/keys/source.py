"""Where the rest of the server gets keys from: the auth role over its socket, or the key store in the same process.

Every request for a tenant's or an account's key states its purpose, which the auth role checks and logs.

Raises: NotFound (never made), Gone (destroyed), NotPermitted (not for this role), Unavailable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from storage.errors import AlreadyExists
from storage.keys import signing
from storage.keys.destruction import Destroyed
from storage.keys.keystore import KeyStore
from storage.keys.sealing import Key, derive, public_key
from storage.keys.signing import SigningPurpose
from storage.quarantine.keys import header_key
from storage.values import AccountId, TenantId

__all__ = ["Destroyed", "Key", "KeySource", "LocalKeys", "ServiceName", "SigningPurpose"]

ServiceName = Literal["control", "queue", "audit", "directory", "logs", "transcripts"]


class KeySource(Protocol):
    def service_key(self, name: ServiceName) -> bytes:
        """The key of one of our own databases, of the directory's keyed hashes, or of the logs.

        That of the transcripts is public: they are sealed to it, and only `auditor_key` opens them.
        """

    def auditor_key(self, purpose: str) -> bytes:
        """The private key that opens SMTP transcripts."""

    def tenant_key(self, tenant: TenantId, purpose: str) -> Key: ...

    def header_key(self, tenant: TenantId, purpose: str) -> Key:
        """What opens the header of the tenant's withheld messages, and nothing else: a reviewer's only key."""

    def account_key(self, tenant: TenantId, account: AccountId, purpose: str) -> Key: ...

    def create_tenant_key(self, tenant: TenantId) -> Key:
        """Durable when it returns. Repeated for the same tenant it gives the key that is there."""

    def create_account_key(self, tenant: TenantId, account: AccountId) -> Key:
        """Durable when it returns. Repeated for the same account it gives the key that is there."""

    def destroy_tenant_key(self, tenant: TenantId) -> Destroyed:
        """The tenant's data, and its accounts', can never be read again; idempotent, with the same facts."""

    def destroy_account_key(self, tenant: TenantId, account: AccountId) -> Destroyed:
        """The account's data can never be read again; idempotent, with the same facts."""

    def sign(self, purpose: SigningPurpose, message: bytes) -> bytes:
        """An Ed25519 signature, 64 octets; the private key stays where the keys are."""

    def verifying_key(self, purpose: SigningPurpose) -> bytes:
        """What `sign` can be verified with by anybody: 32 raw octets."""

    def forget(self, tenant: TenantId) -> None:
        """Say that this process holds no key of the tenant any more."""

    def holders(self, tenant: TenantId) -> frozenset[int]:
        """The living processes that were given keys of the tenant and did not say that they forgot them."""


class LocalKeys:
    """Keys from the key store itself: in the auth role, in `serve --single`, and for commands when nothing runs."""

    def __init__(self, keystore: KeyStore) -> None:
        self._keystore = keystore

    def copies_until(self, latest: Callable[[], int | None]) -> None:
        """What tells until when a dated copy of keys/ could exist: it stands in a directory that these keys open."""
        self._keystore.backups_until = latest

    def service_key(self, name: ServiceName) -> bytes:
        if name == "transcripts":
            return public_key(self._transcripts)
        return derive(self._keystore.service.secret, "service", name)

    def auditor_key(self, purpose: str) -> bytes:
        return self._transcripts

    @property
    def _transcripts(self) -> bytes:
        return derive(self._keystore.service.secret, "auditor", "transcripts")

    def tenant_key(self, tenant: TenantId, purpose: str) -> Key:
        return self._keystore.tenant(tenant)

    def header_key(self, tenant: TenantId, purpose: str) -> Key:
        return header_key(self._keystore.tenant(tenant))

    def account_key(self, tenant: TenantId, account: AccountId, purpose: str) -> Key:
        return self._keystore.account(tenant, account)

    def create_tenant_key(self, tenant: TenantId) -> Key:
        try:
            return self._keystore.create_tenant(tenant)
        except AlreadyExists:
            return self._keystore.tenant(tenant)

    def create_account_key(self, tenant: TenantId, account: AccountId) -> Key:
        try:
            return self._keystore.create_account(tenant, account)
        except AlreadyExists:
            return self._keystore.account(tenant, account)

    def destroy_tenant_key(self, tenant: TenantId) -> Destroyed:
        return self._keystore.destroy_tenant(tenant)

    def destroy_account_key(self, tenant: TenantId, account: AccountId) -> Destroyed:
        return self._keystore.destroy_account(tenant, account)

    def rotate_keys(self) -> int:
        """Everything under a new generation of the master, which it gives; the old one is destroyed."""
        return self._keystore.rotate()

    def sign(self, purpose: SigningPurpose, message: bytes) -> bytes:
        return signing.sign(self._keystore.service.secret, purpose, message)

    def verifying_key(self, purpose: SigningPurpose) -> bytes:
        return signing.verifying_key(self._keystore.service.secret, purpose)

    def forget(self, tenant: TenantId) -> None:
        """Nobody counts who holds keys here."""

    def holders(self, tenant: TenantId) -> frozenset[int]:
        return frozenset()  # nobody but this process
