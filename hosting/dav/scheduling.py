"""What the DAV layer asks of scheduling when an object of a calendar is stored or removed (RFC 6638 §3.2).

`hosting.scheduling.implicit` does it; without one, nothing is scheduled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from hosting.auth.signin import Principal
from hosting.dav.resources import Person
from storage.collections.values import Collection, Content, Stored
from storage.database.database import Transaction
from storage.mail.account import Account


@dataclass(frozen=True, slots=True)
class Change:
    """An object that is to be stored (`content`) or removed (None), as it is now (`before`) and who does it."""

    principal: Principal  # who asks
    owner: Person  # whose calendar it is
    account: Account  # the owner's
    collection: Collection
    name: str = field(repr=False)
    content: Content | None
    before: Stored | None
    before_data: bytes | None = field(repr=False)
    if_schedule_tag_match: str = ""  # with its quotes; "": not asked
    reply: bool = True  # Schedule-Reply (RFC 6638 §8.1)
    new_uid: bool = False  # a copy


class Consequence(Protocol):
    """What follows from one change."""

    @property
    def content(self) -> Content | None:
        """What is to be stored; other octets than the client's when statuses were written into them."""
        ...

    def within(self, transaction: Transaction, before: Stored | None, after: Stored | None) -> None:
        """Called in the transaction that stores or removes. Raises Conflict where `before` is another by now: then
        everything is begun anew."""
        ...

    def committed(self) -> None:
        """Called once it is durable; nothing that fails here fails the request."""
        ...


class Scheduler(Protocol):
    def consequence(self, change: Change) -> Consequence | None:
        """None: nothing follows. Raises Violated (RFC 6638 §3.2.4) or PreconditionFailed (If-Schedule-Tag-Match)."""
        ...
