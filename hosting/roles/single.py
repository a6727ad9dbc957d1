"""`cleanmail serve --single`: every role in one process on the asyncio reactor, for tests and very small machines.

There is no supervisor, so nothing is started again after a crash, and the process holds the master key beside the
mail. Everything else is as in `hosting.roles.supervisor`, signals included.

Raises: Unavailable (already running, a port is taken, a role cannot start), InvalidInput (configuration).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from twisted.internet import reactor as _reactor
from twisted.internet.defer import DeferredList

from hosting import tls
from hosting.composition import Parts, Sockets
from hosting.config import Config
from hosting.metrics import Metrics
from hosting.roles import listening, privileges, serving
from hosting.roles.only_server import only_server
from hosting.roles.operations import OperationsService
from hosting.roles.service import RoleService
from hosting.roles.table import ROLES
from storage.errors import CleanmailError

log = logging.getLogger("single")

reactor: Any = _reactor


class Single:
    """All roles of one process, started and stopped in the order of their stages."""

    def __init__(self, reactor: Any, data: Path, config: Config, sockets: Sockets) -> None:
        self._reactor = reactor
        self._config = config
        self._registry = CollectorRegistry()
        self._parts = Parts.of_everything(reactor, data, config, sockets, Metrics(self._registry))
        self._services: list[tuple[int, RoleService]] = []
        self._ready: set[str] = set()
        listen = config.listen
        self._operations = OperationsService(
            reactor, listen.operations_address, listen.operations, self._registry, self._missing
        )
        self._stopping = False

    async def start(self) -> None:
        self._operations.startService()
        for role in sorted(ROLES, key=lambda role: role.stage):
            service: RoleService = import_module(f"hosting.roles.{role.name}").make_service(
                self._parts.for_role(role.name)
            )
            self._services.append((role.stage, service))
            await service.start()
            self._ready.add(role.name)

    async def stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        for stage in sorted({stage for stage, _ in self._services}, reverse=True):
            stopping = DeferredList([service.stop() for of, service in self._services if of == stage])
            stopping.addTimeout(self._config.server.stop_within, self._reactor)
            try:
                await stopping
            except Exception:  # noqa: BLE001 - the deadline; what is left ends with the process
                log.warning("commands in flight did not finish in time")
        if (closing := self._operations.stopService()) is not None:
            await closing
        self._parts.close()

    async def reload(self) -> None:
        """Certificates only: changed settings need a restart here."""
        for _, service in self._services:
            try:
                service.reload()
            except CleanmailError as error:
                log.error("not reloaded: %s", error.public)
        log.info("certificates reloaded")

    def _missing(self) -> list[str]:
        return [role.name for role in ROLES if role.name not in self._ready]


def run(data: Path, config_path: Path, *, on_ready: Callable[[Config], None]) -> None:
    """Serve until told to stop. `on_ready` is called once, when everything listens."""
    _, config = serving.prepare(config_path, "single")
    with only_server(data):
        sockets = listening.bind(config.listen, [name for role in ROLES for name in role.listeners])
        privileges.become(config.server.user)
        privileges.become_owner(data)  # as commands do: files of root would be of no use to them
        tls.check_pair(config.certificate(data), config.certificate_key(data))
        serving.serve(reactor, Single(reactor, data, config, sockets), lambda: on_ready(config))
