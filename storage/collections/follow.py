"""Who follows what is stored in collections: told in the writing transaction, so that what they derive is never apart.

A follower writes on the transaction that it is handed and nowhere else. What it raises undoes the change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from storage.collections.values import Collection, CollectionId, Content, Stored
from storage.database.database import Transaction


class Follower(Protocol):
    def stored(
        self, transaction: Transaction, collection: Collection, before: Stored | None, after: Stored, content: Content
    ) -> None:
        """An object was put: `before` is what it replaced, None if it is new."""

    def removed(self, transaction: Transaction, collection: Collection, stored: Stored) -> None:
        """An object went: deleted, moved elsewhere, or with its collection (then a little later, in slices)."""


@runtime_checkable
class Preparing(Protocol):
    """A follower that writes files, which is to be done before the write lock is taken."""

    def prepare(self, collection_id: CollectionId, content: Content) -> Callable[[], None] | None:
        """Make ready what `stored` will need of this body; what comes back is called when all is over."""
