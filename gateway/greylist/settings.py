"""What an operator says about greylisting: section [greylist] of the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class GreylistSettings:
    """Strangers' first message is put off (450 4.7.1) until they try again, as real servers do (RFC 6647)."""

    enabled: bool = False  # put off first messages of networks that are not known
    delay: float = field(default=120.0, metadata={"most": 3600})  # seconds before another try is taken
    retry_within: float = 2 * 86400.0  # seconds in which the other try has to come; later it counts as the first
    remembered: float = 35 * 86400.0  # seconds that who passed is known, after its last message
    trusted_after: int = 5  # senders and recipients of a network that passed before all its mail passes; 0: never
