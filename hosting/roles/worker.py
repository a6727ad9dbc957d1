"""The life of a worker process: build the role's service, say ready, obey the supervisor, stop cleanly.

Standard input carries the supervisor's words; when it ends, the supervisor is gone and the worker stops as if told to.
A stop gives the service `server.stop_within` seconds for the commands in flight.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO as _StandardIO
from twisted.python.failure import Failure

from hosting import operational_log
from hosting.composition import Parts, Sockets
from hosting.config import Config
from hosting.roles import channel, privileges
from hosting.roles.service import RoleService
from hosting.roles.table import spec
from storage.errors import CleanmailError

log = logging.getLogger("worker")

reactor: Any = _reactor
standard_io: Any = _StandardIO


class Worker(Protocol):
    """The channel to the supervisor and the service that it is about."""

    transport: Any

    def __init__(self, service: RoleService, stop_within: float, ready: Callable[[], None] = lambda: None) -> None:
        """`ready` is called in a thread once it works."""
        self._service = service
        self._stop_within = stop_within
        self._ready = ready
        self._lines = channel.Lines()
        self._ending = False
        self.failed = False

    def start(self) -> None:
        # Ctrl-C and `systemctl stop` reach the whole group: the supervisor says when, and twice must do no harm.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: reactor.callFromThread(self.end))
        starting = maybeDeferred(self._service.start)
        starting.addCallbacks(self._started, self._not_started)

    def stop(self) -> Deferred[Any]:
        stopping = maybeDeferred(self._service.stop)
        stopping.addTimeout(self._stop_within, reactor)
        stopping.addErrback(lambda failure: operational_log.log_failure(log, "not stopped cleanly", failure))
        return stopping

    def end(self) -> None:
        """Stop the reactor, once."""
        if not self._ending:
            self._ending = True
            reactor.callWhenRunning(reactor.stop)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        for word, _ in self._lines.feed(data):
            if word == channel.RELOAD:
                self._reload()
            elif word == channel.SWEEP:
                self._service.sweep()
            elif word == channel.STOP:
                self.end()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802 - Twisted's name
        self.end()

    def _reload(self) -> None:
        try:
            self._service.reload()
        except CleanmailError as error:
            log.error("not reloaded: %s", error.public)

    def _started(self, _: Any) -> None:
        self._say(channel.READY)
        reactor.callInThread(self._ready)

    def _not_started(self, failure: Failure) -> None:
        error = failure.value
        self.failed = True
        operational_log.log_failure(log, "not started", failure)
        self._say(
            channel.FAILED, error.public if isinstance(error, CleanmailError) else "an unexpected error; see the log"
        )
        self.end()

    def _say(self, word: str, why: str = "") -> None:
        if self.transport is not None:
            self.transport.write(channel.encode(word, why))


def run(role: str, index: int, start: channel.Start, config: Config) -> None:
    """Returns when the process is to end."""
    privileges.raise_open_files()
    sys.setswitchinterval(spec(role).switch_interval)
    os.nice(spec(role).nice)  # before it has threads: each inherits it from the one that starts it
    sockets = channel_sockets(start)
    parts = Parts.of_worker(reactor, role, index, Path(start.data), config, sockets)
    service: RoleService = import_module(f"hosting.roles.{role}").make_service(parts)
    worker = Worker(service, config.server.stop_within, parts.tell_ready)
    standard_io(worker, stdin=0, stdout=channel.UP, reactor=reactor)
    reactor.callWhenRunning(worker.start)
    reactor.addSystemEventTrigger("before", "shutdown", worker.stop)
    gc.freeze()  # nor is it ever searched later
    gc.enable()
    reactor.run()
    parts.close()


def channel_sockets(start: channel.Start) -> Sockets:
    """The inherited listening sockets; children of this process get none of them."""
    sockets: Sockets = []
    for name, descriptor in start.sockets:
        os.set_inheritable(descriptor, False)
        sockets.append((name, socket.socket(fileno=descriptor)))
    return sockets
