"""What the numbers in a search that is updated mean from then on: the messages that had them when it began.

Standards: RFC 5267 §4.3.
"""

from __future__ import annotations

from collections.abc import Iterable

from hosting.imap import commands as c
from hosting.imap.effects import Flow
from hosting.imap.locating import located, uids_at
from hosting.imap.searching import search_commands as sc
from hosting.imap.selected import Selected
from storage.values import UID_MAX


def fixed(key: sc.Key, selected: Selected) -> Flow[sc.Key]:
    """The key with the messages that its numbers mean now (RFC 5267 §4.3); UIDs may go on to what arrives."""
    match key:
        case sc.NumbersKey(numbers, by_uid):
            if by_uid and not numbers.saved:
                return sc.NumbersKey(c.SequenceSet(_open(numbers.ranges, selected.last_uid)), True)
            uids = yield from uids_at(selected, (yield from located(selected, numbers, by_uid, lenient=True)))
            return sc.NumbersKey(c.SequenceSet(uids.ranges), by_uid=True) if uids else sc.NotKey(sc.AllKeys())
        case sc.AllKeys(keys):
            every: list[sc.Key] = []
            for one in keys:
                every.append((yield from fixed(one, selected)))
            return sc.AllKeys(tuple(every))
        case sc.NotKey(inner):
            return sc.NotKey((yield from fixed(inner, selected)))
        case sc.EitherKey(left, right):
            return sc.EitherKey((yield from fixed(left, selected)), (yield from fixed(right, selected)))
        case sc.FuzzyKey(inner):
            return sc.FuzzyKey((yield from fixed(inner, selected)))
    return key


def _open(ranges: Iterable[tuple[int, int]], last: int) -> tuple[tuple[int, int], ...]:
    """ "5:*" has no end; "*" alone is the last message of now."""
    opened = []
    for low, high in ranges:
        if low == high == c.STAR:
            opened.append((max(1, last), max(1, last)))
        elif c.STAR in (low, high):
            opened.append((min(low or high, last or UID_MAX), UID_MAX))
        else:
            opened.append((low, high))
    return tuple(opened)
