#!/usr/bin/env python3
"""Measures connections that wait: their memory, and how soon they wake.

    scripts/bench/imap_idle.py [--connections 1000] [--each 40] [--compress [N]] [--plain] [--dovecot]
                               [--accounts-work DIR]

So many connections over TLS sit in IDLE, some of each user: with --each 1 every one belongs to an account of its own,
with --compress all are deflated, or the first N (RFC 4978). Their memory is that of all processes of the server, what
several share divided among them, after a rest. Then messages come, one after the other to one user, and to a hundred
users at once; the time is taken until each of their connections has heard of it. Whether one client holds up another
is measured by imap_fairness.py.

Accounts have app passwords, as phones have, so that signing in is quick; several do it at once. --accounts-work keeps
the server's folder for another run: making 10,000 accounts takes minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import resource
import select
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import imap_rows
import peers
from imap import SHARED, unpacked
from imap_wire import Imap

REST = 30.0  # seconds after which servers have let go of what a connection that waits does not need
WATCHED = 20.0  # seconds in which the processor is watched while all wait
DELIVERIES = 10
AT_ONCE = 100  # users who get a message at the same time
PATIENCE = 10.0  # seconds until a connection that has not heard of a message counts as not told
WARMING = 20  # users who sign in before
FROM_ONE_ADDRESS = 100  # connections; servers limit them
SIGNING_IN = 8  # connections at the same time


class Clients:
    """All connections that wait, by their users."""

    def __init__(self, server: peers.Server, a: argparse.Namespace, passwords: dict[str, str]) -> None:
        self._server, self._a, self._passwords = server, a, passwords
        self.held: dict[str, list[Imap]] = {}
        self._lock = threading.Lock()
        self._failed: list[BaseException] = []

    def connect(self, user: str, source: str = "127.0.0.1") -> Imap:
        password = self._passwords.get(user, peers.PASSWORD)
        return Imap(self._server, tls=not self._a.plain, user=user, password=password, source=source)

    def user(self, number: int) -> str:
        return str(self._server.users % (number % self._a.users + 1))

    def fill(self) -> None:
        """Signs all in, several at once, and leaves them in IDLE."""
        started, numbers = time.monotonic(), itertools.count()

        def work() -> None:
            try:
                while not self._failed and (number := next(numbers)) < self._a.connections:
                    self._wait_as(number)
                    if number % 1000 == 999:
                        rate = number / (time.monotonic() - started)
                        print(f"  {number + 1} connections, {rate:.0f} a second", file=sys.stderr, flush=True)
            except BaseException as error:  # noqa: BLE001 - told where all are waited for
                self._failed.append(error)

        threads = [threading.Thread(target=work) for _ in range(SIGNING_IN)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failed:
            raise self._failed[0]

    def _wait_as(self, number: int) -> None:
        user = self.user(number)
        connection = self.connect(user, f"127.0.1.{number // FROM_ONE_ADDRESS + 1}")
        if number < self._a.compress:
            connection.compress()
        connection.command(b"SELECT INBOX")
        connection.idle()
        with self._lock:
            self.held.setdefault(user, []).append(connection)

    def close(self) -> None:
        for connection in itertools.chain.from_iterable(self.held.values()):
            with contextlib.suppress(OSError):
                connection.close()


class Waking:
    """Until how long after its commit each connection has heard of a message."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self.delays: list[float] = []
        self.lost = 0

    def deliver(self, users: Iterable[tuple[Imap, list[Imap]]]) -> None:
        """One message to each user at the same time, by a connection of his that writes."""
        committed: dict[int, float] = {}
        heard: list[tuple[int, float]] = []
        waiting: dict[int, tuple[Imap, int, bytes]] = {}  # by descriptor: who it is, whose, and his APPEND's tag
        poll = select.epoll()
        for place, (writer, watching) in enumerate(users):
            for connection in watching:
                waiting[connection.socket.fileno()] = connection, place, b""
            append = b"APPEND INBOX {%d+}\r\n%b" % (len(self._message), self._message)
            waiting[writer.socket.fileno()] = writer, place, writer.begin(append)
        for descriptor in waiting:
            poll.register(descriptor, select.EPOLLIN)
        until = time.monotonic() + PATIENCE
        while waiting and (ready := poll.poll(max(0.0, until - time.monotonic()))):
            for descriptor, _ in ready:
                connection, place, tag = waiting[descriptor]
                octets = connection.receive()
                now = time.perf_counter()
                if tag and tag + b" OK" in octets:
                    committed[place] = now
                elif not tag and b"EXISTS" in octets:
                    heard.append((place, now))
                else:
                    continue
                poll.unregister(descriptor)
                del waiting[descriptor]
        poll.close()
        self.lost += len(waiting)
        self.delays += [max(0.0, at - committed[place]) for place, at in heard if place in committed]

    def show(self, name: str) -> None:
        if not self.delays:
            print(f"{name:32}  nobody was told")
            return
        delays = sorted(self.delays)
        middle, most, worst = (delays[int(len(delays) * share)] * 1e3 for share in (0.5, 0.99, 0.9999))
        told = f"{len(delays)} told, {self.lost} not told"
        print(f"{name:32}{middle:10,.2f} ms median{most:10,.2f} ms p99{worst:10,.2f} ms worst   {told}")


def idle(server: peers.Server, a: argparse.Namespace, message: bytes, passwords: dict[str, str]) -> None:
    """Memory of each connection, and the time until those of one user, and of many, wake."""
    clients = Clients(server, a, passwords)
    for number in range(min(a.users, WARMING)):  # every worker has begun
        for _ in range(2):
            first = clients.connect(clients.user(number))
            first.command(b"SELECT INBOX")
            first.close()
    time.sleep(REST)
    before = memory(server)
    spent, started = peers.cpu_seconds(server.pid), time.monotonic()
    clients.fill()
    rate = a.connections / (time.monotonic() - started)
    each = (peers.cpu_seconds(server.pid) - spent) / a.connections
    print(f"{'signing in':32}{rate:10,.0f} a second{each * 1e3:10,.1f} ms of the server's processor for each")
    time.sleep(REST)
    after = memory(server)
    each = (sum(after.values()) - sum(before.values())) / a.connections
    print(f"{'memory of a connection':32}{each:10,.1f} KiB   all processes {sum(after.values()) / 1024:,.0f} MiB")
    for name in after:
        print(f"{'  ' + name:32}{before.get(name, 0) / 1024:10,.1f} MiB before{after[name] / 1024:10,.1f} MiB after")
    earlier, started = processor(server), time.monotonic()
    time.sleep(WATCHED)
    now, passed = processor(server), time.monotonic() - started
    busy = {name: (now[name] - earlier.get(name, 0.0)) / passed * 100 for name in now}
    most = ", ".join(f"{name} {busy[name]:.2f}" for name in sorted(busy, key=busy.__getitem__, reverse=True)[:4])
    print(f"{'processor while all wait':32}{sum(busy.values()):10,.2f} %   {most}")
    one = next(iter(clients.held))
    writer, waking = clients.connect(one), Waking(message)
    for _ in range(DELIVERIES):
        waking.deliver([(writer, clients.held[one])])
        time.sleep(0.2)
    waking.show("wakes after its commit: one user")
    writer.close()
    many = list(clients.held)[1 : AT_ONCE + 1]
    writers = [clients.connect(user, f"127.0.2.{place + 1}") for place, user in enumerate(many)]
    pairs = [(writer, clients.held[user]) for writer, user in zip(writers, many, strict=True)]
    waking = Waking(message)
    for _ in range(DELIVERIES):
        waking.deliver(pairs)
        time.sleep(1)
    waking.show(f"… {len(many)} users at once")
    for writer in writers:
        writer.close()
    clients.close()


def memory(server: peers.Server) -> dict[str, int]:
    """KiB of the server's processes, by what they are."""
    found: dict[str, int] = {}
    for pid in peers.processes(server.pid):
        found[peers.title(pid)] = found.get(peers.title(pid), 0) + peers.proportional_kib_of(pid)
    return found


def processor(server: peers.Server) -> dict[str, float]:
    """Seconds of processor of the server's processes, by what they are."""
    found: dict[str, float] = {}
    for pid in peers.processes(server.pid):
        found[peers.title(pid)] = found.get(peers.title(pid), 0.0) + peers.cpu_seconds_of(pid)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--each", type=int, default=40, help="connections of one user")
    parser.add_argument(
        "--compress", type=int, nargs="?", const=sys.maxsize, default=0, metavar="N",
        help="COMPRESS=DEFLATE on every connection that waits, or on N of them",
    )  # fmt: skip
    parser.add_argument("--plain", action="store_true", help="without TLS")
    parser.add_argument("--dovecot", action="store_true", help="measure Dovecot instead")
    parser.add_argument("--accounts-work", type=Path, metavar="DIR", help="where the server's folder is kept")
    parser.add_argument("--corpus", type=Path, default=SHARED / "corpora" / "spamassassin-public.tar.xz")
    parser.add_argument("--load-tool", type=Path, default=SHARED / "tools" / "imap_load.py")
    a = parser.parse_args()
    a.users = max(10, -(-a.connections // a.each))
    a.tls, a.repeat, a.idle, a.seconds = not a.plain, 1, 1, 1
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    a.work = Path(tempfile.mkdtemp(prefix="cleanmail-bench-"))
    a.work.chmod(0o755)
    folder = (a.accounts_work or a.work) / "server"
    table = folder / "passwords"
    try:
        a.corpus = unpacked(a)
        message = imap_rows.corpus(a.corpus, 1)[0]
        if a.dovecot:
            starting = peers.dovecot(folder, a.users)
        else:
            starting = peers.cleanmail(folder, a.users, app_passwords=table)
        with starting as server:
            lines = table.read_text().splitlines() if table.exists() else []
            idle(server, a, message, {} if a.dovecot else dict(line.split("\t") for line in lines))
    finally:
        shutil.rmtree(a.work, ignore_errors=True)


if __name__ == "__main__":
    main()
