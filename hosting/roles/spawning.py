"""Starts worker processes: forked by a process that has imported what they need, or executed.

`[server] preload` chooses. Where the fork server is of no use at the moment (it was killed, hangs, could not load, the
system forks no more), a worker is executed, so what happens to it keeps nobody from working. Both ways give a worker
the same: standard input that the supervisor writes to, `channel.UP` that it reads, standard output and error on the
supervisor's standard error, the listening sockets from `channel.FIRST_SOCKET` on, and nothing else.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet import process as twisted_process
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from hosting.roles import channel
from hosting.roles.forked import Asking, Order
from storage import program

log = logging.getLogger("supervisor")

FIRST_PAUSE = 0.1  # seconds until a fork server that ended a second time is started again; doubled each time
LONGEST_PAUSE = 30.0
SETTLED = 60.0  # seconds of life after which the pauses begin anew
ORPHANS_EVERY = 60.0
AGAIN = 1.0  # seconds until a process is executed that the system did not allow

_PR_SET_CHILD_SUBREAPER = 36
_TOLD_TO_END = (signal.SIGTERM, signal.SIGINT)


def command(role: str, index: int, data: Path) -> list[str]:
    """What a process of ours is in a list of processes."""
    return program.command("hosting.roles", role, "--index", str(index), "--data", str(data))


def execute(reactor: Any, protocol: ProcessProtocol, order: Order) -> None:
    """A new interpreter that imports everything itself. Where the system has no room for one, it is tried again."""
    descriptors: dict[int, Any] = {0: "w", 1: 2, 2: 2, channel.UP: "r"}
    descriptors.update({channel.FIRST_SOCKET + n: descriptor for n, descriptor in enumerate(order.sockets)})
    words = command(order.role, order.index, order.data)
    try:
        reactor.spawnProcess(protocol, sys.executable, words, env=dict(os.environ), childFDs=descriptors)
    except OSError as error:
        log.error("%s[%d] cannot be executed: %s", order.role, order.index, error.strerror)
        reactor.callLater(AGAIN, execute, reactor, protocol, order)


class Spawner:
    """One way to a new worker, whichever of the two is open."""

    def __init__(self, reactor: Any, data: Path) -> None:
        self._reactor = reactor
        self._data = data
        self._server: ForkServer | None = None
        self._orphans: Any = LoopingCall(self._reap)
        self._orphans.clock = reactor

    def preload(self, wanted: bool) -> None:
        """Workers are forked from now on, by a fork server that loads the code as it lies there now; or executed.

        It is started anew if there is one: for code that was replaced, and for another layout of the address space.
        """
        self._let_go()
        if not wanted or not _adopt_orphans():
            return
        self._server = ForkServer(self._reactor, self._data)
        if not self._orphans.running:
            self._orphans.start(ORPHANS_EVERY, now=False)

    def spawn(self, protocol: ProcessProtocol, order: Order) -> None:
        """`protocol` is connected when the process is there."""
        if self._server is None or not self._server.fork(protocol, order):
            execute(self._reactor, protocol, order)

    def start_none(self) -> None:
        """Everything is about to stop: a fork server that ends is not started again."""
        if self._server is not None:
            self._server.start_none()

    def stop(self) -> Deferred[None]:
        """Fires when no fork server is left."""
        if self._orphans.running:
            self._orphans.stop()
        return self._let_go()

    def _let_go(self) -> Deferred[None]:
        server, self._server = self._server, None
        return succeed(None) if server is None else server.end()

    def _reap(self) -> None:
        """What workers left behind became the supervisor's, as whose children forked workers live."""
        if self._server is not None and self._server.is_asked():
            return  # one of them may be a worker that was not told of yet
        with suppress(ChildProcessError):  # there are none at all
            while dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if dead.si_pid in twisted_process.reapProcessHandlers:
                    return  # Twisted is about to take notice of it
                os.waitpid(dead.si_pid, 0)


class ForkServer(ProcessProtocol):
    """The fork server's process, started again when it ends."""

    transport: Any

    def __init__(self, reactor: Any, data: Path) -> None:
        self._reactor = reactor
        self._data = data
        self._asking: Asking | None = None
        self._gone: Deferred[None] | None = None  # fires at its end, which is wanted
        self._pause = 0.0
        self._started = 0.0
        self._timer: Any = None
        self._is_last = False
        self._start()

    def fork(self, protocol: ProcessProtocol, order: Order) -> bool:
        """False: it cannot be asked."""
        return self._asking is not None and self._asking.ask(protocol, order)

    def is_asked(self) -> bool:
        return self._asking is not None and self._asking.is_waiting()

    def start_none(self) -> None:
        self._is_last = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def end(self) -> Deferred[None]:
        """It holds nothing, so it is killed. Fires when it is gone; who waited for a process gets one otherwise."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        gone: Deferred[None] = Deferred()
        if self._asking is None:
            return succeed(None)
        self._gone = gone
        self._kill()
        self._forget()
        return gone

    def processEnded(self, reason: Failure) -> None:  # noqa: N802 - Twisted's name
        self._forget()
        if self._gone is not None:
            self._gone.callback(None)
            return
        if self._reactor.seconds() - self._started >= SETTLED:
            self._pause = 0.0
        if getattr(reason.value, "signal", None) in _TOLD_TO_END:  # as all of ours may be, the supervisor in a moment
            self._pause = max(self._pause, FIRST_PAUSE)
        how = "by itself" if isinstance(reason.value, ProcessDone) else "with an error or by a signal"
        self._start_again(f"ended {how}")

    def _start_again(self, what: str) -> None:
        if self._is_last:
            return
        log.error("the fork server %s; it is started again in %.1f s", what, self._pause)
        self._timer = self._reactor.callLater(self._pause, self._start)
        self._pause = min(max(self._pause * 2, FIRST_PAUSE), LONGEST_PAUSE)

    def _start(self) -> None:
        self._started = self._reactor.seconds()
        asking, theirs = Asking.make(self._reactor, execute, self._kill)
        with theirs:
            descriptors = {0: theirs.fileno(), 1: 2, 2: 2}
            words = command(channel.FORK_SERVER, 0, self._data)
            try:
                self._reactor.spawnProcess(self, sys.executable, words, env=dict(os.environ), childFDs=descriptors)
            except OSError as error:
                asking.close()
                self._start_again(f"cannot be executed ({error.strerror})")
                return
        self._asking = asking

    def _kill(self) -> None:
        try:
            self.transport.signalProcess("KILL")
        except ProcessExitedAlready:
            return

    def _forget(self) -> None:
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.close()


def _adopt_orphans() -> bool:
    """Who forks a worker ends; the worker becomes a child of this process, which alone is told of its end."""
    prctl = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)
    if prctl is not None and prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0:
        return True
    log.warning("this system has no PR_SET_CHILD_SUBREAPER: processes are not forked, and take more memory")
    return False
