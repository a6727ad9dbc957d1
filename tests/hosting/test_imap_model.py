"""Several sessions at random in one mailbox, each with a client's picture of it: every number must fit.

A picture is what RFC 9051 §7 lets a client conclude: EXISTS lengthens it, EXPUNGE and VANISHED take out, FETCH names
the UID at a number. At the end all pictures agree with the mailbox, and a client that resynchronises from the last
HIGHESTMODSEQ it was told ends up with the same flags (RFC 7162 §3.1.1, §3.2.5).
"""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from imap_play import CoreClient
from imap_town import PASSWORD, MailTown, mail, new_mail_town

_FETCH = re.compile(r"\* (\d+) FETCH \((.*)\)\Z")
_UID = re.compile(r"UID (\d+)")
_FLAGS = re.compile(r"FLAGS \(([^)]*)\)")
_SILENT = ("FETCH", "STORE", "SEARCH")  # by number these may not tell of an EXPUNGE (RFC 9051 §7.5.1)


class Picture:
    """One client: what it may know, and what it asks."""

    def __init__(self, town: MailTown, rng: random.Random, *, qresync: bool) -> None:
        self.client = CoreClient(town.services)
        self.rng = rng
        self.qresync = qresync
        self.uids: list[int | None] = []
        self.flags: dict[int, str] = {}
        self.modseq = 0
        self.uidvalidity = 0
        self.commands = 0
        self.do(f'LOGIN alice@example.test "{PASSWORD}"')
        if qresync:
            self.do("ENABLE QRESYNC")
        self.do("SELECT INBOX")
        self.learn()

    def do(self, command: str, literal: bytes = b"") -> list[str]:
        self.commands += 1
        tag = f"t{self.commands}"
        announced = f" {{{len(literal)}+}}\r\n".encode() if literal else b""
        self.client.send(f"{tag} {command}".encode() + announced + literal + b"\r\n")
        lines = self.client.receive(0)
        assert lines[-1].startswith(tag + " "), lines
        assert not lines[-1].startswith(tag + " BAD"), (command, lines[-1])
        assert "SERVERBUG" not in lines[-1], command
        if command.startswith("SELECT"):
            self.uids, self.flags = [], {}
        for line in lines:
            self.hear(line, command)
        if self.qresync and None in self.uids:  # VANISHED tells UIDs: such a client has to know them
            self.learn()
        return lines

    def hear(self, line: str, command: str) -> None:
        if match := re.fullmatch(r"\* (\d+) EXISTS", line):
            count = int(match[1])
            assert count >= len(self.uids), "EXISTS must not shrink"
            self.uids += [None] * (count - len(self.uids))
        elif match := re.fullmatch(r"\* (\d+) EXPUNGE", line):
            assert not command.startswith(_SILENT), command
            assert not self.qresync
            uid = self.uids.pop(int(match[1]) - 1)
            self.flags.pop(uid or 0, None)
        elif match := re.fullmatch(r"\* VANISHED (\(EARLIER\) )?([\d:,]+)", line):
            assert self.qresync
            assert match[1] or not command.startswith(_SILENT), command
            gone = {uid for part in match[2].split(",") for uid in _range(part)}
            assert not match[1] or command.startswith("SELECT")
            self.uids = [uid for uid in self.uids if uid not in gone]
            self.flags = {uid: flags for uid, flags in self.flags.items() if uid not in gone}
        elif match := _FETCH.fullmatch(line):
            self.hear_fetch(int(match[1]), match[2])
        if match := re.search(r"\[HIGHESTMODSEQ (\d+)\]", line):
            self.modseq = int(match[1])
        if match := re.search(r"\[UIDVALIDITY (\d+)\]", line):
            self.uidvalidity = int(match[1])

    def hear_fetch(self, number: int, items: str) -> None:
        uid_found, flags_found = _UID.search(items), _FLAGS.search(items)
        assert 1 <= number <= len(self.uids), "a number that was not told"
        known = self.uids[number - 1]
        if uid_found:
            uid = int(uid_found[1])
            assert known in (None, uid), f"number {number} was UID {known}, now {uid}"
            self.uids[number - 1] = known = uid
        if flags_found and known is not None:
            words = set(flags_found[1].split()) - {"\\Recent"}
            self.flags[known] = " ".join(sorted(words))

    def learn(self) -> None:
        if self.uids:
            self.do("UID FETCH 1:* (FLAGS)")

    def some(self) -> str:
        low, high = sorted(self.rng.randint(1, len(self.uids)) for _ in range(2))
        return f"{low}:{high}" if self.rng.random() < 0.4 else str(low)

    def step(self) -> None:
        rng = self.rng
        choice = rng.random()
        if choice < 0.2 or not self.uids:
            self.do("APPEND INBOX", mail(f"Number {rng.random()}"))
        elif choice < 0.3:
            self.do("NOOP")
        elif choice < 0.45:
            self.do(f"FETCH {self.some()} (UID FLAGS)")
        elif choice < 0.6:
            sign, flag = rng.choice("+-"), rng.choice(["\\Seen", "\\Deleted", "$Junk", "\\Flagged"])
            silent = rng.choice(["", ".SILENT"])
            lines = self.do(f"STORE {self.some()} {sign}FLAGS{silent} ({flag})")
            if silent or "NO" in lines[-1]:
                self.learn()  # a client would set them itself
        elif choice < 0.7:
            self.do("SEARCH UNSEEN")
        elif choice < 0.78:
            self.do("UID SEARCH DELETED")
        elif choice < 0.86:
            self.do("EXPUNGE")
        elif choice < 0.92:
            self.do(f"COPY {self.some()} INBOX")
        elif choice < 0.96:
            self.do(f"MOVE {self.some()} Archive")
        else:
            self.learn()

    def settle(self) -> dict[int, str]:
        self.do("NOOP")
        self.learn()
        assert None not in self.uids
        assert set(self.flags) == set(self.uids)
        return self.flags


def _range(part: str) -> range:
    first, _, last = part.partition(":")
    return range(int(first), int(last or first) + 1)


@pytest.mark.parametrize("seed", range(6))
def test_pictures_agree(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    with new_mail_town(tmp_path) as town:
        pictures = [Picture(town, rng, qresync=number == 1) for number in range(3)]
        for _ in range(150):
            rng.choice(pictures).step()
            if rng.random() < 0.02:
                town.clock.advance(61)
        resyncing = pictures[1]
        told, before = resyncing.modseq, dict(resyncing.flags)
        agreed = pictures[0].settle()
        assert pictures[2].settle() == agreed
        if told and before:
            resyncing.do("UNSELECT")
            known = ",".join(map(str, sorted(before)))
            resyncing.do(f"SELECT INBOX (QRESYNC ({resyncing.uidvalidity} {told} {known}))")
            for uid, flags in before.items():
                assert uid not in agreed or resyncing.flags.get(uid, flags) == agreed[uid], f"UID {uid}"
        assert resyncing.settle() == agreed
