"""Where mail moves in from and as whom one signs in there: values, made once from what was typed.

Certificates are verified, always; only on loopback may that be turned off, or plain text be spoken. Secrets are no part
of what is shown or logged, and tokens are read anew for each connection, since they end within the hour.

Raises: InvalidInput.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from storage.errors import InvalidInput

IMAPS, IMAP = 993, 143
_SECRET_MAX = 16_384


@dataclass(frozen=True, slots=True)
class Source:
    """An IMAP server. `tls` from the first octet, or STARTTLS before anything is said."""

    host: str
    port: int
    tls: bool = True
    ca: Path | None = None
    verify: bool = True

    def __post_init__(self) -> None:
        if not self.verify and not self.is_loopback:
            raise InvalidInput("Only a server on this machine may go without a certificate that verifies.")

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        except (OSError, ssl.SSLError):
            raise InvalidInput(f"{self.ca} is no file of certificates (PEM).") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Login:
    """`master` signs in with its own password as `user`; `is_token`: the secret is an OAuth 2 access token."""

    user: str
    secret: Callable[[], str] = field(repr=False)
    master: str = ""
    is_token: bool = False


def source_of(url: str, ca: Path | None = None, *, verify: bool = True) -> Source:
    """From imaps://host[:port] or imap://host[:port] (STARTTLS)."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidInput("The server is written as imaps://host or imaps://host:port.") from None
    if parts.scheme not in ("imaps", "imap") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise InvalidInput("The server is written as imaps://host or imaps://host:port.")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput("Who signs in is said with --user, and no password stands in the address of a server.")
    host = parts.hostname
    try:
        name = host if ":" in host or host == "localhost" else host.encode("idna").decode("ascii")
    except UnicodeError:
        raise InvalidInput(f"{host[:80]} is no name of a server.") from None
    tls = parts.scheme == "imaps"
    return Source(name, port or (IMAPS if tls else IMAP), tls, ca, verify)


def secret_of(file: Path, data: Path) -> str:
    """The first line of a file, which may not lie in the data directory: it is sent to somebody else's server."""
    if file.resolve().is_relative_to(data.resolve()):
        raise InvalidInput("No file of the data directory is sent to another server.")
    try:
        with file.open("rb") as opened:
            return secret_in(opened.readline(_SECRET_MAX), str(file))
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}.") from None


def secret_in(line: bytes, place: str) -> str:
    try:
        secret = line.rstrip(b"\r\n").decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput(f"{place} is not UTF-8.") from None
    if not secret or "\0" in secret or "\r" in secret:
        raise InvalidInput(f"{place} has no password in its first line.")
    return secret
