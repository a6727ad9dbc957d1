"""Reads a server's replies out of the octets that came, and makes of them what the queue keeps. Pure.

`read_reply` takes any octets: what cannot be a reply, is too long or never ends raises `Garbled`. Text is cut and
has no control characters afterwards, whoever sent it.

Standards: RFC 5321 §4.2 (replies), RFC 2034 and RFC 3463 (enhanced status codes).
"""

from __future__ import annotations

import re

from aiosmtplib.errors import SMTPException
from aiosmtplib.response import SMTPResponse

from gateway.relay.outcome import RecipientOutcome, Result
from storage.queue.entries import Reply

LINE_MAX = 2048  # octets; RFC 5321 §4.5.3.1.5 allows 512
LINES_MAX = 200  # of one reply: more than any list of extensions
TEXT_MAX = 1000  # characters that are kept of a reply

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])([^\n]*))?\r?\n")
_STATUS = re.compile(r"([245])\.([0-9]{1,3}\.[0-9]{1,3})(?:[ \t]+|\Z)")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")

SERVICE_CLOSES = 421


class Garbled(SMTPException):
    """What the server sent is no reply."""


def read_reply(octets: bytes | bytearray) -> tuple[SMTPResponse, int] | None:
    """The first reply in `octets` and how many of them it takes; None if it is not whole yet. Raises Garbled."""
    texts: list[bytes] = []
    code = b""
    position = 0
    while True:
        match = _LINE.match(octets, position)
        if match is None:
            end = octets.find(b"\n", position, position + LINE_MAX + 1)
            if end >= 0 or len(octets) - position > LINE_MAX:
                raise Garbled("not a reply")
            return None
        if match.end() - position > LINE_MAX or len(texts) >= LINES_MAX or (code and match[1] != code):
            raise Garbled("not a reply")
        code = match[1]
        texts.append((match[3] or b"").rstrip(b"\r"))
        position = match.end()
        if match[2] != b"-":
            return SMTPResponse(int(code), b"\n".join(texts).decode("utf-8", "replace")), position


def reply_of(response: SMTPResponse, mta: str) -> Reply:
    """The reply as the queue keeps it; without an enhanced status code the undefined one of its class."""
    digit = str(response.code)[0]
    lines = response.message.split("\n")
    found = _STATUS.match(lines[0])
    status = f"{digit}.{found[2]}" if found else f"{digit}.0.0"  # the class is what the code says
    text = " ".join(_STATUS.sub("", line, count=1) if found else line for line in lines)
    return Reply(response.code, status, _CONTROLS.sub(" ", text).strip()[:TEXT_MAX], mta)


def ours(status: str, text: str, mta: str = "") -> Reply:
    """What we say about a recipient where the next hop did not."""
    return Reply(0, status, text, mta)


def refused(response: SMTPResponse, mta: str) -> RecipientOutcome:
    """The outcome of a reply that is not what it should be: 5yz is final, everything else is not (RFC 5321 §4.2.1)."""
    reply = reply_of(response, mta)
    if response.code < 400:  # a reply to something else
        reply = Reply(reply.code, "4.5.0", reply.text, mta)
    result = Result.FAILED if 500 <= response.code <= 599 else Result.DEFERRED
    return RecipientOutcome(result, reply, host_unwilling=response.code == SERVICE_CLOSES)


def too_many_recipients(response: SMTPResponse) -> bool:
    """Whether a reply to RCPT may mean that the rest belongs in another transaction (RFC 5321 §4.5.3.1.10).

    Both codes are said of a full mailbox too; then their enhanced status says so.
    """
    return response.code in (452, 552) and reply_of(response, "").status[2:] in ("5.3", "0.0")


def deferred(status: str, text: str, mta: str = "") -> RecipientOutcome:
    return RecipientOutcome(Result.DEFERRED, ours(status, text, mta))


def failed(status: str, text: str, mta: str = "") -> RecipientOutcome:
    return RecipientOutcome(Result.FAILED, ours(status, text, mta))
