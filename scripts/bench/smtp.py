#!/usr/bin/env python3
"""Measures Cleanmail's way from port 25 to queue, next hop and mailboxes beside Debian's Postfix, in one run.

    scripts/bench/smtp.py [--messages 3000] [--size 10240] [--only accept] [--load-tool FILE]

Rows: messages a second that are accepted durably into the queue (nobody takes them further), relayed until the queue is
empty again, and delivered into ten mailboxes until all are there, each with 10 sessions of Postfix's smtp-source and
with 1, 10 and 100 sessions of a load generator (if there is one). The ratio is Cleanmail's speed by Postfix's; CPU is
that of all processes of a server, for each message. Both run on the same disk, one after the other. Cleanmail judges
every message, with a trained model; Postfix looks at none.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import peers

DOMAINS = {"accept": peers.PARKED, "relay": peers.RELAYED, "deliver": peers.KEPT}
LOAD_TOOL = peers.ROOT.parent / "shared" / "tools" / "smtp_load.py"


@dataclass(frozen=True, slots=True)
class Row:
    scenario: str
    rate: float  # messages a second, until the last one is where it belongs
    milliseconds: float  # of CPU for each


@dataclass(frozen=True, slots=True)
class Load:
    """A generator with a number of sessions."""

    name: str
    command: Callable[[peers.MailServer, str], list[str]]


def loads(a: argparse.Namespace) -> Iterator[Load]:
    def source(server: peers.MailServer, domain: str) -> list[str]:
        return [
            "smtp-source", "-s", "10", "-l", str(a.size), "-m", str(a.messages), "-f", "load@sender.test",
            "-t", f"u1@{domain}", f"127.0.0.1:{server.port}",
        ]  # fmt: skip

    yield Load("smtp-source, 10", source)
    if not a.load_tool.exists():
        print(f"There is no load generator at {a.load_tool}: rows of smtp-source alone.", file=sys.stderr)
        return
    for sessions in (1, 10, 100):

        def tool(server: peers.MailServer, domain: str, sessions: int = sessions) -> list[str]:
            return [
                sys.executable, str(a.load_tool), "--port", str(server.port), "--sessions", str(sessions),
                "--count", str(a.messages), "--size", str(a.size), "--sender", "load@sender.test",
                "--to", f"u%@{domain}", "--rcpt-space", str(peers.MAILBOXES), "--pipelining",
            ]  # fmt: skip

        yield Load(f"load, {sessions}", tool)


def measure(server: peers.MailServer, a: argparse.Namespace) -> Iterator[Row]:
    for scenario, domain in DOMAINS.items():
        if a.only in (None, scenario):
            for load in loads(a):
                parked = at_rest(server)
                began, spent = time.monotonic(), cpu_seconds(server.pid)
                done = subprocess.run(load.command(server, domain), capture_output=True, text=True, check=False)
                if done.returncode:
                    sys.exit(f"{load.name} on {server.name} failed: {(done.stdout + done.stderr).strip()[-600:]}")
                due = parked + a.messages if scenario == "accept" else parked
                wait_until(partial(_has, server, due), f"The queue of {server.name} does not hold {due} messages")
                took = time.monotonic() - began
                cpu = cpu_seconds(server.pid) - spent
                row = Row(f"{scenario}, {load.name}", a.messages / took, 1000 * cpu / a.messages)
                print(f"  {server.name:10}{row.scenario:28}{row.rate:8.0f}/s", file=sys.stderr, flush=True)
                yield row


def waiting(server: peers.MailServer) -> int:
    """Messages in the queue: files, with both."""
    folders = (
        [server.folder / "queue" / name for name in ("incoming", "active", "deferred")]
        if server.name == "postfix"
        else list(server.folder.glob("tenants/*/spool"))
    )
    return sum(len(names) for folder in folders for _, _, names in os.walk(folder))


def at_rest(server: peers.MailServer) -> int:
    """The same, once it stands still: a file that is renamed may be seen twice, or not."""
    before = -1
    while before != (now := waiting(server)):
        before = now
        time.sleep(0.5)
    return now


def _has(server: peers.MailServer, due: int) -> bool:
    return waiting(server) == due


def wait_until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 120
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"{what} within 2 minutes.")
        time.sleep(0.02)


def cpu_seconds(pid: int) -> float:
    """Of a process and all its descendants, those that ended included."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.name)] = int(fields[1])
        ticks[int(entry.name)] = sum(int(field) for field in fields[11:15])
    family = {pid}
    while grown := {child for child, parent in parents.items() if parent in family} - family:
        family |= grown
    return sum(ticks.get(member, 0) for member in family) / os.sysconf("SC_CLK_TCK")


def prepare(server: peers.MailServer, sink_port: int) -> peers.MailServer:
    """Domains, routes and mailboxes as Postfix has them."""
    data = server.folder
    dead = peers.free_ports(1)[0]
    for domain in DOMAINS.values():
        peers.administer(data, "domain", "add", "example", domain, "--verified")
    for domain, port in ((peers.RELAYED, sink_port), (peers.PARKED, dead)):
        peers.administer(data, "route", "set", domain, "--server", f"127.0.0.1:{port}", "--no-verify")
    peers.provision(data, [f"u{n}@{peers.KEPT}" for n in range(peers.MAILBOXES)])
    teach(data)
    return server


def teach(data: Path) -> None:
    """A trained model, so that messages are judged as they are where the filter is in use."""
    chance = random.Random(1)
    for name in ("ham", "spam"):
        folder = data.with_name(name)
        folder.mkdir()
        for number in range(1000):
            words = " ".join(f"{name if chance.random() < 0.2 else 'word'}{chance.randrange(3000)}" for _ in range(100))
            (folder / f"{number}.eml").write_text(f"From: {name}@sender.test\nSubject: {words[:40]}\n\n{words}\n")
    peers.administer(
        data, "filter", "train", "--ham", str(data.with_name("ham")), "--spam", str(data.with_name("spam"))
    )
    time.sleep(6)  # until every process has seen it


def table(results: dict[str, list[Row]]) -> str:
    peer = {row.scenario: row for row in results.get("postfix", [])}
    ours = {row.scenario: row for row in results.get("cleanmail", [])}
    lines = [f"{'messages a second':28}{'cleanmail':>12}{'postfix':>12}{'ratio':>8}{'CPU ms':>10}{'postfix':>10}"]
    for scenario in ours or peer:
        mine, theirs = ours.get(scenario), peer.get(scenario)
        ratio = mine.rate / theirs.rate if mine and theirs else None
        lines.append(
            f"{scenario:28}{_shown(mine and mine.rate, 0):>12}{_shown(theirs and theirs.rate, 0):>12}"
            f"{_shown(ratio, 2):>8}{_shown(mine and mine.milliseconds, 2):>10}"
            f"{_shown(theirs and theirs.milliseconds, 2):>10}"
            + ("  below 1" if ratio is not None and ratio < 1 else "")
        )
    return "\n".join(lines)


def _shown(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=3000, help="in each row (default: %(default)s)")
    parser.add_argument("--size", type=int, default=10237, help="octets of a message (default: %(default)s)")
    parser.add_argument("--only", choices=list(DOMAINS), help="one scenario")
    parser.add_argument("--server", choices=["cleanmail", "postfix"], help="measure one server alone")
    parser.add_argument("--load-tool", type=Path, default=LOAD_TOOL, help="the load generator")
    parser.add_argument("--work", type=Path, help="where the servers keep their data; default: a temporary folder")
    parser.add_argument("--json", action="store_true", help="print rows as JSON lines instead of the table")
    a = parser.parse_args()
    for program in ("smtp-source", "smtp-sink"):
        if not shutil.which(program):
            sys.exit(f"{program} is not installed: apt-get install --no-install-recommends postfix")
    work = Path(tempfile.mkdtemp(prefix="cleanmail-bench-", dir=a.work))
    work.chmod(0o755)
    results: dict[str, list[Row]] = {}
    try:
        [sink_port] = peers.free_ports(1)
        with peers.sink(sink_port):
            if a.server in (None, "postfix"):
                with peers.postfix(work / "postfix", sink_port) as server:
                    results["postfix"] = list(measure(server, a))
            if a.server in (None, "cleanmail"):
                with peers.mail_server(work / "cleanmail") as server:
                    results["cleanmail"] = list(measure(prepare(server, sink_port), a))
        if a.json:
            for name, rows in results.items():
                for row in rows:
                    print(json.dumps({"server": name, "scenario": row.scenario, "rate": row.rate,
                                      "cpu_ms": row.milliseconds}))  # fmt: skip
        else:
            print(table(results))
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
