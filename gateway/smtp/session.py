"""What an SMTP server knows of a connection and of its open transaction, and whom it asks for decisions.

`Handler` is the one seam between the protocol and those who decide: submission and MX implement it. Its methods run
on the event loop; whoever blocks hands the work to a thread. What they raise becomes a reply (`gateway.smtp.replies`):
CleanmailError by the table, `Refused` as it is, anything else 451 4.3.0 without a word of ours.
"""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.smtp.address import ForwardPath, ReversePath
from gateway.smtp.content import Content
from gateway.smtp.limits import Limits
from gateway.smtp.proxy import Network
from gateway.smtp.replies import SmtpReply
from gateway.transcript import Transcript
from storage.values import Domain


@dataclass(frozen=True, slots=True)
class Profile:
    """What a listener offers and demands; the same for all its connections."""

    hostname: str
    postmaster: Domain  # whose postmaster a bare <postmaster> is
    spill_directory: str  # where large messages wait while they arrive, encrypted
    limits: Limits = field(default_factory=Limits)
    tls: ssl.SSLContext | None = None
    offers_auth: bool = False
    requires_auth: bool = False
    plain_auth: bool = False  # AUTH without TLS, for tests on loopback
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")  # of AUTH; others than these two are the handler's exchanges
    told: tuple[str, ...] = ("PLAIN", "LOGIN")  # those of them that EHLO tells of
    service: str = "smtp"  # whose connections are counted together, by all processes
    banner: str = ""  # what follows the host name and "ESMTP" in the greeting
    offers_dsn: bool = True  # RFC 3461; without it its parameters are unknown ones
    one_bounce_recipient: bool = False  # a null reverse-path takes one recipient in each transaction
    waits_its_turn: bool = False  # whoever sends ahead where RFC 2920 §3.1 forbids it is sent away
    normalise: tuple[Network, ...] = ()  # networks whose lone CR and LF are taken as line ends
    unlimited: tuple[Network, ...] = ()  # networks whose connections, messages and recipients are not counted

    def greeting(self) -> SmtpReply:
        return SmtpReply(220, "", f"{self.hostname} ESMTP {self.banner}".rstrip())

    def hello(self, *, encrypted: bool) -> SmtpReply:
        """The answer to EHLO (RFC 5321 §4.1.1.1; RFC 2034 wants no status codes in it)."""
        limits = self.limits
        lines = [self.hostname, f"SIZE {limits.message_size}", "8BITMIME", "SMTPUTF8", "PIPELINING", "CHUNKING"]
        most = f" MAILMAX={limits.messages}" if limits.messages else ""
        lines += ["ENHANCEDSTATUSCODES", f"LIMITS{most} RCPTMAX={limits.recipients}"]  # RFC 9422 §4
        if self.offers_dsn:
            lines.append("DSN")
        if self.tls is not None and not encrypted:
            lines.append("STARTTLS")
        if self.offers_auth and (encrypted or self.plain_auth):
            lines.append("AUTH " + " ".join(self.told))
        return SmtpReply(250, "", "\n".join(lines))


@dataclass(slots=True)
class SmtpSession:
    """One connection. The lower half are the names that aiosmtpd's own commands use."""

    address: str  # the client's, from the PROXY header if a configured proxy sent one
    encrypted: bool
    id: str = field(default_factory=lambda: secrets.token_hex(6))  # for log lines
    principal: Any = None  # who signed in; the handler's own type
    utf8: bool = False  # the open transaction said SMTPUTF8
    tls: str = ""  # protocol version and cipher suite, once there is TLS
    transcript: Transcript | None = None  # where handlers name the messages that they took

    host_name: str | None = None  # what EHLO or HELO gave; no rule depends on it
    extended_smtp: bool = False
    authenticated: bool = False
    auth_data: Any = None
    login_data: Any = None
    peer: Any = None
    ssl: Any = None
    proxy_data: Any = None

    @property
    def protocol(self) -> str:
        """The value of `with` in a Received field (RFC 3848, RFC 6531 §4.3)."""
        base = "UTF8SMTP" if self.utf8 else "ESMTP" if self.extended_smtp else "SMTP"
        if base == "SMTP":
            return base
        return base + ("S" if self.encrypted else "") + ("A" if self.authenticated else "")


@dataclass(slots=True)
class Transaction:
    """From MAIL to the end of DATA: what the client said, as it was accepted."""

    reverse_path: ReversePath
    recipients: list[ForwardPath] = field(default_factory=list)
    resolved: list[Any] = field(default_factory=list)  # the handler's own, beside `recipients`
    sender: Any = None  # the handler's own


class Exchange(Protocol):
    """A SASL mechanism of the handler's, from the server's side (RFC 4422 §3)."""

    async def respond(self, message: bytes) -> Any:
        """What the client sent: octets are the next challenge, anything else is the principal that signed in.

        Raises as `Handler.sign_in`, and InvalidInput for what is no message of the mechanism.
        """
        ...


class Handler(Protocol):
    """Decides. One per connection."""

    async def connect(self, session: SmtpSession) -> SmtpReply | None:
        """Before the greeting: None to greet, or the refusal that takes its place (421 or 554, RFC 5321 §3.1)."""
        ...

    async def sign_in(self, session: SmtpSession, login: str, password: str) -> Any:
        """The principal that signed in. Raises AuthenticationFailed, Throttled, Suspended, Unavailable."""
        ...

    def exchange(self, session: SmtpSession, mechanism: str) -> Exchange:
        """A new one, of one of the profile's mechanisms."""
        ...

    async def mail(self, session: SmtpSession, transaction: Transaction) -> SmtpReply:
        """Whether this reverse-path may begin a transaction."""
        ...

    async def rcpt(self, session: SmtpSession, transaction: Transaction, path: ForwardPath) -> SmtpReply:
        """Whether mail for this recipient is taken. Appends to `transaction.resolved` if it is."""
        ...

    async def data(self, session: SmtpSession, transaction: Transaction, content: Content) -> SmtpReply:
        """Takes responsibility for the message, durably, or says why not. `content` is closed afterwards."""
        ...

    def closed(self, session: SmtpSession) -> None:
        """The connection is gone."""
        ...


@dataclass(frozen=True, slots=True)
class BoundSocket:
    """A listening socket's file descriptor's owner and what is spoken on it from the first octet."""

    sock: Any  # socket.socket, bound and listening or about to
    implicit_tls: bool


Sockets = Sequence[BoundSocket]
