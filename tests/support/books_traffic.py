"""Real mail, and whom each message is for: a corpus is read, addressed and sent through port 25.

Each message has a reverse-path of its own, so that it is known wherever it turns up while its octets stay as they are.
"""

from __future__ import annotations

import re
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wire import SmtpWire

from gateway.classifier.corpus import label_of

KNOWN, FORGED = "known.test", "forged.test"  # where senders are; SPF passes for one and fails for the other
KEPT, RELAYED = "kept.test", "relayed.test"
REFUSING, DEFERRING, DOWN = "refusing.test", "deferring.test", "down.test"  # own servers that do not take their mail
MAILBOXES = 10

_LONE_CR = re.compile(rb"\r(?!\n)")


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent, with CRLF line ends."""

    number: int
    octets: bytes = field(repr=False)
    is_spam: bool | None = None  # None: nobody says

    @property
    def sender(self) -> str:
        return f"m{self.number}@{FORGED if self.number % 7 == 3 else KNOWN}"

    @property
    def recipients(self) -> list[str]:
        """In turns to a mailbox and to the next hop, some to both, and some to servers that do not take it too."""
        number = self.number
        mailbox, relayed = f"u{number // 2 % MAILBOXES}@{KEPT}", f"r{number}@{RELAYED}"
        found = [relayed if number % 2 else mailbox]
        if number % 10 == 4:
            found.append(relayed)
        for domain, divisor, rest in ((REFUSING, 20, 1), (DEFERRING, 50, 2), (DOWN, 100, 5)):
            if number % divisor == rest:
                found.append(f"r{number}@{domain}")
        return found

    @property
    def is_mail(self) -> bool:
        """Nothing with a lone CR is: RFC 5321 §2.3.8."""
        return not _LONE_CR.search(self.octets)


@dataclass(slots=True)
class Answers:
    """What port 25 said."""

    accepted: list[Message] = field(default_factory=list)
    refused: dict[int, bytes] = field(default_factory=dict, repr=False)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)


def corpus(path: Path, limit: int | None = None) -> list[Message]:
    """The files of a folder or a tar archive, in order of their names; the mbox line of each is no part of it.

    With a limit so many of them, from all parts of the corpus alike. What lies in a folder that is called after ham or
    spam is labelled.
    """
    files = list(_files(path))
    if limit is not None and limit < len(files):
        files = [files[number * len(files) // limit] for number in range(limit)]
    return [Message(number, _as_sent(octets), label_of(name)) for number, (name, octets) in enumerate(files)]


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """The name of its folder, and the octets, of each file."""
    if path.is_dir():
        for each in sorted(path.rglob("*")):
            if each.is_file() and each.name != "index":
                yield each.parent.name, each.read_bytes()
        return
    with tarfile.open(path) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            if (file := archive.extractfile(member)) is not None and Path(member.name).name != "index":
                yield Path(member.name).parent.name, file.read()


def _as_sent(octets: bytes) -> bytes:
    if octets.startswith(b"From "):
        octets = octets.partition(b"\n")[2]
    octets = re.sub(rb"\r?\n", b"\r\n", octets)
    return octets if octets.endswith(b"\r\n") else octets + b"\r\n"


def send(messages: Sequence[Message], port: int, sessions: int, progress: Callable[[int], None]) -> Answers:
    """All of them, each once; half with DATA and half in chunks. Raises what a session died of."""
    answers = Answers()
    left = iter(messages)
    wrong: list[BaseException] = []

    def session() -> None:
        try:
            with SmtpWire(port, patience=120) as smtp:
                smtp.command(b"EHLO client.known.test")
                while not wrong and (message := _next(left, answers)) is not None:
                    _send_one(smtp, message, answers)
                    progress(len(answers.accepted) + len(answers.refused))
                smtp.command(b"QUIT")
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=session) for _ in range(sessions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]
    return answers


def _next(left: Iterator[Message], answers: Answers) -> Message | None:
    with answers.lock:
        return next(left, None)


def _send_one(smtp: SmtpWire, message: Message, answers: Answers) -> None:
    submit = smtp.submit if message.number % 4 < 2 else smtp.submit_in_chunks
    code, said = submit(message.sender, message.recipients, message.octets)
    with answers.lock:
        if code == 250:
            answers.accepted.append(message)
        else:
            answers.refused[message.number] = said
    if code != 250:
        smtp.command(b"RSET")
