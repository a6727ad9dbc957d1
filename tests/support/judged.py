"""Sends a labelled corpus through port 25 in the order of its arrival, and shows what the filter made of it.

    scripts/judged [CORPUS] [--messages N] [--every N] [--json]

One mailbox gets all of it, at the time that each message arrived. The shared model begins empty and learns every N
messages what the operator knows of them; the owner of the mailbox moves what was filed wrongly, and answers every
message that is none of spam once it was delivered, so that its author is a correspondent. Every author's domain names
the sending host in its SPF record, spam's as well: what is authentic says nothing of what is wanted.

The table says, by what a message truly is, how many were refused, quarantined, filed as Junk, delivered with a field
that calls them suspicious, and delivered; and which share of what was wanted did not reach the INBOX. With a real
corpus this takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dns_server import DnsServer
from mx_town import ZONE, MxTown, RunningMx

from gateway.classifier.corpus import label_of
from gateway.classifier.features import features_of
from gateway.classifier.model import FILE, Models
from gateway.classifier.trainer import Trainer
from gateway.learning.learn import learn
from gateway.policy.rules import DEFAULT
from hosting.learning_round import LearningRound
from storage.errors import InvalidInput
from storage.logs.trace import TraceKind
from storage.mail.names import INBOX
from storage.mime.dates import parse_date
from storage.mime.fields import read_header
from storage.quarantine.store import Quarantine
from storage.values import SEEN, EmailAddress, UidSet

CORPUS = Path(__file__).resolve().parents[2].parent / "shared" / "corpora" / "spamassassin-public.tar.xz"
RECIPIENT = "alice@example.test"
PLACES = ("rejected", "quarantined", "junk", "tagged", "delivered")
_ADDRESS = re.compile(rb"[A-Za-z0-9._+=-]{1,64}@((?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24})")
_SPF = "v=spf1 ip4:127.0.0.1 -all"
_PER_CONNECTION = 50
_LOOK = 6.0  # seconds after which a process sees a new model


@dataclass
class Found:
    """How many messages went where, by what they truly are, and why those that were wanted went astray."""

    places: dict[bool, Counter[str]] = field(default_factory=lambda: {False: Counter(), True: Counter()})
    astray: list[tuple[int, str, Mapping[str, str]]] = field(default_factory=list)  # wanted: number, place, verdict
    before_trained: int = 0  # messages until the shared model counted as trained
    refused_form: int = 0  # no mail at all, such as with a lone CR

    @property
    def misfiltered(self) -> float:
        """The share of wanted mail that reached no INBOX, in percent."""
        ham = self.places[False]
        return 100 * sum(ham[place] for place in PLACES[:3]) / max(1, ham.total())

    @property
    def caught(self) -> float:
        """The share of spam that did not reach the INBOX unmarked, in percent."""
        spam = self.places[True]
        return 100 * sum(spam[place] for place in PLACES[:4]) / max(1, spam.total())


class Reader:
    """The owner of the mailbox, and the operator who trains the model."""

    def __init__(self, town: MxTown, every: int) -> None:
        self._town = town
        self._every = every
        self._trainer = Trainer()
        self._waiting: list[tuple[bytes, bool]] = []
        self._models = Models(town.data / FILE, town.clock)
        self._tenant_id, self._account_id = town.accounts["alice"]
        self._round = LearningRound(town.installation, self._models, DEFAULT)
        self._before = self._counts()

    @property
    def is_trained(self) -> bool:
        return self._trainer.learned.maturity.value == "trained"

    def place(self, code: int) -> str:
        """Where the message is that was just sent."""
        if code >= 500:
            return "rejected"
        now = self._counts()
        [place] = [name for name in now if now[name] > self._before[name]] or ["delivered"]
        self._before = now
        return "tagged" if place == "delivered" and self._is_tagged() else place

    def acts(self, message: bytes, is_spam: bool, place: str, author: EmailAddress | None) -> None:
        """Reads, moves what is in the wrong place, answers what was wanted, and learns."""
        installation = self._town.installation
        if place in ("delivered", "tagged", "junk"):
            self._handle("Junk" if place == "junk" else INBOX, is_spam)
        elif place == "quarantined" and not is_spam:
            learn(installation, self._models, self._tenant_id, self._account_id, message, False)
        if not is_spam and place != "rejected" and author is not None:
            correspondents = installation.tenant(self._tenant_id).correspondents
            correspondents.record(self._account_id, [author])
            correspondents.flush()
        self._waiting.append((message, is_spam))
        if len(self._waiting) >= self._every:
            for octets, label in self._waiting:
                self._trainer.learn(features_of(octets), label)
            self._waiting.clear()
            self._trainer.save(self._town.data / FILE, self._town.clock.now())
            self._town.clock.advance(_LOOK)

    def _handle(self, name: str, is_spam: bool) -> None:
        """The newest message of a mailbox: wanted mail is read, and what is in the wrong one is moved."""
        target = "Junk" if is_spam else INBOX
        with self._town.installation.account(self._tenant_id, self._account_id) as account:
            source = account.mailboxes.find(name)
            newest = UidSet.of([source.uidnext - 1])
            if not is_spam:
                account.messages.store(source.id, newest, "add", SEEN, ())
            if name != target:
                account.messages.move(source.id, newest, account.mailboxes.find(target).id)
        if name != target:
            self._round.learn(self._tenant_id, self._account_id)
            self._before = self._counts()

    def _counts(self) -> dict[str, int]:
        installation = self._town.installation
        with installation.account(self._tenant_id, self._account_id) as account:
            boxes = {mailbox.name: mailbox.messages for mailbox in account.mailboxes.list()}
        withheld = Quarantine(installation).of(self._tenant_id).counts().messages
        return {"delivered": boxes.get(INBOX, 0), "junk": boxes.get("Junk", 0), "quarantined": withheld}

    def _is_tagged(self) -> bool:
        with self._town.installation.account(self._tenant_id, self._account_id) as account:
            mailbox = account.mailboxes.find(INBOX)
            [[message_id]] = account.messages.fetch_rows(
                mailbox.id, mailbox.uidnext - 1, mailbox.uidnext - 1, ("message_id",)
            )
            return b"X-Cleanmail-Verdict: tag" in account.messages.read_message(message_id)


@dataclass(frozen=True, slots=True)
class Labelled:
    octets: bytes = field(repr=False)  # with CRLF line ends, without an mbox line
    is_spam: bool
    arrived: int

    @property
    def author(self) -> EmailAddress | None:
        found = _ADDRESS.search(read_header(self.octets).value(b"from") or b"")
        try:
            return EmailAddress.parse(found[0].decode("ascii").lower()) if found else None
        except InvalidInput:
            return None


def corpus(path: Path, limit: int | None = None) -> list[Labelled]:
    """A folder or tar whose folders are named after what is in them (ham, spam), by arrival."""
    found = [_labelled(octets, label) for name, octets in _files(path) if (label := label_of(name)) is not None]
    dated = sorted(each.arrived for each in found if each.arrived)
    ordered = sorted(found, key=lambda each: each.arrived or dated[len(dated) // 2])
    return ordered[:limit]


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """The name of its folder, and the octets, of each file."""
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file():
                yield file.parent.name, file.read_bytes()
        return
    with tarfile.open(path) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            if (file := archive.extractfile(member)) is not None:
                yield Path(member.name).parent.name, file.read()


def _labelled(octets: bytes, is_spam: bool) -> Labelled:
    arrived = 0
    if octets.startswith(b"From "):
        line, _, octets = octets.partition(b"\n")
        date = parse_date(re.sub(rb".*? (\w{3}) (\w{3}) +(\d+) ([\d:]+) (\d{4})\s*\Z", rb"\1, \3 \2 \5 \4 +0000", line))
        arrived = date.seconds if date else 0
    octets = re.sub(rb"\r?\n", b"\r\n", octets)
    return Labelled(octets if octets.endswith(b"\r\n") else octets + b"\r\n", is_spam, arrived)


def judge(folder: Path, messages: Sequence[Labelled], every: int, progress: Callable[[int], None] = id) -> Found:
    """All of them, one after the other."""
    found = Found()
    town = MxTown(folder)
    try:
        with DnsServer(ZONE) as dns:
            for author in {each.author for each in messages} - {None}:
                dns.put(str(author.domain), TXT=_SPF, MX="10 mx.far.test.")  # type: ignore[union-attr]
            town.clock.advance(messages[0].arrived - town.clock.now())
            mx = RunningMx(town, dns)
            try:
                _send_all(town, mx, messages, every, found, progress)
            finally:
                mx.stop()
    finally:
        town.close()
    return found


def _send_all(
    town: MxTown, mx: RunningMx, messages: Sequence[Labelled], every: int, found: Found, progress: Callable[[int], None]
) -> None:
    reader = Reader(town, every)
    for start in range(0, len(messages), _PER_CONNECTION):
        with mx.client() as wire:
            for number, each in enumerate(messages[start : start + _PER_CONNECTION], start):
                town.clock.advance(max(0, each.arrived - town.clock.now()))
                author = each.author
                code, said = wire.submit(str(author or "someone@far.test"), [RECIPIENT], each.octets)
                progress(number + 1)
                if code >= 500 and b" 5.7.1 " not in said:
                    found.refused_form += 1
                    continue
                if 400 <= code < 500:
                    sys.exit(f"Message {number} was put off: {said.decode()}")
                place = reader.place(code)
                found.places[each.is_spam][place] += 1
                if not reader.is_trained:
                    found.before_trained = number + 1
                if not each.is_spam and place in PLACES[:3]:
                    found.astray.append((number, place, _verdict(town)))
                reader.acts(each.octets, each.is_spam, place, author)


def _verdict(town: MxTown) -> Mapping[str, str]:
    """The last one's details."""
    return [event for event in town.traced() if event.kind is TraceKind.VERDICT][-1].details


def table(found: Found) -> str:
    lines = [f"{'':12}" + "".join(f"{place:>13}" for place in PLACES) + f"{'all':>8}"]
    for label, name in ((False, "wanted"), (True, "spam")):
        counts = found.places[label]
        lines.append(f"{name:12}" + "".join(f"{counts[place]:>13}" for place in PLACES) + f"{counts.total():>8}")
    lines.append(f"wanted mail that reached no INBOX: {found.misfiltered:.3f} %")
    lines.append(f"spam that was marked or kept out of the INBOX: {found.caught:.2f} %")
    lines.append(f"the shared model counted as trained from message {found.before_trained} on")
    for number, place, verdict in found.astray:
        told = ", ".join(
            f"{name} {verdict[name]}" for name in ("reason", "score", "evidence", "dmarc") if name in verdict
        )
        lines.append(f"  message {number}, wanted: {place}, {told}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/judged", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path, nargs="?", default=CORPUS, help="default: %(default)s")
    parser.add_argument("--messages", type=int, help="the first so many; default: all")
    parser.add_argument("--every", type=int, default=25, help="messages between two trainings; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    given = parser.parse_args()
    if not given.corpus.exists():
        sys.exit(f"There is no corpus at {given.corpus}; name one.")
    messages = corpus(given.corpus, given.messages)
    if not messages:
        sys.exit(f"{given.corpus} is no corpus: nothing in it is called ham or spam.")

    def progress(done: int) -> None:
        if sys.stderr.isatty() or done % 500 == 0:
            print(f"\r{done} of {len(messages)}", end="", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="cleanmail-judged-") as folder:
        found = judge(Path(folder), messages, given.every, progress)
    print("\r", end="", file=sys.stderr, flush=True)
    if given.json:
        places = {name: dict(found.places[label]) for label, name in ((False, "wanted"), (True, "spam"))}
        print(json.dumps({**places, "misfiltered_percent": found.misfiltered, "caught_percent": found.caught}))
    else:
        print(table(found))


if __name__ == "__main__":
    main()
