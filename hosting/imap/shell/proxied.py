"""The header by which a proxy tells whose connection it passes on. Standards: HAProxy's PROXY protocol 2.3."""

from __future__ import annotations

from twisted.protocols.haproxy._exceptions import InvalidProxyHeader
from twisted.protocols.haproxy._v1parser import V1Parser
from twisted.protocols.haproxy._v2parser import V2Parser

from storage.errors import InvalidInput


class ProxyHeader:
    """One header, as it arrives: before anything else, TLS included."""

    __slots__ = ("_begun", "_parser")

    def __init__(self) -> None:
        self._begun = b""
        self._parser: V1Parser | V2Parser | None = None

    def feed(self, data: bytes) -> tuple[str, bytes] | None:
        """The client's address (empty: the proxy's own) and what follows the header; None: more of it must come.

        Raises InvalidInput.
        """
        if self._parser is None:
            self._begun += data
            if len(self._begun) < 16:
                return None
            self._parser = V2Parser() if self._begun.startswith(V2Parser.PREFIX) else V1Parser()
            data = self._begun
        try:
            info, rest = self._parser.feed(data)
        except (InvalidProxyHeader, ValueError):
            raise InvalidInput("There is no PROXY header.") from None
        if info is None:
            return None
        return str(getattr(info.source, "host", "")) if info.source is not None else "", rest or b""
