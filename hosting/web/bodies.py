"""Bodies of requests: read whole, within a limit for each kind and one for all that the process holds at once.

A body that is too large is refused by its announced length before anything of it is read, or as soon as it turns out to
be. Encoded bodies (gzip) are refused: what they unfold to is nobody's to say.

Standards: RFC 9110 §8.4, §15.5.14 (413), §15.5.16 (415).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from starlette.types import Receive

from hosting.web.answers import Left, Refused
from hosting.web.limits import Limits
from hosting.web.turns import Crowded
from storage.errors import TooLarge

_SMALL = 64 * 1024  # octets of bodies that are none of their method's, and of those that nobody counts
_XML = frozenset({"PROPFIND", "PROPPATCH", "REPORT", "MKCALENDAR", "MKCOL", "LOCK", "ACL", "SEARCH"})
_STORES = frozenset({"PUT", "POST", "PATCH"})


class BodyTooLarge(TooLarge):
    default = "The request is larger than this server takes."


class Bodies:
    """Belongs to the event loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.held = 0  # octets

    def most(self, method: str) -> int:
        """How large the body of a request may be."""
        if method in _STORES:
            return self._limits.max_body
        return self._limits.max_xml if method in _XML else _SMALL

    @asynccontextmanager
    async def read(
        self, method: str, headers: Mapping[str, str], receive: Receive, most: int | None = None
    ) -> AsyncIterator[bytes]:
        """The body, which counts as held until the block is left. Raises Refused, TooLarge, Crowded or Left.

        Routes of others take bodies by this too (Starlette's own has no limit), with `most` for what they expect.
        """
        announced = headers.get("content-length", "")
        if announced in ("", "0") and "transfer-encoding" not in headers:
            yield b""
            return
        if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise Refused(415, "Bodies are taken without a content encoding only.", (b"accept-encoding", b"identity"))
        most = self.most(method) if most is None else most
        if announced.isascii() and announced.isdecimal() and (len(announced) > 15 or int(announced) > most):
            raise BodyTooLarge
        size = held = 0
        body = bytearray()
        try:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Left
                piece: bytes = message.get("body", b"")
                size += len(piece)
                if size > most:
                    raise BodyTooLarge
                if size > _SMALL:
                    self.held += size - held
                    held = size
                    if self.held > self._limits.bodies:
                        raise Crowded
                more = message.get("more_body", False)
                if not more and not body:
                    break
                body += piece  # never kept one by one: they may be of an octet each
                if not more:
                    piece = bytes(body)
                    body.clear()
                    break
            yield piece
        finally:
            self.held -= held
