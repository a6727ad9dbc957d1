#!/usr/bin/env python3
"""Measures the night at three o'clock: the server was started anew, and everybody's phone comes back at once.

    scripts/bench/imap_return.py [--phones 1000] [--main-passwords 200] [--patience 60] [--accounts-work DIR]

As many phones as accounts connect over TLS in the same moment, sign in, select INBOX and wait; the first of them with
the main passwords of their accounts, which cost argon2 since the server has just begun, the others with app passwords.
A phone gives up after `patience` seconds without an answer, waits for 1 to 10 seconds and tries again. Told is when how
many were back, what they were refused with, and how long somebody waits meanwhile who was signed in before them: for a
NOOP, and for an APPEND, which waits for the disk in a thread.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import random
import resource
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import peers
from imap_wire import Imap

FROM_ONE_ADDRESS = 100  # phones; servers limit them
MESSAGE = b"Subject: meanwhile\r\n\r\nText.\r\n"


class Town:
    """All phones, each a thread."""

    def __init__(self, server: peers.Server, a: argparse.Namespace, passwords: dict[str, str]) -> None:
        self._server, self._a, self._passwords = server, a, passwords
        self._begin = threading.Event()
        self._lock = threading.Lock()
        self.back: list[float] = []
        self.refused: collections.Counter[str] = collections.Counter()
        self._held: list[Imap] = []

    def come_back(self) -> None:
        threading.stack_size(256 * 1024)
        phones = [threading.Thread(target=self._phone, args=(number,)) for number in range(self._a.phones)]
        for phone in phones:
            phone.start()
        self._started = time.monotonic()
        self._begin.set()
        for phone in phones:
            phone.join()

    def _phone(self, number: int) -> None:
        user = self._server.users % (number + 1)
        password = peers.PASSWORD if number < self._a.main_passwords else self._passwords[user]
        source = f"127.0.1.{number // FROM_ONE_ADDRESS + 1}"
        self._begin.wait()
        while True:
            try:
                phone = Imap(
                    self._server, tls=True, user=user, password=password, source=source, patience=self._a.patience
                )
                phone.command(b"SELECT INBOX")
                phone.idle()
            except (OSError, EOFError, RuntimeError) as error:
                with self._lock:
                    self.refused[str(error)[:60].partition(" ")[2] or type(error).__name__] += 1
                time.sleep(random.uniform(1, 10))
                continue
            with self._lock:
                self.back.append(time.monotonic() - self._started)
                self._held.append(phone)
                if len(self.back) % 500 == 0:
                    print(f"  {len(self.back)} are back after {self.back[-1]:.0f} s", file=sys.stderr, flush=True)
            return

    def leave(self) -> None:
        for phone in self._held:
            with contextlib.suppress(OSError):
                phone.close()


def watch(server: peers.Server, waits: dict[str, list[float]], over: threading.Event) -> None:
    """What somebody waits for who is signed in already."""
    with contextlib.closing(Imap(server, tls=True)) as first:
        first.command(b"SELECT INBOX")
        while not over.wait(0.1):
            waits["NOOP"].append(first.timed(b"NOOP"))
            started = time.perf_counter()
            first.append(b"Drafts", [MESSAGE])
            waits["APPEND"].append(time.perf_counter() - started)


def share(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phones", type=int, default=1000)
    parser.add_argument("--main-passwords", type=int, default=200, help="phones that sign in with them")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds until a phone gives up")
    parser.add_argument("--accounts-work", type=Path, metavar="DIR", help="where the server's folder is kept")
    a = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    work = Path(tempfile.mkdtemp(prefix="cleanmail-bench-"))
    folder = (a.accounts_work or work) / "server"
    table = folder / "passwords"
    try:
        with peers.cleanmail(folder, a.phones, app_passwords=table, main_passwords=a.main_passwords) as server:
            passwords = dict(line.split("\t") for line in table.read_text().splitlines())
            peers.wait_until_quiet(server.pid)
            town, over = Town(server, a, passwords), threading.Event()
            waits: dict[str, list[float]] = {"NOOP": [], "APPEND": []}
            watching = threading.Thread(target=watch, args=(server, waits, over))
            watching.start()
            spent = peers.cpu_seconds(server.pid)
            town.come_back()
            over.set()
            watching.join()
            spent = peers.cpu_seconds(server.pid) - spent
            shown = "".join(f"{part:8.0%} {share(town.back, part):7.1f} s" for part in (0.5, 0.9, 0.99, 1.0))
            print(f"{'back':32}{shown}   {spent / a.phones * 1e3:.1f} ms of the processor for each")
            print(f"{'refused, or gave up':32}{sum(town.refused.values()):8}   {dict(town.refused.most_common(4))}")
            for name, each in waits.items():
                middle, most_ms, worst = (share(each, part) * 1e3 for part in (0.5, 0.99, 1.0))
                told = f"{middle:10,.1f} ms median{most_ms:10,.1f} p99{worst:10,.1f} worst   {len(each)} times"
                print(f"{name + ' meanwhile':32}{told}")
            town.leave()
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
