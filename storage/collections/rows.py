"""Rows of collections and objects as values."""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam

from storage.collections.values import Collection, Kind, Stored
from storage.database.prepared import Row
from storage.schema.collections import collection, object_

COLUMNS = (
    collection.c.collection_id,
    collection.c.kind,
    collection.c.parent_id,
    collection.c.name,
    collection.c.display_name,
    collection.c.description,
    collection.c.color,
    collection.c.position,
    collection.c.timezone,
    collection.c.components,
    collection.c.transparent,
    collection.c.source,
    collection.c.highest_modseq,
    collection.c.gone_horizon,
    collection.c.objects,
    collection.c.bytes,
    collection.c.created,
    collection.c.modified,
)
DYING = -1  # parent_id of what is deleted and still to be emptied
LIVE = (collection.c.account_id == bindparam("account"), collection.c.parent_id > DYING)

OBJECT_COLUMNS = (
    object_.c.collection_id,
    object_.c.object_id,
    object_.c.name,
    object_.c.uid,
    object_.c.component,
    object_.c.etag,
    object_.c.schedule_tag,
    object_.c.content_type,
    object_.c.size,
    object_.c.modseq,
    object_.c.created,
    object_.c.modified,
)
WIDTH = len(OBJECT_COLUMNS)


def collection_of(row: Row) -> Collection:
    values: list[Any] = [*row]
    values[1] = Kind(row[1])
    values[9] = tuple(row[9].split())
    values[10] = bool(row[10])
    return Collection(*values)


def stored_of(row: Row) -> Stored:
    return Stored(*row)
