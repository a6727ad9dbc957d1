"""Makes of the recipients of an entry the transactions that bring them to one next hop. Pure.

Recipients share a transaction if they share the reverse-path and what is put before the message: a Delivered-To where
an alias or a route led elsewhere, which also breaks loops between us and where it leads. None has more recipients than
go over the wire together, so that what is taken can be noted before the next ones are sent.

Standards: RFC 3461 §5.2.1 (parameters passed on), §5.2.7.2 to §5.2.7.4 (aliases), RFC 5321 §3.9.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.relay.envelope import RECIPIENTS_MAX
from gateway.relay.outcome import RelayMessage, RelayRecipient
from storage.queue.entries import Entry, Recipient
from storage.values import Domain, EmailAddress


@dataclass(frozen=True, slots=True)
class Transaction:
    """Its message is made when it is asked for: many of them would otherwise be as many copies of the content."""

    entry: Entry
    recipients: tuple[Recipient, ...]  # in the order of the message's
    content: bytes = field(repr=False)
    author: Domain | None

    @property
    def message(self) -> RelayMessage:
        parameters = self.recipients[0].parameters
        return RelayMessage(
            self.entry.queue_id,
            EmailAddress.parse(parameters.reverse_path) if parameters.reverse_path else self.entry.reverse_path,
            self.entry.parameters,
            tuple(_relay_recipient(recipient) for recipient in self.recipients),
            delivered_to(parameters.original) + self.content,
            self.author,
            (int(self.entry.tenant_id),),
        )


def transactions(
    entry: Entry, recipients: Sequence[Recipient], content: bytes, author: Domain | None
) -> list[Transaction]:
    """For each reverse-path and Delivered-To, in the order of their first recipients."""
    groups: dict[tuple[str, str], list[Recipient]] = {}
    for recipient in recipients:
        key = (recipient.parameters.reverse_path, recipient.parameters.original)
        groups.setdefault(key, []).append(recipient)
    return [
        Transaction(entry, tuple(group[start : start + RECIPIENTS_MAX]), content, author)
        for group in groups.values()
        for start in range(0, len(group), RECIPIENTS_MAX)
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
