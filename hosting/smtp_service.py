"""An SMTP listener as a Twisted service: what MX and submission have in common. For the asyncio reactor.

`startService` listens on sockets that are bound already (`listening` fires when it does); `stopService` fires when
every transaction in flight is settled, or its time is up, and all connections are closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from gateway.smtp.listener import SmtpListener
from gateway.smtp.session import BoundSocket
from gateway.smtp.tls import ServerCertificate
from storage.values import Domain


class SmtpService(Service):
    """`pool` runs the handlers' blocking work, and is closed with the service."""

    def __init__(
        self,
        listener: SmtpListener,
        sockets: Sequence[BoundSocket],
        certificate: ServerCertificate | None,
        pool: ThreadPoolExecutor,
        stop_within: float,
    ) -> None:
        self.listener = listener
        self._sockets = sockets
        self._certificate = certificate
        self._pool = pool
        self._stop_within = stop_within
        self.listening: Deferred[None] | None = None

    @property
    def connections(self) -> int:
        return self.listener.connections

    @property
    def turned_away(self) -> int:
        return self.listener.turned_away

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        super().startService()  # type: ignore[no-untyped-call]
        self.listening = deferred(self.listener.start(self._sockets))

    def stopService(self) -> Deferred[None]:  # noqa: N802 - Twisted's name
        super().stopService()  # type: ignore[no-untyped-call]
        return deferred(self._stop())

    async def _stop(self) -> None:
        await self.listener.stop(self._stop_within)
        self._pool.shutdown(wait=False)

    def reload(self) -> None:
        """Takes the certificate's files as they are now. Raises InvalidInput, and nothing changes, if they are bad."""
        if self._certificate is not None:
            self._certificate.reload()


def own_domain(hostname: str) -> Domain:
    """The server's own name as the domain of a bare <postmaster>."""
    return Domain(hostname.lower())


def spill_directory(data: Path) -> str:
    """Where large messages wait while they arrive."""
    return str(data / "run")


def deferred(work: Coroutine[Any, Any, None]) -> Deferred[None]:
    return Deferred.fromFuture(asyncio.ensure_future(work, loop=asyncio.get_event_loop()))
