"""Who hears of what became of a recipient: the sender, the tenant's administrators, or nobody. Pure.

A report goes to our own submitters always, and to strangers only if the reverse-path is known to be theirs; otherwise
whoever's address was forged would get it (backscatter), so the administrators of the tenant are told of a failure
instead. What has no reverse-path, and what was made here, is never reported on.

Standards: RFC 3461 §4.1 (NOTIFY), §5.2 (what asks for which report), RFC 3464 §2 (no report on a report),
RFC 5321 §4.5.5 (null reverse-path).
"""

from __future__ import annotations

from enum import Enum

from storage.queue.entries import Entry, Origin, Recipient


class Action(Enum):
    """What a report says of a recipient (RFC 3464 §2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"  # to a server that will not report by itself
    EXPANDED = "expanded"  # an alias with several destinations, which report no success of their own

    @property
    def is_success(self) -> bool:
        return self in {Action.DELIVERED, Action.RELAYED, Action.EXPANDED}


class Audience(Enum):
    SENDER = "sender"
    ADMINISTRATORS = "administrators"  # of the tenant: the sender must not be told
    WITHHELD = "withheld"  # the sender asked, and must not be told; nobody else need know
    NOBODY = "nobody"  # nobody asked


def audience(entry: Entry, recipient: Recipient, action: Action) -> Audience:
    """Who is told that `action` happened to `recipient`."""
    if entry.reverse_path is None or entry.origin is Origin.NOTICE:
        return Audience.NOBODY
    if not wanted(recipient.parameters.notify, action):
        return Audience.NOBODY
    if entry.origin is Origin.SUBMISSION or entry.parameters.authentic:
        return Audience.SENDER
    return Audience.ADMINISTRATORS if action is Action.FAILED else Audience.WITHHELD


def wanted(notify: tuple[str, ...], action: Action) -> bool:
    """Whether NOTIFY asks for it; without the parameter failures and delays are told (RFC 3461 §4.1)."""
    if not notify:
        return not action.is_success
    if action.is_success:
        return "SUCCESS" in notify
    return ("FAILURE" if action is Action.FAILED else "DELAY") in notify


def success(entry: Entry, recipient: Recipient, action: Action) -> Action | None:
    """How a success is told where an alias has several destinations: once, by the first (RFC 3461 §5.2.7.3 c)."""
    same = [other for other in entry.recipients if known_as(other) == known_as(recipient)]
    if len(same) == 1:
        return action
    return Action.EXPANDED if recipient.position == min(other.position for other in same) else None


def known_as(recipient: Recipient) -> str:
    """The address that the sender knows: the envelope's, never what an alias leads to (RFC 3461 §5.2.7.4)."""
    return recipient.parameters.original or str(recipient.address)
