"""The messages that a search looks among: their ids by position, and the way back from ids to positions.

Message ids ascend with the arrival of messages in the account, UIDs with that in a mailbox: in most mailboxes both do,
and a position is found by bisection. Where messages came from other mailboxes, an order of positions by id is made
once and kept with the view's columns; what arrived behind it is looked at one by one.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

_DENSE = 16  # one found among so many: all are looked at, which costs less for each


class Sought:
    """`ids` by position; `order`: the first positions, those with the least ids first (a range: the ids ascend)."""

    __slots__ = ("_all", "_order", "ids")

    def __init__(self, ids: Sequence[int], order: Sequence[int] = ()) -> None:
        self.ids = ids
        self._order = order
        self._all: frozenset[int] | None = None

    @classmethod
    def of(cls, ids: Iterable[int]) -> Sought:
        return cls(array("Q", ids))

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[int]:
        return iter(self.ids)

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the greatest id."""
        ids, order = self.ids, self._order
        if not order:
            return min(ids), max(ids)
        behind = ids[len(order) :]
        return min([ids[order[0]], *behind]), max([ids[order[-1]], *behind])

    def is_rare(self, count: int) -> bool:
        """Whether so many are found by bisection: `positions` is worth calling."""
        return bool(self._order) and count * _DENSE < len(self.ids)

    def common(self, found: set[int]) -> set[int]:
        """Those of `found` that are among these: in steps, so each looks only between the least and the greatest."""
        ids, order = self.ids, self._order
        if not order:
            if self._all is None:
                self._all = frozenset(ids)
            return found & self._all
        if not found:
            return found
        ordered, low, high = len(order), min(found), max(found)
        if isinstance(order, range):
            between: Iterable[int] = ids[bisect_left(ids, low, 0, ordered) : bisect_right(ids, high, 0, ordered)]
        else:
            first = bisect_left(order, low, key=ids.__getitem__)
            between = [ids[at] for at in order[first : bisect_right(order, high, key=ids.__getitem__)]]
        return found.intersection(between) | found.intersection(ids[ordered:])

    def positions(self, found: set[int]) -> list[int]:
        """Ascending positions of the messages found; one may stand in a mailbox twice."""
        ids, order = self.ids, self._order
        ordered = len(order)
        places: list[int] = []
        if isinstance(order, range):
            for wanted in found:
                at = bisect_left(ids, wanted, 0, ordered)
                while at < ordered and ids[at] == wanted:
                    places.append(at)
                    at += 1
        else:
            for wanted in found:
                at = bisect_left(order, wanted, key=ids.__getitem__)
                while at < ordered and ids[order[at]] == wanted:
                    places.append(order[at])
                    at += 1
        places += [at for at, message_id in enumerate(ids[ordered:], ordered) if message_id in found]
        places.sort()
        return places
