"""What a server that is killed again and again has acknowledged, and whether it is all there."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

from next_hop import NextHop, Taken
from whole_server import WholeServer
from wire import ImapWire

MAILBOXES = (b"INBOX", b"Archive")
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


@dataclass
class Sent:
    """A message that came by SMTP: for mailboxes here, for somebody at the next hop, or both."""

    accounts: frozenset[str]
    elsewhere: bool
    accepted: bool | None = None  # None: the reply never came, so it may have been or not


class Ledger:
    """What the server acknowledged, and every number that it ever gave out."""

    def __init__(self, hop: NextHop) -> None:
        self.fates: dict[str, Fate] = {}
        self.sent: dict[str, Sent] = {}
        self.acknowledged = 0
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
        waiting = waiting_entries(server)
        here: set[tuple[str, str]] = set()
        for account in ACCOUNTS:
            with server.imap(account) as imap:
                found = {mailbox: self._read(imap, account, mailbox) for mailbox in MAILBOXES}
            for token, fate in self.fates.items():
                if fate.account == account:
                    self._verify_fate(token, fate, found)
            strangers = {token for rows in found.values() for token in rows} - self.fates.keys() - self.sent.keys()
            assert not strangers, f"nobody sent {strangers}"
            here |= self._verify_arrived(account, found)
        elsewhere = self._verify_taken()
        late = len(here) + len(elsewhere)
        assert late <= waiting, f"{late} accepted messages are late ({here}, {elsewhere}), and {waiting} entries wait"

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

    def _verify_arrived(self, account: str, found: Found) -> set[tuple[str, str]]:
        """The accepted messages that are not in the mailbox, each with the tenant's domain: it has an entry there."""
        late = set()
        for token, sent in self.sent.items():
            copies = len(found[b"INBOX"].get(token, []))
            assert copies <= 1, f"{token} was delivered {copies} times"
            if account not in sent.accounts:
                assert not copies, f"{token} is in a mailbox that it was not for"
            elif sent.accepted is False:
                assert not copies, f"{token} was refused and delivered"
            elif sent.accepted and not copies:
                late.add((token, account.partition("@")[2]))
        return late

    def _verify_taken(self) -> set[str]:
        """The accepted messages that the next hop has not got."""
        with self._hop.taken:
            taken = Counter(_token(each) for each in self._hop.messages)
        strangers = taken.keys() - self.sent.keys()
        assert not strangers, f"the next hop was sent {strangers}"
        late = set()
        for token, sent in self.sent.items():
            if not sent.elsewhere or sent.accepted is False:
                assert not taken[token], f"{token} was relayed, and should not be"
            elif sent.accepted and not taken[token]:
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


def waiting_entries(server: WholeServer) -> int:
    """Entries of the queue."""
    done = server.cleanmail("queue", "list", "--limit", "1000000", "--json")
    assert done.returncode == 0, done.stderr
    return len(json.loads(done.stdout))


def _token(taken: Taken) -> str:
    found = _SUBJECT.search(taken.content)
    assert found, taken.content[:500]
    return found[1].decode()
