"""Makes the connections of one listening socket: in TLS from the beginning or not, behind a proxy or not."""

# ruff: noqa: N802 - the methods that Twisted calls have Twisted's names

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol

from gateway.smtp.proxy import Network, is_proxy
from hosting.imap.shell.connection import Connection
from hosting.imap.shell.host import Host


class PortFactory(Factory):
    noisy = False

    def __init__(self, host: Host, implicit_tls: bool, proxies: Sequence[Network]) -> None:
        self._host = host
        self._implicit_tls = implicit_tls
        self._proxies = proxies

    def buildProtocol(self, addr: IAddress | None) -> TwistedProtocol:
        proxied = bool(self._proxies) and is_proxy(str(getattr(addr, "host", "")), self._proxies)
        return Connection(self._host, implicit_tls=self._implicit_tls, proxied=proxied)
