"""Sync tokens: up to which change of which collection somebody knows everything (RFC 6578 §4).

    urn:cleanmail:sync:<collection>-<modseq>            all changes up to this one
    urn:cleanmail:sync:<collection>-<modseq>-<begun>    a first listing that was cut, and where the collection was then

The second form is what makes long first listings safe: what went before they began was never told, so no tombstone is
missing to whoever goes on with one, however old the objects are that it has come to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from storage.collections.values import CollectionId
from storage.errors import Conflict

_PREFIX = "urn:cleanmail:sync:"
_FORM = re.compile(r"urn:cleanmail:sync:([1-9][0-9]{0,17})-(0|[1-9][0-9]{0,18})(?:-([1-9][0-9]{0,18}))?", re.ASCII)
_LARGEST = (1 << 63) - 1


class TokenTooOld(Conflict):
    """Nobody knows any more what went since: the client has to list everything (RFC 6578 §3.2, valid-sync-token)."""

    default = "The sync token is not valid any more; synchronise from the beginning."


@dataclass(frozen=True, slots=True)
class SyncToken:
    collection_id: CollectionId
    modseq: int
    begun: int = 0

    def __str__(self) -> str:
        return sync_token(self.collection_id, self.modseq, self.begun)


def sync_token(collection_id: int, modseq: int, begun: int = 0) -> str:
    text = f"{_PREFIX}{collection_id}-{modseq}"
    return f"{text}-{begun}" if begun else text


def read_token(text: str) -> SyncToken:
    """Raises TokenTooOld for what is no token of ours."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise TokenTooOld
    collection_id, modseq, begun = int(found[1]), int(found[2]), int(found[3] or 0)
    if max(modseq, begun) > _LARGEST:
        raise TokenTooOld
    return SyncToken(CollectionId(collection_id), modseq, begun)
