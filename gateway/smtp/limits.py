"""The limits that an SMTP server holds, and the count of connections that two of them need.

Standards: RFC 5321 §4.5.3 (sizes and time limits that are the least a server takes).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Per connection unless said otherwise; times in seconds."""

    message_size: int = 50 * 1024 * 1024  # octets; a larger one gets 552 5.3.4
    recipients: int = 1000  # of a transaction; more get 452 4.5.3
    command_line: int = 2048  # octets; RFC 5321 asks for 512 and room for the extensions
    sasl_line: int = 12_288  # octets of an answer to an AUTH challenge; RFC 4954 §4
    commands: int = 3000  # between two accepted messages
    errors: int = 20  # refused commands, then the connection ends
    failed_sign_ins: int = 3  # then the connection ends
    command_timeout: float = 300.0  # for the next command; RFC 5321 §4.5.3.2.7
    data_timeout: float = 180.0  # between two pieces of a message; RFC 5321 §4.5.3.2.5
    transaction_timeout: float = 3600.0  # from MAIL to the end of the message
    sign_in_timeout: float = 120.0  # from the greeting to AUTH, where signing in is demanded
    handshake_timeout: float = 30.0  # for TLS, and for the PROXY header
    connections: int = 2000  # of one process
    connections_per_address: int = 50  # of one process
    connections_per_account: int = 50  # signed in, of one process


class ConnectionCount:
    """How many connections each client address has open."""

    __slots__ = ("_by_address", "_limits", "total")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._by_address: dict[str, int] = {}
        self.total = 0

    @property
    def full(self) -> bool:
        return self.total >= self._limits.connections

    def crowded(self, address: str) -> bool:
        return self._by_address.get(address, 0) >= self._limits.connections_per_address

    def add(self, address: str) -> None:
        self.total += 1
        self._by_address[address] = self._by_address.get(address, 0) + 1

    def remove(self, address: str) -> None:
        self.total -= 1
        left = self._by_address[address] - 1
        if left:
            self._by_address[address] = left
        else:
            del self._by_address[address]
