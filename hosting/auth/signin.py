"""The values of signing in: what a protocol asks, and who it is that signed in.

`Authenticator` is what protocols see of authentication, `SaslAuthenticator` what those see of it that speak SASL;
`hosting.auth.client.AuthClient` asks the auth role over its socket, `hosting.auth.local.LocalAuth` does the same in one
process. Nothing that proves who somebody is shows in a value's text.
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
class TokenSignIn:
    """One attempt with a token of an OpenID provider (RFC 7628). `login` may be empty: whoever the token is of."""

    protocol: SignInProtocol
    login: str = field(repr=False)
    token: str = field(repr=False)
    address: str
    session: str = ""


@dataclass(frozen=True, slots=True)
class ScramOpening:
    """A client's first message of SCRAM-SHA-256, or of SCRAM-SHA-256-PLUS."""

    protocol: SignInProtocol
    plus: bool
    message: bytes = field(repr=False)
    channel: bytes = field(repr=False)  # what the channel can be bound by (RFC 9266); empty: nothing was offered
    address: str
    session: str = ""


@dataclass(frozen=True, slots=True)
class ScramChallenge:
    """The answer to it, to be given back with the client's next message. `box` says nothing to anybody else."""

    protocol: SignInProtocol
    message: bytes
    box: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class BearerOffer:
    """What a client is told whose token is not taken (RFC 7628 §3.2.2)."""

    scope: str = ""
    configuration: str = ""  # address of the provider's OpenID configuration


@dataclass(frozen=True, slots=True)
class Offers:
    """Which ways of signing in there are beside passwords."""

    scram: bool = True  # SCRAM is taken
    scram_told: bool = False  # and clients are told of it; else of what is bound to the channel alone
    bearer: BearerOffer | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who signed in, with which credential, at which version of it; and what the account may store."""

    tenant_id: TenantId
    account_id: AccountId
    login: str  # the account's primary address
    credential: str  # "password", "app:<id>" or "token"
    credential_version: int
    state_version: int  # of the tenant
    quota_bytes: int  # 0: unlimited
    quota_messages: int
    read_only_from: int = 0  # Unix seconds: nothing is stored, changed or sent from then on; 0: no such time
    full: bool = False  # all accounts of the tenant together are above the contract's storage
    until: int = 0  # Unix seconds: the credential, a token, is good for nothing from then on; 0: no such time

    def is_read_only(self, now: float) -> bool:
        """Whether the window before the contract's end has begun."""
        return bool(self.read_only_from) and now >= self.read_only_from

    def has_expired(self, now: float) -> bool:
        """Whether the credential's time is over: sessions end then."""
        return bool(self.until) and now >= self.until


@dataclass(frozen=True, slots=True)
class SignedInByScram:
    principal: Principal
    message: bytes  # which proves to the client that the server knows the password too


class Authenticator(Protocol):
    def verify(self, sign_in: SignIn) -> Principal:
        """Who this is. Raises AuthenticationFailed, Throttled, Suspended or Unavailable. Blocks for up to seconds."""
        ...

    def still_valid(self, principal: Principal) -> bool:
        """False if the credential has expired, was changed or revoked, the account or its tenant suspended or ended,
        or what the contract lets it store is another since.

        To be asked after AccountChanged or TenantChanged of the principal's account or tenant, and after a Gap;
        the session ends if it is False. Raises Unavailable.
        """
        ...


class SaslAuthenticator(Authenticator, Protocol):
    @property
    def offers(self) -> Offers: ...

    def scram_begin(self, opening: ScramOpening) -> ScramChallenge:
        """Raises InvalidInput for what is no SCRAM, and as `verify`."""
        ...

    def scram_finish(self, challenge: ScramChallenge, message: bytes) -> SignedInByScram:
        """Who this is. Raises InvalidInput for what is no SCRAM, and as `verify`."""
        ...

    def verify_token(self, sign_in: TokenSignIn) -> Principal:
        """Who this is. Raises as `verify`; Unavailable too if the provider does not answer."""
        ...
