"""What can be configured of mail that leaves: section [relay]. The times that RFC 5321 sets are not.

Standards: RFC 5321 §4.5.3.2 (timeouts), §4.5.4.1 (how long to try).
"""

from __future__ import annotations

from dataclasses import dataclass, field

DAY = 24 * 3600


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """Mail that leaves for other servers."""

    port: int = field(default=25, metadata={"least": 1, "most": 65535})  # of the servers that MX records name
    source_addresses: tuple[str, ...] = ()  # IP addresses of this machine to connect from; at most one of each family
    private_networks: tuple[str, ...] = ()  # networks that are not public and may be connected to all the same
    ca_file: str = ""  # PEM file of the authorities whose certificates are believed; empty: the system's
    connections: int = field(default=100, metadata={"least": 1, "most": 10_000})  # at the same time, to all servers
    connections_per_destination: int = field(default=10, metadata={"least": 1, "most": 1000})  # at the same time
    messages_per_connection: int = field(default=100, metadata={"least": 1, "most": 10_000})  # then a new one is opened
    idle_time: float = 5.0  # that an open connection waits for the next message
    stream_time: float = field(default=1.0, metadata={"least": 0})  # messages that come so close share a connection
    connect_timeout: float = 30.0  # for one address; then the next one is tried
    retry_time: int = 5 * DAY  # after which a message that could not be delivered goes back
    delay_notice: int = field(default=0, metadata={"least": 0})  # after which a sender hears of a delay; 0: never


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that a server has for its reply; its whole reply must be here by then (RFC 5321 §4.5.3.2)."""

    greeting: float = 300.0
    hello: float = 300.0
    handshake: float = 60.0  # TLS
    mail: float = 300.0
    recipient: float = 300.0
    data: float = 120.0
    block: float = 180.0  # to take a block of the content
    final: float = 600.0
    reset: float = 20.0
    quit: float = 5.0
    transaction: float = 3600.0  # as a whole, so that a server that is always just in time ends too
    opening: float = 900.0  # of all servers that are tried for a message, until one is ready to hear of it
