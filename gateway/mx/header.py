"""The header of a message from elsewhere: what in it refuses the message, and the fields that we put in front. Pure.

Standards: RFC 5321 §4.4 (Received), §6.3 (loops), RFC 8601 §2 (Authentication-Results), RFC 3848, RFC 6531 §4.3
(the value of `with`).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from textwrap import wrap

from gateway.policy.verdict import Verdict
from gateway.smtp.replies import Refused, SmtpReply
from storage.errors import InvalidInput
from storage.mime.fields import Header, fields_between, header_end, unfold
from storage.values import EmailAddress

HEADER_MAX = 1024 * 1024  # octets
FIELDS_MAX = 5000
HOPS_MAX = 100  # RFC 5321 §6.3: simple counting of Received fields, with a large limit

TOO_MUCH_HEADER = SmtpReply(554, "5.6.0", "The message's header is larger than this server takes")
TOO_MANY_HOPS = SmtpReply(554, "5.4.6", "The message has passed too many servers; it seems to be in a loop")
WAS_HERE = SmtpReply(554, "5.4.6", "The message was delivered to this recipient before; it is in a loop")

_FOLD = "\r\n\t"
_LINE = 76  # characters, where there are blanks to fold at
_SENTENCE_MAX = 800
_UNQUOTABLE = re.compile(r'[^ -~]|["\\]')  # what a quoted string would have to escape, or cannot hold
_NAME = re.compile(r"\[?[A-Za-z0-9_](?:[A-Za-z0-9_.:-]{0,253}[A-Za-z0-9_.])?\]?\Z")


@dataclass(frozen=True, slots=True)
class Client:
    """Who handed the message over."""

    address: str
    hello: str  # what it said of itself
    name: str  # what DNS says, both ways; empty: nothing
    protocol: str
    tls: str = ""


def read_arriving_header(data: bytes) -> Header:
    """Raises Refused for a header that is too large to be one."""
    end = header_end(data, 0, len(data))
    if end > HEADER_MAX:
        raise Refused(TOO_MUCH_HEADER)
    header = fields_between(data, 0, end, most=FIELDS_MAX + 1)
    if len(header.fields) > FIELDS_MAX:
        raise Refused(TOO_MUCH_HEADER)
    return header


def check_loops(header: Header, recipients: Collection[EmailAddress]) -> None:
    """Raises Refused if the message has been on its way too long, or was here before for one of its recipients."""
    names = [field.name for field in header.fields]
    if names.count(b"received") > HOPS_MAX:
        raise Refused(TOO_MANY_HOPS)
    if b"delivered-to" not in names:
        return
    keys = {address.key for address in recipients}
    for field in header.fields:
        if field.name == b"delivered-to" and _key(unfold(header.data[field.value : field.end])) in keys:
            raise Refused(WAS_HERE)


def _key(value: bytes) -> str:
    try:
        return EmailAddress.parse(value.decode().strip("<> ")).key
    except (InvalidInput, UnicodeDecodeError):
        return ""


def received(client: Client, hostname: str, queue_id: str, time: int, recipient: EmailAddress | None) -> bytes:
    """The Received field. `recipient`: where there is only one, so that nobody learns of the others (§7.6)."""
    literal = f"IPv6:{client.address}" if ":" in client.address else client.address
    lines = [f"Received: from {_printable(client.hello)} ({client.name or 'unknown'} [{literal}])"]
    if client.tls:
        lines.append(f"(using {client.tls})")
    lines.append(f"by {hostname} with {client.protocol} id {queue_id}")
    if recipient is not None:
        lines.append(f"for <{recipient}>")
    date = format_datetime(datetime.fromtimestamp(time, UTC))
    return ("\r\n\t".join(lines) + f";\r\n\t{date}\r\n").encode()


def authentication_results(hostname: str, *results: str) -> bytes:
    """Each as RFC 8601 §2.2 writes it ("spf=pass smtp.mailfrom=b.example"); without any, that nothing was checked."""
    return f"Authentication-Results: {hostname};{_FOLD}{f';{_FOLD}'.join(results or ('none',))}\r\n".encode()


def verdict_field(verdict: Verdict) -> bytes:
    """What was decided about a message and why, for whoever reads it: X-Cleanmail-Verdict.

    Words of strangers may stand in the sentence; none of them ends the quotes, or the field.
    """
    words = [f"X-Cleanmail-Verdict: {verdict.action}; reason={verdict.reason}"]
    if verdict.score is not None:
        words[0] += f"; score={verdict.score:.1f}"
    text = _UNQUOTABLE.sub("?", verdict.sentence)[:_SENTENCE_MAX]
    if text:
        words[0] += ";"
        words += wrap(f'"{text}"', _LINE, break_on_hyphens=False)
    return (_FOLD.join(words) + "\r\n").encode("ascii")


def _printable(hello: str) -> str:
    """A name or an address literal as it was said; a stranger's other words have no place in a trace field."""
    return hello if _NAME.match(hello) else "unknown"
