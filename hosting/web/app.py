"""The web application (ASGI): DAV, where clients find it, and what others add routes for.

Whatever goes wrong is one sentence with a status, and a line of ids in the operational log.

Standards: RFC 6764 §5 (well-known names of CalDAV and CardDAV), RFC 9110 §15.4.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hosting.config import Config
from hosting.faults import describe
from hosting.web.answers import Left, Refused, refusal_of, send_plain, send_redirect
from hosting.web.bodies import Bodies
from hosting.web.connection import connection_of
from hosting.web.counters import Counters
from hosting.web.dav import DavEndpoint
from hosting.web.places import DAV, Places
from hosting.web.turns import Turns
from storage.clock import Clock
from storage.errors import CleanmailError
from storage.installation import Installation

log = logging.getLogger("web")

_SENTENCES = {404: "There is nothing here.", 405: "This method is not known here."}
_NO_PAGE = "This is no web page: programs find calendars, tasks, notes and contacts here (CalDAV, CardDAV)."


@dataclass(frozen=True, slots=True)
class WebParts:
    """What routes are made of."""

    config: Config
    installation: Installation
    clock: Clock
    places: Places
    turns: Turns  # runs what blocks
    bodies: Bodies  # of requests
    counters: Counters
    dav: DavEndpoint


def make_app(parts: WebParts, routes: Sequence[BaseRoute] = ()) -> ASGIApp:
    """`routes` are those of discovery and of public links. `Refused` and `CleanmailError` that they raise are answered.

    What blocks they run by `parts.turns`, and bodies they read by `parts.bodies`.
    """
    to_dav = ToDav(parts.places)
    app = Starlette(
        routes=[
            Route("/dav/{path:path}", parts.dav),
            Route("/.well-known/caldav", to_dav),
            Route("/.well-known/caldav/", to_dav),
            Route("/.well-known/carddav", to_dav),
            Route("/.well-known/carddav/", to_dav),
            Route("/dav", to_dav),
            *routes,
            Route("/", Root(to_dav)),
        ],
        exception_handlers={
            HTTPException: _http_error,
            Refused: _refused,
            CleanmailError: _refused,
            Exception: _failure,
        },
    )
    app.router.redirect_slashes = False
    return Guard(app, parts.counters)


class ToDav:
    """Any method, as clients look with PROPFIND, GET or OPTIONS. 301: what RFC 6764's example and all clients know."""

    def __init__(self, places: Places) -> None:
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_redirect(send, 301, self._places.dav(scope["scheme"]))


class Root:
    """Clients that were given nothing but a host name try it here at last."""

    def __init__(self, to_dav: ToDav) -> None:
        self._to_dav = to_dav

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in ("PROPFIND", "OPTIONS", "REPORT"):
            await self._to_dav(scope, receive, send)
        else:
            await send_plain(send, 404, _NO_PAGE, [])


class Guard:
    """Counts answers, and sees to it that nothing of ours goes out when something is broken."""

    def __init__(self, app: ASGIApp, counters: Counters) -> None:
        self._app = app
        self._counters = counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = finished = False
        connection = connection_of(scope)

        async def counted(message: Message) -> None:
            nonlocal started, finished
            if connection.is_closing:
                raise Left
            if message["type"] == "http.response.start":
                started = True
                self._counters.answered(message["status"])
                self._counters.failures += message["status"] == 500
            elif not message.get("more_body", False):
                finished = True
            await send(message)

        try:
            await self._app(scope, receive, counted)
        except Left:
            connection.give_up()
        except Exception as error:  # noqa: BLE001 - the border
            if finished:  # Starlette raises again what `_failure` has answered
                return
            log.error("a request failed: %s", describe(error))
            if started or connection.is_closing:
                connection.give_up()
                connection.abort()
            else:
                await send_plain(counted, 500, _FAILED, [])


_FAILED = "The request failed; try again later."


async def _http_error(request: Request, error: Any) -> Response:
    sentence = _SENTENCES.get(error.status_code, "The request cannot be answered.")
    return PlainTextResponse(f"{sentence}\n", error.status_code, headers=error.headers)


async def _refused(request: Request, error: Any) -> Response:
    refused = error if isinstance(error, Refused) else refusal_of(error)
    fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in refused.fields}
    return PlainTextResponse(f"{refused.sentence}\n", refused.status, headers=fields)


async def _failure(request: Request, error: Exception) -> Response:
    if not isinstance(error, Left):
        log.error("a request failed: %s", describe(error))
    return PlainTextResponse(f"{_FAILED}\n", 500)


__all__ = ["DAV", "WebParts", "make_app"]
