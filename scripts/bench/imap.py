#!/usr/bin/env python3
"""Measures Cleanmail and Debian's Dovecot side by side, in one run, and prints the ratio of each row.

    scripts/bench/imap.py [--messages 10000] [--tls] [--cold] [--scenarios select,search]
    scripts/bench/imap.py --matrix --work DIR        # 10,000 and 200,000 messages, plain and TLS, warm and cold

Scenarios come from a load generator that knows neither server (`--load-tool`); to `search` some are added here.
`--cold` measures servers that were just started instead. The ratio is Cleanmail's speed by Dovecot's, so 2.0 is twice
as fast; for memory and latency it is Dovecot's figure by Cleanmail's. `cpu` is the same of the processor time that each
server's processes took, which other work on the machine changes little. Everybody has signed in once before a warm
server is measured: with scenarios that are run once, the row of eight connections was mostly eight passwords' argon2.

`--matrix` writes each row into DIR/rows.jsonl when it is measured. Run again with the same DIR it goes on where it was
stopped, on the mailboxes that are there; with everything measured it prints the table at once. 200,000 messages take
some GB in DIR and an hour.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import imap_rows
import peers
from imap_rows import Row

SHARED = peers.ROOT.parent / "shared"
SERVERS = {"dovecot": peers.dovecot, "cleanmail": peers.cleanmail}
SIZES = (10_000, 200_000)
COLD_STARTS = 3


@dataclass(frozen=True, slots=True)
class Cell:
    """One part of the matrix: measured on both servers, or not yet."""

    messages: int
    tls: bool
    cold: bool

    @property
    def name(self) -> str:
        return f"{self.messages} {'TLS' if self.tls else 'plain'} {'cold' if self.cold else 'warm'}"


CELLS = [Cell(messages, tls, cold) for messages in SIZES for tls in (False, True) for cold in (False, True)]


class Results:
    """Rows as lines of JSON, and which cells are done: what a run that was stopped need not measure again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._rows: list[Row] = [json.loads(line) for line in lines]

    def done(self, cell: str, server: str) -> bool:
        return any(row["scenario"] == "done" for row in self.of(cell, server))

    def of(self, cell: str, server: str) -> list[Row]:
        return [row for row in self._rows if row["cell"] == cell and row["server"] == server]

    def drop(self, cell: str, server: str) -> None:
        """What an interrupted run measured of it."""
        self._rows = [row for row in self._rows if (row["cell"], row["server"]) != (cell, server)]
        self._path.write_text("".join(json.dumps(row) + "\n" for row in self._rows))

    def add(self, cell: str, server: str, row: Row) -> None:
        row = {**row, "cell": cell, "server": server}
        self._rows.append(row)
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if row["scenario"] != "done":
            print(f"  {cell:20}{server:11}{row['scenario']:24}{figure(row)[0]:>12,.1f}", file=sys.stderr, flush=True)


def measure(name: str, cell: Cell, a: argparse.Namespace, results: Results) -> None:
    """One cell on one server, in the folder where its mailbox of that size is or comes to be."""
    folder = a.work / f"{name}-{cell.messages}"
    start = SERVERS[name]
    a.tls, a.repeat = cell.tls, a.repeats or (3 if cell.messages <= SIZES[0] else 1)
    filled = f"fill {cell.messages}"
    if not results.done(filled, name):
        shutil.rmtree(folder, ignore_errors=True)
        results.drop(filled, name)
        with start(folder, a.users) as server:
            for row in imap_rows.fill(server, a, cell.messages):
                results.add(filled, name, row)
            if name == "cleanmail":
                results.add(filled, name, imap_rows.index_catch_up(server, cell.messages, time.monotonic()))
        results.add(filled, name, {"scenario": "done"})
    results.drop(cell.name, name)
    if cell.cold:
        runs = []
        for _ in range(COLD_STARTS):
            with start(folder, a.users) as server:
                runs.append(list(imap_rows.cold(server, a)))
        rows: Iterator[Row] | list[Row] = imap_rows.median_of(runs)
        for row in rows:
            results.add(cell.name, name, row)
    else:
        with start(folder, a.users) as server:
            peers.wait_until_quiet(server.pid)
            imap_rows.sign_in_all(server, a)
            for row in imap_rows.warm(server, a, a.scenarios, cell.messages, "--keep"):
                results.add(cell.name, name, row)
            if a.scenarios == "all" or "search" in a.scenarios.split(","):
                for row in imap_rows.searches(server, a, cell.messages):
                    results.add(cell.name, name, row)
    results.add(cell.name, name, {"scenario": "done"})


def figure(row: Row) -> tuple[float, str, bool]:
    """The number to compare, its unit, and whether more is better."""
    if "KB_per_conn" in row:
        return float(row["KB_per_conn"]), "KB/connection", False
    if "ms" in row:
        return float(row["ms"]), "ms", False
    if "p99_ms" in row and row["scenario"] == "idle_push_20":
        return float(row["p99_ms"] or 1e9), "ms p99", False
    return float(row["rate"]), "/s", True


def table(results: Results, cells: list[str]) -> str:
    """The comparison as aligned text, with what is below 1 marked and counted."""
    lines = [f"{'scenario':24}{'cleanmail':>14}{'dovecot':>14}  {'unit':15}{'ratio':>8}{'cpu':>8}"]
    below = compared = 0
    for cell in cells:
        peer = {row["scenario"]: row for row in results.of(cell, "dovecot")}
        ours = {row["scenario"]: row for row in results.of(cell, "cleanmail")}
        lines.append(f"\n{cell}")
        for scenario, row in (ours or peer).items():
            if scenario == "done":
                continue
            value, unit, more = figure(row)
            line = f"{scenario:24}{value:>14,.1f}"
            if ours and scenario in peer:
                other = peer[scenario]
                theirs = figure(other)[0]
                ratio = (value / theirs if more else theirs / value) if value and theirs else 0.0
                line += f"{theirs:>14,.1f}  {unit:15}{ratio:>8.2f}{cpu_ratio(row, other)}"
                compared += 1
                below += ratio < 1
                line += "  below 1" if ratio < 1 else ""
            else:
                line += f"{'':>14}  {unit}"
            lines.append(line.rstrip())
    lines.append(f"\n{compared} rows compared, {below} below 1")
    return "\n".join(lines)


def cpu_ratio(ours: Row, theirs: Row) -> str:
    """Dovecot's processor time by ours; for a scenario that runs for a fixed time, of one command."""
    if min(float(ours.get("cpu", 0)), float(theirs.get("cpu", 0))) < 0.002:  # too little to tell
        return f"{'':8}"
    each = float(theirs["cpu"]) / float(ours["cpu"])
    if ours["scenario"] == "mixed":
        each *= float(ours["n"]) / float(theirs["n"])
    return f"{each:>8.2f}"


def unpacked(a: argparse.Namespace) -> Path:
    """The folder with the messages."""
    if not a.corpus.is_file():
        return Path(a.corpus)
    folder = Path(a.work) / "corpus"
    if not folder.exists():
        with tarfile.open(a.corpus) as archive:
            archive.extractall(folder.with_suffix(".part"), filter="data")
        folder.with_suffix(".part").rename(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="a folder of real messages, one file each, or a .tar.xz of it")
    parser.add_argument("--load-tool", type=Path, default=SHARED / "tools" / "imap_load.py", help="the load generator")
    parser.add_argument("--messages", type=int, default=SIZES[0])
    parser.add_argument("--users", type=int, default=10)
    parser.add_argument("--idle", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=8, help="how long the mixed clients work")
    parser.add_argument("--repeat", type=int, dest="repeats", help="default: 3, with 200,000 messages 1")
    parser.add_argument("--scenarios", default="all")
    parser.add_argument("--tls", action="store_true", help="over TLS; default: plain text on loopback")
    parser.add_argument("--cold", action="store_true", help="servers that were just started")
    parser.add_argument("--matrix", action="store_true", help="both sizes, plain and TLS, warm and cold")
    parser.add_argument("--only", choices=list(SERVERS), help="measure one server alone")
    parser.add_argument("--work", type=Path, help="where everything is kept; default: a temporary folder")
    parser.add_argument("--table", action="store_true", help="print what the folder has, and measure nothing")
    parser.add_argument("--json", action="store_true", help="print rows as JSON lines instead of the table")
    a = parser.parse_args()
    a.corpus = a.corpus or SHARED / "corpora" / "spamassassin-public.tar.xz"
    if not a.load_tool.exists():
        sys.exit(f"There is no load generator at {a.load_tool}; give --load-tool.")
    if not a.corpus.exists():
        sys.exit(f"There are no messages at {a.corpus}; give --corpus.")
    if a.matrix and not a.work:
        sys.exit("A matrix takes hours and is to be resumed: give the folder where it is kept with --work.")
    kept = a.work is not None
    a.work = a.work if kept else Path(tempfile.mkdtemp(prefix="cleanmail-bench-"))
    a.work.mkdir(parents=True, exist_ok=True)
    a.work.chmod(0o755)
    cells = CELLS if a.matrix else [Cell(a.messages, a.tls, a.cold)]
    results = Results(a.work / "rows.jsonl")
    try:
        a.corpus = unpacked(a)
        for number, cell in enumerate(cells, 1):
            for name in SERVERS:
                if a.only in (None, name) and not a.table and not (a.matrix and results.done(cell.name, name)):
                    print(f"{number}/{len(cells)} {cell.name}: {name}", file=sys.stderr, flush=True)
                    measure(name, cell, a, results)
        names = [*dict.fromkeys(f"fill {cell.messages}" for cell in cells), *(cell.name for cell in cells)]
        if a.json:
            rows = [row for name in names for server in SERVERS for row in results.of(name, server)]
            print("\n".join(json.dumps(row) for row in rows if row["scenario"] != "done"))
        else:
            print(table(results, names))
    finally:
        if not kept:
            shutil.rmtree(a.work, ignore_errors=True)


if __name__ == "__main__":
    main()
