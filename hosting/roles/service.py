"""What a role is to the process that runs it: services that start and stop together, reload and sweep on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, gatherResults


class RoleService(MultiService):
    """`ready` fires when every service listens; those that do so asynchronously have a Deferred `listening`."""

    def __init__(
        self,
        services: Sequence[Service],
        *,
        reload: Sequence[Callable[[], object]] = (),
        sweep: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        for service in services:
            self.addService(service)  # type: ignore[no-untyped-call]
        self._reload = reload
        self._sweep = sweep

    def start(self) -> Deferred[list[Any]]:
        """Start; fires when it is ready, fails if a service could not start."""
        self.startService()  # type: ignore[no-untyped-call]
        listening = [getattr(service, "listening", None) for service in self]
        return gatherResults([waiting for waiting in listening if waiting is not None], consumeErrors=True)

    def stop(self) -> Deferred[Any]:
        """Fires when commands in flight are finished and nothing listens any more."""
        stopping: Deferred[Any] = self.stopService()  # type: ignore[no-untyped-call]
        return stopping

    def reload(self) -> None:
        """Take new certificates. Raises InvalidInput, and nothing changes, if they are not valid."""
        for reload in self._reload:
            reload()

    def sweep(self) -> None:
        """Another worker was killed: see what it left."""
        if self._sweep is not None:
            self._sweep()
