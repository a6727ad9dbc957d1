"""sync-collection on the home of calendars or address books: which of them came, went or changed, and (level infinite)
what changed in them.

A home has no number of its own that rises. Its token says up to where the client knows each collection in it, so that
it stays true whatever is made, renamed, shared or removed meanwhile; it holds nothing that its owner does not see.

Raises: TokenTooOld (as the token of a collection).
Standards: RFC 6578 §3.
"""

from __future__ import annotations

import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from hosting.dav.context import Context
from hosting.dav.locating import collections_in
from hosting.dav.multistatus import Multistatus, Wanted, status_response
from hosting.dav.names import dav, element, text_element
from hosting.dav.resources import Resource, encoded, href
from storage.collections.tokens import TokenTooOld
from storage.collections.values import Changes

_PREFIX = "urn:cleanmail:sync-home:"
_TOKEN_MAX = 256 << 10  # characters
_STATE_MAX = 1 << 20  # octets
_ENTRIES_MAX = 2000
_CUT = element(dav("number-of-matches-within-limits"))

_Key = tuple[int, int]  # whose it is, and its id there


@dataclass(frozen=True, slots=True)
class _Known:
    """What the client knows of one collection."""

    name: str  # percent-encoded
    modseq: int
    begun: int  # as in the token of a collection
    mark: int  # of what it says beside its objects


@dataclass(frozen=True, slots=True)
class _Told:
    """What is told of one collection."""

    resource: Resource
    changes: Changes | None  # None: of itself alone


def home_token(context: Context, home: Resource) -> str:
    """The token of all that is there now."""
    return _written(_known_of(collections_in(context, home)))


def responses(
    context: Context,
    multistatus: Multistatus,
    home: Resource,
    wanted: Wanted,
    token: str,
    *,
    deep: bool,
    limit: int | None,
) -> Iterable[bytes]:
    """Everything is looked up when this returns, and written when it is pulled. Raises TokenTooOld."""
    known = _read(token) if token else {}
    state: dict[_Key, _Known] = {}
    told: list[_Told] = []
    there = collections_in(context, home)
    nows = _known_of(there)
    moved: list[str] = []
    left, more = limit, False
    for each in there:
        key = _key(each)
        now = nows[key]
        before = known.pop(key, None)
        if before != now and left is not None and left <= 0:
            more = True
            if before is not None:
                state[key] = before
            continue
        if before is not None and before.name != now.name:
            moved.append(before.name)
            before = None  # under its new name everything in it is new
        if before == now:
            state[key] = now
        elif not deep:
            told.append(_Told(each, None))
            state[key] = now
            left = left if left is None else left - 1
        else:
            changes = _changes(each, before, left)
            told.append(_Told(each, changes))
            state[key] = _Known(now.name, changes.token_modseq, changes.begun, now.mark)
            more = more or changes.more
            left = left if left is None else left - 1 - len(changes.changed) - len(changes.gone)
    names = {each.name for each in nows.values()}
    left_names = [*moved, *(each.name for each in known.values())]
    gone = [name for name in left_names if name not in names]
    if deep and len(gone) < len(left_names):
        raise TokenTooOld  # another has its name: nobody can say which of its members are still at their URLs
    return _responses(context, multistatus, home, wanted, told, gone, _written(state), more=more)


def _changes(resource: Resource, before: _Known | None, left: int | None) -> Changes:
    since, begun = (before.modseq, before.begun) if before is not None else (0, 0)
    return resource.data.objects.changes(resource.row.id, since, left and max(1, left), begun=begun)


def _responses(
    context: Context,
    multistatus: Multistatus,
    home: Resource,
    wanted: Wanted,
    told: list[_Told],
    gone: list[str],
    token: str,
    *,
    more: bool,
) -> Iterator[bytes]:
    for each in told:
        yield multistatus.respond(context, each.resource, wanted)
        if each.changes is not None:
            members = each.resource.members(each.changes.changed)
            yield from multistatus.respond_members(context, each.resource, members, wanted)
            for name in each.changes.gone:
                yield status_response(each.resource.href + encoded(name).encode("ascii"), 404)
    for name in gone:
        yield status_response(href((*home.segments, unquote(name)), is_collection=True), 404)
    if more:
        yield status_response(home.href, 507, _CUT)
    yield text_element(dav("sync-token"), token)


def _key(resource: Resource) -> _Key:
    assert resource.owner is not None
    return int(resource.owner.account_id), int(resource.row.id)


def _known_of(collections: Sequence[Resource]) -> dict[_Key, _Known]:
    """What is to be known of each, with one look per owner at the properties that clients keep with them."""
    by_owner: dict[int, list[Resource]] = {}
    for each in collections:
        by_owner.setdefault(_key(each)[0], []).append(each)
    found: dict[int, dict[int, dict[str, bytes]]] = {
        owner: theirs[0].data.properties.get_many(int(each.row.id) for each in theirs)
        for owner, theirs in by_owner.items()
    }
    known = {}
    for each in collections:
        owner, number = _key(each)
        known[owner, number] = _now(each, found[owner].get(number, {}))
    return known


def _now(resource: Resource, kept: Mapping[str, bytes]) -> _Known:
    row = resource.row
    shown = (row.display_name, row.description, row.color, row.position, row.timezone, row.components, row.transparent)
    told = (shown, resource.share, resource.reach.value, sorted(kept.items()))
    mark = zlib.crc32(repr(told).encode("utf-8", "backslashreplace"))
    return _Known(encoded(resource.segments[-1]), int(row.highest_modseq), 0, mark)


def _written(state: dict[_Key, _Known]) -> str:
    lines = (
        f"{owner} {number} {each.modseq} {each.begun} {each.mark} {each.name}"
        for (owner, number), each in state.items()
    )
    packed = zlib.compress("\n".join(lines).encode("ascii"))
    return _PREFIX + urlsafe_b64encode(packed).decode("ascii")


def _read(token: str) -> dict[_Key, _Known]:
    if not token.startswith(_PREFIX) or len(token) > _TOKEN_MAX:
        raise TokenTooOld
    try:
        unpacking = zlib.decompressobj()
        state = unpacking.decompress(urlsafe_b64decode(token[len(_PREFIX) :]), _STATE_MAX)
        lines = state.decode("ascii").split("\n") if state else []
        if unpacking.unconsumed_tail or not unpacking.eof or len(lines) > _ENTRIES_MAX:
            raise TokenTooOld
        return dict(_entry(line) for line in lines)
    except (ValueError, zlib.error):
        raise TokenTooOld from None


def _entry(line: str) -> tuple[_Key, _Known]:
    """Raises ValueError."""
    *numbers, name = line.split(" ")
    if (
        len(numbers) != 5
        or not name
        or not all(each.isascii() and each.isdigit() and len(each) < 19 for each in numbers)
    ):
        raise ValueError
    owner, number, modseq, begun, mark = map(int, numbers)
    return (owner, number), _Known(name, modseq, begun, mark)
