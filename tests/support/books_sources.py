"""Where mail is that a server accepted, each place looked at from outside, and whether its octets are what was sent.

What is compared: behind the fields that the server puts in front (Return-Path, Received, Authentication-Results) a
message must be as it was sent, without the Return-Path that it brought along.
"""

from __future__ import annotations

import email
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from books_traffic import MAILBOXES, Message
from next_hop import NextHop
from whole_server import WholeServer

LONG = 998  # RFC 5321 §4.5.3.1.6; longer lines are folded for a next hop

_SENDER = re.compile(rb"\bm(\d+)@(?:known|forged)\.test\b")
_FETCHED = re.compile(rb"\* \d+ FETCH \(.*?BODY\[\] \{\d+\}\r\n(.*)\)\r\n\Z", re.DOTALL)
_RETURN_PATH = re.compile(rb"^Return-Path:.*\r\n(?:[ \t].*\r\n)*", re.IGNORECASE | re.MULTILINE)
_OURS = rb"Received: .*\r\n(?:[ \t].*\r\n)+Authentication-Results: .*\r\n(?:[ \t].*\r\n)+"
_IN_MAILBOX = re.compile(rb"Return-Path: <m\d+@\w+\.test>\r\n" + _OURS)
_AT_NEXT_HOP = re.compile(_OURS)
_SINKS = re.compile(rb"((?:X-[\w-]+-Args: .*\n|X-Client-[\w-]+: .*\n)+)Received: .*\n(?:[ \t].*\n)+")


@dataclass
class Found:
    """Copies by message and place, and how their octets compare."""

    copies: Counter[tuple[int, str]] = field(default_factory=Counter)
    same: int = 0
    folded: int = 0  # another form of the same text, since a line was too long for a next hop
    different: list[int] = field(default_factory=list)
    strange: int = 0  # nobody sent them


def in_mailboxes(server: WholeServer, messages: Mapping[int, Message]) -> Found:
    """Read by IMAP."""
    found = Found()
    for place in range(MAILBOXES):
        address = f"u{place}@kept.test"
        for octets in _mailbox(server, address):
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


def queued(server: WholeServer, origin: str) -> int:
    """Recipients that wait, as the queue lists them."""
    rows = _json(server, "queue", "list", "--limit", "1000000")
    return sum(row["recipients"].get("queued", 0) for row in rows if row["origin"] == origin)


def traced(server: WholeServer, senders: frozenset[str]) -> dict[str, int]:
    """The same numbers as the traces have them: recipients of the senders' messages by what became of them at last."""
    accepted, fates, told = 0, Counter[str](), Counter[str]()
    for trace in _json(server, "trace", "--limit", "0"):
        last: dict[str, str] = {}
        for event in trace["events"]:
            if event["sender"] in senders:
                if event["kind"] == "received":
                    accepted += int(event["details"]["recipients"])
                elif event["kind"] in ("delivered", "relayed", "failed"):
                    last[event["recipient"]] = event["kind"]
                elif event["kind"] in ("notified", "suppressed"):
                    told[event["kind"]] += 1
        fates.update(last.values())
    return {
        "accepted": accepted,
        "delivered": fates["delivered"],
        "forwarded": fates["relayed"],
        "queued": accepted - fates.total(),  # some were not even tried, since their destination does not answer
        "bounced": told["notified"] - told["suppressed"],
        "not bounced": fates["failed"] - told["notified"] + told["suppressed"],
    }


def _compare(
    found: Found,
    messages: Mapping[int, Message],
    octets: bytes,
    place: str,
    prefix: re.Pattern[bytes],
    envelope: bytes = b"",
) -> None:
    match = prefix.match(octets)
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


def _mailbox(server: WholeServer, address: str) -> Iterator[bytes]:
    with server.imap(address, patience=120) as imap:
        assert imap.command(b"EXAMINE INBOX").ok
        tag = imap.begin(b"UID FETCH 1:* (BODY.PEEK[])")
        while not (response := imap.response()).startswith(tag):
            match = _FETCHED.match(response)
            if match is not None:
                yield match[1]


def _json(server: WholeServer, *arguments: str) -> Any:
    done = server.cleanmail(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
