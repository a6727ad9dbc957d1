"""Where mail is that a server accepted, each place looked at from outside, and whether its octets are what was sent.

What is compared: behind the fields that the server puts in front (Return-Path, Received, Authentication-Results) a
message must be as it was sent, without the Return-Path that it brought along. Behind Authentication-Results stands what
the filter says, if it has anything to say; what was withheld and released says so first.
"""

from __future__ import annotations

import email
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from books_traffic import MAILBOXES, Message
from next_hop import NextHop
from whole_server import WholeServer, environment

LONG = 998  # RFC 5321 §4.5.3.1.6; longer lines are folded for a next hop

_SENDER = re.compile(rb"\bm(\d+)@(?:known|forged)\.test\b")
_FETCHED = re.compile(rb"\* \d+ FETCH \(.*?BODY\[\] \{\d+\}\r\n(.*)\)\r\n\Z", re.DOTALL)
_RETURN_PATH = re.compile(rb"^Return-Path:.*\r\n(?:[ \t].*\r\n)*", re.IGNORECASE | re.MULTILINE)
_FOLDED = rb": .*\r\n(?:[ \t].*\r\n)+"
_PREFIX = rb"Received" + _FOLDED + rb"Authentication-Results" + _FOLDED + rb"(?:X-Cleanmail-Verdict" + _FOLDED + rb")?"
_OURS = rb"(?:X-Cleanmail-Released: .*\r\n)?" + _PREFIX
_IN_MAILBOX = re.compile(rb"Return-Path: <m\d+@\w+\.test>\r\n" + _OURS)
_AT_NEXT_HOP = re.compile(_OURS)
_WITHHELD = re.compile(_PREFIX)
_SINKS = re.compile(rb"((?:X-[\w-]+-Args: .*\n|X-Client-[\w-]+: .*\n)+)Received: .*\n(?:[ \t].*\n)+")


@dataclass
class Found:
    """Copies by message and place, and how their octets compare."""

    copies: Counter[tuple[int, str]] = field(default_factory=Counter)
    same: int = 0
    folded: int = 0  # another form of the same text, since a line was too long for a next hop
    different: list[int] = field(default_factory=list)
    strange: int = 0  # nobody sent them


def in_mailboxes(server: WholeServer, messages: Mapping[int, Message], mailbox: str) -> Found:
    """Read by IMAP."""
    found = Found()
    for place in range(MAILBOXES):
        address = f"u{place}@kept.test"
        for octets in _mailbox(server, address, mailbox):
            _compare(found, messages, octets, address, _IN_MAILBOX)
    return found


def at_next_hop(folder: Path, messages: Mapping[int, Message]) -> Found:
    """The files of smtp-sink, which drops CRs."""
    found = Found()
    for file in sorted(folder.iterdir()):
        octets = file.read_bytes()
        match = _SINKS.match(octets)
        assert match is not None, f"{file.name} does not begin as a file of smtp-sink"
        content = octets[match.end() :].removesuffix(b"\n").replace(b"\n", b"\r\n")
        _compare(found, messages, content, "next hop", _AT_NEXT_HOP, envelope=match[1])
    return found


def bounced(hop: NextHop) -> Counter[int]:
    """DSNs that the senders' server took, by the message that they were sent for."""
    with hop.taken:
        reports = [taken for taken in hop.messages if "<>" in taken.mail and b"report-type=delivery" in taken.content]
    return Counter(_number(taken.recipients[0].encode()) for taken in reports)


def told(server: WholeServer, address: str) -> Counter[int]:
    """Notices to an administrator of messages whose sender may be forged, by the message."""
    return Counter(_number(octets) for octets in _mailbox(server, address))


def withheld(server: WholeServer, messages: Mapping[int, Message]) -> Found:
    """What the quarantine's list has, by message and recipient, with the octets that lie there."""
    listed = {row["id"]: row for row in _json(server, "quarantine", "list", "--limit", "1000000")}
    found = Found()
    with tempfile.TemporaryDirectory(prefix="cleanmail-withheld-") as folder:
        script = Path(__file__).with_name("withheld_reader.py")
        done = subprocess.run(
            [sys.executable, script, server.data, folder], capture_output=True, check=False, env=environment()
        )
        assert done.returncode == 0, done.stderr.decode()
        read = {row["id"]: row for row in json.loads(done.stdout)}
        assert read.keys() == listed.keys(), "the quarantine's list is not what it holds"
        for quarantine_id, row in read.items():
            assert [address for address, _ in row["recipients"]] == listed[quarantine_id]["to"]
            number = _number(row["sender"].encode())
            octets = (Path(folder) / quarantine_id).read_bytes()
            held = [address for address, state in row["recipients"] if state == "held"]
            _compare(found, messages, octets, held[0] if held else "nobody", _WITHHELD, number=number)
            found.copies.update((number, address) for address in held[1:])
    return found


def queued(server: WholeServer, origin: str) -> int:
    """Recipients that wait, as the queue lists them."""
    rows = _json(server, "queue", "list", "--limit", "1000000")
    return sum(row["recipients"].get("queued", 0) for row in rows if row["origin"] == origin)


@dataclass
class Traced:
    """The same numbers as the traces have them, by recipient; and what the filter said."""

    counts: dict[str, int]
    verdicts: Counter[str]
    reasons: Counter[str]
    rejected: Counter[str]  # recipients of messages that were refused, by sender


def traced(server: WholeServer, senders: frozenset[str], refused: frozenset[str]) -> Traced:
    """Recipients of the senders' messages by what became of them at last."""
    accepted, withheld, fates, told = 0, 0, Counter[str](), Counter[str]()
    found = Traced({}, Counter(), Counter(), Counter())
    for trace in _json(server, "trace", "--limit", "0"):
        last: dict[str, str] = {}
        for event in trace["events"]:
            sender, kind, details = event["sender"], event["kind"], event["details"]
            if kind == "verdict" and sender in senders | refused:
                found.verdicts[details["verdict"]] += 1
                if details["verdict"] != "deliver":
                    found.reasons[details["reason"]] += 1
                if details["verdict"] == "reject":
                    found.rejected[sender] += 1
            if sender not in senders:
                continue
            if kind == "received" and "released" not in details:
                accepted += int(details["recipients"])
            elif kind == "verdict" and details["verdict"] == "quarantine":
                accepted += 1
                withheld += 1
            elif kind in ("released", "withdrawn"):
                withheld -= 1
            elif kind in ("delivered", "relayed", "failed"):
                last[event["recipient"]] = kind
            elif kind in ("notified", "suppressed"):
                told[kind] += 1
        fates.update(last.values())
    found.counts = {
        "accepted": accepted,
        "delivered": fates["delivered"],
        "forwarded": fates["relayed"],
        "queued": accepted - withheld - fates.total(),  # some were not tried: their destination does not answer
        "bounced": told["notified"] - told["suppressed"],
        "not bounced": fates["failed"] - told["notified"] + told["suppressed"],
        "quarantined": withheld,
    }
    return found


def _compare(
    found: Found,
    messages: Mapping[int, Message],
    octets: bytes,
    place: str,
    prefix: re.Pattern[bytes],
    envelope: bytes = b"",
    number: int | None = None,
) -> None:
    match = prefix.match(octets)
    if number is None:
        number = _number(envelope or octets)
    if match is None or number not in messages:
        found.strange += 1
        return
    found.copies[number, place] += 1
    content, sent = octets[match.end() :], _without_return_path(messages[number].octets)
    if envelope:
        sent = sent.replace(b"\r\r\n", b"\r\n")
    if content == sent:
        found.same += 1
    elif envelope and _has_long_line(sent) and not _has_long_line(content) and _texts(content) == _texts(sent):
        found.folded += 1
    else:
        found.different.append(number)


def _texts(octets: bytes) -> list[bytes]:
    """What a reader sees of each part, however it is encoded; where lines are folded is no difference."""
    parts = email.message_from_bytes(octets).walk()
    return [b"".join((part.get_payload(decode=True) or b"").split()) for part in parts if not part.is_multipart()]


def _has_long_line(octets: bytes) -> bool:
    return any(len(line) > LONG for line in octets.split(b"\r\n"))


def _without_return_path(octets: bytes) -> bytes:
    header, separator, body = octets.partition(b"\r\n\r\n")
    return _RETURN_PATH.sub(b"", header + b"\r\n") + separator[2:] + body


def _number(octets: bytes) -> int:
    """Of the first of the senders' addresses; -1 without one."""
    match = _SENDER.search(octets)
    return int(match[1]) if match else -1


def _mailbox(server: WholeServer, address: str, mailbox: str = "INBOX") -> Iterator[bytes]:
    with server.imap(address, patience=120) as imap:
        assert imap.command(b"EXAMINE {}", mailbox.encode()).ok
        tag = imap.begin(b"UID FETCH 1:* (BODY.PEEK[])")
        while not (response := imap.response()).startswith(tag):
            match = _FETCHED.match(response)
            if match is not None:
                yield match[1]


def _json(server: WholeServer, *arguments: str) -> Any:
    done = server.cleanmail(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
