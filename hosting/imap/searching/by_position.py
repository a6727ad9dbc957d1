"""What is known of messages, by the positions of one client; and positions that octets mark."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import compress
from typing import Protocol

from hosting.imap.selected import Selected


class Column(Protocol):
    def __getitem__(self, position: int, /) -> int: ...


class _Moved:
    """A column of the view, by positions of a client that was not told of an expunge yet; 0 for what is gone."""

    __slots__ = ("_column", "_current", "_mine")

    def __init__(self, column: Sequence[int], mine: Sequence[int], current: Sequence[int]) -> None:
        self._column = column
        self._mine = mine
        self._current = current

    def __getitem__(self, position: int) -> int:
        uid, current = self._mine[position], self._current
        at = bisect_left(current, uid)
        return self._column[at] if at < len(current) and current[at] == uid else 0


def values_of(selected: Selected, column: Sequence[int]) -> Column:
    """A column of the view as it is now, by the client's positions: messages may go while a search works."""
    if not selected.stale:
        return column
    return _Moved(column, selected.uids, selected.view.uids)


def marked(among: range, marks: bytes) -> Sequence[int]:
    """The positions whose octet is 1; one octet for each."""
    count = marks.count(1)
    if count == len(among):
        return among
    return list(compress(among, marks)) if count else ()
