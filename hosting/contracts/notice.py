"""Writes the mail that tells a customer of the end of his contract, and how to take everything along. Pure.

Standards: RFC 5322, RFC 3834 §5 (Auto-Submitted).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.dsn import parts
from gateway.dsn.report import Sending, envelope_fields

FIELD = "X-Cleanmail-Notice: contract\r\n"  # nobody else can say so: the border removes our fields
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class EndOfContract:
    slug: str  # the tenant's short name
    domains: tuple[str, ...]
    ends: int
    read_only_from: int


def notice(sending: Sending, end: EndOfContract) -> bytes:
    """The whole message."""
    days = max(-(-(end.ends - sending.time) // _DAY), 0)
    span = f"in {days} days" if days > 1 else "within a day"
    whose = f" for {', '.join(end.domains[:10])}{' and others' if len(end.domains) > 10 else ''}" if end.domains else ""
    paragraphs = [
        parts.wrapped(
            f"This is the mail system at {sending.hostname}. The contract '{end.slug}'{whose} ends {span}, on"
            f" {_moment(end.ends)}."
        ),
    ]
    if end.read_only_from < end.ends:
        begins = "Since" if end.read_only_from <= sending.time else "From"
        paragraphs.append(
            parts.wrapped(
                f"{begins} {_moment(end.read_only_from)} on mail can be read and taken along, but nothing new is"
                " stored, changed or sent. Mail that others send comes back to them then; let the domains' MX records"
                " lead to the new provider before."
            )
        )
    paragraphs += [
        parts.wrapped(
            "At the end everything that is stored here for you is erased at once: accounts, messages, folders,"
            " settings. It is encrypted, and its keys are destroyed, so nobody can bring it back afterwards, we"
            " neither. You get a signed certificate of the erasure, which says what remains by law and until when."
        ),
        "Take along before what you want to keep:",
        parts.wrapped(
            "- The provider makes an archive of an account or of everything, with folders, flags and dates, as Maildir"
            " or mbox, with a list that proves that it is whole:"
        )
        + f"\n    cleanmail export --tenant {end.slug} FOLDER",
        parts.wrapped("- Every mail program, and the new provider, can copy the folders over IMAP until the end."),
        parts.wrapped("If the contract is to go on, tell the provider before that day. You can reply to this message."),
    ]
    subject = f"Your mail contract ends on {_moment(end.ends)[:10]}: take your data along"
    head = envelope_fields(sending, subject, "auto-generated") + FIELD + "MIME-Version: 1.0\r\n"
    return head.encode() + parts.part("text/plain; charset=utf-8", parts.text(paragraphs))


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
