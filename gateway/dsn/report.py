"""Builds a delivery status notification: what is sent to the sender of a message about some of its recipients. Pure.

The third part holds the header fields of the message and never its body, also where RET=FULL asked for it: content
leaves the queue the moment that its last recipient is settled, and a copy of it in a report would be one more.

Standards: RFC 3464 (message/delivery-status), RFC 6522 (multipart/report), RFC 3461 §6 (contents), RFC 6533
(SMTPUTF8), RFC 3834 §5 (Auto-Submitted).
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.dsn import parts
from gateway.dsn.advice import advice
from gateway.dsn.rules import Action
from storage.queue.entries import Reply
from storage.values import EmailAddress


@dataclass(frozen=True, slots=True)
class About:
    """The message that is reported on, as the sender knows it."""

    queue_id: str
    arrived: int
    envid: str  # as MAIL had it (xtext)
    smtputf8: bool
    header: bytes = field(repr=False)  # its fields; CRLF line ends, no empty line


@dataclass(frozen=True, slots=True)
class Told:
    """What is said of one recipient. `reply` is the last that anybody said; `status` sums up what became of it."""

    action: Action
    address: str  # as the sender knows it
    orcpt: str
    status: str
    reply: Reply
    last_attempt: int | None = None  # None: there was none
    retry_until: int | None = None  # for a delay


@dataclass(frozen=True, slots=True)
class Sending:
    """Of the report itself."""

    queue_id: str
    hostname: str
    time: int
    to: EmailAddress


_SUBJECTS = {
    Action.FAILED: "Undelivered: your message could not be delivered",
    Action.DELAYED: "Delayed: your message could not be delivered yet",
    Action.DELIVERED: "Delivered: your message has arrived",
}
_OPENINGS = {
    Action.FAILED: "Your message could not be delivered to:",
    Action.DELAYED: "Your message could not be delivered yet. It is tried again; you need not send it again:",
    Action.DELIVERED: "Your message was delivered to:",
    Action.RELAYED: "Your message was handed to another server, which will not report on its delivery:",
    Action.EXPANDED: "Your message was passed on to everybody that this address stands for:",
}


def report(sending: Sending, about: About, told: Sequence[Told]) -> bytes:
    """The whole message, for an envelope with a null reverse-path. All of `told` has the same kind of action."""
    plain = sending.to.is_ascii  # then nothing of ours may need SMTPUTF8 on its way back (RFC 6533 §4.5)
    status, global_status = _status(sending, about, told)
    global_header = about.smtputf8 and not about.header.isascii()
    status_type = "message/global-delivery-status" if global_status else "message/delivery-status"
    header_type = "message/global-headers" if global_header else "text/rfc822-headers"
    boundary = f"=_{sending.queue_id}"
    body = parts.multipart(
        boundary,
        [
            parts.part("text/plain; charset=utf-8", _text(sending, told), eight_bit=not plain, about="Notification"),
            parts.part(status_type, status, eight_bit=not plain, about="Delivery report"),
            parts.part(header_type, about.header, eight_bit=not plain, about="Header of your message"),
        ],
    )
    subject = _SUBJECTS[Action.DELIVERED if told[0].action.is_success else told[0].action]
    head = envelope_fields(sending, subject, "auto-replied", parts.message_id(about.header))
    head += (
        "MIME-Version: 1.0\r\n"
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="{boundary}"\r\n\r\n'
    )
    return head.encode() + body


def envelope_fields(sending: Sending, subject: str, auto_submitted: str, replied: str = "") -> str:
    """The fields that every message made here begins with. From is where a person answers (RFC 3464 §2)."""
    head = (
        f"From: Mail Delivery System <postmaster@{sending.hostname}>\r\n"
        f"To: <{sending.to}>\r\n"
        f"Subject: {subject}\r\n"
        f"Date: {parts.date(sending.time)}\r\n"
        f"Message-ID: <{sending.queue_id}@{sending.hostname}>\r\n"
        f"Auto-Submitted: {auto_submitted}\r\n"
    )
    return head + (f"In-Reply-To: {replied}\r\nReferences: {replied}\r\n" if replied else "")


def _status(sending: Sending, about: About, told: Sequence[Told]) -> tuple[bytes, bool]:
    """The machine's part, and whether it is of the internationalised type."""
    eight_bit = about.smtputf8
    blocks = [[f"Reporting-MTA: dns; {sending.hostname}"]]
    if about.envid:
        blocks[0].insert(0, f"Original-Envelope-Id: {parts.decode_xtext(about.envid)}")
    blocks[0].append(f"Arrival-Date: {parts.date(about.arrived)}")
    blocks += [_recipient(each, about.queue_id, eight_bit=eight_bit) for each in told]
    octets = "\r\n".join("".join(f"{line}\r\n" for line in block) for block in blocks).encode()
    return octets, not octets.isascii()


def _recipient(told: Told, queue_id: str, *, eight_bit: bool) -> list[str]:
    lines = [f"Original-Recipient: {parts.original_recipient(told.orcpt, eight_bit=eight_bit)}"] if told.orcpt else []
    lines += [
        f"Final-Recipient: {parts.typed_address(told.address, eight_bit=eight_bit)}",
        f"Action: {told.action.value}",
        f"Status: {told.status}",
    ]
    if told.reply.mta:
        lines.append(f"Remote-MTA: dns; {parts.ascii_line(told.reply.mta)}")
    if said := _said(told.reply):
        kind = "smtp" if told.reply.code else "x-cleanmail"
        lines.append(_folded(f"Diagnostic-Code: {kind}; {said}"))
    if told.last_attempt is not None:
        lines.append(f"Last-Attempt-Date: {parts.date(told.last_attempt)}")
    lines.append(f"Final-Log-ID: {queue_id}")
    if told.retry_until is not None:
        lines.append(f"Will-Retry-Until: {parts.date(told.retry_until)}")
    return lines


def _said(reply: Reply) -> str:
    words = (str(reply.code) if reply.code else "", reply.status if reply.code else "", parts.ascii_line(reply.text))
    return " ".join(word for word in words if word)


def _folded(line: str) -> str:
    return "\r\n\t".join(textwrap.wrap(line, 76, break_long_words=False, break_on_hyphens=False))


def _text(sending: Sending, told: Sequence[Told]) -> bytes:
    """For people: what became of whom, why, and what can be done."""
    paragraphs = [f"This is the mail system at {sending.hostname}."]
    for action in Action:
        these = [each for each in told if each.action is action]
        if these:
            paragraphs.append(parts.wrapped(_OPENINGS[action]))
            paragraphs += [_about(each) for each in these]
    if told[0].action is Action.FAILED:
        paragraphs.append("The header of your message is attached; its text is not kept here.")
    return parts.text(paragraphs)


def _about(told: Told) -> str:
    lines = [f"  {parts.one_line(told.address)}"]
    words = parts.words(told.reply)
    if words and not told.action.is_success:
        lines.append(parts.wrapped(words, "    "))
    if told.action is Action.FAILED:
        lines.append(parts.wrapped(advice(told.status), "    "))
    if told.retry_until is not None:
        lines.append(f"    It is tried until {parts.date(told.retry_until)}.")
    return "\n".join(lines)
