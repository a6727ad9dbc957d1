"""One worker process as the supervisor sees it: spawned, ready, ended, started again.

A process that ends without being told to is started again, at first at once and then after pauses that double up to
half a minute; one that lived for a minute begins anew at the shortest pause. `stop` gives it time for the commands in
flight, then kills it.
"""

from __future__ import annotations

import enum
import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from hosting.roles import channel
from hosting.roles.forked import Order
from hosting.roles.listening import Bound
from hosting.roles.spawning import Spawner
from hosting.roles.table import RoleSpec

log = logging.getLogger("supervisor")

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 30.0
SETTLED = 60.0  # seconds of life after which the pauses begin anew
_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGABRT, signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS)
STOP_MARGIN = 5.0  # seconds beyond server.stop_within until it is killed


class State(enum.Enum):
    DOWN = "down"  # not started yet, or waiting to be started again
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


class WorkerProcess(ProcessProtocol):
    """`ended` is called whenever it ended without being told to, `failed` with its reason for not starting."""

    transport: Any

    def __init__(
        self,
        reactor: Any,
        role: RoleSpec,
        index: int,
        data: Path,
        sockets: Bound,
        spawner: Spawner,
        *,
        ended: Callable[[WorkerProcess], None],
        failed: Callable[[WorkerProcess, str], None],
    ) -> None:
        self.role = role
        self.index = index
        self.state = State.DOWN
        self.restarts = 0
        self.crashed = False  # the last time, by what it did itself
        self.configuration = ""
        self.pid: int | None = None  # of the last process that was spawned
        self._reactor = reactor
        self._data = data
        self._sockets = sockets
        self._spawner = spawner
        self._ended = ended
        self._failed = failed
        self._lines = channel.Lines()
        self._pause = FIRST_PAUSE
        self._started = 0.0
        self._ready: Deferred[None] | None = None
        self._gone: Deferred[None] | None = None
        self._timer: Any = None

    @property
    def name(self) -> str:
        return f"{self.role.name}[{self.index}]"

    def start(self) -> Deferred[None]:
        """Fires when it is ready; never, if it ends before."""
        self._ready = Deferred()
        self._spawn()
        return self._ready

    def tell(self, word: str) -> None:
        if self.state in (State.STARTING, State.READY) and self.transport is not None:
            self.transport.writeToChild(0, channel.encode(word))

    def stop(self, within: float) -> Deferred[None]:
        """Fires when it is gone, cleanly or not."""
        done: Deferred[None] = Deferred()
        if self.state is State.DOWN:
            self._cancel_timer()
            done.callback(None)
            return done
        self.tell(channel.STOP)
        self.state = State.STOPPING
        self._gone = done
        self._timer = self._reactor.callLater(within + STOP_MARGIN, self.kill)
        return done

    def kill(self) -> None:
        self._timer = None
        log.warning("%s did not stop in time and is killed", self.name)
        if self.transport is None:  # it did not even begin; see `connectionMade`
            return
        try:
            self.transport.signalProcess("KILL")
        except ProcessExitedAlready:
            return

    def _spawn(self) -> None:
        self._timer = None
        self.state = State.STARTING
        self._started = self._reactor.seconds()
        self._lines = channel.Lines()
        self.transport = None
        order = Order(self.role.name, self.index, self._data, [sock.fileno() for _, sock in self._sockets])
        self._spawner.spawn(self, order)

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        self.pid = self.transport.pid
        sockets = [(name, channel.FIRST_SOCKET + n) for n, (name, _) in enumerate(self._sockets)]
        self.transport.writeToChild(0, channel.Start(str(self._data), self.configuration, sockets).encode())
        if self.state is State.STOPPING and self._timer is None:
            self.kill()
        elif self.state is State.STOPPING:
            self.transport.writeToChild(0, channel.encode(channel.STOP))

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N802, N803 - Twisted's names
        if childFD != channel.UP:
            return
        for word, why in self._lines.feed(data):
            if word == channel.READY and self.state is State.STARTING:
                self.state = State.READY
                log.info("%s is ready, pid %s", self.name, self.pid)
                if self._ready is not None:
                    ready, self._ready = self._ready, None
                    ready.callback(None)
            elif word == channel.FAILED:
                self._failed(self, why)

    def processEnded(self, reason: Failure) -> None:  # noqa: N802 - Twisted's name
        self._cancel_timer()
        if self.state is State.STOPPING:
            self.state = State.DOWN
            gone, self._gone = self._gone, None
            if gone is not None:
                gone.callback(None)
            return
        # Told to stop by somebody else, such as the auth role because of keys that it held: nothing is wrong with it.
        recycled = self.state is State.READY and isinstance(reason.value, ProcessDone)
        self.state = State.DOWN
        if recycled or self._reactor.seconds() - self._started >= SETTLED:
            self._pause = FIRST_PAUSE
        level = logging.INFO if recycled else logging.ERROR
        log.log(level, "%s ended %s; it is started again in %.1f s", self.name, _how(reason), self._pause)
        self.restarts += 1
        self.crashed = getattr(reason.value, "signal", None) in _CRASHES
        self._timer = self._reactor.callLater(self._pause, self._spawn)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        self._ended(self)

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


def _how(reason: Failure) -> str:
    if isinstance(reason.value, ProcessDone):
        return "by itself"
    number = getattr(reason.value, "signal", None)
    return f"by signal {number}" if number else f"with status {getattr(reason.value, 'exitCode', '?')}"
