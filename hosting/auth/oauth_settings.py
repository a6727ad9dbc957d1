"""The OpenID provider whose tokens sign in, as the operator configures it ([oauth]), and the secret that we have there.

Raises: Unavailable (the secret cannot be read).
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from hosting.auth.signin import BearerOffer
from storage.errors import Unavailable
from storage.keys.master import run_command

SECRET_MAX = 4096  # octets


@dataclass(frozen=True, slots=True)
class OAuthSettings:
    """Tokens of an OpenID provider instead of passwords (OAUTHBEARER, XOAUTH2), on IMAP and submission.

    The provider is asked for each token whether it is good, at most once in a minute, over HTTPS.
    """

    introspection: str = ""  # https address where the provider says what a token is worth (RFC 7662); empty: no tokens
    client_id: str = ""  # what the provider knows this server by
    client_secret_file: str = ""  # a file with the secret (mode 0600); relative paths begin at the data directory
    client_secret_command: tuple[str, ...] = ()  # or a program and its arguments that print the secret
    audience: str = ""  # whom a token must be for (claim aud); this or scope is needed
    scope: str = ""  # scopes that a token must have, with spaces between; clients are told them
    issuer: str = ""  # whom a token must be of (claim iss); empty: whatever the provider says
    login_claim: str = "username"  # which claim names the account's address, as email
    configuration: str = ""  # address of the provider's OpenID configuration, told to clients whose token is refused
    certificate_authority: str = ""  # PEM file of who signs the provider's certificate; empty: whom this machine trusts
    timeout: float = field(default=10.0, metadata={"most": 30})  # seconds in which the provider has to answer
    remembered_for: float = field(default=60.0, metadata={"most": 300})  # seconds that his answers are known

    @property
    def offer(self) -> BearerOffer | None:
        """None where nobody signs in with tokens."""
        return BearerOffer(self.scope, self.configuration) if self.introspection else None


class ClientSecret:
    """Read when it is first needed, and again after the provider did not take it."""

    def __init__(self, settings: OAuthSettings, data: Path) -> None:
        self._settings = settings
        self._data = data
        self._known: str | None = None

    def read(self) -> str:
        secret = self._known
        if secret is None:
            settings = self._settings
            secret = _printed(settings) if settings.client_secret_command else self._in_file()
            self._known = secret
        return secret

    def forget(self) -> None:
        self._known = None

    def _in_file(self) -> str:
        path = self._data / self._settings.client_secret_file
        try:
            with open(path, "rb") as file:
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                    raise Unavailable(detail="[oauth] client_secret_file can be read by others: make it mode 0600")
                return _text(file.read(SECRET_MAX + 1))
        except OSError as error:
            raise Unavailable(detail=f"[oauth] client_secret_file: errno {error.errno}") from None


def is_https(address: str) -> bool:
    """Whether it is an address that can be asked, and shows no secret."""
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 - raises for what is no number
    except ValueError:
        return False
    plain = address.isascii() and address.isprintable() and not set(address) & set(' "<>\\#')
    return plain and parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc


def _printed(settings: OAuthSettings) -> str:
    done = run_command(settings.client_secret_command)
    if done is None or done.returncode != 0:
        raise Unavailable(detail="[oauth] client_secret_command failed")
    return _text(done.stdout)


def _text(octets: bytes) -> str:
    text = octets.decode("utf-8", "replace").strip()
    if not text or len(octets) > SECRET_MAX or not text.isprintable():
        raise Unavailable(detail="[oauth] the client's secret is no line of text")
    return text
