"""Writes a digest: what was withheld from somebody since the last one, and what can be done about it. Pure.

Every word of a stranger stands on a line of its own, decoded, without control characters, cut: nothing of it can add a
field, a line or a direction of writing. The message says that a program made it, and that this server did, so that
nobody answers it and nothing is learned from it.

Standards: RFC 5322, RFC 3834 §5 (Auto-Submitted), RFC 2045.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gateway.dsn import parts
from gateway.dsn.report import Sending, envelope_fields
from storage.mime.fields import header_end
from storage.quarantine.header_object import visible

NOTICE = "X-Cleanmail-Notice: digest\r\n"  # nobody else can say so: the border removes our fields
ITEMS_MAX = 200
_TEXT_MAX = 120  # characters of a sender or a subject
_HEADER_MAX = 4096  # octets: our header is short


@dataclass(frozen=True, slots=True)
class Item:
    """One withheld message."""

    quarantine_id: str
    received: int
    expires: int
    author: str = field(repr=False)
    subject: str = field(repr=False)
    sentence: str = field(repr=False)
    recipients: tuple[str, ...] = field(default=(), repr=False)  # only administrators are told


def is_digest(message: bytes) -> bool:
    """Whether a message in a mailbox is one: nothing is learned from it."""
    return NOTICE.encode() in message[: header_end(message, 0, min(len(message), _HEADER_MAX))]


def digest(sending: Sending, items: Sequence[Item], total: int, *, administrators: bool = False) -> bytes:
    """The whole message. `items` may be fewer than there are in all."""
    count = f"{total} message{'' if total == 1 else 's'}"
    whose = "your domains" if administrators else "you"
    intro = (
        f"This is the mail system at {sending.hostname}. Since the last list it has withheld {count} for {whose}. They"
        " are kept for some time, and deleted then. Times are in UTC."
    )
    paragraphs = [parts.wrapped(intro), *(_item(each) for each in items[:ITEMS_MAX])]
    shown = min(len(items), ITEMS_MAX)
    if total > shown:
        paragraphs.append(f"… and {total - shown} more.")
    paragraphs += _administrators_may(items) if administrators else _recipients_may()
    head = envelope_fields(sending, f"Withheld mail: {count}", "auto-generated") + NOTICE + "MIME-Version: 1.0\r\n"
    return head.encode() + parts.part("text/plain; charset=utf-8", parts.text(paragraphs))


def _item(item: Item) -> str:
    lines = [
        f"  {_moment(item.received)}  {visible(item.author, _TEXT_MAX) or '(no sender)'}",
        f"    Subject: {visible(item.subject, _TEXT_MAX) or '(none)'}",
    ]
    if item.recipients:
        more = f" and {len(item.recipients) - 1} more" if len(item.recipients) > 1 else ""
        lines.append(f"    For:     {visible(item.recipients[0], _TEXT_MAX)}{more}")
    lines.append(f"    Why:     {visible(item.sentence, 4 * _TEXT_MAX)}")
    lines.append(f"    Number:  {item.quarantine_id}, kept until {_moment(item.expires)[:10]}")
    return "\n".join(lines)


def _recipients_may() -> list[str]:
    return [
        parts.wrapped(
            "If you are waiting for one of these messages, tell your administrator its number, and it will be"
            " delivered. You need not do anything about the others."
        )
    ]


def _administrators_may(items: Sequence[Item]) -> list[str]:
    first = items[0].quarantine_id if items else "NUMBER"
    return [
        "On the server, a message is looked at (its header), delivered, or deleted with:",
        f"  cleanmail quarantine show {first}\n"
        f"  cleanmail quarantine release {first}\n"
        f"  cleanmail quarantine delete {first}",
        parts.wrapped(
            "Whoever has no access to it asks the provider, who needs the number. What was wrongly withheld can be"
            " reported (cleanmail quarantine report), so that a reviewer looks at its header lines."
        ),
    ]


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
