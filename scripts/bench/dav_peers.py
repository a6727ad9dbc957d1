"""Starts Radicale and Xandikos as `scripts/bench/dav.py` measures them, each on loopback with a folder of its own.

Both are programs of their own (from PyPI), found by an option or on PATH. Their large calendar is written to disk as
they would have written it, since putting 10,000 events into them takes a quarter of an hour.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import peers

USER, PASSWORD = "bench", "bench"
BIG = "load-big"  # the large calendar, as the load generator calls it


@dataclass(frozen=True, slots=True)
class DavServer:
    """A running CalDAV server: its port, its first process, and the calendar home of the user."""

    name: str
    port: int
    pid: int
    home: str
    user: str
    password: str


Fill = Callable[[Path], None]  # writes the files of the large calendar into a folder


@contextlib.contextmanager
def radicale(program: str, folder: Path, fill: Fill | None) -> Iterator[DavServer]:
    """Radicale with its own HTTP server and the files that it keeps; whoever signs in is believed."""
    calendar = folder / "collection-root" / USER / BIG
    calendar.mkdir(parents=True)
    (calendar / ".Radicale.props").write_text(json.dumps({"tag": "VCALENDAR", "D:displayname": BIG}))
    if fill is not None:
        fill(calendar)
    [port] = peers.free_ports(1)
    command = [
        program, "--config", "", "--hosts", f"127.0.0.1:{port}", "--auth-type", "none", "--logging-level", "error",
        "--storage-filesystem-folder", str(folder),
    ]  # fmt: skip
    with _running(command, port, folder) as pid:
        yield DavServer("radicale", port, pid, f"/{USER}/", USER, PASSWORD)


@contextlib.contextmanager
def xandikos(program: str, folder: Path, fill: Fill | None) -> Iterator[DavServer]:
    """Xandikos with its git repositories; it asks nobody for a password."""
    calendars = folder / USER / "calendars"
    calendar = calendars / BIG
    calendar.mkdir(parents=True)
    (calendar / ".xandikos").write_text(f"[DEFAULT]\ntype = calendar\ndisplayname = {BIG}\n")
    if fill is not None:
        fill(calendar)
    who = {"GIT_AUTHOR_NAME": USER, "GIT_AUTHOR_EMAIL": USER, "GIT_COMMITTER_NAME": USER, "GIT_COMMITTER_EMAIL": USER}
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", BIG]):
        subprocess.run(["git", *command], cwd=calendar, env={**os.environ, **who}, check=True)
    [port] = peers.free_ports(1)
    command = [
        program, "serve", "-d", str(folder), "-l", "127.0.0.1", "-p", str(port), "--no-detect-systemd",
        "--current-user-principal", f"/{USER}/", "--defaults", "--state-dir", str(folder.with_name("xandikos-state")),
    ]  # fmt: skip
    with _running(command, port, folder) as pid:
        yield DavServer("xandikos", port, pid, f"/{USER}/calendars/", USER, PASSWORD)


PEERS = {"radicale": radicale, "xandikos": xandikos}


def program_of(name: str, given: Path | None) -> str | None:
    """Where a peer's program is; None: nowhere."""
    return shutil.which(str(given) if given is not None else name)


@contextlib.contextmanager
def _running(command: list[str], port: int, folder: Path) -> Iterator[int]:
    with folder.with_name(folder.name + ".log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        peers.wait_for_port(port, process)
        yield process.pid
    finally:
        peers.end(process)
