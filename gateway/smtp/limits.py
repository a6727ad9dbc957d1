"""The limits that an SMTP server holds.

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
    sasl_line: int = 12_288  # octets of AUTH with its initial response, and of an answer to a challenge; RFC 4954 §4
    commands: int = 3000  # between two accepted messages
    errors: int = 20  # refused commands between two accepted messages, then the connection ends
    failed_sign_ins: int = 3  # then the connection ends
    command_timeout: float = 300.0  # for the next command; RFC 5321 §4.5.3.2.7
    data_timeout: float = 180.0  # between two pieces of a message; RFC 5321 §4.5.3.2.5
    transaction_timeout: float = 3600.0  # from MAIL to the end of the message
    sign_in_timeout: float = 120.0  # from the greeting to AUTH, where signing in is demanded
    handshake_timeout: float = 30.0  # for TLS, and for the PROXY header
    connections: int = 2000  # of one process
    connections_per_address: int = 50  # at once; of IPv6 a /64 counts as one address
    connections_per_network: int = 250  # at once; a network is an IPv4 /24 or an IPv6 /48
    connections_per_account: int = 50  # signed in, at once
    connections_per_minute: int = 0  # begun by one address; 0: any number
    messages_per_minute: int = 0  # transactions begun by one address; 0: any number
    recipients_per_hour: int = 0  # asked for by one address; 0: any number
    messages: int = 0  # transactions of a connection; 0: any number
