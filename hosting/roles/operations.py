"""/metrics and /health on a loopback port: for Prometheus, and for whoever must know whether all processes run.

/health answers 200 with {"status": "ok"} while every process is ready, else 503 with the roles that are not.
"""

# ruff: noqa: N802, N815 - Twisted's names

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.twisted import MetricsResource
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import Site

from storage.errors import Unavailable


class Health(Resource):
    isLeaf = True

    def __init__(self, missing: Callable[[], list[str]]) -> None:
        """`missing` gives the processes that should run and are not ready."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._missing = missing

    def render_GET(self, request: Request) -> bytes:
        missing = self._missing()
        request.setResponseCode(503 if missing else 200)
        request.setHeader(b"content-type", b"application/json")
        answer: dict[str, Any] = {"status": "degraded", "missing": missing} if missing else {"status": "ok"}
        return json.dumps(answer).encode() + b"\n"


class OperationsService(Service):
    def __init__(
        self, reactor: Any, address: str, port: int, registry: CollectorRegistry, missing: Callable[[], list[str]]
    ) -> None:
        self._reactor = reactor
        self._address = address
        self._number = port
        root: Any = Resource()
        root.putChild(b"metrics", MetricsResource(registry))  # type: ignore[no-untyped-call]
        root.putChild(b"health", Health(missing))
        self._site = Site(root, timeout=10)
        self._site.noisy = False
        self._port: Any = None

    def startService(self) -> None:
        """Raises Unavailable if the port is taken."""
        if self._number:
            try:
                self._port = self._reactor.listenTCP(self._number, self._site, interface=self._address)
            except CannotListenError:
                raise Unavailable(
                    f"Port {self._number} of {self._address} (operations) cannot be listened on; "
                    "choose another in [listen], or 0 for none."
                ) from None
        super().startService()  # type: ignore[no-untyped-call]

    def stopService(self) -> Deferred[None] | None:
        super().stopService()  # type: ignore[no-untyped-call]
        return self._port.stopListening() if self._port is not None else None
