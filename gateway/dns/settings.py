"""What an operator says about DNS: the section [dns] of the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """Questions to DNS: where the queue sends, SPF, MTA-STS, DANE, and the records of own domains."""

    nameservers: tuple[str, ...] = ()  # IP addresses of recursive name servers; empty: the system's (resolv.conf)
    port: int = field(default=53, metadata={"least": 1, "most": 65535})  # port of the name servers
    timeout: float = 5.0  # seconds for one question, with all its attempts
    # the name servers verify DNSSEC, and nobody can change their answers on the way here: DANE is used then
    validating: bool = False
    cache: int = field(default=20_000, metadata={"least": 0})  # records remembered by each process; 0: none
