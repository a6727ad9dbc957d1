"""Everybody is at work while a contract or an account ends: who was answered what, and when.

IMAP (append, fetch, search, move, IDLE), notes over CalDAV, submission, mail from outside, and the commands import,
export and backup. A
write counts as acknowledged by the time at which its command was begun, so an answer that is late says nothing wrong.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whole_server import PASSWORD, PATIENCE, WholeServer
from wire import Closed, SmtpWire

FAR = "far@elsewhere.test"  # behind a next hop that never takes anything
_BETWEEN = 0.02  # seconds from one answer to the next command of a client: time for what ends to get on
_COMMANDS = (b"UID MOVE %d Archive", b"UID FETCH %d BODY.PEEK[]", b"UID SEARCH UID %d BODY x")
MAILBOXES = (b"INBOX", b"Archive", b"Junk", b"Notes")
_numbers = itertools.count()  # of messages and files, of all loads
_SUBJECT = re.compile(rb"^Subject: ([\w-]+)\r\n", re.MULTILINE)

STAYS = "mallory@stay.test"
BUSY = ("alice@busy.test", "bob@busy.test", "carol@busy.test")
KILLED = ("first", "second", "third")
TOWN: dict[str, Any] = {
    "tenants": {
        "stay": {"domains": {"stay.test": True}, "accounts": {STAYS: {"password": PASSWORD}}},
        "busy": {"domains": {"busy.test": True}, "accounts": {each: {"password": PASSWORD} for each in BUSY}},
        **{
            slug: {"domains": {f"{slug}.test": True}, "accounts": {f"ann@{slug}.test": {"password": PASSWORD}}}
            for slug in KILLED
        },
    }
}


@dataclass(frozen=True)
class Write:
    """An acknowledged one: from then on the message is in a mailbox of each of these accounts."""

    token: str
    accounts: tuple[str, ...]
    begun: float


@dataclass
class Ledger:
    writes: list[Write] = field(default_factory=list)
    refusals: Counter[bytes] = field(default_factory=Counter)
    last_words: list[tuple[str, float, bytes]] = field(default_factory=list)  # to those who wait in IDLE
    commands: list[tuple[str, int, str, float]] = field(default_factory=list)  # name, status, errors, seconds
    answered: dict[str, list[float]] = field(default_factory=dict)  # when each client was last answered anything good
    wrong: list[str] = field(default_factory=list)

    def of(self, account: str) -> list[Write]:
        return [write for write in self.writes if account in write.accounts]

    def longest_gap(self, client: str) -> float:
        """Seconds for which it got no good answer."""
        return max((b - a for a, b in itertools.pairwise(self.answered[client])), default=0.0)


class Load:
    """Threads, each with one connection after the other."""

    def __init__(self, server: WholeServer, ledger: Ledger, seed: int) -> None:
        self._server, self._ledger = server, ledger
        self._chance = random.Random(seed)
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    @contextmanager
    def running(self, accounts: Sequence[str], commands: Sequence[tuple[str, ...]]) -> Iterator[None]:
        for account in accounts:
            self._begin(f"imap {account}", self._imap, account)
            self._begin(f"idle {account}", self._idle, account)
            self._begin(f"submission {account}", self._submission, account)
            self._begin(f"mx {account}", self._mx, account)
            self._begin(f"dav {account}", self._dav, account)
        for arguments in commands:
            self._begin(" ".join(arguments[:2]), self._command, arguments)
        try:
            yield
        finally:
            self._over.set()
            end = time.monotonic() + PATIENCE
            for thread in self._threads:
                thread.join(max(0.0, end - time.monotonic()))
            self._ledger.wrong += [f"{each.name} hangs" for each in self._threads if each.is_alive()]

    def _begin(self, name: str, session: Callable[..., None], *arguments: Any) -> None:
        chance = random.Random(self._chance.random())

        def run() -> None:
            while not self._over.is_set():
                try:
                    session(name, chance, *arguments)
                except (Closed, ConnectionError):
                    self._over.wait(0.05)
                except TimeoutError:
                    self._ledger.wrong.append(f"{name} was not answered")
                    return
                except BaseException as error:  # the thread's end; the test shows it
                    self._ledger.wrong.append(f"{name}: {error!r}")
                    return

        self._threads.append(threading.Thread(target=run, name=name, daemon=True))
        self._threads[-1].start()

    def _token(self, name: str) -> str:
        return f"{re.sub('[^a-z]', '-', name)}-{next(_numbers)}"

    def _good(self, name: str) -> None:
        self._ledger.answered.setdefault(name, []).append(time.monotonic())

    def _refused(self, said: bytes) -> None:
        self._ledger.refusals[re.sub(rb"[0-9]{2,}[^ ]*$|<.*>", b"", said.strip())[:60]] += 1
        self._over.wait(0.05)

    # Sessions

    def _imap(self, name: str, chance: random.Random, account: str) -> None:
        with self._server.imap(None) as imap:
            answer = imap.login(account, PASSWORD)
            if not answer.ok:
                return self._refused(answer.tagged)
            imap.command(b"SELECT INBOX")
            while not self._over.is_set():
                token, begun = self._token(name), time.time()
                answer = imap.append(b"INBOX", mail(token))
                if not answer.ok:
                    return self._refused(answer.tagged)
                self._ledger.writes.append(Write(token, (account,), begun))
                uid = answer.number(rb"APPENDUID \d+ (\d+)\]")
                command = chance.choice(
                    (b"UID MOVE %d Archive", b"UID FETCH %d BODY.PEEK[]", b"UID SEARCH UID %d BODY x")
                )
                answer = imap.command(command % uid)
                if not answer.ok:
                    return self._refused(answer.tagged)
                self._good(name)
                self._over.wait(_BETWEEN)

    def _idle(self, name: str, chance: random.Random, account: str) -> None:
        with self._server.imap(None) as imap:
            answer = imap.login(account, PASSWORD)
            if not answer.ok:
                return self._refused(answer.tagged)
            imap.command(b"SELECT INBOX")
            imap.begin(b"IDLE")
            imap.socket.settimeout(0.5)
            said = b""
            try:
                while not self._over.is_set():
                    with suppress(TimeoutError):
                        said = imap.line()
            except Closed:
                self._ledger.last_words.append((account, time.time(), said))

    def _submission(self, name: str, chance: random.Random, account: str) -> None:
        with self._server.smtp(None) as smtp:
            code, said = smtp.login(account, PASSWORD)
            if code != 235:
                return self._refused(said)
            while not self._over.is_set():
                token, begun = self._token(name), time.time()
                code, said = smtp.submit(account, [account, FAR], mail(token, account))
                if code != 250:
                    return self._refused(said)
                self._ledger.writes.append(Write(token, (account,), begun))
                self._good(name)
                self._over.wait(_BETWEEN)

    def _mx(self, name: str, chance: random.Random, account: str) -> None:
        with SmtpWire(self._server.ports["mx"]) as smtp:
            smtp.command(b"EHLO mx.elsewhere.test")
            while not self._over.is_set():
                token, begun = self._token(name), time.time()
                code, said = smtp.submit(FAR, [account], mail(token))
                if code != 250:
                    return self._refused(said)
                self._ledger.writes.append(Write(token, (account,), begun))
                self._good(name)
                self._over.wait(_BETWEEN)

    def _dav(self, name: str, chance: random.Random, account: str) -> None:
        """Notes over CalDAV: each is a message of the mailbox Notes too, in the same commit."""
        with self._server.dav(account, PASSWORD) as client:
            while not self._over.is_set():
                token, begun = self._token(name), time.time()
                answer = client.ask("PUT", f"/dav/calendars/{account}/notes/{token}.ics", note(token))
                if answer.status != 201:
                    return self._refused(b"%d over HTTP" % answer.status)
                self._ledger.writes.append(Write(token, (account,), begun))
                self._good(name)
                self._over.wait(0.1)

    def _command(self, name: str, chance: random.Random, arguments: tuple[str, ...]) -> None:
        begun = time.monotonic()
        place = [each.format(number=next(_numbers)) for each in arguments]
        done = self._server.cleanmail(*place)
        self._ledger.commands.append((name, done.returncode, done.stderr, time.monotonic() - begun))
        self._over.wait(0.2)


def mail(token: str, author: str = FAR) -> bytes:
    return f"From: {author}\r\nSubject: {token}\r\n\r\n{token} {'x' * 70}\r\n".encode()


def note(token: str) -> bytes:
    return (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//EN\r\nBEGIN:VJOURNAL\r\n"
        f"UID:{token}\r\nDTSTAMP:20260101T000000Z\r\nSUMMARY:{token}\r\nEND:VJOURNAL\r\nEND:VCALENDAR\r\n"
    ).encode()


def tokens_of(server: WholeServer, account: str) -> Counter[str]:
    """How often each message is in the account's mailboxes."""
    found: Counter[str] = Counter()
    with server.imap(account, PASSWORD) as imap:
        for mailbox in MAILBOXES:
            if imap.command(b"SELECT " + mailbox).ok:
                rows = imap.command(b"FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]").text
                found.update(each.decode() for each in _SUBJECT.findall(rows))
    return found


def is_healthy(server: WholeServer) -> bool:
    """Every process is ready."""
    place = f"http://127.0.0.1:{server.ports['operations']}/health"
    with suppress(OSError), urllib.request.urlopen(place, timeout=10) as answer:
        return bool(json.load(answer)["status"] == "ok")
    return False


def mbox(path: Path, count: int) -> Path:
    """So many messages that were stored elsewhere."""
    path.write_bytes(b"".join(b"From x Thu Jan  1 00:00:00 2026\n" + mail(f"old-{n}").replace(b"\r\n", b"\n") + b"\n"
                              for n in range(count)))  # fmt: skip
    return path
