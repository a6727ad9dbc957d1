"""`cleanmail serve`: one process for each role, started in stages, started again when killed, stopped in reverse.

The supervisor binds the listening sockets, gives up root, and holds neither keys nor databases, so spawning from it is
safe. SIGTERM and SIGINT stop everything: commands in flight finish, then a deadline. SIGHUP loads certificates again in
place and reads the configuration anew: processes whose settings changed are replaced one after the other while their
sockets stay open. When `run` returns, no process is left.

Raises: Unavailable (already running, a port is taken, a role cannot start), InvalidInput (configuration).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, DeferredList, DeferredLock

from hosting import config as configuration
from hosting import metrics, tls
from hosting.config import Config
from hosting.roles import channel, listening, privileges, serving
from hosting.roles.only_server import only_server
from hosting.roles.operations import OperationsService
from hosting.roles.process import State, WorkerProcess
from hosting.roles.spawning import Spawner
from hosting.roles.table import ROLES, RoleSpec, concerned, needs_restart
from storage.errors import CleanmailError, Unavailable

log = logging.getLogger("supervisor")

reactor: Any = _reactor

START_WITHIN = 60.0  # seconds for a stage to become ready


class Supervisor:
    def __init__(self, reactor: Any, data: Path, config_path: Path, text: str, config: Config) -> None:
        self._reactor = reactor
        self._data = data
        self._config_path = config_path
        self._config = config
        self._sockets: list[listening.Bound] = []
        self._spawner = Spawner(reactor, data)
        self.processes = [process for role in ROLES for process in self._processes_of(role)]
        for process in self.processes:
            process.configuration = text
        self._restarts: dict[str, int] = {role.name: 0 for role in ROLES}
        self._metrics_folder = data / "run" / "metrics"
        self._operations: OperationsService | None = None
        self._up = False
        self._stopping = False
        self._renewing = DeferredLock()
        self._failure: CleanmailError | None = None  # why a role could not start

    def _processes_of(self, role: RoleSpec) -> Iterator[WorkerProcess]:
        for index in range(role.processes(self._config)):
            sockets = listening.bind(self._config.listen, role.listeners)
            self._sockets.append(sockets)
            yield WorkerProcess(
                self._reactor,
                role,
                index,
                self._data,
                sockets,
                self._spawner,
                ended=self._ended,
                failed=self._failed,
            )

    async def start(self) -> None:
        """Everything is ready when it returns. Raises Unavailable, and what was started has to be stopped."""
        metrics.prepare_directory(self._metrics_folder)
        self._spawner.preload(self._config.server.preload)  # it reads where metrics go when it imports them
        registry = metrics.shared_registry(self._metrics_folder)
        registry.register(metrics.RoleCollector(self._seen, self._restarts))
        listen = self._config.listen
        self._operations = OperationsService(
            self._reactor, listen.operations_address, listen.operations, registry, self._missing
        )
        self._operations.startService()
        for stage in sorted({role.stage for role in ROLES}):
            waiting = [process.start() for process in self.processes if process.role.stage == stage]
            await self._all_ready(waiting)
        self._up = True

    async def _all_ready(self, waiting: list[Deferred[None]]) -> None:
        ready = DeferredList(waiting, fireOnOneErrback=True, consumeErrors=True)
        self._ready = ready
        ready.addTimeout(START_WITHIN, self._reactor)
        try:
            await ready
        except Exception:  # noqa: BLE001 - a timeout, or cancelled by _failed: both mean that it did not start
            raise self._failure or Unavailable(
                f"Not everything was ready within {START_WITHIN:.0f} seconds: {', '.join(self._missing())}."
            ) from None

    async def stop(self) -> None:
        """The stages in reverse; nothing of ours runs when it returns."""
        if self._stopping:
            return
        self._stopping = True
        self._spawner.start_none()
        within = self._config.server.stop_within
        for stage in sorted({role.stage for role in ROLES}, reverse=True):
            await DeferredList([p.stop(within) for p in self.processes if p.role.stage == stage])
        await self._spawner.stop()
        if self._operations is not None and (closing := self._operations.stopService()) is not None:
            await closing
        for sockets in self._sockets:
            listening.close(sockets)
        metrics.remove_directory(self._metrics_folder)

    async def reload(self) -> None:
        """SIGHUP. A configuration or certificate with mistakes changes nothing."""
        if self._stopping:
            return
        await self._renewing.acquire()
        try:
            text = configuration.read_text(self._config_path)
            config = configuration.parse(text, self._config_path.name)
            tls.check_pair(config.certificate(self._data), config.certificate_key(self._data))
        except CleanmailError as error:
            for line in error.public.split("\n"):
                log.error("not reloaded: %s", line)
        else:
            await self._take_over(text, config)
            log.info("reloaded")
        finally:
            self._renewing.release()

    async def _take_over(self, text: str, config: Config) -> None:
        old, self._config = self._config, config
        for name in needs_restart(old, config):
            log.warning("%s changed, which a restart alone puts into effect", name)
        if any(concerned(process.role, old, config) for process in self.processes):
            self._spawner.preload(config.server.preload)  # whoever is replaced gets the code that is there now
        for process in self.processes:
            process.configuration = text
            if not concerned(process.role, old, config):
                process.tell(channel.RELOAD)
                continue
            log.info("%s is replaced for changed settings", process.name)
            await process.stop(old.server.stop_within)
            if self._stopping:
                return
            await process.start()

    # What processes tell

    def _ended(self, process: WorkerProcess) -> None:
        self._restarts[process.role.name] += 1
        if process.crashed and not self._stopping:
            self._spawner.preload(self._config.server.preload)  # it may have been made to: nothing is where it was
        if process.pid is not None:
            metrics.forget_process(self._metrics_folder, process.pid)
        for other in self.processes:
            if other.role.name == "jobs":
                other.tell(channel.SWEEP)

    def _failed(self, process: WorkerProcess, why: str) -> None:
        log.error("%s cannot start: %s", process.name, why)
        if not self._up and self._failure is None:
            self._failure = Unavailable(f"The role {process.role.name} cannot start: {why}")
            self._ready.cancel()

    def _missing(self) -> list[str]:
        return [process.name for process in self.processes if process.state is not State.READY]

    def _seen(self) -> Iterator[tuple[str, int, int | None]]:
        for process in self.processes:
            yield process.role.name, process.index, process.pid if process.state is State.READY else None


def run(data: Path, config_path: Path, *, on_ready: Callable[[Config], None]) -> None:
    """Serve until told to stop. `on_ready` is called once, when everything listens."""
    text, config = serving.prepare(config_path, "supervisor")
    with only_server(data):
        supervisor = Supervisor(reactor, data, config_path, text, config)
        privileges.become(config.server.user)
        privileges.become_owner(data)  # as commands do: files of root would be of no use to them
        tls.check_pair(config.certificate(data), config.certificate_key(data))
        serving.serve(reactor, supervisor, lambda: on_ready(config))
