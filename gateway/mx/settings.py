"""What can be configured of mail from other servers: section [mx]."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.smtp.limits import Limits


@dataclass(frozen=True, slots=True)
class MxSettings:
    """Mail from other servers."""

    # mail for suspended accounts and tenants: "take" lets it wait in the mailbox, "defer" (450 4.2.1) at its sender's
    suspended: str = field(default="take", metadata={"choices": ("take", "defer")})
    sender_check_timeout: float = 20.0  # seconds for SPF and the client's name; then the message is taken without them
    messages_per_sender: int = 0  # a minute, of one envelope sender; 0: any number
    offers_dsn: bool = False  # DSN (RFC 3461) for strangers; it lets them ask for more notices than those of failures
    normalise: tuple[str, ...] = ()  # networks whose lone CR and LF are taken as line ends; elsewhere they are refused
    unlimited: tuple[str, ...] = ("127.0.0.0/8", "::1/128")  # networks whose connections and messages are not counted
    limits: Limits = field(default_factory=lambda: Limits(connections_per_minute=300))
