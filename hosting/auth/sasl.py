"""SASL exchanges of more than one password, from the server's side, for every protocol that speaks SASL.

An exchange takes what the client sends and gives the octets of a challenge, or the principal. That is how RFC 3501 and
RFC 4954 carry it: what SCRAM tells a client at the end goes as a challenge, which the client answers with nothing; and
whose token is refused is told why in a challenge, answers with whatever, and then is refused.

Raises: InvalidInput (not what the mechanism says), and what `SaslAuthenticator` raises.
Standards: RFC 4422 §3, RFC 5802, RFC 7677, RFC 7628 §3 (OAUTHBEARER), Google's and Microsoft's documents of XOAUTH2.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final, Protocol

from hosting.auth.signin import (
    Offers,
    Principal,
    SaslAuthenticator,
    ScramChallenge,
    ScramOpening,
    SignInProtocol,
    TokenSignIn,
)
from storage.errors import AuthenticationFailed, InvalidInput

SCRAM: Final = "SCRAM-SHA-256"
SCRAM_PLUS: Final = "SCRAM-SHA-256-PLUS"
OAUTHBEARER: Final = "OAUTHBEARER"
XOAUTH2: Final = "XOAUTH2"

MESSAGE_MAX = 12_288  # octets

_OAUTHBEARER: Final = re.compile(
    rb"(?P<flag>[ny]),(?:a=(?P<login>[^,\0\x01]*))?,\x01(?P<pairs>(?:[^\0\x01]+\x01)*)\x01"
)
_XOAUTH2: Final = re.compile(rb"user=(?P<login>[^\0\x01]+)\x01(?P<pairs>(?:[^\0\x01]+\x01)*)\x01")
_BEARER: Final = re.compile(rb"auth=(?:Bearer +([A-Za-z0-9\-._~+/]+=*))?", re.IGNORECASE)  # RFC 6750 §2.1; may be empty


@dataclass(frozen=True, slots=True)
class Client:
    """Who wants to sign in, as the protocol sees the connection."""

    protocol: SignInProtocol
    address: str
    session: str
    channel: bytes = b""  # what can be bound to (RFC 9266); empty: nothing


class Exchange(Protocol):
    def respond(self, message: bytes) -> bytes | Principal:
        """A challenge, or who signed in. Blocks for up to seconds."""
        ...


def mechanisms(offers: Offers, *, bindable: bool) -> tuple[str, ...]:
    """Those of this module that can be used, the strongest first."""
    words: list[str] = []
    if offers.scram:
        words += [SCRAM_PLUS, SCRAM] if bindable else [SCRAM]
    if offers.bearer is not None:
        words += [OAUTHBEARER, XOAUTH2]
    return tuple(words)


def told(offers: Offers, *, bindable: bool) -> tuple[str, ...]:
    """Those of them that clients are told of.

    Many take SCRAM wherever they see it and give up when it fails, so where it is for app passwords alone they may be
    told less than is taken. None takes -PLUS that does not bind channels.
    """
    words = mechanisms(offers, bindable=bindable)
    return tuple(word for word in words if word != SCRAM or offers.scram_told)


def begin(mechanism: str, authenticator: SaslAuthenticator, client: Client) -> Exchange:
    """For one of `mechanisms`."""
    if mechanism in (SCRAM, SCRAM_PLUS):
        return ScramExchange(authenticator, client, plus=mechanism == SCRAM_PLUS)
    return BearerExchange(authenticator, client, old=mechanism == XOAUTH2)


class ScramExchange:
    def __init__(self, authenticator: SaslAuthenticator, client: Client, *, plus: bool) -> None:
        self._authenticator = authenticator
        self._client = client
        self._plus = plus
        self._challenge: ScramChallenge | None = None
        self._principal: Principal | None = None

    def respond(self, message: bytes) -> bytes | Principal:
        if self._principal is not None:
            if message:
                raise InvalidInput("After the server's last message of SCRAM nothing is left to say.")
            return self._principal
        challenge = self._challenge
        if challenge is None:
            client = self._client
            opening = ScramOpening(client.protocol, self._plus, message, client.channel, client.address, client.session)
            self._challenge = self._authenticator.scram_begin(opening)
            return self._challenge.message
        done = self._authenticator.scram_finish(challenge, message)
        self._principal = done.principal
        return done.message


class BearerExchange:
    """`old`: XOAUTH2, which there was before the standard."""

    def __init__(self, authenticator: SaslAuthenticator, client: Client, *, old: bool) -> None:
        self._authenticator = authenticator
        self._client = client
        self._old = old
        self._refused: AuthenticationFailed | None = None

    def respond(self, message: bytes) -> bytes | Principal:
        if self._refused is not None:
            raise self._refused
        login, token = read_bearer(message, old=self._old)
        client = self._client
        try:
            return self._authenticator.verify_token(
                TokenSignIn(client.protocol, login, token, client.address, client.session)
            )
        except AuthenticationFailed as refused:
            self._refused = refused
            return self._failure()

    def _failure(self) -> bytes:
        """RFC 7628 §3.2.2; of XOAUTH2 as the large providers say it."""
        offer = self._authenticator.offers.bearer
        told = {"status": "400", "schemes": "Bearer"} if self._old else {"status": "invalid_token"}
        if offer is not None and offer.scope:
            told["scope"] = offer.scope
        if offer is not None and offer.configuration and not self._old:
            told["openid-configuration"] = offer.configuration
        return json.dumps(told).encode("ascii")


def read_bearer(message: bytes, *, old: bool) -> tuple[str, str]:
    """Login, which may be empty, and token, which is empty where the client wants to be told what it needs."""
    found = (_XOAUTH2 if old else _OAUTHBEARER).fullmatch(message) if len(message) <= MESSAGE_MAX else None
    pairs = found["pairs"].split(b"\x01") if found is not None else []
    given = [each for each in pairs if each[:5].lower() == b"auth="]
    bearer = _BEARER.fullmatch(given[0]) if len(given) == 1 else None
    if found is None or bearer is None:
        raise InvalidInput("This is no message with a bearer token.")
    login = found["login"] or b""
    if not old:
        login = login.replace(b"=2C", b",").replace(b"=3D", b"=")
    try:
        return login.decode("utf-8"), (bearer[1] or b"").decode("ascii")
    except UnicodeDecodeError:
        raise InvalidInput("The name is not UTF-8.") from None
