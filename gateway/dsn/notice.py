"""Builds what a tenant's administrators are told where the sender of a message must not be. Pure.

Header lines and the reason, never the body: it is the same that a reviewer of filtered mail may see.

Standards: RFC 5322, RFC 3834 §5 (Auto-Submitted).
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.dsn import parts
from gateway.dsn.report import About, Sending, Told, envelope_fields
from storage.values import EmailAddress

_SUBJECT = "Mail for your domain could not be delivered"
_WHY = (
    "Its sender was not told: nothing proves that the message came from the address it names (SPF did not pass), so a"
    " report might have gone to somebody who never wrote it."
)


def notice(sending: Sending, about: About, reverse_path: EmailAddress, told: Sequence[Told]) -> bytes:
    """The whole message. `told` holds failures only."""
    boundary = f"=_{sending.queue_id}"
    paragraphs = [
        f"This is the mail system at {sending.hostname}.",
        parts.wrapped(f"A message that was accepted for your domain as {about.queue_id} could not be delivered to:"),
        *(_recipient(each) for each in told),
        f"Its sender, by its envelope:\n  {parts.one_line(str(reverse_path))}",
        parts.wrapped(_WHY),
        "Its header is attached; its text is not kept.",
    ]
    body = parts.multipart(
        boundary,
        [
            parts.part("text/plain; charset=utf-8", parts.text(paragraphs)),
            parts.part("text/rfc822-headers", about.header, about="Header of the message"),
        ],
    )
    head = envelope_fields(sending, _SUBJECT, "auto-generated")
    head += f'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="{boundary}"\r\n\r\n'
    return head.encode() + body


def _recipient(told: Told) -> str:
    return f"  {parts.one_line(told.address)}\n{parts.wrapped(parts.words(told.reply, told.status), '    ')}"
