"""Sends real mail through port 25 of a fresh server, and balances what was accepted against where it all is.

    scripts/books [--corpus FILE] [--messages N] [--untrained] [--sessions N] [--load-tool FILE] [--work DIR] [--json]

The corpus (a folder or a tar archive of messages) goes in turns to mailboxes of one tenant and to the own server of
another, which is Debian's smtp-sink; some goes to both, and some also to own servers that refuse it, defer it, or are
down, so that bounces, notices and a queue come about: one in seven senders fails SPF. The filter judges all of it: it
learned two thirds of the corpus before, where the folders in it are called after ham and spam, unless it is to know
nothing. Then each number is taken from where the mail is (mailboxes by IMAP, INBOX and Junk; the sink's files; the
queue's list; the reports that the senders' own server took; the administrator's mailbox; the quarantine's list), and
once more from the traces:

    accepted = delivered + forwarded + queued + bounced + quarantined

Then everything that was withheld is released by command, and the books must balance again, with nothing in the
quarantine.

Every message must be at each of its places exactly once, or for that recipient in the quarantine, octet by octet as it
was sent (what has lines that are too long for a next hop arrives there folded; that is counted, and what a reader sees
of it is compared). What has a lone CR is no mail, and must be refused; what the filter refused must be nowhere. With a
load generator, its probes for smuggled messages must be refused too. No line of the operational log, at its lowest
level, may name a correspondent.

Exits with 1 if anything does not balance. It wants smtp-sink (package postfix); nothing listens but on loopback.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import books_sources as sources
from books_traffic import (
    DEFERRING,
    DOWN,
    FORGED,
    KEPT,
    KNOWN,
    MAILBOXES,
    REFUSING,
    RELAYED,
    Answers,
    Message,
    corpus,
    send,
)
from dns_server import DnsServer
from next_hop import NextHop
from whole_server import PASSWORD, ROOT, WholeServer, free_ports, running, until

SHARED = ROOT.parent / "shared"
CORPUS = SHARED / "corpora" / "spamassassin-public.tar.xz"
LOAD_TOOL = SHARED / "tools" / "smtp_load.py"
ADMINISTRATOR = "administrator@office.test"
PROBED = f"probed@{KEPT}"
TOWN: dict[str, Any] = {
    "tenants": {
        "kept": {
            "domains": {KEPT: True},
            "accounts": {
                f"{name}@{KEPT}": {"password": PASSWORD} for name in ("probed", *(f"u{n}" for n in range(MAILBOXES)))
            },
        },
        "routed": {
            "domains": {"office.test": True, **dict.fromkeys((RELAYED, REFUSING, DEFERRING, DOWN), True)},
            "accounts": {ADMINISTRATOR: {"password": PASSWORD}},
        },
    }
}
ZONE = {
    KNOWN: {"MX": f"10 mx.{KNOWN}.", "TXT": "v=spf1 ip4:127.0.0.1 -all"},
    f"mx.{KNOWN}": {"A": "127.0.0.1"},
    FORGED: {"MX": f"10 mx.{KNOWN}.", "TXT": "v=spf1 -all"},
}
_FATES = {KEPT: "delivered", RELAYED: "forwarded", REFUSING: "bounced", DEFERRING: "queued", DOWN: "queued"}
PATIENCE = 600.0  # seconds for all that can be settled to be settled
QUARANTINE_AT, REJECT_AT = "8", "12"  # scores, for mail to mailboxes; the rest of what is spam goes to Junk


@dataclass
class Books:
    """The two sides, by recipient, with the source of each number; and everything that is wrong."""

    counts: dict[str, tuple[int, str]] = field(default_factory=dict)
    traces: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    sent: dict[int, Message] = field(default_factory=dict, repr=False)  # that was accepted
    refused: frozenset[str] = frozenset()  # senders of what the filter refused

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            self.wrong.append(what)


@dataclass(frozen=True)
class Town:
    server: WholeServer
    sink: Path
    senders: NextHop  # the server of those who sent the mail
    hops: tuple[NextHop, ...]


@contextlib.contextmanager
def town(folder: Path) -> Iterator[Town]:
    """Everything runs, and the routes are set."""
    sink = folder / "sink"
    sink.mkdir()
    with contextlib.ExitStack() as stack:
        sink_port = free_ports()["mx"]
        stack.enter_context(_sink(sink, sink_port))
        dns = stack.enter_context(DnsServer(ZONE))
        senders, refusing, deferring = (stack.enter_context(NextHop()) for _ in range(3))
        refusing.script["RCPT"] = ["550 5.1.1 there is no such user"]
        deferring.script["RCPT"] = ["451 4.3.0 come again another time"]
        settings = (
            f'[dns]\nnameservers = ["127.0.0.1"]\nport = {dns.port}\n'
            f'[relay]\nport = {senders.port}\nprivate_networks = ["127.0.0.0/8"]\n[logs]\nlevel = "debug"\n'
        )
        cores = len(os.sched_getaffinity(0))
        server = WholeServer(folder, TOWN, settings=settings, workers=cores, smtp_workers=cores)
        stack.enter_context(running(server))
        ports = {RELAYED: sink_port, REFUSING: refusing.port, DEFERRING: deferring.port, DOWN: free_ports()["mx"]}
        for domain, port in ports.items():
            done = server.cleanmail("route", "set", domain, "--server", f"127.0.0.1:{port}", "--no-verify")
            assert done.returncode == 0, done.stderr
        for rule, score in (("quarantine_at", QUARANTINE_AT), ("reject_at", REJECT_AT)):
            done = server.cleanmail("filter", "policy", "set", rule, score, "--domain", KEPT)
            assert done.returncode == 0, done.stderr
        yield Town(server, sink, senders, (refusing, deferring))


@contextlib.contextmanager
def _sink(folder: Path, port: int) -> Iterator[None]:
    """smtp-sink, which keeps each message in a file of its own."""
    command = ["smtp-sink", "-d", f"{folder}/%H%M%S."]
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody")
        command += ["-u", "nobody"]
    process = subprocess.Popen([*command, f"127.0.0.1:{port}", "1000"])
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def teach(server: WholeServer, messages: Sequence[Message]) -> None:
    """The shared model learns them, by command."""
    with tempfile.TemporaryDirectory(prefix="cleanmail-corpus-") as folder:
        for message in messages:
            if message.is_spam is not None:
                file = Path(folder, "spam" if message.is_spam else "ham", f"{message.number:06}.eml")
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(message.octets)
        done = server.cleanmail("filter", "train", folder, patience=PATIENCE)
        assert done.returncode == 0, done.stderr


def balance(town: Town, messages: list[Message], sessions: int) -> Books:
    """Sends them all, waits until nothing more can be settled, and counts."""
    books = Books()
    began = time.monotonic()
    answers = send(messages, town.server.ports["mx"], sessions, lambda done: _say(f"sent {done} of {len(messages)}"))
    books.notes["messages sent"] = len(messages)
    books.notes["messages accepted"] = len(answers.accepted)
    books.notes["accepted a second"] = round(len(answers.accepted) / (time.monotonic() - began), 1)
    _check_refusals(books, messages, answers)
    books.sent = {message.number: message for message in answers.accepted}
    _settle(books, town)
    return books


def release(town: Town, before: Books) -> Books:
    """Lets go all that is withheld, and counts again."""
    books = Books(sent=before.sent, refused=before.refused)
    began = time.monotonic()
    released = 0
    for tenant in TOWN["tenants"]:
        done = town.server.cleanmail("quarantine", "release", "--tenant", tenant, "--yes", "--json", patience=PATIENCE)
        books.check(done.returncode == 0, f"not all is released: {done.stderr}")
        released += len(json.loads(done.stdout or '{"messages": []}')["messages"])
    books.notes["messages released"] = released
    books.notes["seconds until released"] = round(time.monotonic() - began, 1)
    _settle(books, town)
    books.check(books.counts["quarantined"][0] == 0, "something is still withheld")
    return books


def _settle(books: Books, town: Town) -> None:
    began = time.monotonic()
    withheld = sources.withheld(town.server, books.sent)
    wanted = Counter((n, each) for n, message in books.sent.items() for each in message.recipients)
    books.check(not withheld.copies - wanted, f"the quarantine has too much: {_shown(withheld.copies - wanted)}")
    passed = wanted - withheld.copies
    due = Counter(_fate(recipient) for _, recipient in passed.elements())

    def settled() -> bool:
        waiting, reports = (sources.queued(town.server, origin) for origin in ("mx", "notice"))
        _say(f"{waiting} recipients wait, and {reports} reports")
        return waiting <= due["queued"] and not reports

    with contextlib.suppress(AssertionError):  # the books will show what is missing
        until(settled, "what is due", PATIENCE)
    books.notes["seconds until settled"] = round(time.monotonic() - began, 1)
    _count(books, town, passed, withheld)
    _check_places(books, town)


def _fate(recipient: str) -> str:
    return _FATES[recipient.partition("@")[2]]


def _check_refusals(books: Books, messages: list[Message], answers: Answers) -> None:
    no_mail = {message.number for message in messages if not message.is_mail}
    unwanted = {number for number, said in answers.refused.items() if said.startswith(b"550 5.7.1 ")} - no_mail
    books.refused = frozenset(message.sender for message in messages if message.number in unwanted)
    books.notes["refused for a lone CR"] = len(no_mail & answers.refused.keys())
    books.notes["refused by the filter"] = len(unwanted)
    for number in sorted(no_mail ^ (answers.refused.keys() - unwanted)):
        said = answers.refused.get(number, b"250, though it has a lone CR").decode(errors="replace").strip()
        books.wrong.append(f"message {number} got: {said}")


def _count(books: Books, town: Town, passed: Counter[tuple[int, str]], withheld: sources.Found) -> None:
    """`passed` are the messages that were accepted and not withheld, by recipient."""
    server, sent = town.server, books.sent
    kept, junk = (sources.in_mailboxes(server, sent, mailbox) for mailbox in ("INBOX", "Junk"))
    relayed = sources.at_next_hop(town.sink, sent)
    reports, notices = sources.bounced(town.senders), sources.told(server, ADMINISTRATOR)
    here = kept.copies + junk.copies
    books.counts = {
        "accepted": (sum(len(message.recipients) for message in sent.values()), "replies of port 25"),
        "delivered": (here.total(), "mailboxes by IMAP"),
        "forwarded": (relayed.copies.total(), "files of smtp-sink"),
        "queued": (sources.queued(server, "mx"), "cleanmail queue list"),
        "bounced": (reports.total(), "reports at the senders' server"),
        "not bounced": (notices.total(), "notices to the administrator"),
        "quarantined": (withheld.copies.total(), "cleanmail quarantine list"),
    }
    books.notes["of those delivered in Junk"] = junk.copies.total()
    accepted, *others = (count for count, _ in books.counts.values())
    books.check(accepted == sum(others), f"{accepted - sum(others)} of the accepted recipients are nowhere")
    for place, copies, fate in (("mailboxes", here, "delivered"), ("the next hop", relayed.copies, "forwarded")):
        due = Counter(
            (n, each if fate == "delivered" else "next hop") for n, each in passed.elements() if _fate(each) == fate
        )
        books.check(copies == due, f"missing in {place}: {_shown(due - copies)}")
        books.check(not copies - due, f"too often in {place}: {_shown(copies - due)}")
    for place, found in (("INBOX", kept), ("Junk", junk), ("the next hop", relayed), ("the quarantine", withheld)):
        books.check(not found.strange, f"{place} has {found.strange} messages that nobody sent")
        books.check(not found.different, f"{place} has other octets of {found.different[:10]}")
        books.notes[f"octet by octet the same, {place}"] = found.same
    books.notes["folded for the next hop, text the same"] = relayed.folded
    refused = Counter(number for (number, each) in passed.elements() if _fate(each) == "bounced")
    for found_reports, forged in ((reports, False), (notices, True)):
        due_reports = Counter({n: count for n, count in refused.items() if sent[n].sender.endswith(FORGED) is forged})
        books.check(found_reports == due_reports, f"{'notices' if forged else 'reports'} are not those that are due")


def _check_places(books: Books, town: Town) -> None:
    """The traces say the same; they are written within a second or two."""
    senders = frozenset(message.sender for message in books.sent.values())
    traced: list[sources.Traced] = []

    def same() -> bool:
        traced[:] = [sources.traced(town.server, senders, books.refused)]
        return all(traced[0].counts[name] == count for name, (count, _) in books.counts.items())

    with contextlib.suppress(AssertionError):
        until(same, "the traces", 30)
    books.traces = traced[0].counts
    for name, (count, _) in books.counts.items():
        books.check(books.traces[name] == count, f"{name}: the traces say {books.traces[name]}, not {count}")
    books.check(traced[0].rejected.keys() == books.refused, "the traces do not tell of what the filter refused")
    books.notes |= {f"verdict {name}": count for name, count in traced[0].verdicts.most_common()}
    books.notes |= {f"for {name}": count for name, count in traced[0].reasons.most_common()}
    books.check(not town.server.check("--contents"), "cleanmail check --contents finds something")
    lines = town.server.log().splitlines()
    books.notes["lines of the operational log"] = len(lines)
    named = [line for line in lines if "@" in line or any(domain in line for domain in (KNOWN, FORGED, *_FATES))]
    books.check(not named, f"{len(named)} lines of the operational log name somebody: {named[:3]}")


def probe(books: Books, server: WholeServer, load_tool: Path) -> None:
    """The load generator's wrong ends of data, each of which must be refused or be no end."""
    if not load_tool.exists():
        _say(f"there is no load generator at {load_tool}: nothing is smuggled")
        return
    command = [sys.executable, load_tool, "--smuggle", "--port", str(server.ports["mx"]), "--to", PROBED]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    harmless = [line for line in lines if " refused" in line or " safe: " in line]
    books.notes["probes refused or without effect"] = f"{len(harmless)} of {len(lines)}"
    books.check(bool(lines) and len(harmless) == len(lines), f"probes: {done.stdout}{done.stderr}")


def table(books: Books) -> str:
    lines = [f"{'recipients':16}{'counted':>9}{'traced':>9}   by"]
    for name, (count, source) in books.counts.items():
        sign = "" if name == "accepted" else "= " if name == "delivered" else "+ "
        lines.append(f"{sign + name:16}{count:>9,}{books.traces.get(name, 0):>9,}   {source}")
    lines += ["", *(f"{name:48}{value:>12}" for name, value in books.notes.items()), ""]
    lines += [f"WRONG: {what}" for what in books.wrong] or ["The books balance."]
    return "\n".join(lines)


def _shown(copies: Counter[Any]) -> str:
    return f"{copies.total()}: {', '.join(f'{number} ({place})' for number, place in list(copies)[:5])}"


def _say(text: str) -> None:
    """On one line of a terminal; elsewhere every five seconds."""
    now = time.monotonic()
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif now - _said[0] >= 5:
        _said[0] = now
        print(text, file=sys.stderr, flush=True)


_said = [0.0]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/books", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="default: %(default)s")
    parser.add_argument("--messages", type=int, help="so many of them; default: all")
    parser.add_argument("--untrained", action="store_true", help="the filter learns nothing of the corpus before")
    parser.add_argument("--sessions", type=int, default=10, help="at the same time; default: %(default)s")
    parser.add_argument("--load-tool", type=Path, default=LOAD_TOOL, help="default: %(default)s")
    parser.add_argument("--work", type=Path, help="where the server keeps its data; default: a temporary folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    given = parser.parse_args()
    if not shutil.which("smtp-sink"):
        sys.exit("smtp-sink is not installed: apt-get install --no-install-recommends postfix")
    if not given.corpus.exists():
        sys.exit(f"There is no corpus at {given.corpus}; name one with --corpus.")
    messages, whole = corpus(given.corpus, given.messages), corpus(given.corpus)
    folder = Path(tempfile.mkdtemp(prefix="cleanmail-books-", dir=given.work))
    folder.chmod(0o755)  # for the sink, which runs as nobody
    try:
        with town(folder) as place:
            lesson = [message for message in whole if message.is_spam is not None and message.number % 3]
            if lesson and not given.untrained:
                teach(place.server, lesson)
            books = balance(place, messages, given.sessions)
            again = release(place, books)
            probe(again, place.server, given.load_tool)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    if given.json:
        print(json.dumps({"sent": _values(books), "released": _values(again)}, indent=2))
    else:
        print(f"{table(books)}\n\nAfter all that was withheld was released:\n\n{table(again)}")
    return 1 if books.wrong or again.wrong else 0


def _values(books: Books) -> dict[str, Any]:
    counts = {name: {"counted": count, "traced": books.traces.get(name)} for name, (count, _) in books.counts.items()}
    return {"recipients": counts, **books.notes, "wrong": books.wrong}


if __name__ == "__main__":
    sys.exit(main())
