"""What a server that is killed again and again has acknowledged, and whether it is all there."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import pairwise
from typing import Any

from next_hop import NextHop, Taken
from whole_server import WholeServer
from wire import ImapWire

MAILBOXES = (b"INBOX", b"Archive", b"Junk")
ALICE, BOB, MALLORY = ACCOUNTS = ("alice@one.test", "bob@one.test", "mallory@two.test")
_SUBJECT = re.compile(rb"^Subject: ([\w-]+)\r\n", re.MULTILINE)
_ROW = re.compile(rb"\* \d+ FETCH \((.*?)BODY\[HEADER.FIELDS \(SUBJECT\)\] \{\d+\}\r\n(.*?)\r\n\r\n", re.DOTALL)

Found = dict[bytes, dict[str, list[tuple[int, bool]]]]


@dataclass
class Fate:
    """What is known of one message: where it may be; None is nowhere. Several: the last command was not answered."""

    account: str
    places: set[bytes | None]
    uid: int = 0  # where `places` is one mailbox and the UID is known
    flagged: set[bool] = field(default_factory=lambda: {False})
    said: bytes = b""  # the last refusal


class Kind(Enum):
    WANTED = auto()
    SPAM = auto()  # for mailboxes into Junk, from others withheld
    FORBIDDEN = auto()  # withheld from everybody


@dataclass
class Sent:
    """A message that came by SMTP: for mailboxes here, for somebody at the next hop, or both."""

    accounts: frozenset[str]
    elsewhere: bool
    kind: Kind = Kind.WANTED
    accepted: bool | None = None  # None: the reply never came, so it may have been or not


@dataclass(frozen=True)
class Withheld:
    """The state of each message in the quarantine for each of its recipients, by token and address."""

    states: dict[tuple[str, str], str]

    @classmethod
    def of(cls, server: WholeServer) -> Withheld:
        """A recipient without a mailbox here has many addresses and one state."""
        states: dict[tuple[str, str], str] = {}
        for row in listed(server):
            token = _withheld_token(row)
            for address in row["to"]:
                place = (token, address)
                assert place not in states, f"{token} is withheld twice for the same recipient"
                # All of a message's are released together here.
                states[place] = "held" if row["states"] == ["held"] else "on its way"
        return cls(states)

    def elsewhere(self, token: str) -> str | None:
        return next(
            (state for (held, address), state in self.states.items() if held == token and address not in ACCOUNTS), None
        )


class Ledger:
    """What the server acknowledged, and every number that it ever gave out."""

    def __init__(self, hop: NextHop) -> None:
        self.fates: dict[str, Fate] = {}
        self.sent: dict[str, Sent] = {}
        self.acknowledged = 0
        self.released: set[tuple[str, str]] = set()  # token and account: somebody decided to let it go
        self.junk: set[tuple[str, str]] = set()  # that were seen there
        self.withheld: set[tuple[str, str]] = set()
        self._hop = hop
        self._ends: list[int] = []  # of processes that relay: the number of the last connection that was theirs
        self._tokens: dict[tuple[str, bytes, int], str] = {}
        self._numbers: dict[tuple[str, bytes], dict[bytes, int]] = {}
        self._modseqs: dict[tuple[str, bytes], dict[int, int]] = {}
        self._lock = threading.Lock()

    def acknowledge(self) -> None:
        with self._lock:
            self.acknowledged += 1

    def uid_names(self, account: str, mailbox: bytes, uid: int, token: str) -> None:
        with self._lock:
            known = self._tokens.setdefault((account, mailbox, uid), token)
        assert known == token, f"UID {uid} of {mailbox.decode()} was given to two messages"

    def verify(self, server: WholeServer) -> None:
        """Everything that is there against everything that must be. Raises AssertionError."""
        waiting, withheld = waiting_entries(server), Withheld.of(server)
        strangers = {token for token, _ in withheld.states} - self.sent.keys()
        assert not strangers, f"the quarantine has {strangers}"
        self.withheld |= withheld.states.keys()
        here: set[tuple[str, str]] = set()
        for account in ACCOUNTS:
            with server.imap(account) as imap:
                found = {mailbox: self._read(imap, account, mailbox) for mailbox in MAILBOXES}
            for token, fate in self.fates.items():
                if fate.account == account:
                    self._verify_fate(token, fate, found)
            strangers = {token for rows in found.values() for token in rows} - self.fates.keys() - self.sent.keys()
            assert not strangers, f"nobody sent {strangers}"
            here |= self._verify_arrived(account, found, withheld)
        elsewhere = self._verify_taken(withheld)
        late = len(here) + len(elsewhere)
        assert late <= waiting, f"{late} accepted messages are late ({here}, {elsewhere}), and {waiting} entries wait"

    def release(self, rows: list[dict[str, Any]]) -> None:
        """Somebody decided to let these go: from now on they may be where they would have gone."""
        self.released |= {
            (_withheld_token(row), address if address in ACCOUNTS else "") for row in rows for address in row["to"]
        }

    def relay_ends(self) -> None:
        """The process that relays was killed; another one is the client of what the next hop hears from now on."""
        with self._hop.taken:
            self._ends.append(len(self._hop.talks))

    def duplicates(self) -> int:
        """Copies that the next hop took beyond one of each. Raises AssertionError if one was not to be avoided.

        It is when the client was killed after the final dot, before it had recorded the reply: then another process
        sent the message again.
        """
        copies: dict[str, list[Taken]] = {}
        with self._hop.taken:
            for taken in self._hop.messages:
                copies.setdefault(_token(taken), []).append(taken)
        for token, several in copies.items():
            for earlier, later in pairwise(several):
                killed = any(earlier.connection <= end < later.connection for end in self._ends)
                assert killed, f"{token} was sent twice without need"
        return sum(len(several) - 1 for several in copies.values())

    def _verify_fate(self, token: str, fate: Fate, found: Found) -> None:
        copies = [(mailbox, *copy) for mailbox, rows in found.items() for copy in rows.get(token, [])]
        assert len(copies) <= 1, f"{token} is there {len(copies)} times"
        place = copies[0][0] if copies else None
        assert place in fate.places, f"{token} is in {place!r}, not in one of {fate.places} {fate.said!r}"
        if not copies:
            fate.places = {None}
            return
        _, uid, flagged = copies[0]
        if fate.uid and len(fate.places) == 1:
            assert uid == fate.uid, f"{token} has UID {uid}, not {fate.uid}"
        assert flagged in fate.flagged, f"a flag of {token} is {flagged}"
        fate.places, fate.uid, fate.flagged = {place}, uid, {flagged}

    def _verify_arrived(self, account: str, found: Found, withheld: Withheld) -> set[tuple[str, str]]:
        """The accepted messages that are neither in the mailbox nor withheld, each with the tenant's domain: it has an
        entry there.
        """
        late = set()
        for token, sent in self.sent.items():
            inbox, junk = (len(found[mailbox].get(token, [])) for mailbox in (b"INBOX", b"Junk"))
            copies, state = inbox + junk, withheld.states.get((token, account))
            assert copies <= 1, f"{token} was delivered {copies} times"
            assert not copies or state != "held", f"{token} was delivered and is withheld"
            if junk:
                self.junk.add((token, account))
            if account not in sent.accounts:
                assert not copies and not state, f"{token} is in a mailbox that it was not for, or withheld for it"
            elif sent.accepted is False:
                assert not copies and not state, f"{token} was refused and delivered, or withheld"
            elif copies or state:
                self._verify_judged(token, sent, account, is_inbox=bool(inbox), is_junk=bool(junk))
            elif sent.accepted:
                late.add((token, account.partition("@")[2]))
        return late

    def _verify_judged(self, token: str, sent: Sent, account: str, *, is_inbox: bool, is_junk: bool) -> None:
        """No crash lets pass what is withheld from everybody, nor keeps back what is wanted."""
        passed = is_inbox or is_junk
        if sent.kind is Kind.WANTED:
            assert is_inbox, f"{token} is wanted, and not in the INBOX"
        elif sent.kind is Kind.FORBIDDEN and passed:
            assert (token, account) in self.released, f"{token} was delivered, though it is forbidden"
        elif sent.kind is Kind.SPAM:
            assert is_junk, f"{token} is spam, and not in Junk"

    def _verify_taken(self, withheld: Withheld) -> set[str]:
        """The accepted messages that the next hop has not got, and that are not withheld."""
        with self._hop.taken:
            taken = Counter(_token(each) for each in self._hop.messages)
        strangers = taken.keys() - self.sent.keys()
        assert not strangers, f"the next hop was sent {strangers}"
        late = set()
        for token, sent in self.sent.items():
            state = withheld.elsewhere(token)
            assert not taken[token] or state != "held", f"{token} was relayed and is withheld"
            if not sent.elsewhere or sent.accepted is False:
                assert not taken[token], f"{token} was relayed, and should not be"
            elif taken[token] and sent.kind is not Kind.WANTED:
                assert (token, "") in self.released, f"{token} was relayed, though it is to be withheld"
            elif sent.accepted and not taken[token] and not state:
                late.add(token)
        self.duplicates()
        return late

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


def _withheld_token(row: dict[str, Any]) -> str:
    """Of a message in the quarantine's list: its clients put it into the envelope's sender."""
    sender: str = row["sender"]
    return sender.partition("@")[0]


def listed(server: WholeServer) -> list[dict[str, Any]]:
    """The quarantine's list."""
    done = server.cleanmail("quarantine", "list", "--limit", "1000000", "--json")
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def waiting_entries(server: WholeServer) -> int:
    """Entries of the queue."""
    done = server.cleanmail("queue", "list", "--limit", "1000000", "--json")
    assert done.returncode == 0, done.stderr
    return len(json.loads(done.stdout))


def _token(taken: Taken) -> str:
    found = _SUBJECT.search(taken.content)
    assert found, taken.content[:500]
    return found[1].decode()
