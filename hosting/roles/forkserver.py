"""The process that has imported what the roles need, and forks a worker whenever the supervisor asks for one.

What is imported lies in memory once for all workers; each copies the pages that it changes. Until it forks, this
process chooses no reactor, opens nothing but the socket that it is asked on, holds no key, and has one thread. A
worker gets a title, a umask, random numbers and descriptors of its own; what was imported it shares, and with it the
layout of the address space. The supervisor replaces this process when a worker crashed, so the next one has another:
who tries addresses has as many tries at one layout as there are workers of it.

A worker is the child of a child that ends, so the supervisor, which adopts orphans, is its parent: it is told how the
worker ended, and the worker lives on when this process does not.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import socket
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from hosting.roles import channel, holes, locked
from hosting.roles.table import ROLES
from storage.database.prepared import compile_all
from storage.heap import give_back

# What roles import beside their own modules once their reactor is chosen, or with their first client.
_LATER = (
    "cryptography.hazmat.backends.openssl.backend",
    "dns.asyncbackend",
    "dns._asyncio_backend",
    "encodings.ascii",
    "hosting.roles.epoll",
    "twisted.internet.asyncioreactor",
    "twisted.internet.stdio",
    "twisted.internet.threads",
    "uvicorn.lifespan.off",
    "uvloop",
)

_MOST_DESCRIPTORS = 253  # that the kernel passes on with one datagram
_ARGUMENTS = 45, 46  # begin and end of the command line in /proc/self/stat, counted from the state


def preload() -> None:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's; it would start its threads when it is imported
    for name in (*_LATER, *(f"hosting.roles.{role.name}" for role in ROLES)):
        import_module(name)
    compile_all()  # here it is done for all of them
    gc.collect()
    gc.freeze()  # no collection of a worker writes to it
    give_back()
    holes.fill()


def serve() -> channel.Fork | None:
    """Returns in each worker, with what it is; None in this process, when the supervisor lets it go or was killed."""
    memory = locked.ranges()
    with socket.socket(fileno=0) as asked:
        while True:
            try:
                octets, descriptors, _, _ = socket.recv_fds(
                    asked, channel.LINE_MAX, _MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
                )
            except ConnectionError:  # it did not read the last answer
                return None
            if not octets:
                return None
            pid = _fork()
            if pid is None:
                locked.lock(memory)
                become(fork := channel.Fork.decode(octets), descriptors)
                asked.detach()  # standard input is another now
                return fork
            for descriptor in descriptors:
                os.close(descriptor)
            try:
                asked.send(b"%d" % pid)
            except ConnectionError:  # the worker is told by its standard input
                return None


def _fork() -> int | None:
    """None in the worker; its process id elsewhere, 0 if the system forks no more."""
    answers, answer = os.pipe()
    try:
        between = os.fork()
    except OSError:
        between = -1
    if between == 0:
        pid = 0
        try:
            pid = os.fork()
            if pid == 0:
                os.close(answers)
                os.close(answer)
                return None
        except OSError:
            pid = 0
        os.write(answer, b"%d" % pid)
        os._exit(0)
    os.close(answer)
    with open(answers, "rb") as told:
        if between < 0:
            return 0
        pid = int(told.read() or 0)
    os.waitpid(between, 0)  # the worker has its new parent when this returns
    return pid


def become(fork: channel.Fork, descriptors: Sequence[int]) -> None:
    """A worker: its descriptors where it looks for them, no other, and its title."""
    below = channel.FIRST_SOCKET + len(descriptors)
    aside = [_aside(descriptor, below) for descriptor in descriptors]
    for descriptor, place in zip(aside, (0, channel.UP, *range(channel.FIRST_SOCKET, below)), strict=False):
        os.dup2(descriptor, place)
    os.closerange(below - 2, max(aside) + 1)
    os.umask(0o077)
    own = sys.orig_argv.index(channel.FORK_SERVER)
    set_title([*sys.orig_argv[:own], fork.role, "--index", str(fork.index), *sys.orig_argv[own + 3 :]])


def _aside(descriptor: int, above: int) -> int:
    """The same, out of the way of the numbers that workers use."""
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, above)
    os.close(descriptor)
    return copy


def set_title(words: Sequence[str]) -> None:
    """What a list of processes shows, as far as there is room where the arguments lay at the start."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = (int(fields[place]) for place in _ARGUMENTS)
    title = b"".join(os.fsencode(word) + b"\0" for word in words)
    if 0 < begin < end:
        ctypes.memmove(begin, title[: end - begin - 1].ljust(end - begin, b"\0"), end - begin)
