#!/usr/bin/env python3
"""Measures calendars over CalDAV beside Radicale and Xandikos, in one run: CPU and time of each kind of request.

    scripts/bench/dav.py [--events 10000] [--only cleanmail] [--radicale FILE] [--xandikos FILE] [--load-tool FILE]

Requests come from a load generator that knows no server, over plain HTTP on loopback: a calendar of 10,000 events of
which 5 % recur is filled, listed, queried, followed and read. CPU is that of all processes of a server, per request;
the ratio is the peer's CPU by ours, so 2.0 is half as much. Times are medians, of a machine that may be shared. The
other rows are resident memory: of a worker of the web role before and after the run, and of each connection at rest.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import dav_peers
import peers
from dav_peers import BIG, DavServer

LOAD_TOOL = peers.ROOT.parent / "shared" / "tools" / "dav_load.py"
STEPS = "put1,put8,list,query,querydata,multiget,ctag,get,delete1"
TARGETS = {  # ms of CPU that a request may cost with us
    "ctag": 1.5, "sync": 3.0, "query": 60.0, "list": 250.0, "multiget": 60.0, "put1": 4.0, "fill": 4.0, "get": 1.5,
}  # fmt: skip
IDLE = 1000  # connections
_NS = 'xmlns:D="DAV:"'


@dataclass(frozen=True, slots=True)
class Row:
    step: str
    cpu: float  # ms for each request, all processes
    median: float | None = None  # ms
    wrong: int = 0  # answers that were errors, or not what the generator had put in


def load(server: DavServer, a: argparse.Namespace, steps: str) -> Iterator[Row]:
    """Runs the load generator on one server."""
    with tempfile.NamedTemporaryFile(dir=a.folder) as result:
        command = [
            sys.executable, str(a.load_tool), "--base", f"http://127.0.0.1:{server.port}", "--home", server.home,
            "--user", server.user, "--password", server.password, "--pid", str(server.pid), "--steps", steps,
            "--big", str(a.events), "--big-name", BIG, "--puts", str(a.puts), "--polls", str(a.polls),
            "--reps", str(a.repeat), "--step-s", str(a.step_seconds), "--fill-s", "1800", "--json", result.name,
        ]  # fmt: skip
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        print("".join(f"  {server.name:10}{line}\n" for line in done.stdout.splitlines()), file=sys.stderr, end="")
        if done.returncode:
            print(f"The load generator failed on {server.name}; its rows up to there count.", file=sys.stderr)
        rows = json.loads(Path(result.name).read_text() or '{"rows": []}')["rows"]
    for row in rows:
        if row.get("cpu_ms_per_req") is not None:
            yield Row(row["step"], row["cpu_ms_per_req"], row["p50_ms"], row["wrong"] + row["errors"])


class Client:
    """One connection of the bench's user."""

    def __init__(self, server: DavServer) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
        token = base64.b64encode(f"{server.user}:{server.password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/xml; charset=utf-8"}

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> bytes:
        self._connection.request(method, path, body.encode(), {**self._headers, **headers})
        with self._connection.getresponse() as answer:
            data = answer.read()
            if answer.status not in (200, 201, 204, 207):
                sys.exit(f"{method} was answered with {answer.status}.")
            return data


def sync(server: DavServer, a: argparse.Namespace) -> Row:
    """Sync-collection after one change, again and again with the token of before it."""
    client, calendar = Client(server), f"{server.home}{BIG}/"

    def ask(token: str) -> bytes:
        body = f"<D:sync-token>{token}</D:sync-token><D:sync-level>1</D:sync-level><D:prop><D:getetag/></D:prop>"
        return client.ask("REPORT", calendar, f"<D:sync-collection {_NS}>{body}</D:sync-collection>", Depth="0")

    found = re.search(rb"sync-token[^>]*>([^<]+)<", ask(""))
    if found is None:
        sys.exit(f"{server.name} gives no sync-token.")
    event = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//bench//EN", "BEGIN:VEVENT", "UID:one-change", "SUMMARY:One",
             "DTSTAMP:20250101T000000Z", "DTSTART:20250106T100000Z", "DTEND:20250106T110000Z", "END:VEVENT",
             "END:VCALENDAR", ""]  # fmt: skip
    client.ask("PUT", f"{calendar}one-change.ics", "\r\n".join(event), **{"Content-Type": "text/calendar"})
    ask(found[1].decode())
    times: list[float] = []
    began, spent, wrong = time.monotonic(), cpu_seconds(server.pid), 0
    while len(times) < a.polls and (time.monotonic() - began < a.step_seconds or not times):
        asked = time.monotonic()
        wrong += ask(found[1].decode()).count(b".ics<") != 1
        times.append(time.monotonic() - asked)
    cpu = cpu_seconds(server.pid) - spent
    client.ask("DELETE", f"{calendar}one-change.ics")
    return Row("sync", 1000 * cpu / len(times), 1000 * sorted(times)[len(times) // 2], wrong)


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found, parents = [pid], [pid]
    while parents:
        parent = parents.pop()
        for thread in Path(f"/proc/{parent}/task").glob("*"):
            with contextlib.suppress(OSError):
                children = list(map(int, (thread / "children").read_text().split()))
                found += children
                parents += children
    return found


def cpu_seconds(pid: int) -> float:
    """Of all processes of a server, threads that ended included, finer than a tick: clock_getcpuclockid(3) on Linux."""
    spent = 0.0
    for process in family(pid):
        with contextlib.suppress(OSError):
            spent += time.clock_gettime(~process << 3 | 2)
    return spent


# Memory


def web_workers(server: DavServer) -> list[int]:
    """Cleanmail's processes of the web role."""
    return [pid for pid in family(server.pid) if b"hosting.roles\0web" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def resident(pids: list[int]) -> float:
    """MiB in memory of all these processes."""
    found = (re.search(r"^VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE) for pid in pids)
    return sum(int(each[1]) for each in found if each) / 1024


def per_connection(server: DavServer, workers: list[int]) -> float:
    """KiB that a connection at rest takes, after one request on each."""
    token = base64.b64encode(f"{server.user}:{server.password}".encode()).decode()
    request = f"OPTIONS {server.home} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {token}\r\n\r\n".encode()

    before = resident(workers)
    with contextlib.ExitStack() as held:
        opened = 0
        for number in range(IDLE):
            source = (f"127.1.{number // 100}.{1 + number % 100}", 0)  # many clients: limits are by address
            sock = held.enter_context(socket.create_connection(("127.0.0.1", server.port), 30, source))
            sock.sendall(request)
            opened += sock.recv(65536).startswith(b"HTTP/1.1 200")
        if opened < IDLE:
            print(f"Only {opened} of {IDLE} connections at rest were answered.", file=sys.stderr)
        return 1024 * (resident(workers) - before) / max(1, opened)


# Servers


@contextlib.contextmanager
def cleanmail(folder: Path) -> Iterator[DavServer]:
    with peers.cleanmail(folder, 0) as server:
        port = server.port - 143 + 80
        _wait_until_answered(port)
        yield DavServer("cleanmail", port, server.pid, f"/dav/calendars/{server.user}/", server.user, peers.PASSWORD)


def _wait_until_answered(port: int) -> None:
    """Every worker has a socket of its own: eight connections in a row find none that does not listen yet."""
    answered, end = 0, time.monotonic() + 60
    while answered < 8 and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            answered += 1
        except OSError:
            answered = 0
            time.sleep(0.1)
    if answered < 8:
        sys.exit(f"Nothing answers on 127.0.0.1:{port} after 60 s.")


def measure_ours(a: argparse.Namespace) -> tuple[list[Row], dict[str, float]]:
    with cleanmail(a.folder / "cleanmail") as server:
        Client(server).ask("OPTIONS", server.home)
        workers = web_workers(server)
        memory = {"web worker at rest, MiB": resident(workers) / len(workers)}
        rows = [*load(server, a, "fill"), *load(server, a, STEPS), sync(server, a)]
        memory["web worker after the run, MiB"] = resident(workers) / len(workers)
        memory["connection at rest, KiB"] = per_connection(server, workers)
        return rows, memory


def measure_peer(name: str, a: argparse.Namespace) -> list[Row]:
    program = dav_peers.program_of(name, getattr(a, name))
    if program is None:
        print(f"SKIPPED: {name} is neither given by --{name} nor on PATH (pip install {name}).", file=sys.stderr)
        return []

    def fill(calendar: Path) -> None:
        command = [sys.executable, str(a.load_tool), "--big", str(a.events), "--fixture", str(calendar)]
        subprocess.run(command, check=True)

    with dav_peers.PEERS[name](program, a.folder / name, fill) as server:
        return [*load(server, a, STEPS), sync(server, a)]


# What is printed


def table(results: dict[str, list[Row]]) -> str:
    """Steps as rows; of each server CPU and median, of each peer the ratio."""
    shown = {name: {row.step: row for row in rows} for name, rows in results.items()}
    ours, names = shown.get("cleanmail", {}), [name for name in results if name != "cleanmail"]
    head = f"{'CPU ms per request':20}{'cleanmail':>11}{'target':>9}{'median':>10}"
    lines = [head + "".join(f"{name:>12}{'median':>10}{'ratio':>9}" for name in names)]
    for step in ours or next(iter(shown.values()), {}):
        mine, target = ours.get(step), TARGETS.get(step)
        line = f"{step:20}{cpu_of(mine):>11}{number(target):>9}{median_of(mine):>10}"
        notes = ["above its target"] if mine and target and mine.cpu > target else []
        for name in names:
            theirs = shown[name].get(step)
            ratio = theirs.cpu / mine.cpu if theirs and mine and mine.cpu else None
            line += f"{cpu_of(theirs):>12}{median_of(theirs):>10}{number(ratio):>9}"
            notes += [f"below 1 beside {name}"] if ratio is not None and ratio < 1 else []
        notes += [f"{name}: {of[step].wrong} wrong" for name, of in shown.items() if step in of and of[step].wrong]
        lines.append(f"{line}  {'; '.join(notes)}".rstrip())
    return "\n".join(lines)


def cpu_of(row: Row | None) -> str:
    return number(row.cpu if row else None)


def median_of(row: Row | None) -> str:
    return number(row.median if row else None)


def number(value: float | None) -> str:
    return "" if value is None else f"{value:,.2f}" if value < 1000 else f"{value:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10000, help="in the large calendar (default: %(default)s)")
    parser.add_argument("--puts", type=int, default=500, help="into new calendars (default: %(default)s)")
    parser.add_argument("--polls", type=int, default=500, help="requests of the short kinds (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=12, help="requests of the long kinds (default: %(default)s)")
    parser.add_argument("--step-seconds", type=float, default=60, help="at most for each kind (default: %(default)s)")
    parser.add_argument("--only", choices=["cleanmail", *dav_peers.PEERS], help="measure one server alone")
    parser.add_argument("--radicale", type=Path, help="its program; default: on PATH")
    parser.add_argument("--xandikos", type=Path, help="its program; default: on PATH")
    parser.add_argument("--load-tool", type=Path, default=LOAD_TOOL, help="the load generator")
    parser.add_argument("--work", type=Path, help="where the servers keep their data; default: a temporary folder")
    parser.add_argument("--json", action="store_true", help="print rows as JSON lines instead of the table")
    a = parser.parse_args()
    if not a.load_tool.exists():
        sys.exit(f"There is no load generator at {a.load_tool}; give --load-tool.")
    a.folder = Path(tempfile.mkdtemp(prefix="cleanmail-bench-", dir=a.work))
    results: dict[str, list[Row]] = {}
    memory: dict[str, float] = {}
    try:
        if a.only in (None, "cleanmail"):
            results["cleanmail"], memory = measure_ours(a)
        for name in dav_peers.PEERS:
            if a.only in (None, name) and (rows := measure_peer(name, a)):
                results[name] = rows
        if a.json:
            for name, rows in results.items():
                for row in rows:
                    print(json.dumps({"server": name, "step": row.step, "cpu_ms": row.cpu, "p50_ms": row.median,
                                      "wrong": row.wrong}))  # fmt: skip
            for what, value in memory.items():
                print(json.dumps({"server": "cleanmail", "memory": what, "value": value}))
        else:
            print(table(results))
            print("".join(f"{name:40}{value:10,.1f}\n" for name, value in memory.items()), end="")
    finally:
        shutil.rmtree(a.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
