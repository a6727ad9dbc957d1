#!/usr/bin/env python3
"""Shows that cost does not grow with size: SELECT, NOOP, one STORE and one APPEND in a small and in a large mailbox,
and the first sign-in to account number one and to account number N.

    scripts/bench/growth.py [--sizes 1000,200000] [--accounts 1000]

Prints milliseconds (median) per step and size, and the ratio of the last column to the first: 1.0 is flat.
"""

from __future__ import annotations

import argparse
import imaplib
import json
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import peers

Imap = imaplib.IMAP4
STEPS = ("SELECT, first", "SELECT", "NOOP", "STORE one", "APPEND")
BODY = b"From: a@example.test\r\nTo: b@example.test\r\nSubject: growth %d\r\n\r\n" + b"A line of the body.\r\n" * 20


def connect(server: peers.Server, user: str) -> Imap:
    box = Imap("127.0.0.1", server.port)
    box.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or APPEND measures the client's Nagle algorithm
    box.login(user, peers.PASSWORD)
    return box


def fill(box: Imap, name: str, size: int) -> None:
    """A mailbox of `size` messages: some appended, the rest by COPY, which writes rows alone."""
    box.create(name)
    first = min(size, 500)
    for n in range(first):
        box.append(name, "", "", BODY % n)
    have = first
    box.select(name)
    while have < size:
        more = min(have, size - have, 20000)
        kind, said = box.copy(f"1:{more}", name)
        if kind != "OK":
            sys.exit(f"COPY failed: {said!r}")
        box.noop()
        have += more
        print(f"\r  {name}: {have:,} messages", end="", file=sys.stderr, flush=True)
    box.unselect()
    print(file=sys.stderr)


def milliseconds(step: Callable[[], object], times: int) -> float:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        step()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1e3


def measure(server: peers.Server, name: str) -> dict[str, float]:
    """The five steps on one mailbox; each on a connection that has done nothing else."""
    box = connect(server, server.user)
    found = {"SELECT, first": milliseconds(lambda: box.select(name), 1)}
    found["SELECT"] = milliseconds(lambda: box.select(name), 30)
    found["NOOP"] = milliseconds(box.noop, 300)
    flags = iter(["+FLAGS", "-FLAGS"] * 150)
    found["STORE one"] = milliseconds(lambda: box.store("7", next(flags), r"(\Flagged)"), 300)
    found["APPEND"] = milliseconds(lambda: box.append(name, "", "", BODY), 100)
    box.logout()
    return found


def first_sign_ins(server: peers.Server, accounts: int) -> tuple[float, float]:
    """Milliseconds from sign-in to the end of SELECT INBOX for the first and for the last twenty of `accounts`."""

    def one(n: int) -> None:
        box = connect(server, server.users % n)
        box.select("INBOX")
        box.logout()

    early = [milliseconds(lambda n=n: one(n), 1) for n in range(1, 21)]
    for n in range(21, accounts - 19):
        one(n)
        print(f"\r  {n:,} accounts opened", end="", file=sys.stderr, flush=True)
    late = [milliseconds(lambda n=n: one(n), 1) for n in range(accounts - 19, accounts + 1)]
    print(file=sys.stderr)
    return statistics.median(early), statistics.median(late)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,200000")
    parser.add_argument("--accounts", type=int, default=1000, help="0 leaves the accounts out")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    sizes = [int(s) for s in a.sizes.split(",")]
    work = Path(tempfile.mkdtemp(prefix="cleanmail-growth-", dir=a.work))
    try:
        with peers.cleanmail(work / "cleanmail", max(a.accounts, 0)) as server:
            box = connect(server, server.user)
            for size in sizes:
                fill(box, f"size{size}", size)
            box.logout()
            columns = {f"{size:,} messages": measure(server, f"size{size}") for size in sizes}
            rows = {step: [columns[c][step] for c in columns] for step in STEPS}
            if a.accounts >= 40:
                early, late = first_sign_ins(server, a.accounts)
        if a.json:
            print(json.dumps({"columns": list(columns), "milliseconds": rows}))
            return
        print(f"{'milliseconds, median':24}" + "".join(f"{c:>20}" for c in columns) + f"{'last/first':>12}")
        for step, values in rows.items():
            print(f"{step:24}" + "".join(f"{v:>20.2f}" for v in values) + f"{values[-1] / values[0]:>12.2f}")
        if a.accounts >= 40:
            print(
                f"{'first sign-in + SELECT':24}{early:>14.2f} (1st){late:>13.2f} ({a.accounts}th){late / early:>10.2f}"
            )
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
