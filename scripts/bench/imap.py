#!/usr/bin/env python3
"""Measures Cleanmail and Debian's Dovecot side by side, in one run, and prints the ratio of each row.

    scripts/bench/imap.py --corpus DIR [--messages 10000] [--tls] [--scenarios select,search]

Each scenario comes from a load generator that knows neither server (`--load-tool`); the ratio is Cleanmail's speed by
Dovecot's, so 2.0 is twice as fast; for memory and latency it is Dovecot's figure by Cleanmail's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import peers

SHARED = peers.ROOT.parent / "shared"
Row = dict[str, float | str]


def measure(server: peers.Server, a: argparse.Namespace, scenarios: str, *more: str) -> list[Row]:
    """Runs the load generator on one server; one row a scenario."""
    command = [
        sys.executable, str(a.load_tool), "--name", server.name, "--user", server.user, "--users", server.users,
        "--user-count", str(a.users), "--password", peers.PASSWORD,
        "--corpus", str(a.corpus), "--messages", str(a.messages),
        "--pid", str(server.pid), "--scenarios", scenarios, "--repeat", str(a.repeat), "--idle", str(a.idle),
        "--port", str(server.tls_port if a.tls else server.port), *(["--tls"] if a.tls else []), *more,
    ]  # fmt: skip
    rows: list[Row] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            row = json.loads(line)
            rows.append(row)
            if a.verbose:
                print(f"  {server.name:10}{line.rstrip()}", file=sys.stderr, flush=True)
            else:
                print(f"  {server.name:10}{row['scenario']}", file=sys.stderr, flush=True)
    if process.returncode:
        print(f"The load generator failed on {server.name}; its rows up to there count.", file=sys.stderr)
    return rows


def figure(row: Row) -> tuple[float, str, bool]:
    """The number to compare, its unit, and whether more is better."""
    if "KB_per_conn" in row:
        return float(row["KB_per_conn"]), "KB/connection", False
    if "p99_ms" in row and row["scenario"] == "idle_push_20":
        return float(row["p99_ms"] or 1e9), "ms p99", False
    return float(row["rate"]), "/s", True


def table(ours: list[Row], theirs: list[Row]) -> str:
    """The comparison as aligned text."""
    peer = {row["scenario"]: row for row in theirs}
    lines = [f"{'scenario':24}{'cleanmail':>14}{'dovecot':>14}  {'unit':15}{'ratio':>8}"]
    for row in ours:
        value, unit, more = figure(row)
        line = f"{row['scenario']:24}{value:>14,.1f}"
        if row["scenario"] in peer:
            other = figure(peer[row["scenario"]])[0]
            ratio = (value / other if more else other / value) if value and other else 0.0
            line += f"{other:>14,.1f}  {unit:15}{ratio:>8.2f}{'' if ratio >= 1 else '  below 1'}"
        else:
            line += f"{'':>14}  {unit:15}"
        lines.append(line)
    return "\n".join(lines)


def wait_until_indexed(server: peers.Server) -> float:
    """Seconds until the background search index holds every message of the bench account."""
    started = time.monotonic()
    while time.monotonic() - started < 600:
        state = json.loads(peers.administer(server.folder, "account", "show", server.user, "--json"))
        if not state["unindexed"]:
            return time.monotonic() - started
        time.sleep(1)
    sys.exit("The search index did not catch up within 10 minutes.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="a folder of real messages, one file each, or a .tar.xz of it")
    parser.add_argument("--load-tool", type=Path, default=SHARED / "tools" / "imap_load.py", help="the load generator")
    parser.add_argument("--messages", type=int, default=10000)
    parser.add_argument("--users", type=int, default=10)
    parser.add_argument("--idle", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--scenarios", default="all")
    parser.add_argument("--tls", action="store_true", help="over TLS; default: plain text on loopback")
    parser.add_argument("--only", choices=["cleanmail", "dovecot"], help="measure one server alone")
    parser.add_argument("--work", type=Path, help="where the servers keep their data; default: a temporary folder")
    parser.add_argument("--json", action="store_true", help="print rows as JSON lines instead of the table")
    parser.add_argument("--verbose", action="store_true", help="print every row as it comes")
    a = parser.parse_args()
    a.corpus = a.corpus or SHARED / "corpora" / "spamassassin-public.tar.xz"
    if not a.load_tool.exists():
        sys.exit(f"There is no load generator at {a.load_tool}; give --load-tool.")
    if not a.corpus.exists():
        sys.exit(f"There are no messages at {a.corpus}; give --corpus.")
    work = Path(tempfile.mkdtemp(prefix="cleanmail-bench-", dir=a.work))
    work.chmod(0o755)
    try:
        if a.corpus.is_file():
            with tarfile.open(a.corpus) as archive:
                archive.extractall(work / "corpus", filter="data")
            a.corpus = work / "corpus"
        results: dict[str, list[Row]] = {}
        for name, start in (("dovecot", peers.dovecot), ("cleanmail", peers.cleanmail)):
            if a.only in (None, name):
                with start(work / name, a.users) as server:
                    rows = measure(server, a, "none")
                    if name == "cleanmail":
                        rows.append(
                            {"scenario": "index_catch_up", "rate": a.messages / max(0.1, wait_until_indexed(server))}
                        )
                    results[name] = rows + measure(server, a, a.scenarios, "--keep")
        if a.json:
            for rows in results.values():
                print("\n".join(json.dumps(row) for row in rows))
        else:
            ours = results.get("cleanmail") or results["dovecot"]
            print(table(ours, results.get("dovecot", [])))
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
