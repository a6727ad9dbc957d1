"""Sorts long lists in pieces, so that no single call of the interpreter holds up everything else for long.

A call of `list.sort` cannot be interrupted, not even by another thread. Pieces are sorted by themselves and merged in
pairs: Python's sort finds the two runs and merges them in linear time. The result is that of one stable sort.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

_PIECE = 8192


def stable(values: Sequence[int], key: Callable[[int], Any], *, reverse: bool = False) -> list[int]:
    """`values` by `key`; equal ones keep their order, with `reverse` too."""
    pieces = [
        sorted(values[start : start + _PIECE], key=key, reverse=reverse) for start in range(0, len(values), _PIECE)
    ]
    while len(pieces) > 1:
        pairs = zip(pieces[::2], [*pieces[1::2], []], strict=False)
        pieces = [sorted(left + right, key=key, reverse=reverse) for left, right in pairs]
    return pieces[0] if pieces else []
