"""Many terms found in octets at once. Pure.

The four octets at each place are looked up in a table of the beginnings of all terms, and what that lets through is
compared with up to eight octets of them, and then whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

_WINDOW = 4  # octets by which a place is looked up, and as many more by which it is compared before it is read
_WIDEST = 2 * _WINDOW
_BITS = 18  # of the table: it fits into a core's cache
_SPREAD = np.uint32(2654435761)  # 2**32 divided by the golden ratio: its high bits depend on all octets
_SHIFT = np.uint32(32 - _BITS)


class Beginnings:
    """Many terms of at least `_WINDOW` octets, by how they begin."""

    def __init__(self, terms: Collection[bytes]) -> None:
        self._terms: dict[int, dict[bytes, list[bytes]]] = {}  # by the octets that are compared: 4 to 8 of them
        for term in terms:
            width = min(len(term), _WIDEST)
            self._terms.setdefault(width, {}).setdefault(term[:width], []).append(term)
        windows = np.frombuffer(b"".join(sorted({term[:_WINDOW] for term in terms})), "<u4")
        self._table = np.zeros(1 << _BITS, np.bool_)
        self._table[windows * _SPREAD >> _SHIFT] = True
        self._widths = [
            (width, np.uint64((1 << 8 * width) - 1), np.sort(np.array([_number(head) for head in heads], np.uint64)))
            for width, heads in sorted(self._terms.items())
        ]

    def places(self, lower: bytes) -> Iterator[tuple[bytes, int]]:
        if len(lower) < _WINDOW:
            return
        padded = lower + bytes(_WIDEST + _WINDOW)  # no place is too near to the end; what is found is compared again
        found = [
            np.flatnonzero(self._table[self._windows(padded, offset, len(lower)) * _SPREAD >> _SHIFT]) * 4 + offset
            for offset in range(_WINDOW)
        ]
        places = np.concatenate(found)
        if not len(places):
            return
        octets = np.frombuffer(padded, np.uint8)
        wide = octets[places[:, None] + np.arange(_WIDEST)].view("<u8").ravel()
        for width, mask, heads in self._widths:
            beginnings = wide & mask
            nearest = np.searchsorted(heads, beginnings)
            nearest[nearest == len(heads)] = 0
            for place in places[heads[nearest] == beginnings].tolist():
                terms = self._terms[width].get(lower[place : place + width], ())
                yield from ((term, place) for term in terms if lower.startswith(term, place))

    @staticmethod
    def _windows(padded: bytes, offset: int, size: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
        """The octets at every fourth place from `offset` on, four at a time."""
        return np.frombuffer(padded, "<u4", (size + _WINDOW - 1) // _WINDOW, offset)


def _number(octets: bytes) -> int:
    return int.from_bytes(octets, "little")
