#!/usr/bin/env python3
"""Measures connections that wait: their memory, how soon they wake, and whether one client holds up another.

    scripts/bench/imap_idle.py [--connections 1000] [--compress] [--plain] [--dovecot]

So many connections over TLS sit in IDLE, spread over the users (with --compress: deflated, RFC 4978); their memory is
that of all processes of the server, what several share divided among them, after a rest. Then a message comes to one
user and the time is taken until each of his connections has heard of it. At last one client looks for news again and
again, while another fetches all messages or searches their text: what NOOP takes meanwhile.
"""

from __future__ import annotations

import argparse
import resource
import select
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import imap_rows
import peers
from imap import SHARED, unpacked
from imap_wire import Imap

REST = 15.0  # seconds after which servers have let go of what a connection that waits does not need
DELIVERIES = 10
FROM_ONE_ADDRESS = 100  # connections; servers limit them
OF_ONE_USER = 40
LONG = (
    ("FETCH of all headers", b"UID FETCH 1:* " + imap_rows.THUNDERBIRD),
    ("FETCH of all envelopes", b"UID FETCH 1:* (UID FLAGS ENVELOPE BODYSTRUCTURE)"),
    ("FETCH of all bodies", b"UID FETCH 1:* (UID BODY.PEEK[])"),
    ("SEARCH of all text", b'UID SEARCH TEXT "linux kernel"'),
    ("SORT of all", b"UID SORT (REVERSE DATE) UTF-8 ALL"),
    ("THREAD of all", b"UID THREAD REFERENCES UTF-8 ALL"),
)


def idle(server: peers.Server, a: argparse.Namespace, message: bytes) -> None:
    """Memory of each connection, and the time until those of one user wake."""
    for number in range(a.users):  # every worker has begun, and knows every account
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


def fairness(server: peers.Server, a: argparse.Namespace) -> None:
    """What NOOP of one client takes while another's long command runs in the same worker, or in another."""
    for _ in imap_rows.fill(server, a, a.messages):
        pass
    for name, command in LONG:
        others = [Imap(server, tls=not a.plain) for _ in range(4)]  # one of them at least in each worker
        for other in others:
            other.command(b"SELECT bench")
        alone = sorted(other.timed(b"NOOP") for _ in range(50) for other in others)
        worker = Imap(server, tls=not a.plain)
        worker.command(b"SELECT bench")
        finished = threading.Event()

        def work(worker: Imap = worker, command: bytes = command, finished: threading.Event = finished) -> None:
            for _ in range(3):
                worker.command(command)
            finished.set()

        thread = threading.Thread(target=work)
        thread.start()
        beside: list[float] = []
        while not finished.is_set():
            beside += [other.timed(b"NOOP") for other in others]
            time.sleep(0.002)
        thread.join()
        beside.sort()
        print(
            f"NOOP beside {name:24}{alone[len(alone) // 2] * 1e3:8.2f} ms alone"
            f"{beside[len(beside) // 2] * 1e3:8.2f} ms median{beside[-1] * 1e3:8.2f} ms at most   {len(beside)} times"
        )
        for each in (*others, worker):
            each.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument(
        "--messages", type=int, default=10_000, help="of the mailbox that long commands work on; 0: none"
    )
    parser.add_argument("--compress", action="store_true", help="COMPRESS=DEFLATE on every connection that waits")
    parser.add_argument("--plain", action="store_true", help="without TLS")
    parser.add_argument("--dovecot", action="store_true", help="measure Dovecot instead")
    parser.add_argument("--corpus", type=Path, default=SHARED / "corpora" / "spamassassin-public.tar.xz")
    parser.add_argument("--load-tool", type=Path, default=SHARED / "tools" / "imap_load.py")
    a = parser.parse_args()
    a.users = max(10, -(-a.connections // OF_ONE_USER))
    a.tls, a.repeat, a.idle, a.seconds = not a.plain, 1, 1, 1
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    a.work = Path(tempfile.mkdtemp(prefix="cleanmail-bench-"))
    a.work.chmod(0o755)
    start = peers.dovecot if a.dovecot else peers.cleanmail
    try:
        a.corpus = unpacked(a)
        with start(a.work / "server", a.users) as server:
            if a.connections:
                idle(server, a, imap_rows.corpus(a.corpus, 1)[0])
            if a.messages:
                fairness(server, a)
    finally:
        shutil.rmtree(a.work, ignore_errors=True)


if __name__ == "__main__":
    main()
