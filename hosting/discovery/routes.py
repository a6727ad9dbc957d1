"""The routes of discovery. Answers depend on the domain alone; addresses in a query are not logged anywhere.

Autoconfig, PACC and the MTA-STS policy are the same over HTTP and HTTPS: a client that asks over HTTP has nothing else,
and no secret is in them. Whatever repeats an address is answered over HTTPS only, by the server's own name, whose
certificate is right even where a customer's name is not in any.

Standards: RFC 8615 (well-known names), RFC 9110 §15.4.3, §15.4.8 (302, 307), RFC 8461 §3.3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from hosting.dav.xml import BadXml
from hosting.discovery import apple, mozilla, outlook, pacc, sts
from hosting.discovery.domains import Known, address_of, of_address, of_host, of_policy_host
from hosting.discovery.offered import Offered
from hosting.discovery.signing import Signer
from hosting.web.answers import Refused
from hosting.web.app import WebParts
from hosting.web.turns import Crowded
from storage.directory.resolve import Resolver
from storage.errors import InvalidInput
from storage.values import Domain, EmailAddress

T = TypeVar("T")

_TURN = "discovery"  # all strangers together have one account's part of the threads
_MOST_WAITING = 100
_PUBLIC = {"cache-control": "public, max-age=600"}
_PRIVATE = {"cache-control": "no-store"}


def routes(parts: WebParts, data: Path) -> Sequence[BaseRoute]:
    """`data`: the data directory, where paths of the configuration begin."""
    signer = Signer(parts.config.certificate(data), parts.config.certificate_key(data))
    discovery = Discovery(parts, Offered.of(parts.config), signer)
    return [
        *(Route(path, discovery.autoconfig, methods=["GET"]) for path in mozilla.PATHS),
        AnyCase(outlook.PATH, discovery.autodiscover, methods=["GET", "POST"]),
        *(AnyCase(path, discovery.autodiscover_json, methods=["GET"]) for path in outlook.JSON_PATHS),
        Route(apple.PATH, discovery.profile, methods=["GET"]),
        Route(pacc.PATH, discovery.pacc, methods=["GET"]),
        Route(sts.PATH, discovery.sts, methods=["GET"]),
    ]


class AnyCase(Route):
    """A route whose path counts in any case, as Microsoft's programs write it in many."""

    def __init__(self, path: str, *arguments: object, **options: object) -> None:
        super().__init__(path, *arguments, **options)  # type: ignore[arg-type]
        self.path_regex = re.compile(self.path_regex.pattern, re.IGNORECASE)


class Discovery:
    def __init__(self, parts: WebParts, offered: Offered, signer: Signer) -> None:
        self._turns = parts.turns
        self._bodies = parts.bodies
        self._offered = offered
        self._signer = signer
        self._clock = parts.clock
        resolver = Resolver(parts.installation)
        self._known = Known(lambda domain: resolver.owner(domain) is not None, parts.clock)
        self._waiting = 0
        self._pacc = pacc.document(offered)
        self._sts = sts.policy(offered)

    async def autoconfig(self, request: Request) -> Response:
        domain = await self._domain(request, _asked(request, "emailaddress"), or_above_us=True)
        return Response(mozilla.autoconfig(domain, self._offered), 200, _PUBLIC, mozilla.MEDIA_TYPE)

    async def autodiscover(self, request: Request) -> Response:
        if request.scope["scheme"] != "https":
            return await self._to_https(request)
        address: EmailAddress | None
        if request.method == "POST":
            async with self._bodies.read("POST", request.headers, request.receive, outlook.BODY_MAX) as body:
                try:
                    asked = outlook.read(body)
                    address = address_of(asked.address)
                except (BadXml, InvalidInput):
                    return self._error(outlook.INVALID_REQUEST)
            await self._domain(request, asked.address)
            if not asked.is_for_outlook:
                return self._error(outlook.NO_PROVIDER)
        else:
            address = await self._address(request)
        return Response(outlook.autodiscover(self._offered, address), 200, _PRIVATE, outlook.MEDIA_TYPE)

    async def autodiscover_json(self, request: Request) -> Response:
        if request.scope["scheme"] != "https":
            return await self._to_https(request)
        await self._domain(request, request.path_params.get("address", "") or _asked(request, "email"))
        status, body = outlook.autodiscover_json(self._offered, _asked(request, "protocol"))
        return Response(body, status, _PRIVATE, "application/json")

    async def profile(self, request: Request) -> Response:
        if request.scope["scheme"] != "https":
            return await self._to_https(request)
        address = await self._address(request)
        domain = address.domain if address is not None else await self._domain(request, "")
        made = await self._run(lambda: self._signer.signed(apple.profile(domain, self._offered, address)))
        named = {**_PRIVATE, "content-disposition": f'attachment; filename="{domain.name}.mobileconfig"'}
        return Response(made, 200, named, apple.MEDIA_TYPE)

    async def pacc(self, request: Request) -> Response:
        await self._domain(request, "")
        return Response(self._pacc, 200, _PUBLIC, pacc.MEDIA_TYPE)

    async def sts(self, request: Request) -> Response:
        await self._domain(request, "", of_policy_host)
        if self._sts is None:
            raise Refused(404, "No policy is served here.")
        return Response(self._sts, 200, _PUBLIC, sts.MEDIA_TYPE)

    # Whom it is about

    async def _domain(
        self,
        request: Request,
        address: str,
        hosted: Callable[[str], Sequence[Domain]] = of_host,
        *,
        or_above_us: bool = False,
    ) -> Domain:
        """The domain of the address, else of the host. Raises Refused for one that is not served here.

        `or_above_us`: also the domain that our own name stands in. Programs go from a customer's MX record to
        autoconfig.<that domain>, and need not say the address.
        """
        named = of_address(address)
        for domain in (named,) if named is not None else hosted(request.headers.get("host", "")):
            if await self._is_served(domain):
                return domain
            if or_above_us and named is None and self._offered.host.endswith(f".{domain.name}"):
                return domain
        raise Refused(404, "This domain is not served here.")

    async def _address(self, request: Request) -> EmailAddress | None:
        """Of the query, of a domain that is served here; None if it names none. Raises InvalidInput or Refused."""
        text = _asked(request, "email") or _asked(request, "emailaddress")
        address = address_of(text) if text else None
        await self._domain(request, text)
        return address

    async def _is_served(self, domain: Domain) -> bool:
        served = self._known.recall(domain)
        if served is None:
            served = await self._run(lambda: self._known.asked(domain))
            self._known.keep(domain, served)
        return served

    async def _run(self, work: Callable[[], T]) -> T:
        """In a thread; strangers never wait in numbers that would keep those out who signed in. Raises Crowded."""
        if self._waiting >= _MOST_WAITING:
            raise Crowded
        self._waiting += 1
        try:
            return await self._turns.run(_TURN, work)
        finally:
            self._waiting -= 1

    async def _to_https(self, request: Request) -> Response:
        """Outlook asks over HTTP where to ask, and follows a redirection to a host that is in its certificate."""
        await self._domain(request, _asked(request, "email") or request.path_params.get("address", ""))
        path, query = (request.scope[name].decode("latin-1") for name in ("raw_path", "query_string"))
        location = f"{self._offered.origin}{path}" + (f"?{query}" if query else "")
        return RedirectResponse(location, 302 if request.method in ("GET", "HEAD") else 307, _PRIVATE)

    def _error(self, code: int) -> Response:
        body = outlook.error(code, datetime.fromtimestamp(self._clock.now(), UTC))
        return Response(body, 200, _PRIVATE, outlook.MEDIA_TYPE)


def _asked(request: Request, name: str) -> str:
    """A parameter of the query, its name in any case; empty if it is not there."""
    return next((value for key, value in request.query_params.multi_items() if key.lower() == name), "")
