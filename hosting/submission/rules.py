"""The rules of message submission, pure: whom a message claims to be from, what leaves its header, what is added.

Every address that a reader could take for the sender's counts as claimed, also one in a display name without quotes; a
field that two programs could read differently is refused. The rest of the message is never touched.

Standards: RFC 6409 §6.1, §8 (sender, Date, Message-ID), RFC 5322 §3.6 (fields), RFC 5321 §4.4 (trace), RFC 8601 §5.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from gateway.acceptance.border import RETURN_PATH, without_border
from gateway.smtp.replies import Refused, SmtpReply
from storage.directory.terms import READ_ONLY
from storage.errors import InvalidInput
from storage.mime.addresses import parse_addresses
from storage.mime.fields import Header, read_header
from storage.values import EmailAddress

NO_FROM = SmtpReply(550, "5.6.0", "The message has no From field")
MANY_FROM = SmtpReply(550, "5.6.0", "The message has more than one From or Sender field")
BAD_FROM = SmtpReply(550, "5.6.0", "The From or Sender field cannot be read without doubt")
BAD_HEADER = SmtpReply(550, "5.6.0", "The message has too many header fields")
NOT_YOURS = SmtpReply(550, "5.7.1", "You may not send as this address")
CONTRACT_ENDS = SmtpReply(550, "5.7.1", READ_ONLY)

_REMOVED = RETURN_PATH | {b"bcc", b"resent-bcc"}

_QUOTED_OR_COMMENT = re.compile(rb'"(?:[^"\\]|\\.)*"|\\.|[()"]', re.DOTALL)
_ADDRESS_LIKE = re.compile(rb"[^\s<>,;:@\[\]\"()\\]+@[^\s<>,;:@\"()\\]+")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the server adds of its own: by whom, when, under which id; nothing about the client."""

    hostname: str
    protocol: str  # ESMTPSA, UTF8SMTPSA
    queue_id: str
    time: int  # Unix seconds


@dataclass(frozen=True, slots=True)
class Submitted:
    """A message as it is kept: `prefix` are the fields that were added, `data` what the client sent, without Bcc."""

    prefix: bytes
    data: bytes


def read_submitted_header(data: bytes) -> Header:
    """The header of a submitted message. Raises Refused."""
    header = read_header(data)
    if header.is_cut:
        raise Refused(BAD_HEADER)
    return header


def claimed_senders(header: Header) -> tuple[EmailAddress, ...]:
    """Every address in From and Sender. Raises Refused if there is no From, or one that leaves doubt."""
    from_fields = header.values(b"from")
    sender_fields = header.values(b"sender")
    if not from_fields:
        raise Refused(NO_FROM)
    if len(from_fields) > 1 or len(sender_fields) > 1:
        raise Refused(MANY_FROM)
    claimed: dict[str, EmailAddress] = {}
    for value in (*from_fields, *sender_fields):
        for address in _addresses_in(value):
            claimed.setdefault(address.key, address)
    return tuple(claimed.values())


def is_by_hand(header: Header) -> bool:
    """Whether a person sent it: no vacation notice, no read receipt or other report (RFC 3834 §5, RFC 8098 §3)."""
    automatic = header.value(b"auto-submitted")
    kind = (header.value(b"content-type") or b"").partition(b";")[0].strip().lower()
    return (automatic is None or automatic.partition(b";")[0].strip().lower() == b"no") and kind != b"multipart/report"


def _addresses_in(value: bytes) -> list[EmailAddress]:
    """As a mail program reads them, and whatever else looks like one outside of quotes and comments."""
    looks_like = [match[0].rpartition(b"@") for match in _ADDRESS_LIKE.finditer(_bare(value))]
    found = {(entry.mailbox, entry.host) for entry in parse_addresses(value) if entry.mailbox and entry.host}
    if not found:
        raise Refused(NO_FROM)
    found.update((local, host) for local, _, host in looks_like)
    return [_address(local, host) for local, host in sorted(found)]


def _bare(value: bytes) -> bytes:
    """`value` without quoted strings and comments. Raises Refused if one has no end."""
    pieces: list[bytes] = []
    depth = position = 0
    for match in _QUOTED_OR_COMMENT.finditer(value):
        token = match[0]
        if depth == 0:
            pieces.append(value[position : match.start()])
        if token == b"(":
            depth += 1
        elif token == b")":
            depth -= 1
        elif token == b'"' and depth == 0:
            raise Refused(BAD_FROM)
        if depth < 0:
            raise Refused(BAD_FROM)
        position = match.end()
        if len(token) > 1 and depth == 0:
            pieces.append(b" " if token[:1] == b'"' else token)
    if depth:
        raise Refused(BAD_FROM)
    pieces.append(value[position:])
    return b"".join(pieces)


def _address(local: bytes, host: bytes) -> EmailAddress:
    quoted = local.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    try:
        return EmailAddress.parse(f'"{quoted.decode()}"@{host.decode()}')
    except (InvalidInput, UnicodeDecodeError):
        raise Refused(BAD_FROM) from None


def submitted(data: bytes, header: Header, stamp: Stamp, senders: tuple[EmailAddress, ...]) -> Submitted:
    """The message as it is kept and sent: Received added, Date and Message-ID where missing, Bcc gone."""
    domain = senders[0].domain.name
    date = format_datetime(datetime.fromtimestamp(stamp.time, UTC))
    # RFC 5321 §4.4 wants "from" and the client's name there; a privacy promise stands against it, and the account
    # is known to us by the queue id.
    lines = [f"Received: by {stamp.hostname} with {stamp.protocol} id {stamp.queue_id};\r\n\t{date}\r\n"]
    if header.first(b"date") is None:
        lines.append(f"Date: {date}\r\n")
    if header.first(b"message-id") is None:
        lines.append(f"Message-ID: <{stamp.queue_id}@{domain}>\r\n")
    return Submitted("".join(lines).encode(), without_border(data, header, stamp.hostname, _REMOVED))
