"""One IMAP client's picture of a mailbox, held to the truth with every line that the server sends.

A picture is what RFC 9051 §7 lets a client conclude: EXISTS lengthens it, EXPUNGE and VANISHED take out, FETCH gives
the flags at a number. Whatever contradicts the truth, goes back to an older state, or comes where it may not is an
AssertionError at that line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from imap_play import CoreClient
from imap_town import PASSWORD
from imap_truth import Box, Flags

from hosting.imap.session import Services

_FETCH = re.compile(r"\* (\d+) FETCH \((.*)\)\Z", re.DOTALL)
_UID = re.compile(r"UID (\d+)")
_FLAGS = re.compile(r"FLAGS \(([^)]*)\)")
_MODSEQ = re.compile(r"MODSEQ \((\d+)\)")
_VANISHED = re.compile(r"\* VANISHED (\(EARLIER\) )?([\d:,]+)")
_TOKEN = re.compile(r"Subject: (Number \d+)")
_BY_NUMBER = ("FETCH", "STORE", "SEARCH")  # these may not tell of an EXPUNGE (RFC 9051 §7.5.1)
_ARRIVALS = ("NOOP", "CHECK", "IDLE", "APPEND", "COPY", "UID COPY", "MOVE", "UID MOVE", "REPLACE", "UID REPLACE")
_ARRIVALS_LATE = (*_ARRIVALS, "SEARCH", "UID SEARCH")  # a search tells, if nobody asked for a minute


@dataclass(frozen=True)
class State:
    """What a client keeps to come back with (RFC 7162 §3.2.5)."""

    box: Box
    modseq: int
    uids: tuple[int, ...]
    flags: dict[int, Flags]


@dataclass
class Known:
    """The flags of a message as the client knows them, and which of its states they are at least as new as."""

    flags: Flags
    at: int


@dataclass
class Answer:
    done: str  # the tagged line without its tag
    lines: list[str]
    earlier: set[int] = field(default_factory=set)  # VANISHED (EARLIER)
    fetched: dict[int, str] = field(default_factory=dict)  # items of FETCH by UID
    found: list[int] | None = None  # SEARCH, ESEARCH ALL
    modseq: int = 0  # the last HIGHESTMODSEQ

    def code(self, word: str) -> str | None:
        for line in (*self.lines, self.done):
            if match := re.search(rf"\[{word} ?([^\]]*)\]", line):
                return match[1]
        return None


class Picture:
    def __init__(self, services: Services, name: str, enable: str, log: Callable[[str], None]) -> None:
        self.name = name
        self.enable = enable
        self.log = log
        self.condstore = enable != ""
        self.qresync = "QRESYNC" in enable
        self.rev2 = "REV2" in enable
        self.states: list[State] = []
        self.commands = 0
        self.forget()
        self.client = CoreClient(services)
        self.client.receive(0)
        self.do(f'LOGIN alice@example.test "{PASSWORD}"')
        if enable:
            self.do(f"ENABLE {enable}")

    def forget(self) -> None:
        self.box: Box | None = None
        self.read_only = False
        self.idling = False
        self.uids: list[int] = []
        self.known: dict[int, Known] = {}
        self.saved: list[int] = []
        self.keywords: set[str] = set()
        self.ended = False

    # --- commands ---

    def do(self, command: str, *literals: bytes, effect: Callable[[Answer], None] | None = None) -> Answer:
        """Sends a command, has the truth changed by what its answer reports, and takes the answer in.

        Each literal follows its "{}" in the command.
        """
        self.commands += 1
        tag = f"t{self.commands}"
        octets = f"{tag} ".encode()
        for part, literal in zip(command.split("{}"), (*literals, None), strict=True):
            octets += part.encode()
            if literal is not None:
                octets += b"{%d+}\r\n" % len(literal) + literal
        self.log(f"{self.name} C: {command}")
        self.client.send(octets + b"\r\n")
        return self.answered(command, tag, effect)

    def begin_idle(self) -> None:
        self.commands += 1
        self.log(f"{self.name} C: IDLE")
        self.client.send(f"t{self.commands} IDLE\r\n".encode())
        self.idling = True
        self.heard_in_idle()

    def heard_in_idle(self) -> None:
        answer = Answer("", [line for line in self.received() if not line.startswith("+ ")])
        self.take(answer, "IDLE")
        if not self.ended:
            self.check_all()

    def end_idle(self) -> None:
        self.log(f"{self.name} C: DONE")
        self.client.send(b"DONE\r\n")
        self.idling = False
        self.answered("IDLE", f"t{self.commands}", None)

    def answered(self, command: str, tag: str, effect: Callable[[Answer], None] | None) -> Answer:
        lines = self.received()
        if lines[-1].startswith("* BYE"):
            self.ended = True
            lines.pop()
        assert lines[-1].startswith(tag + " "), lines
        answer = Answer(lines[-1].removeprefix(tag + " "), lines[:-1])
        assert not answer.done.startswith("BAD"), answer.done
        assert "SERVERBUG" not in answer.done
        if self.box is not None and self.box.deleted:
            return answer  # what a session says of a mailbox that is no more is nobody's business
        if effect is not None:
            effect(answer)
        self.take(answer, command)
        return answer

    def received(self) -> list[str]:
        text = "\r\n".join([*self.client.receive(0), ""])
        lines = _lines(text)
        for line in lines:
            self.log(f"{self.name} S: {line}")
        return lines

    def take(self, answer: Answer, command: str) -> None:
        for line in answer.lines:
            self.hear(line, command, answer)
        for line in (*answer.lines, answer.done):
            if match := re.search(r"\[HIGHESTMODSEQ (\d+)\]", line):
                answer.modseq = int(match[1])
        if answer.modseq and self.box is not None and not command.startswith(("SELECT", "EXAMINE")):
            self.keep(answer.modseq)
        if command == "CLOSE":
            self.forget()

    def keep(self, modseq: int) -> None:
        assert self.box is not None
        assert modseq <= self.box.highest, "HIGHESTMODSEQ from the future"
        flags = {uid: known.flags for uid, known in self.known.items()}
        self.states.append(State(self.box, modseq, tuple(self.uids), flags))
        del self.states[:-12]

    # --- answers ---

    def hear(self, line: str, command: str, answer: Answer) -> None:
        if match := re.fullmatch(r"\* (\d+) EXISTS", line):
            self.hear_exists(int(match[1]), command)
        elif match := re.fullmatch(r"\* (\d+) EXPUNGE", line):
            self.hear_expunge(int(match[1]), command)
        elif match := _VANISHED.fullmatch(line):
            self.hear_vanished(set(members(match[2])), command, answer if match[1] else None)
        elif match := _FETCH.fullmatch(line):
            self.hear_fetch(int(match[1]), match[2], command, answer)
        elif match := re.fullmatch(r"\* FLAGS \(([^)]*)\)", line):
            self.keywords = set(match[1].split())
        elif match := re.fullmatch(r"\* SEARCH((?: \d+)*)(?: \(MODSEQ \d+\))?", line):
            answer.found = [int(word) for word in match[1].split()]
        elif line.startswith("* ESEARCH"):
            every = re.search(r" ALL ([\d:,]+)", line)
            answer.found = members(every[1]) if every else []

    def hear_exists(self, count: int, command: str) -> None:
        assert self.box is not None
        if command.startswith(("SELECT", "EXAMINE")):
            self.uids = list(self.box.messages)
            self.known, self.saved = {}, []
            assert count == len(self.uids), f"EXISTS {count} at SELECT of {len(self.uids)} messages"
            return
        assert command.startswith(_ARRIVALS_LATE), f"EXISTS in the answer to {command}"
        last = self.uids[-1] if self.uids else 0
        self.uids += [uid for uid in self.box.messages if uid > last]
        assert count == len(self.uids), f"EXISTS {count}, and a client counts {len(self.uids)}"

    def hear_expunge(self, number: int, command: str) -> None:
        assert not self.qresync, "EXPUNGE after ENABLE QRESYNC (RFC 7162 §3.2.10)"
        assert 1 <= number <= len(self.uids), "EXPUNGE of a number that was not told"
        self.lose({self.uids[number - 1]}, command)

    def hear_vanished(self, uids: set[int], command: str, earlier: Answer | None) -> None:
        assert self.box is not None
        assert self.qresync, "VANISHED without ENABLE QRESYNC"
        assert not uids & self.box.messages.keys(), "VANISHED of messages that are there"
        assert max(uids) < self.box.uidnext
        if earlier is None:
            self.lose(uids, command)
            return
        assert "QRESYNC (" in command or "VANISHED" in command, f"VANISHED (EARLIER) in the answer to {command}"
        earlier.earlier |= uids

    def lose(self, uids: set[int], command: str) -> None:
        assert self.box is not None
        assert not command.startswith((*_BY_NUMBER, "SELECT", "EXAMINE")), f"an EXPUNGE in the answer to {command}"
        assert uids <= set(self.uids), "an EXPUNGE of what was never told, or told before"
        assert not uids & self.box.messages.keys(), "an EXPUNGE of a message that is there"
        self.uids = [uid for uid in self.uids if uid not in uids]
        self.saved = [uid for uid in self.saved if uid not in uids]
        for uid in uids:
            self.known.pop(uid, None)

    def hear_fetch(self, number: int, items: str, command: str, answer: Answer) -> None:
        assert self.box is not None
        assert 1 <= number <= len(self.uids), "FETCH of a number that was not told"
        uid = self.uids[number - 1]
        found = _UID.search(items)
        assert found is None or int(found[1]) == uid, f"number {number} is UID {uid}, and FETCH says {items}"
        assert found or not self.qresync or command.startswith("FETCH"), "RFC 7162 §3.2.3: no UID"
        message = self.box.messages.get(uid) or self.box.gone[uid]
        answer.fetched[uid] = f"{answer.fetched.get(uid, '')} {items}"
        if token := _TOKEN.search(items):
            assert token[1] == message.token, f"UID {uid} has the text of another message"
        modseq, flags = _MODSEQ.search(items), _FLAGS.search(items)
        if flags is None:
            if modseq:
                assert int(modseq[1]) in [each for _, each in message.history], f"UID {uid} never had {items}"
            return
        told = frozenset(flags[1].split()) - {"\\Recent"}
        assert not (self.rev2 and "\\Recent" in flags[1])
        assert told <= self.keywords, f"a flag that FLAGS did not name: {items}"
        assert modseq or not self.condstore or "FETCH" in command, f"RFC 7162 §3.1: no MODSEQ in {items}"
        known = self.known.get(uid)
        since = known.at if known else 0
        for at, (flags_then, modseq_then) in enumerate(message.history[since:], since):
            if flags_then == told and (not modseq or modseq_then == int(modseq[1])):
                self.known[uid] = Known(told, at)
                break
        else:
            raise AssertionError(f"UID {uid} was {message.history[since:]} since it was told, never {items}")

    def note(self, uid: int, flags: Flags) -> None:
        """The client remembered these."""
        assert self.box is not None
        self.known[uid] = Known(flags, len(self.box.messages[uid].history) - 1)

    # --- checks ---

    def check_old(self) -> None:
        """The client knows every change of what it was told of."""
        if self.box is None:
            return
        messages = self.box.messages
        assert all(uid in messages for uid in self.uids), "an EXPUNGE was not told"
        for uid, known in self.known.items():
            assert known.flags == messages[uid].flags, (
                f"UID {uid} is {sorted(messages[uid].flags)}, and a client believes {sorted(known.flags)}"
            )
            known.at = len(messages[uid].history) - 1

    def check_all(self) -> None:
        self.check_old()
        if self.box is not None:
            assert self.uids == list(self.box.messages), "a new message was not told"


def members(uids: str) -> list[int]:
    """All numbers of a set."""
    found: list[int] = []
    for part in uids.split(","):
        first, _, last = part.partition(":")
        found += range(int(first), int(last or first) + 1)
    return found


def as_set(numbers: Iterable[int]) -> str:
    return ",".join(map(str, numbers))


def _lines(text: str) -> list[str]:
    """Responses, each with its literals."""
    lines, start, at = [], 0, 0
    while at < len(text):
        end = text.index("\r\n", at)
        literal = re.search(r"\{(\d+)\}\Z", text[at:end])
        if literal:
            at = end + 2 + int(literal[1])
            continue
        lines.append(text[start:end])
        start = at = end + 2
    return lines
