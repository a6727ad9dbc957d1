"""`python -m hosting.roles ROLE --index N --data DIR`: one worker process, started by the supervisor.

Chooses the reactor before anything imports it, then runs the role until the supervisor says stop or goes away. The
settings come over standard input (`hosting.roles.channel`); the arguments are there to be seen in a list of processes.
The role `forkserver` is the process that the others are forked from (`hosting.roles.forkserver`).
"""

# ruff: noqa: E402

from __future__ import annotations

import gc

gc.disable()  # what is imported and built until the reactor runs stays: searching it takes a tenth of the start

import argparse
import os
import signal
import sys

from hosting import operational_log
from hosting.config import parse
from hosting.roles import channel, privileges, reactors
from hosting.roles.table import ROLES, spec
from storage.errors import CleanmailError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hosting.roles", description=__doc__)
    parser.add_argument("role", choices=[*(role.name for role in ROLES), channel.FORK_SERVER])
    parser.add_argument("--index", type=int, required=True)
    parser.add_argument("--data", required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides the order
    privileges.forbid_core_dumps()
    os.umask(0o077)
    role, index = arguments.role, arguments.index
    if role == channel.FORK_SERVER:
        from hosting.roles import forkserver  # noqa: PLC0415 - it imports what workers have otherwise

        forkserver.preload()
        fork = forkserver.serve()
        if fork is None:
            return 0
        role, index = fork.role, fork.index
    return work(role, index)


def work(role: str, index: int) -> int:
    """The worker's whole life; its exit status."""
    try:
        start = channel.read_start()
        config = parse(start.configuration)
        operational_log.begin(f"{role}[{index}]", config.logs.level)
        reactors.install(spec(role).reactor)
        from hosting.roles import worker  # noqa: PLC0415 - it imports the reactor

        worker.run(role, index, start, config)
    except CleanmailError as error:
        try:
            os.write(channel.UP, channel.encode(channel.FAILED, error.public))
        except OSError:  # started by hand
            print(f"cleanmail: {error.public}", file=sys.stderr)
        return 3 if error.temporary else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
