"""Answers one request of WebDAV and what extends it.

`handle` is synchronous and may block (accounts are opened, commits are waited for). When it returns a status of success
to a method that changes something, the change is durable. It raises nothing: what fails is a status, with the
precondition where there is one, and of what is unexpected nothing is shown.

Standards: RFC 4918 §8, §9; RFC 9110 §9, §15.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from urllib.parse import urlsplit

from hosting.dav.context import Context
from hosting.dav.errors import Refused, error_body, refusal_of
from hosting.dav.multistatus import XML_TYPE
from hosting.dav.registry import Registry
from hosting.dav.request import DavRequest, DavResponse, Headers, Streamed
from hosting.dav.services import DavServices
from hosting.faults import describe
from storage.errors import CleanmailError, Corrupt

_log = logging.getLogger("cleanmail.dav")


class DavHandler:
    def __init__(self, services: DavServices, registry: Registry) -> None:
        """`registry` is complete; see `hosting.dav.assembly`."""
        self._services = services
        self._registry = registry

    def handle(self, request: DavRequest) -> DavResponse:
        context = Context(self._services, request)
        response: DavResponse | None = None
        try:
            response = self._answer(context)
        except Refused as refused:
            response = _refusal(refused, request.method)
        except CleanmailError as error:
            if isinstance(error, Corrupt):
                _log.error("account %d: %s", request.principal.account_id, describe(error))
            response = _refusal(refusal_of(error, _target(request)), request.method)
        except Exception as error:  # noqa: BLE001 - the border: whatever it is, its client learns nothing of it
            _log.error("account %d: %s", request.principal.account_id, describe(error))
            response = _refusal(Refused(500, why="The request failed; try again later."), request.method)
        finally:
            if response is None or not isinstance(response.body, Streamed):
                context.close()
        return response

    def _answer(self, context: Context) -> DavResponse:
        method = self._registry.methods.get(context.request.method)
        if method is None:
            raise Refused(501, why="This method is not known here.")
        return method(context)


def _target(request: DavRequest) -> bytes:
    """The path that preconditions are about: of COPY and MOVE the destination."""
    path = request.path
    if request.method in ("COPY", "MOVE"):
        with suppress(ValueError):
            path = urlsplit(request.header("destination").strip()).path or path
    return path.encode("ascii", "replace")


def _refusal(refused: Refused, method: str) -> DavResponse:
    body = error_body(refused) if refused.condition or refused.why else b""
    headers: Headers = [("Content-Length", str(len(body))), *refused.headers]
    if body:
        headers.append(XML_TYPE)
    return DavResponse(refused.status, headers, b"" if method == "HEAD" else body)
