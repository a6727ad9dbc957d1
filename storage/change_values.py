"""What the change feed tells (`storage.changes`), and how its datagrams say it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from storage.collections.values import CollectionId
from storage.values import AccountId, MailboxId, ModSeq, TenantId

CHANGE = struct.Struct(">BQQQ")
FAREWELL = 4


@dataclass(frozen=True, slots=True)
class Change:
    """A mailbox has come to this modseq, or beyond."""

    account_id: AccountId
    mailbox_id: MailboxId
    modseq: ModSeq


@dataclass(frozen=True, slots=True)
class MailboxesChanged:
    """Mailboxes of an account were made, deleted or renamed, or its subscriptions or annotations changed."""

    account_id: AccountId


@dataclass(frozen=True, slots=True)
class CollectionChanged:
    """A calendar, address book or folder has come to this modseq, or beyond, or its name or colour has changed."""

    account_id: AccountId
    collection_id: CollectionId
    modseq: ModSeq


@dataclass(frozen=True, slots=True)
class AccountChanged:
    """Credentials, state or quota of an account."""

    tenant_id: TenantId
    account_id: AccountId


@dataclass(frozen=True, slots=True)
class TenantChanged:
    """The state or the settings of a tenant."""

    tenant_id: TenantId


@dataclass(frozen=True, slots=True)
class RightsChanged:
    """Who may do what with the mailboxes of an account."""

    tenant_id: TenantId
    owner_id: AccountId


@dataclass(frozen=True, slots=True)
class TenantEnded:
    """Its contract is over: let go of all that is open of it, and of its keys. Told again until everybody has."""

    tenant_id: TenantId


@dataclass(frozen=True, slots=True)
class AccountEnded:
    """It is being deleted: let go of its database. Told again until everybody has."""

    tenant_id: TenantId
    account_id: AccountId


@dataclass(frozen=True, slots=True)
class QueueChanged:
    """Something in the queue became due earlier than was known: `Queue.news` tells what."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Something may have been missed: look again."""


Published = (
    Change
    | MailboxesChanged
    | CollectionChanged
    | AccountChanged
    | RightsChanged
    | TenantChanged
    | QueueChanged
    | TenantEnded
    | AccountEnded
)

_KINDS: dict[int, type[Published]] = {
    1: Change,
    2: AccountChanged,
    3: TenantChanged,
    5: QueueChanged,
    6: TenantEnded,
    7: AccountEnded,
    8: CollectionChanged,
    9: MailboxesChanged,
    10: RightsChanged,
}
_NUMBERS = {kind: number for number, kind in _KINDS.items()}


def pack(change: Published) -> bytes:
    """The number of its kind, and its ids."""
    values = [getattr(change, name) for name in type(change).__match_args__]
    return CHANGE.pack(_NUMBERS[type(change)], *values, *(0,) * (3 - len(values)))


def unpack(datagram: bytes, position: int) -> Sequence[Published | None]:
    """None is a farewell. Raises ValueError or struct.error for what is no change."""
    changes: list[Published | None] = []
    for start in range(position, len(datagram), CHANGE.size):
        number, *values = CHANGE.unpack_from(datagram, start)
        if number == FAREWELL:
            changes.append(None)
        elif number in _KINDS:
            kind = _KINDS[number]
            changes.append(kind(*values[: len(kind.__match_args__)]))
        else:
            raise ValueError("unknown kind of change")
    return changes
