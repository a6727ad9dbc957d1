"""Starts the server in this process: under a supervisor, or everything in one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hosting.config import Config
from hosting.roles import reactors


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
