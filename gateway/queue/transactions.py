"""Makes of the recipients of an entry the transactions that bring them to one next hop. Pure.

Recipients share a transaction if they share the reverse-path and what is put before the message: a Delivered-To where
an alias or a route led elsewhere, which also breaks loops between us and where it leads.

Standards: RFC 3461 §5.2.1 (parameters passed on), §5.2.7.2 to §5.2.7.4 (aliases), RFC 5321 §3.9.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.relay.outcome import RelayMessage, RelayRecipient
from storage.queue.entries import Entry, Recipient
from storage.values import Domain, EmailAddress


@dataclass(frozen=True, slots=True)
class Transaction:
    recipients: tuple[Recipient, ...]  # in the order of the message's
    message: RelayMessage


def transactions(
    entry: Entry, recipients: Sequence[Recipient], content: bytes, author: Domain | None
) -> list[Transaction]:
    """One for each reverse-path and Delivered-To, in the order of their first recipients."""
    groups: dict[tuple[str, str], list[Recipient]] = {}
    for recipient in recipients:
        key = (recipient.parameters.reverse_path, recipient.parameters.original)
        groups.setdefault(key, []).append(recipient)
    return [
        Transaction(
            tuple(group),
            RelayMessage(
                entry.queue_id,
                EmailAddress.parse(reverse_path) if reverse_path else entry.reverse_path,
                entry.parameters,
                tuple(_relay_recipient(recipient) for recipient in group),
                delivered_to(original) + content,
                author,
                (int(entry.tenant_id),),
            ),
        )
        for (reverse_path, original), group in groups.items()
    ]


def delivered_to(original: str) -> bytes:
    """The field that says through which address of ours a message went on; nothing if through none."""
    return f"Delivered-To: {original}\r\n".encode() if original else b""


def _relay_recipient(recipient: Recipient) -> RelayRecipient:
    parameters = recipient.parameters
    notify = parameters.notify
    if parameters.original and parameters.original != str(recipient.address):
        notify = _beyond_alias(notify)
    return RelayRecipient(recipient.address, notify, parameters.orcpt)


def _beyond_alias(notify: tuple[str, ...]) -> tuple[str, ...]:
    """A success behind an alias is told by us, who know the address that the sender knows (RFC 3461 §5.2.7.3 c)."""
    if "SUCCESS" not in notify:
        return notify
    return tuple(word for word in notify if word != "SUCCESS") or ("NEVER",)
