"""What one connection, one request and one account may take of the web role; all of it configurable."""

from __future__ import annotations

from dataclasses import dataclass, field

_SOME = {"least": 1, "most": 1_000_000}
_FIELDS = {"least": 10, "most": 10_000}
_HEAD = {"least": 4096, "most": 1024 * 1024}


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of HTTP. Times are seconds, sizes octets."""

    max_body: int = 25 * 1024 * 1024  # of a request that stores something; a larger one gets 413
    max_xml: int = 1024 * 1024  # of a request whose body is XML, such as PROPFIND and REPORT
    bodies: int = 256 * 1024 * 1024  # of all requests that one process holds at once; beyond that they get 503
    head: int = field(default=32 * 1024, metadata=_HEAD)  # request line and header fields
    fields: int = field(default=100, metadata=_FIELDS)  # header fields of a request
    handshake_timeout: float = 30.0  # for TLS, and for the PROXY header
    head_timeout: float = 20.0  # from the first octet of a request to the end of its header fields
    body_timeout: float = 30.0  # in which a client that sends a body has to send another 16 KiB of it
    write_timeout: float = 60.0  # in which a client has to take something of what is written to it
    keep_alive: int = 120  # for the next request on a connection
    connections: int = field(default=5000, metadata=_SOME)  # of one process
    connections_per_address: int = field(
        default=200, metadata=_SOME
    )  # at once, of all processes; of IPv6 a /64 counts as one address
    connections_per_network: int = field(
        default=1000, metadata=_SOME
    )  # at once; a network is an IPv4 /24 or an IPv6 /48
    requests_per_account: int = field(default=6, metadata=_SOME)  # worked on at once by one process; further ones wait
    waiting: int = field(
        default=1000, metadata=_SOME
    )  # requests of one process that wait for a thread or their account's turn; then 503
    threads: int = field(default=16, metadata={"least": 1, "most": 256})  # requests that one process works on at once
    remembered_for: float = 60.0  # seconds that a sign-in counts before the auth role is asked again
