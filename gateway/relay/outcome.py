"""What came of handing a message to another server: one outcome for each recipient, and where a message may go.

Pure values, between the queue's runner (`gateway.queue`), which asks, and the SMTP client (`gateway.relay`), which
answers. Nothing is raised across that line: whatever happens becomes an outcome.

Standards: RFC 5321 §4.2.1 (4yz and 5yz), RFC 3463 (enhanced status codes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from storage.queue.entries import EnvelopeParameters, Reply
from storage.values import Domain, EmailAddress


class Result(Enum):
    RELAYED = "relayed"
    DEFERRED = "deferred"  # 4yz, no connection, no answer from DNS: try again
    FAILED = "failed"  # 5yz, null MX, not convertible: final


@dataclass(frozen=True, slots=True)
class RecipientOutcome:
    result: Result
    reply: Reply  # the next hop's, or ours about it; `reply.mta` names who said it
    notify_passed_on: bool = False  # the next hop takes DSN parameters: it will report, not we (RFC 3461 §5.2.2)
    host_unwilling: bool = False  # its reply is about all mail: the host as a whole takes none now


class TlsDemand(Enum):
    OPPORTUNISTIC = "opportunistic"  # TLS if it is offered, whatever the certificate; plain text otherwise
    ENCRYPTED = "encrypted"  # TLS, whatever the certificate
    VERIFIED = "verified"  # TLS with a certificate for the host's name from a known authority


@dataclass(frozen=True, slots=True)
class OwnServer:
    """A tenant's own mail server, as his route names it. `host` is a name or an IP address; no MX look-up."""

    host: str
    port: int
    tls: TlsDemand


NextHop = Domain | OwnServer  # a domain: by its MX records (RFC 5321 §5.1)


@dataclass(frozen=True, slots=True)
class RelayRecipient:
    """RCPT TO with its parameters."""

    address: EmailAddress
    notify: tuple[str, ...] = ()
    orcpt: str = ""


@dataclass(frozen=True, slots=True)
class RelayMessage:
    """One transaction with one next hop: one reverse-path, some recipients, and the octets (CRLF line ends)."""

    queue_id: str
    reverse_path: EmailAddress | None
    parameters: EnvelopeParameters
    recipients: tuple[RelayRecipient, ...]
    content: bytes = field(repr=False)
    author: Domain | None = None  # for `Signer.sign`: From's domain, if this tenant may sign for it; None: not signed
    tenants: tuple[int, ...] = ()  # whose it is, for the transcript


class Relay(Protocol):
    """The SMTP client side, with its open connections."""

    async def send(self, hop: NextHop, message: RelayMessage, *, more: bool = False) -> Sequence[RecipientOutcome]:
        """One outcome for each recipient, in their order. `more`: further messages for the same hop are waiting.

        Never raises but for cancellation; then what was not answered is DEFERRED to the caller.
        """
        ...

    async def close(self) -> None:
        """QUIT everywhere."""
        ...


class Signer(Protocol):
    """Puts a DKIM signature in front of a message that leaves; called after every conversion (RFC 6376 §5.3)."""

    def sign(self, content: bytes, author: Domain | None) -> bytes:
        """The DKIM-Signature fields to put before `content`; empty if this domain signs nothing.

        Raises CleanmailError if the keys cannot be read now: the message has to wait, it must not leave unsigned.
        """
        ...
