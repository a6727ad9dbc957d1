"""The supervisor's side of forking: a question to the fork server, and the process that came of it.

The question is one datagram with the descriptors that the worker is to have; the answer is its process id. A worker
reads what it has to do from its supervisor alone, after the answer: one that nobody learned of finds its standard input
closed, and ends.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.process import registerReapProcessHandler, unregisterReapProcessHandler
from twisted.internet.protocol import ProcessProtocol, Protocol, connectionDone
from twisted.internet.stdio import StandardIO as _StandardIO
from twisted.python.failure import Failure
from zope.interface import implementer

from hosting.roles import channel

log = logging.getLogger("supervisor")

PATIENCE = 30.0  # seconds for an answer, imports included; then the fork server hangs

standard_io: Any = _StandardIO
register_reap: Any = registerReapProcessHandler
unregister_reap: Any = unregisterReapProcessHandler


@dataclass(frozen=True, slots=True)
class Order:
    """A process that is wanted."""

    role: str
    index: int
    data: Path
    sockets: Sequence[int]  # listening, in the order of `channel.Start`


@dataclass(frozen=True, slots=True)
class _Asked:
    protocol: ProcessProtocol
    order: Order
    down: int  # our ends of its pipes
    up: int
    late: Any

    def punctual(self) -> None:
        """Nobody waits for an answer any more; one may have come although the time was up, after a pause of all."""
        if self.late.active():
            self.late.cancel()


@implementer(IReadDescriptor)
class Asking:
    """The way to one fork server. `otherwise` starts what it did not, `hangs` is called if it does not answer."""

    def __init__(
        self,
        reactor: Any,
        ours: socket.socket,
        otherwise: Callable[[Any, ProcessProtocol, Order], None],
        hangs: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._socket = ours
        self._otherwise = otherwise
        self._hangs = hangs
        self._waiting: deque[_Asked] = deque()
        reactor.addReader(self)

    @classmethod
    def make(
        cls, reactor: Any, otherwise: Callable[[Any, ProcessProtocol, Order], None], hangs: Callable[[], None]
    ) -> tuple[Asking, socket.socket]:
        """And the fork server's end."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        return cls(reactor, ours, otherwise, hangs), theirs

    def ask(self, protocol: ProcessProtocol, order: Order) -> bool:
        """Connects `protocol` later. False: it is too much for now, or nobody is there."""
        theirs_down, down = os.pipe()
        up, theirs_up = os.pipe()
        try:
            socket.send_fds(
                self._socket, [channel.Fork(order.role, order.index).encode()], [theirs_down, theirs_up, *order.sockets]
            )
        except OSError:
            os.close(down)
            os.close(up)
            return False
        finally:
            os.close(theirs_down)
            os.close(theirs_up)
        late = self._reactor.callLater(PATIENCE, self._is_late)
        self._waiting.append(_Asked(protocol, order, down, up, late))
        return True

    def is_waiting(self) -> bool:
        return bool(self._waiting)

    def close(self) -> None:
        """Who waits still gets a process the other way."""
        if self._socket.fileno() < 0:
            return
        self._reactor.removeReader(self)
        self._socket.close()
        while self._waiting:
            self._refuse(self._waiting.popleft())

    def _is_late(self) -> None:
        log.error("the fork server does not answer and is killed")
        self._hangs()

    def _refuse(self, asked: _Asked) -> None:
        asked.punctual()
        os.close(asked.down)
        os.close(asked.up)
        self._otherwise(self._reactor, asked.protocol, asked.order)

    # What the reactor calls

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:  # noqa: N802 - Twisted's name
        return "fork server"

    def doRead(self) -> None:  # noqa: N802 - Twisted's name
        try:
            answer = self._socket.recv(channel.ANSWER_MAX)
        except BlockingIOError:
            return
        except OSError:
            answer = b""
        if not answer:
            self.close()
            return
        asked = self._waiting.popleft()
        if not (pid := int(answer)):  # it could not fork
            self._refuse(asked)
            return
        asked.punctual()
        ForkedProcess(self._reactor, asked.protocol, pid, asked.down, asked.up)

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802 - Twisted's name
        self.close()


class ForkedProcess(Protocol):
    """A child that the fork server made, as its `ProcessProtocol` knows processes: its transport."""

    def __init__(self, reactor: Any, owner: ProcessProtocol, pid: int, down: int, up: int) -> None:
        self.pid = pid
        self._owner: Any = owner
        self._status: int | None = None
        self._silent = False  # it says nothing more
        self._pipes = standard_io(self, stdin=up, stdout=down, reactor=reactor)
        self._owner.makeConnection(self)
        register_reap(pid, self)

    def writeToChild(self, childFD: int, data: bytes) -> None:  # noqa: N802, N803 - Twisted's names
        self._pipes.write(data)

    def signalProcess(self, name: str) -> None:  # noqa: N802 - Twisted's name
        if self._status is not None:
            raise ProcessExitedAlready
        os.kill(self.pid, signal.Signals[f"SIG{name}"])

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        self._owner.childDataReceived(channel.UP, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802 - Twisted's name
        self._silent = True
        self._perhaps_ended()

    def reapProcess(self) -> None:  # noqa: N802 - Twisted's name
        """A child of this process ended: perhaps this one."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            unregister_reap(pid, self)
            self.processEnded(status)

    def processEnded(self, status: int) -> None:  # noqa: N802 - Twisted's name
        self._status = status
        self._perhaps_ended()

    def _perhaps_ended(self) -> None:
        """It has ended when all that it said was read, too."""
        if self._status is None or not self._silent:
            return
        code = os.waitstatus_to_exitcode(self._status)
        ended = ProcessTerminated(code if code > 0 else None, -code if code < 0 else None, self._status)
        self._owner.processEnded(Failure(ended if code else ProcessDone(self._status)))
