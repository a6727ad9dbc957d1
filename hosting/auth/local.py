"""The auth role's work inside the calling process: for `serve --single`, and for the command line when nothing runs.

A KeySource and an Authenticator like `hosting.auth.client.AuthClient`, with the same answers.
"""

from __future__ import annotations

from hosting.auth.exchanges import Exchanges
from hosting.auth.signin import (
    Offers,
    Principal,
    ScramChallenge,
    ScramOpening,
    SignedInByScram,
    SignIn,
    TokenSignIn,
)
from hosting.auth.tokens import NO_TOKENS, TokenSignIns
from hosting.auth.verifier import Verifier
from storage.keys.source import Destroyed, Key, KeySource, ServiceName, SigningPurpose
from storage.values import AccountId, TenantId


class LocalAuth:
    def __init__(
        self,
        keys: KeySource,
        verifier: Verifier,
        *,
        offers: Offers | None = None,
        tokens: TokenSignIns = NO_TOKENS,
    ) -> None:
        self._keys = keys
        self._verifier = verifier
        self._exchanges = Exchanges(verifier)
        self._tokens = tokens
        self.offers = offers or Offers()

    def verify(self, sign_in: SignIn) -> Principal:
        return self._verifier.begin(sign_in).result()

    def scram_begin(self, opening: ScramOpening) -> ScramChallenge:
        return self._exchanges.begin(opening).result()

    def scram_finish(self, challenge: ScramChallenge, message: bytes) -> SignedInByScram:
        return self._exchanges.finish(challenge.box, message).result()

    def verify_token(self, sign_in: TokenSignIn) -> Principal:
        return self._tokens.begin(sign_in).result()

    def still_valid(self, principal: Principal) -> bool:
        return self._verifier.still_valid(principal)

    def service_key(self, name: ServiceName) -> bytes:
        return self._keys.service_key(name)

    def auditor_key(self, purpose: str) -> bytes:
        return self._keys.auditor_key(purpose)

    def tenant_key(self, tenant: TenantId, purpose: str) -> Key:
        return self._keys.tenant_key(tenant, purpose)

    def header_key(self, tenant: TenantId, purpose: str) -> Key:
        return self._keys.header_key(tenant, purpose)

    def account_key(self, tenant: TenantId, account: AccountId, purpose: str) -> Key:
        return self._keys.account_key(tenant, account, purpose)

    def create_tenant_key(self, tenant: TenantId) -> Key:
        return self._keys.create_tenant_key(tenant)

    def create_account_key(self, tenant: TenantId, account: AccountId) -> Key:
        return self._keys.create_account_key(tenant, account)

    def destroy_tenant_key(self, tenant: TenantId) -> Destroyed:
        return self._keys.destroy_tenant_key(tenant)

    def destroy_account_key(self, tenant: TenantId, account: AccountId) -> Destroyed:
        return self._keys.destroy_account_key(tenant, account)

    def sign(self, purpose: SigningPurpose, message: bytes) -> bytes:
        return self._keys.sign(purpose, message)

    def verifying_key(self, purpose: SigningPurpose) -> bytes:
        return self._keys.verifying_key(purpose)

    def forget(self, tenant: TenantId) -> None:
        self._keys.forget(tenant)

    def holders(self, tenant: TenantId) -> frozenset[int]:
        return self._keys.holders(tenant)
