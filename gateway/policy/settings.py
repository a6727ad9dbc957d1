"""What can be configured of how arriving mail is judged: section [filter]."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network

from gateway.greylist import GreylistSettings
from gateway.policy.rules import Rules
from gateway.scanners import ScannerSettings


@dataclass(frozen=True, slots=True)
class FilterSettings:
    """How mail from other servers is judged."""

    time_limit: float = 20.0  # seconds from a message's end for all that is found out of it; below server.stop_within
    trusted_networks: tuple[str, ...] = ()  # networks of servers that filter what they hand over
    dns_lists: tuple[
        str, ...
    ] = ()  # of clients: "zone", "zone=127.0.0.2,127.0.0.4:2.5" (points) or "zone=127.0.0.2:reject"
    dns_list_timeout: float = 10.0  # seconds for the answers of all of them
    digest_hour: int = field(default=7, metadata={"least": 0, "most": 23})  # of the day (UTC) at which digests are sent
    # withheld messages of one tenant; what would be more is deferred, so that nothing is lost (twice as many, if
    # others get the message too)
    quarantine_messages: int = field(default=10_000, metadata={"least": 1})
    # octets of one tenant's withheld messages; likewise
    quarantine_size: int = field(default=2 << 30, metadata={"least": 1})
    # percent of all mail of the last 30 days, looked at by people or found to be wrongly filtered, that raises an alarm
    alarm_share: float = field(default=0.02, metadata={"most": 100.0})
    rules: Rules = field(default_factory=Rules)
    scanners: ScannerSettings = field(default_factory=ScannerSettings)
    greylist: GreylistSettings = field(default_factory=GreylistSettings)

    @property
    def trusted_sealers(self) -> tuple[str, ...]:
        return self.rules.trusted_sealers

    @property
    def trusted(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return tuple(ip_network(text) for text in self.trusted_networks)
