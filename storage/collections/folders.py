"""Folders in folders: what lies below one, and what it lies in.

Their depth is bounded where they are made (CollectionLimits.depth); UNION ends even in a damaged tree.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text

from storage.database.database import Connection
from storage.database.prepared import prepare
from storage.values import AccountId

_below = prepare(
    text(
        """WITH RECURSIVE down(id) AS (
             SELECT :collection
             UNION SELECT c.collection_id FROM collection c JOIN down
               ON c.account_id = :account AND c.kind = 'folder' AND c.parent_id = down.id)
           SELECT id FROM down"""
    )
)
_ancestry = prepare(
    text(
        """WITH RECURSIVE up(id) AS (
             SELECT :collection
             UNION SELECT c.parent_id FROM collection c JOIN up ON c.account_id = :account AND c.collection_id = up.id)
           SELECT id FROM up WHERE id > 0"""
    )
)


def below(connection: Connection, account_id: AccountId, collection_id: int) -> Sequence[int]:
    """A collection and all folders below it, parents first."""
    return [row[0] for row in _below.rows(connection, account=account_id, collection=collection_id)]


def ancestry(connection: Connection, account_id: AccountId, collection_id: int) -> Sequence[int]:
    """A collection and the folders that it lies in, upwards."""
    return [row[0] for row in _ancestry.rows(connection, account=account_id, collection=collection_id)]


def height(connection: Connection, account_id: AccountId, folders: Sequence[int]) -> int:
    """How deep a tree is, of which `below` gave the folders: 1 if the first has none."""
    depths = [len(ancestry(connection, account_id, each)) for each in folders]
    return max(depths) - depths[0] + 1
