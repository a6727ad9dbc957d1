"""What the fork server shares with the workers that it forks, and what becomes of a worker that it does not fork."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from twisted.internet import process
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from hosting.roles import channel, forked, forkserver, locked, spawning, touched
from hosting.roles.forked import Asking, Order
from hosting.roles.process import State, WorkerProcess
from hosting.roles.spawning import Spawner
from hosting.roles.table import ROLES, spec

ROOT = Path(__file__).resolve().parents[2]

LOADED = """
import json, os, random, resource, ssl, sys
import sqlcipher3
from hosting.roles import forkserver, holes, locked, touched

forkserver.preload()
memory = locked.ranges()
imap = sys.modules["hosting.roles.imap"]

def drawn():
    return [random.random(), ssl.RAND_bytes(16).hex()]

def copied():  # pages, by one look at what a client of IMAP uses first
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    touched.touch(imap.FIRST_USED)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def blob():  # SQLite's generator is not seeded anew, so it must not have been used before
    return sqlcipher3.connect(":memory:").execute("SELECT hex(randomblob(16))").fetchone()[0]

seen = {
    "threads": len(os.listdir("/proc/self/task")),
    "reactor": "twisted.internet.reactor" in sys.modules,
    "open": [n for n in range(3, 1000) if os.path.exists(f"/proc/self/fd/{n}")],
    "free": sum(size * free for size, free in holes.free_blocks().items()),
    "drawn": [[*drawn(), ""]],
    "locked": [memory],
    "absent": [name for name in imap.FIRST_USED if name not in sys.modules],
    "copied": [],
}
for _ in range(2):
    answers, answer = os.pipe()
    pid = os.fork()
    if not pid:
        locked.lock(memory)
        os.write(answer, json.dumps([locked.ranges(), [*drawn(), blob()], [copied(), copied()]]).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    for kind, told in zip(("locked", "drawn", "copied"), json.loads(os.read(answers, 4000)), strict=True):
        seen[kind].append(told)
print(json.dumps(seen))
"""

OF_ALL_KINDS = """
from json import dumps  # another's

def outer(): return lambda: 1 / 0, [1 / 0 for _ in ()]  # three with what is in it, by Python 3.11

class Kinds:
    def method(self): 1 / 0
    @classmethod
    def of_class(cls): 1 / 0
    @staticmethod
    def of_none(): 1 / 0
    @property
    def read(self): 1 / 0
    @read.setter
    def read(self, value): 1 / 0
"""


def run(script: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_loaded_runs_nothing_and_forks_draw_numbers_of_their_own() -> None:
    seen = json.loads(run(LOADED))
    assert (seen["threads"], seen["reactor"]) == (1, False)
    assert seen["open"] == []
    assert seen["free"] < 500_000  # octets; 1.5 million before its holes were filled
    for kind in zip(*seen["drawn"], strict=True):
        assert len(set(kind)) == 3
    first, *others = [octets(memory) for memory in seen["locked"]]  # SQLCipher's heap for keys
    assert others == [first, first]
    assert seen["absent"] == []
    for once, again in seen["copied"]:  # what the first SELECT would have to copy; nothing is left of it
        assert once > 500
        assert again < 20


def octets(memory: list[tuple[int, int]]) -> int:
    return sum(end - begin for begin, end in memory)


def test_functions_of_all_kinds_are_looked_at_and_none_is_called() -> None:
    module = ModuleType("touched_here")
    exec(OF_ALL_KINDS, vars(module))
    sys.modules["touched_here"] = module
    try:
        assert touched.touch(["touched_here"]) == 8
        assert touched.touch(["touched"]) == 0  # neither a module nor a package above one
    finally:
        del sys.modules["touched_here"]


def test_memory_that_is_locked_is_read_off_the_list_of_mappings(tmp_path: Path) -> None:
    smaps = tmp_path / "smaps"
    smaps.write_text(
        "5598b1e00000-5598b1eb5000 rw-p 00000000 00:00 0    [heap]\nSize: 4 kB\nVmFlags: rd wr mr \n"
        "5598b1eb5000-5598b1ec2000 rw-p 00000000 00:00 0    [heap]\nLocked: 52 kB\nVmFlags: rd wr mr lo ac \n"
    )
    assert locked.ranges(smaps) == [(0x5598B1EB5000, 0x5598B1EC2000)]
    assert locked.ranges(tmp_path / "nothing") == []


def test_what_workers_leave_behind_is_waited_for() -> None:
    looking = os.fork()
    if not looking:
        os._exit(_reaps_orphans())
    assert os.waitstatus_to_exitcode(os.waitpid(looking, 0)[1]) == 0


def _reaps_orphans() -> int:
    """In a process that has no other children: 0 if all is well."""
    known = os.fork() or os._exit(0)
    os.waitid(os.P_PID, known, os.WEXITED | os.WNOWAIT)
    spawner = Spawner(MemoryReactorClock(), Path("."))
    process.reapProcessHandlers[known] = None
    spawner._reap()
    if os.waitpid(known, os.WNOHANG)[0] != known:  # it was not left to whom it belongs
        return 1
    orphan = os.fork() or os._exit(0)
    os.waitid(os.P_PID, orphan, os.WEXITED | os.WNOWAIT)
    spawner._reap()
    try:
        os.waitpid(orphan, 0)
    except ChildProcessError:
        return 0
    return 2


@pytest.mark.parametrize("unread", [False, True])
def test_the_fork_server_ends_with_its_supervisor(unread: bool) -> None:
    supervisor, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if unread:
        asked.send(b"1")  # an answer
    supervisor.close()
    server = os.fork()
    if not server:
        status = 1
        try:
            os.dup2(asked.fileno(), 0)
            status = 0 if forkserver.serve() is None else 2
        finally:
            os._exit(status)
    asked.close()
    assert os.waitstatus_to_exitcode(os.waitpid(server, 0)[1]) == 0


def test_there_is_room_for_the_title_of_every_role() -> None:
    longest = max(len(f"{role.name}{most}") for role in ROLES for most in (1023,))
    assert longest <= len(f"{channel.FORK_SERVER}0")


class Owner(ProcessProtocol):
    """Takes down what becomes of its process."""

    connected = False

    def __init__(self) -> None:
        self.said = b""
        self.ended: Any = None
        self.transport: Any = None

    def connectionMade(self) -> None:
        self.connected = True

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N803 - Twisted's names
        self.said += data

    def processEnded(self, reason: Any) -> None:
        self.ended = reason.value


class Asked:
    """A way to a fork server that the test is."""

    def __init__(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.executed: list[Order] = []
        self.hanging = 0
        self.asking, self.theirs = Asking.make(self.reactor, self._execute, self._hangs)

    def _execute(self, reactor: Any, protocol: ProcessProtocol, order: Order) -> None:
        self.executed.append(order)

    def _hangs(self) -> None:
        self.hanging += 1


@pytest.fixture
def asked() -> Any:
    made = Asked()
    yield made
    made.asking.close()
    made.theirs.close()


ORDER = Order("imap", 1, Path("/data"), [])


def test_a_worker_that_could_not_be_forked_is_executed(asked: Asked) -> None:
    assert asked.asking.ask(Owner(), ORDER) and asked.asking.is_waiting()
    octets, descriptors, _, _ = socket.recv_fds(asked.theirs, 1000, 10)
    for descriptor in descriptors:
        os.close(descriptor)
    assert channel.Fork.decode(octets) == channel.Fork("imap", 1) and len(descriptors) == 2
    asked.theirs.send(b"0")
    asked.asking.doRead()
    assert asked.executed == [ORDER] and not asked.asking.is_waiting()
    asked.reactor.advance(forked.PATIENCE)
    assert asked.hanging == 0


def test_a_fork_server_that_hangs_is_told_of_and_one_that_ends_leaves_nobody_waiting(asked: Asked) -> None:
    assert asked.asking.ask(Owner(), ORDER)
    asked.reactor.advance(forked.PATIENCE)
    assert asked.hanging == 1
    asked.theirs.close()
    asked.asking.doRead()
    assert asked.executed == [ORDER]
    assert not asked.asking.ask(Owner(), ORDER)  # nobody is there


def test_an_answer_that_is_read_when_the_time_is_up_makes_a_process_all_the_same(asked: Asked) -> None:
    """As after a pause of the whole machine, when the reactor looks at its timers first."""
    owner = Owner()
    assert asked.asking.ask(owner, ORDER)
    _, descriptors, _, _ = socket.recv_fds(asked.theirs, 1000, 10)
    for descriptor in descriptors:
        os.close(descriptor)
    pid = os.fork() or os._exit(0)
    asked.theirs.send(b"%d" % pid)
    asked.reactor.advance(forked.PATIENCE)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    asked.asking.doRead()
    assert owner.transport.pid == pid and asked.executed == [] and not asked.asking.is_waiting()
    owner.transport.connectionLost()
    assert owner.ended is not None


class Crowded(MemoryReactorClock):
    """A system that has no room for a process, at first."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = 2
        self.inputs: list[int] = []  # of those it had room for, where they are descriptors

    def spawnProcess(self, protocol: Any, *_: Any, childFDs: dict[int, Any], **more: Any) -> None:  # noqa: N803
        if self.refused:
            self.refused -= 1
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        if isinstance(childFDs[0], int):
            self.inputs.append(os.dup(childFDs[0]))
        protocol.makeConnection(None)


@pytest.fixture
def crowded() -> Any:
    crowded = Crowded()
    yield crowded
    for descriptor in crowded.inputs:
        os.close(descriptor)


def test_a_process_that_the_system_has_no_room_for_is_executed_later(crowded: Any) -> None:
    owner, another = Owner(), Owner()
    asking, theirs = Asking.make(crowded, spawning.execute, lambda: None)
    assert asking.ask(owner, ORDER) and asking.ask(another, ORDER)
    theirs.close()
    asking.doRead()
    assert not asking.is_waiting() and not (owner.connected or another.connected)
    crowded.advance(spawning.AGAIN)
    assert owner.connected and another.connected


def test_a_fork_server_that_the_system_has_no_room_for_is_started_later(crowded: Any) -> None:
    server = spawning.ForkServer(crowded, Path("/data"))
    assert not server.fork(Owner(), ORDER)
    crowded.pump([0, spawning.FIRST_PAUSE])
    assert server.fork(Owner(), ORDER) and server.is_asked()
    server._forget()


def test_of_processes_that_are_all_told_to_end_the_fork_server_is_not_started_again(crowded: Any) -> None:
    crowded.refused = 0
    server = spawning.ForkServer(crowded, Path("/data"))
    server.processEnded(Failure(ProcessTerminated(signal=signal.SIGTERM)))
    crowded.advance(0)  # the supervisor was told a moment later
    server.start_none()
    crowded.advance(spawning.LONGEST_PAUSE)
    assert len(crowded.inputs) == 1
    assert server.end().called


def test_more_sockets_than_can_be_passed_on_are_for_an_executed_process(asked: Asked) -> None:
    assert not asked.asking.ask(Owner(), Order("imap", 0, Path("/data"), [0] * 300))
    assert not asked.asking.is_waiting()


@pytest.mark.parametrize(("status", "signal_"), [(0, None), (3, None), (None, signal.SIGKILL)])
def test_the_end_of_a_forked_process_is_told_with_its_status_after_its_last_word(
    status: int | None, signal_: int | None
) -> None:
    up, say = os.pipe()
    hear, down = os.pipe()
    pid = os.fork()
    if not pid:
        os.read(hear, 1)
        os.write(say, b"word")
        if signal_ is not None:
            os.kill(os.getpid(), signal_)
        os._exit(status or 0)
    os.close(say)
    os.close(hear)
    owner, reactor = Owner(), MemoryReactorClock()
    made: Any = forked.ForkedProcess(reactor, owner, pid, down, up)
    assert owner.transport is made
    os.write(down, b"x")
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    made.reapProcess()
    assert owner.ended is None  # it may have said something
    for reader in list(reactor.getReaders()):
        for _ in range(2):
            reader.doRead()
    made.connectionLost()
    assert owner.said == b"word"
    assert (getattr(owner.ended, "exitCode", 0), getattr(owner.ended, "signal", None)) == (status, signal_)


class Slow(Spawner):
    """Starts nothing by itself."""

    def spawn(self, protocol: ProcessProtocol, order: Order) -> None:
        pass


class Begun:
    """The transport of a process that begins late."""

    pid = 1

    def __init__(self) -> None:
        self.told: list[bytes] = []
        self.signals: list[str] = []

    def writeToChild(self, childFD: int, data: bytes) -> None:  # noqa: N803 - Twisted's names
        self.told.append(data)

    def signalProcess(self, name: str) -> None:
        self.signals.append(name)


@pytest.mark.parametrize("late", [False, True])
def test_a_process_that_begins_after_it_was_to_stop_is_told_to_or_killed_when_its_time_is_over(late: bool) -> None:
    reactor: Any = MemoryReactorClock()
    worker = WorkerProcess(
        reactor,
        spec("jobs"),
        0,
        Path("/data"),
        [],
        Slow(reactor, Path("/data")),
        ended=lambda _: None,
        failed=lambda *_: None,
    )
    worker.start()
    gone = worker.stop(10.0)
    reactor.advance(20.0 if late else 1.0)
    begun: Any = Begun()
    worker.makeConnection(begun)
    assert begun.signals == (["KILL"] if late else [])
    assert (channel.encode(channel.STOP) in begun.told) is not late
    worker.processEnded(Failure(ProcessDone(0)))
    assert gone.called and worker.state is State.DOWN
