"""Locks as requests meet them: which tokens a request submits, and whether it may write where something is locked.

Storage says which locks there are; whoever holds a lock still has to send its token (RFC 4918 §6.3), and a token counts
only for the account that holds the lock (§6.4). A change of a collection's members needs the collection's lock (§7.4).
Objects and properties are looked at again in the transaction that changes them (`first_unlocked`): who was given a lock
meanwhile relies on it.

Raises: Refused (423 with DAV:lock-token-submitted, 412, 400).
Standards: RFC 4918 §6, §7, §10.4, §14.1 (activelock).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from hosting.dav.context import Context
from hosting.dav.errors import Refused, precondition
from hosting.dav.if_header import Condition, ConditionList, read_if
from hosting.dav.locating import FILES_ROOT, Place, locate, place
from hosting.dav.names import dav, element, text_element
from hosting.dav.paths import Path, read_reference
from hosting.dav.resources import Resource, href
from storage.collections.locks import Lock, Locked
from storage.collections.objects import First
from storage.collections.values import CollectionId, Kind, ObjectId, Stored
from storage.database.database import Transaction
from storage.errors import NotFound
from storage.mail.account import Account


def conditions_of(context: Context) -> tuple[ConditionList, ...]:
    return read_if(context.request.header("if"))


def submitted(context: Context) -> frozenset[str]:
    """The lock tokens that the request carries."""
    return frozenset(
        condition.token for each in conditions_of(context) for condition in each.conditions if condition.token
    )


def covering(context: Context, resource: Resource) -> Sequence[Lock]:
    """The locks that protect a resource."""
    if resource.account is None or resource.collection is None or not context.has_locks(resource.account):
        return ()
    return resource.data.locks.covering(resource.row.id, resource.stored.object_id if resource.stored else 0)


def check_unlocked(context: Context, resource: Resource) -> None:
    """Its content or properties are going to change."""
    _check(context, resource, covering(context, resource))


def check_members_unlocked(context: Context, parent: Resource) -> None:
    """Something is going to be added to, or taken out of, a collection."""
    _check(context, parent, covering(context, parent))


def blocked_below(context: Context, resource: Resource) -> list[tuple[bytes, bytes]]:
    """What is locked below a collection by tokens that the request does not carry: hrefs and conditions."""
    if resource.collection is None or not context.has_locks(resource.data):
        return []
    tokens, me = submitted(context), context.me.account_id
    found: dict[bytes, list[Lock]] = {}
    for each in resource.data.locks.below(resource.row.id):
        found.setdefault(root_of(resource, each), []).append(each)
    token_submitted = dav("lock-token-submitted")
    return [
        (root, element(token_submitted, element(dav("href"), root)))
        for root, locks in found.items()
        if not any(each.token in tokens and each.holder == me for each in locks)
    ]


def _check(context: Context, resource: Resource, locks: Sequence[Lock]) -> None:
    """Of shared locks one token is enough (RFC 4918 §7)."""
    if locks and not _is_open(context, locks):
        roots = b"".join(element(dav("href"), root_of(resource, each)) for each in locks)
        raise precondition(423, dav("lock-token-submitted"), roots, "It is locked.")


def _is_open(context: Context, locks: Sequence[Lock]) -> bool:
    tokens, me = submitted(context), context.me.account_id
    return any(each.token in tokens and each.holder == me for each in locks)


def first_unlocked(context: Context, parent: Resource, *, members: bool = False) -> First:
    """For storage to call before it changes an object of this collection. With `members` an object goes.

    Raises Locked.
    """

    def first(transaction: Transaction, stored: Stored | None) -> None:
        looked_at = [stored.object_id if stored is not None else 0]
        if members and stored is not None:
            looked_at.append(0)
        for object_id in looked_at:
            locks = parent.data.locks.covering_in(transaction, parent.row.id, object_id)
            if locks and not _is_open(context, locks):
                raise Locked(locks=locks)

    return first


def check_if(context: Context, at: Place | Resource) -> None:
    """The If header, before anything is done. Raises Refused (412)."""
    lists = conditions_of(context)
    if lists and not any(_holds(context, each, at) for each in lists):
        raise Refused(412, why="None of the conditions of the If header holds.")


def _holds(context: Context, of: ConditionList, at: Place | Resource) -> bool:
    if of.tag:
        with suppress(Refused, NotFound):
            named = read_reference(context.request, of.tag, context.services.limits)
            etag, tokens = _state(context, _look(context, named))
            return all(_is_so(each, etag, tokens) for each in of.conditions)
        etag, tokens = None, frozenset[str]()  # nothing there, or nothing that may be told
    else:
        etag, tokens = _state(context, at)
    return all(_is_so(each, etag, tokens) for each in of.conditions)


def _look(context: Context, path: Path) -> Place | Resource:
    try:
        return locate(context, path.segments)
    except Refused:
        return place(context, path)


def _is_so(condition: Condition, etag: str | None, tokens: frozenset[str]) -> bool:
    holds = condition.token in tokens if condition.token else etag is not None and condition.etag == etag
    return holds is not condition.negated


def _state(context: Context, at: Place | Resource) -> tuple[str | None, frozenset[str]]:
    """Its ETag and the tokens of the locks on it; of what is not there those that are deep above it."""
    if isinstance(at, Place):
        if at.found is None:
            return None, frozenset(each.token for each in covering(context, at.parent) if each.deep)
        at = at.found
    return at.stored.etag if at.stored else None, frozenset(each.token for each in covering(context, at))


# As clients read them


def active_locks(context: Context, resource: Resource) -> bytes:
    """Content of DAV:lockdiscovery."""
    return b"".join(active_lock(context, resource, each) for each in covering(context, resource))


def active_lock(context: Context, resource: Resource, lock: Lock) -> bytes:
    left = max(0, lock.expires - context.now)
    return element(
        dav("activelock"),
        element(dav("locktype"), b"<D:write/>")
        + element(dav("lockscope"), b"<D:shared/>" if lock.shared else b"<D:exclusive/>")
        + element(dav("depth"), b"infinity" if lock.deep else b"0")
        + lock.owner
        + element(dav("timeout"), b"Second-%d" % left)
        + element(dav("locktoken"), text_element(dav("href"), lock.token))
        + element(dav("lockroot"), element(dav("href"), root_of(resource, lock))),
    )


def root_of(resource: Resource, lock: Lock) -> bytes:
    """The href of what a lock is on, seen from a resource that it protects or that is above it."""
    if resource.collection is None or (
        lock.collection_id == resource.collection.id
        and lock.object_id == (resource.stored.object_id if resource.stored else 0)
    ):
        return resource.href
    home = resource.segments[:2]
    if resource.share is not None or lock.collection_id == resource.collection.id:
        collection = resource.segments[:-1] if resource.stored is not None else resource.segments
    else:
        collection = home + tuple(_names(resource.data, lock.collection_id))
    if not lock.object_id:
        return href(collection, is_collection=True)
    with suppress(NotFound):
        name = resource.data.objects.by_id(lock.collection_id, ObjectId(lock.object_id)).name
        return href((*collection, name), is_collection=False)
    return href(collection, is_collection=True)


def _names(account: Account, collection_id: CollectionId) -> Iterable[str]:
    """Of a collection and those above it, from the home on."""
    with suppress(NotFound):
        names = [each.name for each in account.collections.path(collection_id)]
        if names[0] == FILES_ROOT and account.collections.by_id(collection_id).kind is Kind.FOLDER:
            del names[0]  # the home itself
        return names
    return ()
