"""Kills the whole server, or single roles, under load at seeded random moments, and counts what is left.

    scripts/crash [--rounds N] [--seed S] [--clients N] [--seconds S] [--data DIR]

Each round starts `cleanmail serve` on the same data, puts it under load from several IMAP connections (APPEND, MOVE,
STORE, EXPUNGE) and submission, and kills it with SIGKILL after a random time: in every second round the whole process
group at once, else one to three processes of random roles one after the other, which the supervisor starts again. Then
the server is started anew (if it was killed) and everything that was acknowledged is looked for: every message is there
exactly once, in the mailbox and with the flags that the last acknowledged command gave it (a submitted one may still be
in the queue, and is waited for in the end); what was expunged stays so; no UID names another message than before, no
UIDNEXT or HIGHESTMODSEQ falls behind what was seen, no modseq comes twice; `cleanmail check --contents` finds nothing.
A command whose answer never came may have happened or not, wholly.

Exits with 1 at the first thing that is wrong, and says with which --seed it happens.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whole_server import ROLES, WholeServer, until
from wire import Closed, ImapWire

MAILBOXES = (b"INBOX", b"Archive")
ACCOUNTS = ("alice@one.test", "bob@one.test")
_SUBJECT = re.compile(rb"Subject: ([\w-]+)\r\n")
_ROW = re.compile(rb"\* \d+ FETCH \((.*?)BODY\[HEADER.FIELDS \(SUBJECT\)\] \{\d+\}\r\n(.*?)\r\n\r\n", re.DOTALL)


@dataclass
class Fate:
    """What is known of one message: where it may be; None is nowhere. Several: the last command was not answered."""

    account: str
    places: set[bytes | None]
    uid: int = 0  # where `places` is one mailbox and the UID is known
    flagged: set[bool] = field(default_factory=lambda: {False})
    said: bytes = b""  # the last refusal
    submitted: bool = False  # it may wait in the queue and come later: until a killed role is back, or for a retry


class Ledger:
    """What the server acknowledged, and every number that it ever gave out."""

    def __init__(self) -> None:
        self.fates: dict[str, Fate] = {}
        self.acknowledged = 0
        self._tokens: dict[tuple[str, bytes, int], str] = {}
        self._numbers: dict[tuple[str, bytes], dict[bytes, int]] = {}
        self._modseqs: dict[tuple[str, bytes], dict[int, int]] = {}
        self._lock = threading.Lock()

    def uid_names(self, account: str, mailbox: bytes, uid: int, token: str) -> None:
        with self._lock:
            known = self._tokens.setdefault((account, mailbox, uid), token)
        assert known == token, f"UID {uid} of {mailbox.decode()} was given to two messages"

    def verify(self, server: WholeServer) -> None:
        """Everything that is there against everything that must be. Raises AssertionError."""
        waiting = waiting_here(server)
        late = 0
        for account in ACCOUNTS:
            with server.imap(account) as imap:
                found = {mailbox: self._read(imap, account, mailbox) for mailbox in MAILBOXES}
            for token, fate in self.fates.items():
                if fate.account == account:
                    late += self._verify_fate(token, fate, found)
            strangers = {token for rows in found.values() for token in rows} - self.fates.keys()
            assert not strangers, f"nobody sent {strangers}"
        assert late <= waiting, f"{late} accepted messages are not there, and {waiting} wait in the queue"

    def _verify_fate(self, token: str, fate: Fate, found: dict[bytes, dict[str, list[tuple[int, bool]]]]) -> bool:
        """Whether it must be there and may only be late."""
        copies = [(mailbox, *copy) for mailbox, rows in found.items() for copy in rows.get(token, [])]
        assert len(copies) <= 1, f"{token} is there {len(copies)} times"
        if not copies and fate.submitted:
            return None not in fate.places
        place = copies[0][0] if copies else None
        assert place in fate.places, f"{token} is in {place!r}, not in one of {fate.places} {fate.said!r}"
        if not copies:
            fate.places = {None}
            return False
        _, uid, flagged = copies[0]
        if fate.uid and len(fate.places) == 1:
            assert uid == fate.uid, f"{token} has UID {uid}, not {fate.uid}"
        assert flagged in fate.flagged, f"a flag of {token} is {flagged}"
        fate.places, fate.uid, fate.flagged = {place}, uid, {flagged}
        return False

    def _read(self, imap: ImapWire, account: str, mailbox: bytes) -> dict[str, list[tuple[int, bool]]]:
        """UID and \\Flagged of each token in a mailbox."""
        selected = imap.command(b"SELECT " + mailbox + b" (CONDSTORE)")
        now = {
            name: selected.number(rb"\[" + name + rb" (\d+)\]")
            for name in (b"UIDVALIDITY", b"UIDNEXT", b"HIGHESTMODSEQ")
        }
        before = self._numbers.setdefault((account, mailbox), now)
        assert now[b"UIDVALIDITY"] == before[b"UIDVALIDITY"]
        assert now[b"UIDNEXT"] >= before[b"UIDNEXT"] and now[b"HIGHESTMODSEQ"] >= before[b"HIGHESTMODSEQ"]
        self._numbers[account, mailbox] = now
        rows: dict[str, list[tuple[int, bool]]] = {}
        modseqs = self._modseqs.setdefault((account, mailbox), {})
        answer = imap.command(b"UID FETCH 1:* (FLAGS MODSEQ BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        assert answer.ok, answer.tagged
        for head, subject in _ROW.findall(answer.text):
            uid, modseq = (int(re.search(name + rb" \(?(\d+)", head)[1]) for name in (b"UID", b"MODSEQ"))  # type: ignore[index]
            token = subject.partition(b": ")[2].decode()
            self.uid_names(account, mailbox, uid, token)
            assert uid < now[b"UIDNEXT"] and modseq <= now[b"HIGHESTMODSEQ"]
            if modseq != modseqs.get(uid):
                assert before is now or modseq > before[b"HIGHESTMODSEQ"], "a modseq was given out twice"
            modseqs[uid] = modseq
            rows.setdefault(token, []).append((uid, b"\\Flagged" in head))
        return rows


def waiting_here(server: WholeServer) -> int:
    """Entries of the queue that wait for a mailbox here, not only for the one elsewhere that nothing is sent to."""
    done = server.cleanmail("queue", "list", "--limit", "1000000", "--json")
    assert done.returncode == 0, done.stderr
    return sum(entry["recipients"].get("queued", 0) > 1 for entry in json.loads(done.stdout))


class Client:
    """One connection's load: its own messages, command after command, until the server is gone and the round over."""

    def __init__(self, name: str, account: str, server: WholeServer, ledger: Ledger, seed: int) -> None:
        self.name, self.account = name, account
        self._server, self._ledger = server, ledger
        self._random = random.Random(seed)
        self._number = 0
        self.wrong: BaseException | None = None

    def run(self, over: threading.Event) -> None:
        while not over.is_set():
            try:
                self._session(over)
            except (Closed, OSError, ValueError):
                over.wait(0.05)  # the server is being killed, or started again
            except BaseException as error:
                self.wrong = error
                return

    def new_token(self) -> str:
        self._number += 1
        return f"{self.name}-{self._number}"

    def mail(self, token: str) -> bytes:
        body = f"{token} {'x' * self._random.randrange(70)}\r\n" * self._random.choice((1, 20, 20, 3000))
        return f"From: alice@one.test\r\nSubject: {token}\r\n\r\n{body}".encode()

    def _session(self, over: threading.Event) -> None:
        raise NotImplementedError


class ImapClient(Client):
    def _session(self, over: threading.Event) -> None:
        with self._server.imap(None, patience=10) as imap:
            signed_in = imap.login(self.account, self._server.passwords[self.account])
            if not signed_in.ok:
                assert signed_in.tagged.startswith(b"NO [UNAVAILABLE]"), signed_in.tagged
                raise Closed(signed_in.tagged)  # the auth role is being started again
            imap.command(b"SELECT INBOX")
            while not over.is_set():
                self._random.choice((self._append, self._append, self._move, self._store, self._expunge))(imap)

    def _mine(self, mailbox: bytes | None = None) -> list[str]:
        """Tokens whose place is certain."""
        return [
            token
            for token, fate in list(self._ledger.fates.items())  # others add to them
            if token.startswith(self.name + "-")
            and len(fate.places) == 1
            and fate.uid
            and len(fate.flagged) == 1
            and (fate.places == {mailbox} if mailbox else None not in fate.places)
        ]

    def _append(self, imap: ImapWire) -> None:
        token = self.new_token()
        fate = self._ledger.fates[token] = Fate(self.account, {None, b"INBOX"})
        answer = imap.append(b"INBOX", self.mail(token))
        if not answer.ok:
            fate.places, fate.said = {None}, answer.tagged
            return
        fate.uid = answer.number(rb"APPENDUID \d+ (\d+)\]")
        fate.places = {b"INBOX"}
        self._acknowledged(b"INBOX", fate.uid, token)

    def _move(self, imap: ImapWire) -> None:
        mine = self._mine(b"INBOX")
        if not mine:
            return
        token = self._random.choice(mine)
        fate = self._ledger.fates[token]
        fate.places = {b"INBOX", b"Archive"}
        answer = imap.command(b"UID MOVE %d Archive" % fate.uid)
        if answer.ok:
            fate.uid = answer.number(rb"COPYUID \d+ \d+ (\d+)\]")
            fate.places = {b"Archive"}
            self._acknowledged(b"Archive", fate.uid, token)
        else:
            fate.uid = 0

    def _store(self, imap: ImapWire) -> None:
        mine = self._mine(b"INBOX")
        if not mine:
            return
        fate = self._ledger.fates[self._random.choice(mine)]
        flagged = self._random.choice((True, False))
        before, fate.flagged = fate.flagged, fate.flagged | {flagged}
        answer = imap.command(b"UID STORE %d %cFLAGS.SILENT (\\Flagged)" % (fate.uid, b"+" if flagged else b"-"))
        fate.flagged = {flagged} if answer.ok else before | {flagged}
        self._ledger.acknowledged += answer.ok

    def _expunge(self, imap: ImapWire) -> None:
        mine = self._mine(b"INBOX")
        if len(mine) < 5:
            return
        fate = self._ledger.fates[self._random.choice(mine)]
        if not imap.command(b"UID STORE %d +FLAGS.SILENT (\\Deleted)" % fate.uid).ok:
            return
        fate.places = {b"INBOX", None}
        if imap.command(b"UID EXPUNGE %d" % fate.uid).ok:
            fate.places = {None}
            self._ledger.acknowledged += 1

    def _acknowledged(self, mailbox: bytes, uid: int, token: str) -> None:
        self._ledger.acknowledged += 1
        self._ledger.uid_names(self.account, mailbox, uid, token)


class SubmissionClient(Client):
    """alice sends to bob, and to bob and somebody elsewhere in turns."""

    def _session(self, over: threading.Event) -> None:
        with self._server.smtp(None, patience=10) as smtp:
            code, said = smtp.login("alice@one.test", self._server.passwords["alice@one.test"])
            if code != 235:
                assert code in (421, 451, 454), said
                raise Closed(said)
            while not over.is_set():
                token = self.new_token()
                fate = self._ledger.fates[token] = Fate(self.account, {None, b"INBOX"}, submitted=True)
                to = [self.account, "far@elsewhere.example"] if self._random.random() < 0.3 else [self.account]
                code, fate.said = smtp.submit("alice@one.test", to, self.mail(token))
                if code == 250:
                    fate.places = {b"INBOX"}
                    self._ledger.acknowledged += 1
                elif code >= 400:
                    fate.places = {None}
                    smtp.command(b"RSET")


@dataclass
class Rounds:
    server: WholeServer
    seed: int
    clients: int = 3
    seconds: float = 2.0
    ledger: Ledger = field(default_factory=Ledger)
    killed: int = 0

    def play(self, count: int) -> Iterator[str]:
        """One line for each round. Raises AssertionError."""
        chance = random.Random(self.seed)
        for number in range(count):
            if self.server.process is None:
                self.server.start()
            whole = number % 2 == 0
            with self._load(number, chance):
                if whole:
                    self._pause(chance)
                    self.server.kill()
                    self.killed += 1
                else:
                    for _ in range(chance.randint(1, 3)):
                        self._pause(chance)
                        self._kill_role(chance)
            if self.server.process is None:
                self.server.start()
            until(self._is_served, "service after a crash")
            self.ledger.verify(self.server)
            until(lambda: self.server.check("--contents") == [], "a clean check", 20)
            what = "everything" if whole else "single roles"
            yield f"round {number + 1}: {what} killed; {self.ledger.acknowledged} commands were acknowledged, all kept"

    def finish(self) -> None:
        """What a killed role postponed has its time to arrive; then everything must be there."""
        if self.server.process is None:
            self.server.start()
        until(lambda: waiting_here(self.server) == 0, "delivery of what waited", 180)
        self.ledger.verify(self.server)

    def _pause(self, chance: random.Random) -> None:
        threading.Event().wait(chance.uniform(0.1, self.seconds))

    def _kill_role(self, chance: random.Random) -> None:
        pids = self.server.pids(chance.choice(ROLES))
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.killed += 1

    def _is_served(self) -> bool:
        """Everything that the load began is over, and a new session works."""
        try:
            with self.server.imap(patience=5) as imap, self.server.smtp(patience=5) as smtp:
                return imap.command(b"SELECT INBOX").ok and smtp.command(b"NOOP")[0] == 250
        except (Closed, OSError, AssertionError):
            return False

    @contextlib.contextmanager
    def _load(self, number: int, chance: random.Random) -> Iterator[None]:
        over = threading.Event()
        kinds: list[tuple[type[Client], str]] = [(ImapClient, ACCOUNTS[0])] * self.clients + [
            (SubmissionClient, ACCOUNTS[1])
        ]
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
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the random moments; default: the time")
    parser.add_argument("--clients", type=int, default=4, help="IMAP connections under load; default: %(default)s")
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="of load before a kill, at most; default: %(default)s"
    )
    parser.add_argument("--data", type=Path, help="a folder to keep what is left in; default: a temporary one")
    given: Any = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = given.data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cleanmail-crash-")))
        folder.mkdir(parents=True, exist_ok=True)
        server = WholeServer(folder)
        stack.callback(server.kill)
        rounds = Rounds(server, given.seed, given.clients, given.seconds)
        try:
            for line in rounds.play(given.rounds):
                print(line, flush=True)
            rounds.finish()
        except AssertionError as error:
            print(f"WRONG: {error} (--seed {given.seed}; the log ends with:)\n{server.log()[-3000:]}", file=sys.stderr)
            return 1
    print(f"{given.rounds} rounds, {rounds.killed} kills, {rounds.ledger.acknowledged} commands: nothing lost.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
