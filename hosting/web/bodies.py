"""Bodies of requests: read whole, within a limit for each kind and one for all that the process holds at once.

Large answers that wait for their clients to take them count too; and of one account no more is held than its part.

A body that is too large is refused by its announced length before anything of it is read, or as soon as it turns out to
be. Encoded bodies (gzip) are refused: what they unfold to is nobody's to say.

Standards: RFC 9110 §8.4, §15.5.14 (413), §15.5.16 (415).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

from starlette.types import Receive

from hosting.web.answers import Left, Refused
from hosting.web.limits import Limits
from hosting.web.turns import Crowded
from storage.errors import TooLarge

_PARTS = 4  # of what a process holds, what is one account's at most
_SMALL = 64 * 1024  # octets of bodies that are none of their method's, and of those that nobody counts
_XML = frozenset({"PROPFIND", "PROPPATCH", "REPORT", "MKCALENDAR", "MKCOL", "LOCK", "ACL", "SEARCH"})
_STORES = frozenset({"PUT", "POST", "PATCH"})


class BodyTooLarge(TooLarge):
    default = "The request is larger than this server takes."


class Bodies:
    """Belongs to the event loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._most_of_account = max(limits.bodies // _PARTS, limits.max_body)
        self._held_of: dict[object, int] = {}
        self.held = 0  # octets

    def most(self, method: str) -> int:
        """How large the body of a request may be."""
        if method in _STORES:
            return self._limits.max_body
        return self._limits.max_xml if method in _XML else _SMALL

    @asynccontextmanager
    async def read(
        self,
        method: str,
        headers: Mapping[str, str],
        receive: Receive,
        most: int | None = None,
        account: object = None,
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
                    self._hold(account, size - held)
                    held = size
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
            self._release(account, held)

    @contextmanager
    def holding(self, octets: int, account: object) -> Iterator[None]:
        """Counts a large answer until its client has taken it. Raises Crowded."""
        held = octets if octets > _SMALL else 0
        if held:
            self._hold(account, held)
        try:
            yield
        finally:
            self._release(account, held)

    def _hold(self, account: object, octets: int) -> None:
        of_account = self._held_of.get(account, 0) + octets
        if self.held + octets > self._limits.bodies or (account is not None and of_account > self._most_of_account):
            raise Crowded
        self.held += octets
        self._held_of[account] = of_account

    def _release(self, account: object, octets: int) -> None:
        if not octets:
            return
        self.held -= octets
        left = self._held_of.pop(account, 0) - octets
        if left > 0:
            self._held_of[account] = left
