"""What may stand at which place: the components that a calendar takes, each UID once, no file where a folder is.

Asked in the writing transaction, so that of two writers with one UID one is refused.

Raises: Violated (a precondition of CalDAV or CardDAV), Conflict (a folder stands there).
Standards: RFC 4791 §5.3.2.1, RFC 6352 §6.3.2.1.
"""

from __future__ import annotations

from sqlalchemy import bindparam, select, text

from storage.collections.conditions import Namespace, Violated
from storage.collections.values import Collection, CollectionId, Content, Kind, Stored
from storage.database.database import Connection
from storage.database.prepared import prepare
from storage.errors import Conflict, NotFound
from storage.schema.collections import collection, object_
from storage.values import AccountId

_ONE_UID = (Kind.CALENDAR, Kind.ADDRESS_BOOK)  # kinds in which a UID stands once

_mine = object_.c.account_id == bindparam("account")
_in_collection = object_.c.collection_id == bindparam("collection")
_same_uid = prepare(
    select(object_.c.object_id).where(_mine, object_.c.uid == bindparam("uid"), _in_collection).limit(1)
)
_name_of = prepare(select(object_.c.name).where(_mine, _in_collection, object_.c.object_id == bindparam("object")))
_folder_named = prepare(
    select(collection.c.collection_id).where(
        collection.c.account_id == bindparam("account"),
        collection.c.kind == Kind.FOLDER.value,
        collection.c.parent_id == bindparam("parent"),
        collection.c.name == bindparam("called"),
    )
)

# A collection and the folders that it lies in, upwards; UNION ends even in a damaged tree.
_path = prepare(
    text(
        """WITH RECURSIVE up(id, depth) AS (
             SELECT :collection, 0
             UNION SELECT c.parent_id, up.depth + 1 FROM collection c JOIN up ON c.account_id = :account
               AND c.collection_id = up.id WHERE up.depth < 100)
           SELECT c.kind, c.name FROM up JOIN collection c ON c.account_id = :account AND c.collection_id = up.id
           ORDER BY up.depth"""
    )
)


def place_of(connection: Connection, account_id: AccountId, collection_id: CollectionId, name: str) -> str:
    """Where an object belongs, for its file to say: kind, folders and name. Raises NotFound."""
    rows = _path.rows(connection, account=account_id, collection=collection_id)
    if not rows:
        raise NotFound("There is no such collection.")
    return "/".join([rows[0][0], *(row[1] for row in reversed(rows)), name])


def check_place(
    connection: Connection,
    account_id: AccountId,
    parent: Collection,
    before: Stored | None,
    name: str,
    content: Content,
) -> None:
    """Whether a body may be stored under a name, in place of what is there."""
    if parent.kind is Kind.FOLDER:
        if before is None and _folder_named.one(connection, account=account_id, parent=parent.id, called=name):
            raise Conflict("A folder stands there under this name.")
        return
    if parent.components and content.component and content.component not in parent.components:
        raise Violated("supported-calendar-component", f"This collection takes no {content.component}.")
    if content.uid is None or parent.kind not in _ONE_UID or (before and before.uid == content.uid):
        return
    if before is not None and before.uid is not None:
        raise _another_uid(parent, name)
    other = _same_uid.one(connection, account=account_id, collection=parent.id, uid=content.uid)
    if other is not None:
        row = _name_of.rows(connection, account=account_id, collection=parent.id, object=other[0])[0]
        raise Violated("no-uid-conflict", "Another object here has this UID.", _space(parent), name=row[0])


def check_uid(parent: Collection, target: Stored, source: Stored) -> None:
    """COPY and MOVE over something that has another UID (RFC 4791 §5.3.2.1)."""
    if parent.kind in _ONE_UID and target.uid != source.uid:
        raise _another_uid(parent, target.name)


def _another_uid(parent: Collection, name: str) -> Violated:
    return Violated("no-uid-conflict", "What is stored there has another UID.", _space(parent), name=name)


def _space(parent: Collection) -> Namespace:
    return Namespace.CARDDAV if parent.kind is Kind.ADDRESS_BOOK else Namespace.CALDAV
