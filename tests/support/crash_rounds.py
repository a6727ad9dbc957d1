"""Kills the whole server, or single roles, under load at seeded random commands, and counts what is left.

    scripts/crash [--rounds N] [--seed S] [--clients N] [--commands N] [--data DIR]

Each round starts `cleanmail serve` on the same data, puts it under load from several IMAP connections (APPEND, MOVE,
STORE, EXPUNGE), submission, and a mail server that sends to mailboxes, to a tenant's own server and to several tenants
at once; and kills it with SIGKILL after a random number of acknowledged commands: in every second round the whole
process group at once, else one to three processes of random roles one after the other, which the supervisor starts
again. In every third round the next hop fails at random steps. The filter judges what arrives, by a model that knows
some spam: part of it goes to Junk, part into the quarantine, and somebody releases some of that by command at the same
time, who is killed in every second round as well. Then the server is started anew (if it was killed) and everything
that was acknowledged is looked for: every message is there exactly once, in the mailbox and with the flags that the
last acknowledged command gave it; what was expunged stays so; no UID names another message than before, no UIDNEXT or
HIGHESTMODSEQ falls behind what was seen, no modseq comes twice; `cleanmail check --contents` finds nothing. Mail that
got 250 is in each of its mailboxes exactly once and was taken by the next hop at least once, or waits in the queue, or
is in the quarantine for that recipient; both are empty in the end, when all is released. Wanted mail is never withheld
nor in Junk; forbidden attachments pass nowhere before they are released. Mail that was refused is nowhere. The next hop
has a message twice only if the client that had sent it was killed; such copies are counted. A command whose answer
never came may have happened or not, wholly.

Exits with 1 at the first thing that is wrong, and says with which --seed it happens.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crash_clients import SPAM, Client, ImapClient, MxClient, SubmissionClient
from crash_ledger import ALICE, BOB, Ledger, listed, waiting_entries
from dns_server import DnsServer
from next_hop import CUT, GOOD, RESET, NextHop
from whole_server import ROLES, TOWN, WholeServer, environment, until
from wire import Closed, SmtpWire

from gateway.classifier.features import features_of
from gateway.classifier.model import FILE
from gateway.classifier.trainer import Trainer

ZONE = {"elsewhere.test": {"MX": "10 mx.elsewhere.test."}, "mx.elsewhere.test": {"A": "127.0.0.1"}}

STEPS = ("greeting", "MAIL", "RCPT", "DATA", "content", "QUIT")
PATIENCE = 180.0  # seconds for what dead processes left to be gone on with, and for the load to get anywhere
FAULTS = (CUT, RESET, "421 4.3.2 I have to go", "451 4.3.0 not now")


@contextlib.contextmanager
def target(folder: Path) -> Iterator[tuple[WholeServer, NextHop]]:
    """A server that does not run yet, and the other server, which is elsewhere.test and own.test at once."""
    tenants = TOWN["tenants"]
    two = {**tenants["two"], "domains": {"two.test": True, "own.test": True}}
    with DnsServer(ZONE) as dns, NextHop() as hop:
        settings = (
            f'[dns]\nnameservers = ["127.0.0.1"]\nport = {dns.port}\n'
            f'[relay]\nport = {hop.port}\nprivate_networks = ["127.0.0.0/8"]\n'
            "[sending]\naccount_per_hour = 0\naccount_per_day = 0\nfreeze_above = 0\n"  # one account sends masses here
            "[filter.rules]\nlearn = false\n"  # releases are not to change what is spam
        )
        server = WholeServer(folder, {"tenants": {**tenants, "two": two}}, settings=settings)
        _teach(server)
        routed = server.cleanmail("route", "set", "own.test", "--server", f"127.0.0.1:{hop.port}")
        assert routed.returncode == 0, routed.stderr
        try:
            yield server, hop
        finally:
            server.kill()


def _teach(server: WholeServer) -> None:
    trainer = Trainer()
    for number in range(1000):
        for is_spam, body in ((False, f"r{number % 9}c4-{number} {'x' * (number % 70)}"), (True, SPAM)):
            message = f"From: far@elsewhere.test\r\nSubject: r{number % 9}c4-{number}\r\n\r\n{body}\r\n"
            trainer.learn(features_of(message.encode()), is_spam)
    trainer.save(server.data / FILE, int(time.time()))


@dataclass
class Rounds:
    server: WholeServer
    hop: NextHop
    ledger: Ledger
    seed: int
    clients: int = 3
    commands: int = 200
    killed: int = 0

    def play(self, count: int) -> Iterator[str]:
        """One line for each round. Raises AssertionError."""
        chance = random.Random(self.seed)
        for number in range(count):
            if self.server.process is None:
                self.server.start()
            whole = number % 2 == 0
            with self._faults(number, chance), self._release(number, chance), self._load(number, chance):
                if whole:
                    self._pause(chance)
                    self.server.kill()
                    self.ledger.relay_ends()
                    self.killed += 1
                else:
                    for _ in range(chance.randint(1, 3)):
                        self._pause(chance)
                        self._kill_role(chance)
            if self.server.process is None:
                self.server.start()
            until(self._is_served, "service after a crash")
            self.ledger.verify(self.server)
            until(lambda: self.server.check("--contents") == [], "a clean check")
            what = "everything" if whole else "single roles"
            yield f"round {number + 1}: {what} killed; {self.ledger.acknowledged} commands were acknowledged, all kept"

    def finish(self) -> None:
        """What a killed role left waiting is tried now, what is withheld is released; then everything must be there."""
        if self.server.process is None:
            self.server.start()
        rows = listed(self.server)
        self.ledger.release(rows)
        self._begin_release(row["id"] for row in rows if row["states"] == ["held"]).wait(PATIENCE)
        self._retry()
        until(lambda: waiting_entries(self.server) == 0, "an empty queue", PATIENCE)
        until(lambda: not listed(self.server), "an empty quarantine", PATIENCE)
        self.ledger.verify(self.server)

    @contextlib.contextmanager
    def _release(self, number: int, chance: random.Random) -> Iterator[None]:
        """Half of what was withheld before is released during the load."""
        rows = [row for row in listed(self.server) if row["reason"] == "forbidden-attachment"]
        rows = chance.sample(rows, len(rows) // 2)
        self.ledger.release(rows)
        process = self._begin_release(row["id"] for row in rows)
        try:
            yield
            if number % 2:
                process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()

    def _begin_release(self, ids: Iterable[str]) -> subprocess.Popen[bytes]:
        """By a process of its own, which does nothing if there are no ids."""
        command = [sys.executable, "-m", "hosting.cli", "--data", str(self.server.data), "quarantine", "release", *ids]
        return subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _pause(self, chance: random.Random) -> None:
        """Until some more commands were acknowledged, however fast this machine is, and some have only just begun."""
        enough = self.ledger.acknowledged + chance.randint(1, self.commands)
        until(lambda: self.ledger.acknowledged >= enough, "progress of the load", PATIENCE)
        threading.Event().wait(chance.uniform(0, 0.1))

    def _kill_role(self, chance: random.Random) -> None:
        role = chance.choice(ROLES)
        for pid in self.server.pids(role):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.killed += 1
        if role == "queue":
            self.ledger.relay_ends()

    def _is_served(self) -> bool:
        """Everything that the load began is over, and a new session works."""
        try:
            mx = SmtpWire(self.server.ports["mx"], patience=5)
            with mx, self.server.imap(patience=5) as imap, self.server.smtp(patience=5) as smtp:
                return imap.command(b"SELECT INBOX").ok and smtp.command(b"NOOP")[0] == mx.command(b"NOOP")[0] == 250
        except (Closed, OSError, AssertionError):
            return False

    @contextlib.contextmanager
    def _faults(self, number: int, chance: random.Random) -> Iterator[None]:
        """In every third round the next hop fails at some steps; what waits because of it is tried afterwards."""
        if number % 3 != 2:
            yield
            return
        script = self.hop.script
        for step in chance.sample(STEPS, 3):
            script[step] = [*chance.choices(FAULTS, k=5), GOOD[step]]
        yield
        script.clear()
        if self.server.process is not None:
            self._retry()

    def _retry(self) -> None:
        assert self.server.cleanmail("queue", "retry", "--all").returncode == 0

    @contextlib.contextmanager
    def _load(self, number: int, chance: random.Random) -> Iterator[None]:
        over = threading.Event()
        kinds: list[tuple[type[Client], str]] = [(ImapClient, ALICE)] * self.clients
        kinds += [(SubmissionClient, BOB), (MxClient, ""), (MxClient, "")]
        clients = [
            kind(f"r{number}c{place}", account, self.server, self.ledger, chance.getrandbits(32))
            for place, (kind, account) in enumerate(kinds)
        ]
        threads = [threading.Thread(target=client.run, args=(over,), daemon=True) for client in clients]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join(30)
        for client in clients:
            if client.wrong is not None:
                raise client.wrong


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/crash", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of what is random; default: the time")
    parser.add_argument("--clients", type=int, default=4, help="IMAP connections under load; default: %(default)s")
    parser.add_argument(
        "--commands", type=int, default=400, help="acknowledged before a kill, at most; default: %(default)s"
    )
    parser.add_argument("--data", type=Path, help="a folder to keep what is left in; default: a temporary one")
    given: Any = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = given.data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cleanmail-crash-")))
        folder.mkdir(parents=True, exist_ok=True)
        server, hop = stack.enter_context(target(folder))
        rounds = Rounds(server, hop, Ledger(hop), given.seed, given.clients, given.commands)
        try:
            for line in rounds.play(given.rounds):
                print(line, flush=True)
            rounds.finish()
        except AssertionError as error:
            print(f"WRONG: {error} (--seed {given.seed}; the log ends with:)\n{server.log()[-3000:]}", file=sys.stderr)
            return 1
        ledger = rounds.ledger
        print(
            f"{given.rounds} rounds, {rounds.killed} kills, {ledger.acknowledged} commands, {len(hop.messages)}"
            f" messages relayed, {ledger.duplicates()} of them twice; {len(ledger.junk)} copies in Junk,"
            f" {len(ledger.withheld)} withheld and released: nothing lost."
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
