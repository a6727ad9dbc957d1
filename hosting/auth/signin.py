"""The values of signing in: what a protocol asks, and who it is that signed in.

`Authenticator` is what IMAP, submission and later protocols see of authentication; `hosting.auth.client.AuthClient`
asks the auth role over its socket, `hosting.auth.local.LocalAuth` does the same in one process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from storage.values import AccountId, TenantId

SignInProtocol = Literal["imap", "submission", "dav"]
PROTOCOLS: tuple[SignInProtocol, ...] = ("imap", "submission", "dav")

LOGIN_MAX = 512  # octets; longer names and passwords are wrong without a look
PASSWORD_MAX = 1024


@dataclass(frozen=True, slots=True)
class SignIn:
    """One attempt. `address` is the client's address in text, `session` the protocol's id of the connection."""

    protocol: SignInProtocol
    login: str = field(repr=False)  # people type passwords there
    password: str = field(repr=False)
    address: str
    session: str = ""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who signed in, with which credential, at which version of it; and what the account may store."""

    tenant_id: TenantId
    account_id: AccountId
    login: str  # the account's primary address
    credential: str  # "password" or "app:<id>"
    credential_version: int
    state_version: int  # of the tenant
    quota_bytes: int  # 0: unlimited
    quota_messages: int
    read_only_from: int = 0  # Unix seconds: nothing is stored, changed or sent from then on; 0: no such time
    full: bool = False  # all accounts of the tenant together are above the contract's storage

    def is_read_only(self, now: float) -> bool:
        """Whether the window before the contract's end has begun."""
        return bool(self.read_only_from) and now >= self.read_only_from


class Authenticator(Protocol):
    def verify(self, sign_in: SignIn) -> Principal:
        """Who this is. Raises AuthenticationFailed, Throttled, Suspended or Unavailable. Blocks for up to seconds."""
        ...

    def still_valid(self, principal: Principal) -> bool:
        """False if the credential was changed or revoked, the account or its tenant suspended or ended, or what the
        contract lets it store is another since.

        To be asked after AccountChanged or TenantChanged of the principal's account or tenant, and after a Gap;
        the session ends if it is False. Raises Unavailable.
        """
        ...
