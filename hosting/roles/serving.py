"""The life of the first process, supervisor or single: signals in, readiness out.

SIGTERM and SIGINT stop cleanly, SIGHUP reloads. When `serve` returns, everything is stopped.

Raises: what `start` raised, after everything was stopped again.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import ensureDeferred

from hosting import operational_log
from hosting.config import Config, parse, read_text
from hosting.roles import listening, notify, privileges
from hosting.roles.table import ROLES
from storage.errors import CleanmailError, Unavailable

log = logging.getLogger("serving")


class Served(Protocol):
    async def start(self) -> None:
        """Everything is ready when it returns. Raises CleanmailError."""
        ...

    async def stop(self) -> None:
        """May be called again, and after a start that failed."""
        ...

    async def reload(self) -> None: ...


def prepare(config_path: Path, process: str) -> tuple[str, Config]:
    """The configuration's text and what it says; the process limits its rights and begins its log."""
    text = read_text(config_path)
    config = parse(text, config_path.name)
    privileges.forbid_core_dumps()
    privileges.raise_open_files()
    check_ports(config)
    operational_log.begin(process, config.logs.level)
    return text, config


def check_ports(config: Config) -> None:
    """Raises Unavailable if somebody else listens on a port of ours."""
    listeners = [name for role in ROLES for name in role.listeners]
    if (taken := listening.is_in_use(config.listen, listeners)) is not None:
        raise Unavailable(taken)


def serve(reactor: Any, served: Served, on_ready: Callable[[], None]) -> None:
    failures: list[BaseException] = []

    async def begin() -> None:
        try:
            await served.start()
        except CleanmailError as error:
            failures.append(error)
            reactor.stop()
        else:
            notify.ready()
            on_ready()
            sys.stdout.flush()

    def started() -> None:
        running = ensureDeferred(begin())
        running.addErrback(lambda failure: operational_log.log_failure(log, "the start failed", failure))
        running.addErrback(lambda _: reactor.stop())

    async def reload() -> None:
        notify.reloading()
        try:
            await served.reload()
        finally:
            notify.ready()

    def reload_soon() -> None:
        running = ensureDeferred(reload())
        running.addErrback(lambda failure: operational_log.log_failure(log, "the reload failed", failure))

    async def stop() -> None:
        notify.stopping()
        await served.stop()

    signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(reload_soon))
    reactor.addSystemEventTrigger("before", "shutdown", lambda: ensureDeferred(stop()))
    reactor.callWhenRunning(started)
    reactor.run()
    if failures:
        raise failures[0]
