"""Who is served and how much: the limits of one service by client address and network, over all processes.

Of IPv6 a /64 counts as one address, since that is what one client has, and a /48 as one network; of IPv4 a /24.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

from gateway.smtp import replies
from gateway.smtp.limits import Limits
from gateway.smtp.proxy import Network, is_among
from gateway.smtp.replies import SmtpReply
from gateway.smtp.shared_limits import Rate, SharedLimits


class Admission:
    """`service` names whose connections are counted together. `unlimited` networks are only counted by the process."""

    def __init__(self, service: str, limits: Limits, shared: SharedLimits, unlimited: Sequence[Network] = ()) -> None:
        self._limits = limits
        self._shared = shared
        self._unlimited = unlimited
        self._address = f"{service} address"
        self._network = f"{service} network"
        self._begun = f"{service} connections"
        self._messages = f"{service} messages"
        self._recipients = f"{service} recipients"
        self._per_connection = Rate(limits.connections_per_minute, 60)
        self._per_message = Rate(limits.messages_per_minute, 60)
        self._per_recipient = Rate(limits.recipients_per_hour, 3600)
        self.total = 0
        self.turned_away = 0  # connections, since the process began

    def enter(self, address: str) -> SmtpReply | None:
        """Counts a connection; `leave` takes it back. Or the refusal, and it isn't counted."""
        refusal = self._refusal(address)
        if refusal is None:
            self.total += 1
        else:
            self.turned_away += 1
        return refusal

    def _refusal(self, address: str) -> SmtpReply | None:
        """None if a connection is within the limits, and then it is counted for its address and network."""
        limits, shared = self._limits, self._shared
        if self.total >= limits.connections:
            return replies.SERVER_BUSY
        if not self._free(address):
            one, many = address_key(address), network_key(address)
            if not shared.enter(self._address, one, limits.connections_per_address):
                return replies.TOO_MANY_CONNECTIONS
            if not shared.enter(self._network, many, limits.connections_per_network):
                shared.leave(self._address, one)
                return replies.NETWORK_CROWDED
            if not shared.spend(self._begun, one, 1, self._per_connection):
                shared.leave(self._address, one)
                shared.leave(self._network, many)
                return replies.TOO_FAST
        return None

    def leave(self, address: str) -> None:
        self.total -= 1
        if not self._free(address):
            self._shared.leave(self._address, address_key(address))
            self._shared.leave(self._network, network_key(address))

    def may_begin(self, address: str) -> bool:
        """Whether the address may begin one more transaction now; counts it if so."""
        return self._may(self._messages, address, self._per_message)

    def may_ask(self, address: str) -> bool:
        """Whether the address may name one more recipient now; counts it if so."""
        return self._may(self._recipients, address, self._per_recipient)

    def _may(self, kind: str, address: str, rate: Rate) -> bool:
        return not rate.limit or self._free(address) or self._shared.spend(kind, address_key(address), 1, rate)

    def _free(self, address: str) -> bool:
        return bool(self._unlimited) and is_among(address, self._unlimited)


def address_key(address: str) -> str:
    """What counts as the same client."""
    return _keys(address)[0]


def network_key(address: str) -> str:
    """What counts as the same network of clients."""
    return _keys(address)[1]


@lru_cache(maxsize=4096)
def _keys(address: str) -> tuple[str, str]:
    try:
        client = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address, address
    if isinstance(client, ipaddress.IPv6Address):
        if client.ipv4_mapped is None:
            return _prefix(client, 64), _prefix(client, 48)
        client = client.ipv4_mapped
    return str(client), _prefix(client, 24)


def _prefix(address: ipaddress.IPv4Address | ipaddress.IPv6Address, length: int) -> str:
    return str(ipaddress.ip_network((address, length), strict=False))
