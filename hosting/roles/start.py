"""Starts the server: all in this process, under a supervisor that this process is, or one that it becomes.

`python -m hosting.roles.start --data DIR --config FILE [--json]` is what it becomes: the same supervisor, without all
that the command line has imported. Its exit status and what it says of errors are those of the command line.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from hosting.config import Config
from hosting.roles import reactors
from storage import program
from storage.errors import CleanmailError


def replace(data: Path, config_path: Path, *, as_json: bool) -> NoReturn:
    """This process becomes the supervisor, with half the memory."""
    sys.stdout.flush()
    sys.stderr.flush()
    command = program.command("hosting.roles.start", "--data", str(data), "--config", str(config_path))
    os.execv(sys.executable, [*command, *(["--json"] if as_json else [])])  # noqa: S606 - the same program


def run(data: Path, config_path: Path, *, single: bool, on_ready: Callable[[Config], None]) -> None:
    """Serve until told to stop. `on_ready` is called once, when everything listens."""
    # What serves is imported after its event loop was chosen.
    reactors.install("asyncio" if single else "epoll")
    if single:
        from hosting.roles import single as single_process  # noqa: PLC0415

        single_process.run(data, config_path, on_ready=on_ready)
    else:
        from hosting.roles import supervisor  # noqa: PLC0415

        supervisor.run(data, config_path, on_ready=on_ready)


def ready_line(config: Config) -> str:
    """What stands on standard output once everything listens."""
    listen = config.listen
    ports = [
        f"{name} {getattr(listen, name)}"
        for name in ("mx", "imap", "imaps", "submission", "submissions", "https", "http")
        if getattr(listen, name)
    ]
    return f"READY {', '.join(ports)} on {', '.join(listen.addresses)}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hosting.roles.start", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    gc.freeze()
    try:
        run(given.data, given.config, single=False, on_ready=lambda config: print(ready_line(config), flush=True))
    except CleanmailError as error:
        from hosting import cli  # noqa: PLC0415 - it imports much that is not needed otherwise

        return cli.refuse(error, as_json=given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
