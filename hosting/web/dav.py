"""/dav/ over HTTP: who asks, the whole body, then `DavHandler` on a thread; its answer is sent as the client takes it.

Nobody learns anything below /dav/ without signing in. Without TLS requests are led to it, unless the operator allowed
passwords in plain text for tests.

Standards: RFC 9110 §11 (authentication), §10.1.1 (Expect: 100-continue), §15.4.9 (308).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from starlette.types import Receive, Scope, Send

from hosting.auth.signin import Principal
from hosting.dav.request import DavRequest, DavResponse
from hosting.faults import describe
from hosting.web.answers import CHALLENGE, Left, Refused, refusal_of, send_plain, send_redirect
from hosting.web.bodies import Bodies
from hosting.web.connection import HttpConnection, connection_of
from hosting.web.counters import Counters
from hosting.web.places import Places
from hosting.web.signin import SignIns, parse
from hosting.web.turns import Turns
from storage.errors import CleanmailError
from storage.values import AccountId

log = logging.getLogger("web")

Answers = Callable[[DavRequest], DavResponse]

_PIECE = 64 * 1024  # octets of an answer that are made in one go


class DavEndpoint:
    """ASGI."""

    def __init__(
        self,
        answers: Answers,
        sign_ins: SignIns,
        signing_in: Turns,
        confirming: Turns,
        turns: Turns,
        bodies: Bodies,
        places: Places,
        counters: Counters,
    ) -> None:
        """`answers` is `DavHandler.handle`; the three of turns run what blocks.

        Who is remembered has threads of his own (`confirming`): a flood of guesses delays strangers alone.
        """
        self._answers = answers
        self._sign_ins = sign_ins
        self._signing_in = signing_in
        self._confirming = confirming
        self._turns = turns
        self._bodies = bodies
        self._places = places
        self._counters = counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = connection_of(scope)
        raw_path: str = scope["raw_path"].decode("ascii")
        query: str = scope["query_string"].decode("ascii", "replace")
        if scope["scheme"] != "https" and not self._places.plain_sign_in:
            await send_redirect(send, 308, self._places.secure(raw_path, query))
            return
        try:
            headers = _headers(scope)
            principal = await self._principal(headers.pop("authorization", ""), connection)
            account = principal.account_id
            async with self._bodies.read(scope["method"], headers, receive, account=account) as body:
                request = DavRequest(
                    scope["method"],
                    raw_path,
                    headers,
                    body,
                    principal,
                    connection.address,
                    scope["scheme"],
                    query,
                )
                await self._answer(request, connection, send)
        except (Refused, CleanmailError) as error:
            refused = error if isinstance(error, Refused) else refusal_of(error)
            await send_plain(send, refused.status, refused.sentence, [*refused.fields, *_unless_read(connection)])

    # Who asks

    async def _principal(self, authorization: str, connection: HttpConnection) -> Principal:
        """Raises Refused, or what refuses the sign-in."""
        if not authorization:
            raise Refused(401, "Sign in with your address and your password.", CHALLENGE)
        octets, address = authorization.encode("latin-1"), connection.address
        digest = self._sign_ins.digest(octets, address)
        remembered = await self._remembered(digest, address)
        principal, anew = (remembered, False) if remembered else await self._verified(digest, octets, connection)
        if connection.signed_in != digest:
            connection.signed_in = digest
            if not anew:
                self._sign_ins.begun(principal, address)
        return principal

    async def _remembered(self, digest: bytes, address: str) -> Principal | None:
        recalled = self._sign_ins.recall(digest)
        if recalled is not None:
            self._counters.remembered += 1
            return recalled
        if not self._sign_ins.remembers(digest):
            return None
        return await self._confirming.run(address, partial(self._sign_ins.confirm, digest))

    async def _verified(self, digest: bytes, octets: bytes, connection: HttpConnection) -> tuple[Principal, bool]:
        """Who that is, and whether the auth role looked at the password. Raises as `_principal`."""
        credentials, address = parse(octets), connection.address
        if credentials is None:
            raise Refused(401, "Sign in with your address and your password.", CHALLENGE)

        def ask() -> tuple[Principal, bool]:
            if connection.lost:  # while it waited for its turn: nobody is to be let in
                raise Left
            confirmed = self._sign_ins.confirm(digest)  # verified meanwhile for another request
            if confirmed is not None:
                return confirmed, False
            return self._sign_ins.verify(digest, credentials, address, ""), True

        return await self._signing_in.run(address, ask)

    # What is answered

    async def _answer(self, request: DavRequest, connection: HttpConnection, send: Send) -> None:
        key = request.principal.account_id

        def begin() -> _Begun:
            if connection.lost:  # while it waited for its turn: nothing has begun
                raise Left
            response = self._answers(request)
            try:
                return _begin(response)
            except BaseException:
                response.close()
                raise

        begun = await self._turns.run(key, begin)
        # What is read only can be asked for again; of what was changed the answer is given, however much is held.
        held = len(begun.first) if begun.rest is None and request.method == "GET" else 0
        with self._bodies.holding(held, key):
            await self._send(begun, key, connection, send)

    async def _send(self, begun: _Begun, key: AccountId, connection: HttpConnection, send: Send) -> None:
        """A piece when the client has taken the one before: whoever is slow has his time for each of them."""
        try:
            await send({"type": "http.response.start", "status": begun.status, "headers": begun.fields})
            rest = begun.rest
            first = begun.first
            for start in range(0, len(first) or 1, _PIECE):
                more = rest is not None or start + _PIECE < len(first)
                await send({"type": "http.response.body", "body": first[start : start + _PIECE], "more_body": more})
            while rest is not None and not connection.lost:
                octets, more = await self._turns.run(key, partial(_pull, rest), goes_on=True)
                await send({"type": "http.response.body", "body": octets, "more_body": more})
                if not more:
                    rest = None
        except Left:
            raise
        except Exception as error:  # noqa: BLE001 - its head was sent: only the end of the connection can say it
            self._counters.failures += 1
            log.error("account %d: an answer was broken off: %s", key, describe(error))
            connection.abort()
        finally:
            if begun.rest is not None:
                await self._turns.run(key, begun.close, goes_on=True)


@dataclass(frozen=True, slots=True)
class _Begun:
    """An answer whose first octets are made. Of most there is no rest."""

    status: int
    fields: list[tuple[bytes, bytes]]
    first: bytes
    rest: Iterator[bytes] | None
    close: Callable[[], None]


def _begin(response: DavResponse) -> _Begun:
    fields = [(name.lower().encode("ascii"), value.encode("latin-1", "replace")) for name, value in response.headers]
    body = response.body
    if isinstance(body, bytes):
        return _Begun(response.status, fields, body, None, response.close)
    first, more = _pull(body)
    if not more:
        response.close()
        fields.append((b"content-length", b"%d" % len(first)))
    return _Begun(response.status, fields, first, body if more else None, response.close)


def _pull(pieces: Iterator[bytes]) -> tuple[bytes, bool]:
    """The next octets, and whether there may be more."""
    pulled: list[bytes] = []
    size = 0
    for piece in pieces:
        pulled.append(piece)
        size += len(piece)
        if size >= _PIECE:
            return b"".join(pulled), True
    return b"".join(pulled), False


def _headers(scope: Scope) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        before = headers.get(key)
        headers[key] = text if before is None else f"{before}, {text}"
    return headers


def _unless_read(connection: HttpConnection) -> list[tuple[bytes, bytes]]:
    """A client that waits for leave to send its body is told to begin anew: what it sends next could be either."""
    return [(b"connection", b"close")] if connection.awaits_leave else []
