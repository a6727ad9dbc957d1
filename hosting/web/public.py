"""Public links: /public/<secret>.ics gives a calendar to anybody who has the link, and to nobody else anything.

What a link shows is what may be public: private events as busy, and of no event who else takes part. A wrong secret, a
revoked link and one whose account rests or has ended are answered alike, and cost the address that asks for them. There
is no list, search engines are told to keep out, and no visitor is recorded: answers are counted, addresses not kept.

Standards: RFC 5545; RFC 9110 §13.1.2 (If-None-Match), §15.4.9 (308); webcal URLs are these with another scheme.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from hosting.auth.throttle import Throttle
from hosting.dav.calendars.whole import batched, whole_calendar
from hosting.dav.if_header import read_etags
from hosting.web.answers import Refused
from hosting.web.app import WebParts
from hosting.web.connection import connection_of
from hosting.web.turns import Turns
from storage.collections.values import Collection, CollectionId, Kind
from storage.directory.public_links import PublicLink, is_secret
from storage.directory.rows import State
from storage.directory.terms import Feature
from storage.errors import Gone, NotFound, NotPermitted
from storage.installation import Installation
from storage.itip.privacy import as_seen_by_anybody
from storage.mail.account import Account

PREFIX = "/public/"
_SUFFIX = ".ics"
_TURN = "public links"  # all visitors together have one account's part of the threads
_MEDIA_TYPE = "text/calendar; charset=utf-8"
_VIEW = 1  # of what is shown: a new one gives new ETags
_ALWAYS = {
    "Cache-Control": "private, no-cache",
    "X-Robots-Tag": "noindex, nofollow, noarchive",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def url_of(origin: str, secret: str) -> str:
    """What is given away."""
    return f"{origin}{PREFIX}{secret}{_SUFFIX}"


def routes(parts: WebParts) -> Sequence[BaseRoute]:
    return [Route(PREFIX + "{name}", PublicCalendars(parts).get, methods=["GET"])]


@dataclass(frozen=True, slots=True)
class _Found:
    """A calendar behind a link, its account open until `held` is closed."""

    account: Account
    collection: Collection
    held: ExitStack

    @property
    def etag(self) -> str:
        row = self.collection
        shown = f"{_VIEW} {row.id} {row.highest_modseq} {row.created} {row.display_name} {row.description}"
        return f'"{hashlib.blake2b(shown.encode(), digest_size=16, key=self.account.octets.etag_key).hexdigest()}"'

    def pieces(self) -> Iterator[bytes]:
        return batched(whole_calendar(self.account, self.collection, as_seen_by_anybody))


class _Streamed(Response):
    """Made while it is sent; the account is let go of in any case."""

    def __init__(self, found: _Found, turns: Turns, headers: Mapping[str, str]) -> None:
        super().__init__(headers=headers, media_type=_MEDIA_TYPE)
        del self.headers["content-length"]
        self._found = found
        self._turns = turns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pieces = self._found.pieces()
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while (piece := await self._turns.run(_TURN, partial(next, pieces, None), goes_on=True)) is not None:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await self._turns.run(_TURN, self._found.held.close, goes_on=True)


class PublicCalendars:
    def __init__(self, parts: WebParts) -> None:
        self._parts = parts
        self._throttle = Throttle(parts.clock, parts.config.auth.throttle)

    async def get(self, request: Request) -> Response:
        """GET and HEAD. Raises Refused, Throttled, Unavailable."""
        places = self._parts.places
        if request.url.scheme != "https" and not places.plain_sign_in:
            raw_path: bytes = request.scope["raw_path"]
            return RedirectResponse(places.secure(raw_path.decode("ascii", "replace")), 308, headers=_ALWAYS)
        address = connection_of(request.scope).address
        found = await self._parts.turns.run(_TURN, partial(self._find, request.path_params["name"], address))
        if found is None:
            self._parts.counters.wrong_links += 1
            raise Refused(404, "There is nothing here.")
        self._parts.counters.links += 1
        headers = {**_ALWAYS, "ETag": found.etag}
        known = read_etags(request.headers.get("if-none-match", ""))
        if known is not None and ("*" in known or found.etag in {each.removeprefix("W/") for each in known}):
            await self._parts.turns.run(_TURN, found.held.close, goes_on=True)
            return Response(status_code=304, headers=headers)
        headers["Content-Disposition"] = 'inline; filename="calendar.ics"'
        if request.method == "HEAD":
            await self._parts.turns.run(_TURN, found.held.close, goes_on=True)
            response = Response(headers=headers, media_type=_MEDIA_TYPE)
            del response.headers["content-length"]
            return response
        return _Streamed(found, self._parts.turns, headers)

    # In a thread

    def _find(self, name: str, address: str) -> _Found | None:
        """Raises Throttled."""
        secret = name.removesuffix(_SUFFIX)
        # Each guess is a subject of its own, so that only addresses and networks are slowed down.
        guess = hashlib.blake2b(secret[:100].encode("utf-8", "replace"), digest_size=16).digest()
        attempt = self._throttle.admit(guess, address)
        try:
            link = self._parts.installation.control.public_links.find(secret) if is_secret(secret) else None
            found = None if link is None else _opened(self._parts.installation, link)
        except BaseException:
            attempt.abandoned()
            raise
        if link is None:
            attempt.failed()
        else:
            attempt.succeeded()
        return found


def _opened(installation: Installation, link: PublicLink) -> _Found | None:
    """None: its account or its tenant rests or has ended, or the calendar is gone."""
    held = ExitStack()
    try:
        if installation.control.tenant(link.tenant_id).state is not State.ACTIVE:
            return None
        installation.control.contracts.check_feature(link.tenant_id, Feature.DAV)
        if installation.tenant(link.tenant_id).account(link.account_id).state is not State.ACTIVE:
            return None
        account = held.enter_context(installation.account(link.tenant_id, link.account_id))
        collection = account.collections.by_id(CollectionId(link.collection_id))
        if collection.kind is Kind.CALENDAR:
            return _Found(account, collection, held)
    except (NotFound, Gone, NotPermitted):
        pass
    except BaseException:
        held.close()
        raise
    held.close()
    return None
