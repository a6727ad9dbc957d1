#!/usr/bin/env python3
"""Measures connections that wait: their memory, and how soon they wake.

    scripts/bench/imap_idle.py [--connections 1000] [--each 40] [--compress] [--plain] [--dovecot]

So many connections over TLS sit in IDLE, some of each user (with --each 1 every one belongs to an account of its own,
with --compress all are deflated, RFC 4978); their memory is that of all processes of the server, what several share
divided among them, after a rest. Then a message comes to one user and the time is taken until each of his connections
has heard of it. Whether one client holds up another is measured by imap_fairness.py.
"""

from __future__ import annotations

import argparse
import resource
import select
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import imap_rows
import peers
from imap import SHARED, unpacked
from imap_wire import Imap

REST = 30.0  # seconds after which servers have let go of what a connection that waits does not need
DELIVERIES = 10
WARMING = 20  # users who sign in before
FROM_ONE_ADDRESS = 100  # connections; servers limit them


def idle(server: peers.Server, a: argparse.Namespace, message: bytes) -> None:
    """Memory of each connection, and the time until those of one user wake."""
    for number in range(min(a.users, WARMING)):  # every worker has begun
        for _ in range(2):
            first = Imap(server, tls=not a.plain, user=server.users % (number + 1))
            first.command(b"SELECT INBOX")
            first.close()
    time.sleep(REST)
    before = peers.proportional_kib(server.pid)
    held: dict[str, list[Imap]] = {}
    for number in range(a.connections):
        user = server.users % (number % a.users + 1)
        source = f"127.0.1.{number // FROM_ONE_ADDRESS + 1}"
        connection = Imap(server, tls=not a.plain, user=user, source=source)
        if a.compress:
            connection.compress()
        connection.command(b"SELECT INBOX")
        connection.idle()
        held.setdefault(user, []).append(connection)
        if number % 500 == 499:
            print(f"  {number + 1} connections", file=sys.stderr, flush=True)
    time.sleep(REST)
    after = peers.proportional_kib(server.pid)
    each = (after - before) / a.connections
    print(f"{'memory of a connection':32}{each:10,.1f} KiB   all processes {after / 1024:,.0f} MiB")
    spent, started = peers.cpu_seconds(server.pid), time.monotonic()
    time.sleep(5)
    busy = (peers.cpu_seconds(server.pid) - spent) / (time.monotonic() - started)
    print(f"{'processor while all wait':32}{busy * 100:10,.2f} %")
    user, watching = next(iter(held.items()))
    writer = Imap(server, tls=not a.plain, user=user)
    delays: list[float] = []
    lost = 0
    for _ in range(DELIVERIES):
        started = time.perf_counter()
        writer.append(b"INBOX", [message])
        committed = time.perf_counter()
        waiting = {connection.socket: connection for connection in watching}
        while waiting:
            readable, _, _ = select.select(list(waiting), [], [], 10)
            if not readable:
                lost += len(waiting)
                break
            for sock in readable:
                if b"EXISTS" in waiting[sock].receive():
                    delays.append(max(0.0, time.perf_counter() - committed))
                    del waiting[sock]
        time.sleep(0.2)
    delays.sort()
    print(
        f"{'wakes after its commit':32}{statistics.median(delays) * 1e3:10,.2f} ms median"
        f"{delays[int(len(delays) * 0.99) - 1] * 1e3:10,.2f} ms p99   {len(watching)} connections, {lost} not told"
    )
    for connections in held.values():
        for connection in connections:
            connection.close()
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--each", type=int, default=40, help="connections of one user")
    parser.add_argument("--compress", action="store_true", help="COMPRESS=DEFLATE on every connection that waits")
    parser.add_argument("--plain", action="store_true", help="without TLS")
    parser.add_argument("--dovecot", action="store_true", help="measure Dovecot instead")
    parser.add_argument("--corpus", type=Path, default=SHARED / "corpora" / "spamassassin-public.tar.xz")
    parser.add_argument("--load-tool", type=Path, default=SHARED / "tools" / "imap_load.py")
    a = parser.parse_args()
    a.users = max(10, -(-a.connections // a.each))
    a.tls, a.repeat, a.idle, a.seconds = not a.plain, 1, 1, 1
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    a.work = Path(tempfile.mkdtemp(prefix="cleanmail-bench-"))
    a.work.chmod(0o755)
    start = peers.dovecot if a.dovecot else peers.cleanmail
    try:
        a.corpus = unpacked(a)
        with start(a.work / "server", a.users) as server:
            idle(server, a, imap_rows.corpus(a.corpus, 1)[0])
    finally:
        shutil.rmtree(a.work, ignore_errors=True)


if __name__ == "__main__":
    main()
