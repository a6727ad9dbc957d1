"""Sorts long lists in pieces, so that no single call of the interpreter holds up everything else for long.

A call of `list.sort` cannot be interrupted, not even by another thread. Pieces are sorted by themselves and merged in
pairs, again in pieces: what of both is not above the lesser end of the next two pieces is complete, and Python's sort
merges its two runs in linear time. The result is that of one stable sort.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import Any

_PIECE = 8192
_SAMPLE = 256
_TOGETHER = 64  # numbers of a range, about


def stable(values: Sequence[int], key: Callable[[int], Any], *, reverse: bool = False) -> list[int]:
    """`values` by `key`; equal ones keep their order, with `reverse` too."""
    if reverse:  # equal ones change places twice
        result = stable(values[::-1], key)
        result.reverse()
        return result
    pieces = [sorted(values[start : start + _PIECE], key=key) for start in range(0, len(values), _PIECE)]
    while len(pieces) > 1:
        pairs = zip(pieces[::2], [*pieces[1::2], []], strict=False)
        pieces = [_merged(left, right, key) for left, right in pairs]
    return pieces[0] if pieces else []


def spread(values: Sequence[int], key: Callable[[int], int], *, reverse: bool = False) -> list[int]:
    """`values` by a key that is a number, as `stable` has them; in half of its time where they are many.

    They are put into ranges of numbers first, some to each unless the numbers lie very unevenly.
    """
    count = len(values)
    if count <= _PIECE:
        return stable(values, key, reverse=reverse)
    sample = sorted([key(values[at]) for at in range(0, count, count // _SAMPLE)])
    low, high = sample[len(sample) // 64], sample[-len(sample) // 64]  # a few dates are far from all others
    width = max((high - low) * _TOGETHER // count, 1).bit_length()
    last = max(high - low >> width, 0) + 2
    ranges: list[list[int]] = [[] for _ in range(last + 1)]
    for value in reversed(values) if reverse else values:  # equal ones change places twice
        at = (key(value) - low >> width) + 1
        ranges[at if 0 < at < last else 0 if at <= 0 else last].append(value)
    result: list[int] = []
    for each in ranges:
        result += sorted(each, key=key) if len(each) <= _PIECE else stable(each, key)
    if reverse:
        result.reverse()
    return result


def by_number(numbers: Sequence[int], count: int) -> list[int] | None:
    """The places of the first `count` numbers, in their order; None unless they are different and close together.

    Each goes where it belongs: a fifth of the time that comparing them takes.
    """
    pieces = [numbers[start : min(start + _PIECE, count)] for start in range(0, count, _PIECE)]
    low, high = min(map(min, pieces), default=0), max(map(max, pieces), default=-1)
    if high - low >= 2 * count:
        return None
    order = [-1] * (high - low + 1)
    for place, number in enumerate(numbers[:count]):
        order[number - low] = place
    if -1 in order:
        order = [place for place in order if place >= 0]
    return order if len(order) == count else None


def _merged(left: list[int], right: list[int], key: Callable[[int], Any]) -> list[int]:
    """Two ascending lists as one; of equal ones those of `left` come first."""
    merged: list[int] = []
    at = beside = 0
    while at < len(left) and beside < len(right):
        end, other_end = min(at + _PIECE, len(left)), min(beside + _PIECE, len(right))
        last, other_last = key(left[end - 1]), key(right[other_end - 1])
        if other_last < last:
            end = bisect_right(left, other_last, at, end, key=key)
        else:
            other_end = bisect_left(right, last, beside, other_end, key=key)
        merged += sorted(left[at:end] + right[beside:other_end], key=key)
        at, beside = end, other_end
    merged += left[at:]
    merged += right[beside:]
    return merged
