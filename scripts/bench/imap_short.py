#!/usr/bin/env python3
"""Measures commands that do little, on Cleanmail and Debian's Dovecot in turn, so that the machine's moods hit both.

    scripts/bench/imap_short.py --work DIR [--messages 10000] [--rounds 20] [--json]

DIR is that of `scripts/bench/imap.py --matrix`, with its mailboxes. Both servers run; a connection to each, in plain
and over TLS, does the same series of commands, ours first in one round and Dovecot's in the next. Prints the median of
the rounds: microseconds that a command took and, below `cpu`, the processor time of all processes of the server.

A command of 50 microseconds takes twice as long when the kernel has put client and server on different processors and
wakes one of them for each line; where it puts them is chance, and stays so for a while. So all is measured twice: as
the kernel likes, and with the client and both servers on one processor. Ratios are Dovecot's figure by ours.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import peers
from imap_wire import Imap

_SERIES = 100  # commands whose time is taken together

Numbers = Iterator[int]


def _commands(messages: int) -> dict[str, Callable[[Numbers], bytes]]:
    """What is asked; the numbers are those of messages, in an order of which nobody has seen any before."""
    return {
        "NOOP": lambda _: b"NOOP",
        "SELECT again": lambda _: b"SELECT bench",
        "FETCH flags of one": lambda _: b"UID FETCH %d (UID FLAGS)" % random.randint(1, messages),
        "FETCH one, first time": lambda numbers: b"FETCH %d (UID BODY.PEEK[])" % next(numbers),
        "FETCH one, again": lambda _: b"FETCH %d (UID BODY.PEEK[])" % random.randint(1, 20),
        "STORE one": lambda _: b"STORE %d %cFLAGS (\\Flagged)" % (random.randint(1, messages), random.choice(b"+-")),
    }


def measure(
    servers: list[peers.Server], messages: int, unseen: list[int], rounds: int, *, tls: bool
) -> Iterator[tuple[str, str, list[float]]]:
    """For each command and server: microseconds of each round, and the processor's in the mean of all as the last."""
    connections = [Imap(server, tls=tls) for server in servers]
    orders = [iter(unseen) for _ in servers]
    for connection in connections:
        connection.command(b"SELECT bench")
    for name, command in _commands(messages).items():
        times: list[list[float]] = [[] for _ in servers]
        spent = [0.0 for _ in servers]
        for number in range(rounds):
            turn = list(range(len(servers)))
            for which in turn if number % 2 else reversed(turn):
                commands = [command(orders[which]) for _ in range(_SERIES)]
                before = peers.cpu_seconds(servers[which].pid)
                started = time.perf_counter()
                for each in commands:
                    connections[which].command(each)
                times[which].append((time.perf_counter() - started) / _SERIES * 1e6)
                spent[which] += peers.cpu_seconds(servers[which].pid) - before
        for server, taken, processor in zip(servers, times, spent, strict=True):
            yield name, server.name, [*taken, processor / rounds / _SERIES * 1e6]
    for connection in connections:
        connection.close()


def place(servers: list[peers.Server], processors: set[int]) -> None:
    """Every thread of the servers and this client may run there."""
    os.sched_setaffinity(0, processors)
    for server in servers:
        for pid in peers.processes(server.pid):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):  # it ended
                    os.sched_setaffinity(int(thread.name), processors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where imap.py --matrix keeps its mailboxes")
    parser.add_argument("--messages", type=int, default=10_000, choices=(10_000, 200_000))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="print rows as JSON lines instead of the table")
    a = parser.parse_args()
    folders = [a.work / f"{name}-{a.messages}" for name in ("cleanmail", "dovecot")]
    if missing := [folder for folder in folders if not folder.exists()]:
        sys.exit(f"There is no {missing[0]}: fill it with scripts/bench/imap.py --matrix --work {a.work}.")
    messages = a.messages * 9 // 10  # some were copied and expunged since
    if a.rounds * _SERIES * 4 > messages:
        sys.exit(f"So many rounds need more messages than {messages}.")
    everywhere = os.sched_getaffinity(0)
    placed = {"any processor": everywhere, "one processor": {min(everywhere)}}
    if not a.json:
        print(f"{'':40}{'cleanmail':>10}{'dovecot':>10}{'ratio':>8}{'cpu':>14}{'ratio':>8}")
    with peers.cleanmail(folders[0], 10) as ours, peers.dovecot(folders[1], 10) as theirs:
        servers = [ours, theirs]
        for server in servers:
            peers.wait_until_quiet(server.pid)
        order = list(range(1, messages + 1))
        random.shuffle(order)
        for where, processors in placed.items():
            for tls in (False, True):
                unseen, order = order[: a.rounds * _SERIES], order[a.rounds * _SERIES :]
                first = Imap(ours, tls=tls), Imap(theirs, tls=tls)  # Dovecot makes a process for each connection
                place(servers, processors)
                rows = measure(servers, messages, unseen, a.rounds, tls=tls)
                for (name, _, mine), (_, _, other) in zip(rows, rows, strict=True):
                    report(a.json, f"{name}, {'TLS' if tls else 'plain'}, {where}", mine, other)
                for connection in first:
                    connection.close()


def report(as_json: bool, name: str, ours: list[float], theirs: list[float]) -> None:
    mine, other = statistics.median(ours[:-1]), statistics.median(theirs[:-1])
    if as_json:
        row = {"row": name, "cleanmail": mine, "dovecot": other, "cleanmail_cpu": ours[-1], "dovecot_cpu": theirs[-1]}
        print(json.dumps(row), flush=True)
        return
    processor = f"{ours[-1]:.0f}/{theirs[-1]:.0f}"
    print(
        f"{name:40}{mine:>10.0f}{other:>10.0f}{other / mine:>8.2f}{processor:>14}{theirs[-1] / ours[-1]:>8.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
