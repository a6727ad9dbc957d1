"""Runs `cleanmail`, `provision_town` and scripts in processes of their own, without the second that imports take.

A fork server: it has imported the whole command line, and carries out each command in a fork of itself, with the
arguments, environment, folder, umask and standard streams of whoever asks. It opens nothing before it forks. It ends
with the process that started it. That `python -m hosting.cli` does the same is shown elsewhere.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

_REQUEST_MAX = 1 << 20
_lock = threading.Lock()
_hosts: dict[int, CommandHost] = {}  # by the process that they are for


class CommandHost:
    """The asking side."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _REQUEST_MAX)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__)), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment,
                pass_fds=(theirs.fileno(),),
            )

    def run(
        self, program: str, arguments: list[str], environment: dict[str, str], stdin: str, patience: float
    ) -> subprocess.CompletedProcess[str]:
        """As subprocess.run of one of the programs with these arguments."""
        command = [program, *arguments]
        request = {"command": command, "environment": environment, "folder": os.getcwd(), "umask": _umask()}
        with TemporaryFile() as input_, TemporaryFile() as output, TemporaryFile() as errors:
            input_.write(stdin.encode())
            input_.seek(0)
            answers, answer = os.pipe()
            with open(answers, "rb", buffering=0) as told:
                try:
                    streams = [input_.fileno(), output.fileno(), errors.fileno(), answer]
                    socket.send_fds(self._socket, [json.dumps(request).encode()], streams)
                finally:
                    os.close(answer)
                pid = int(told.readline())
                expired = threading.Event()

                def end() -> None:
                    expired.set()
                    os.kill(pid, signal.SIGKILL)

                late = threading.Timer(patience, end)
                late.start()
                status = int(told.readline())
                late.cancel()
            if expired.is_set():
                raise subprocess.TimeoutExpired(command, patience)
            said = [stream.seek(0) or stream.read().decode() for stream in (output, errors)]
        return subprocess.CompletedProcess(command, status, *said)


def run_in_fork(
    program: str, arguments: list[str], environment: dict[str, str], stdin: str = "", patience: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """By the host of this process, which is started when it is first asked for."""
    with _lock:
        host = _hosts.get(os.getpid())
        if host is None:
            host = _hosts[os.getpid()] = CommandHost(environment)
    return host.run(program, arguments, environment, stdin, patience)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def serve(asked: socket.socket) -> None:
    """Returns in forks alone, which are to carry out what is in sys.argv; the host itself ends here."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    while True:
        octets, streams, _, _ = socket.recv_fds(asked, _REQUEST_MAX, 4)
        if not octets:
            sys.exit(0)
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            asked.close()
            return keep(json.loads(octets), *streams)
        for stream in streams:
            os.close(stream)


def keep(request: dict[str, Any], input_: int, output: int, errors: int, answer: int) -> None:
    """Returns in a fork that carries out the command; waits for it, and tells its process id and its status."""
    pid = os.fork()
    if pid:
        os.write(answer, b"%d\n" % pid)
        for stream in (input_, output, errors):
            os.close(stream)
        os.write(answer, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os._exit(0)
    os.close(answer)
    for number, stream in enumerate((input_, output, errors)):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["folder"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["command"]


if __name__ == "__main__":
    import provision_town

    from hosting.cli import application, main, run

    for module, _ in application._COMMANDS.values():
        import_module(f"hosting.cli.{module}")
    run(["account", "create", "--help"])  # what is imported by whatever command is run
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
    program = sys.argv[0]
    if program == "python":  # as `python -c SCRIPT`
        exec(sys.argv[1], {"__name__": "__main__"})
    else:
        {"cleanmail": main, "provision_town": provision_town.run}[program]()
