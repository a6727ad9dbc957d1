"""Ascending positions put together, in slices between which others are served.

What is found of a mailbox may be all of it: each slice is of so many positions of the longer sequence, and of no
more of the others.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from hosting.imap.effects import Flow

_SLICE = 8000
_SPARSE = 16  # of two sequences, the one is so many times as long as the other: it is rather searched than gone through


def common(left: Sequence[int], right: Sequence[int]) -> Flow[Sequence[int]]:
    """What both have in common."""
    if not left or not right or left is right:
        return left and right
    for one, other in ((left, right), (right, left)):
        if isinstance(one, range):  # then it is the part of the other that lies within
            return _between(other, one[0], one[-1])
    few, many = (left, right) if len(left) < len(right) else (right, left)
    kept = array("I")
    if len(few) * _SPARSE < len(many):
        for part in _slices(few):
            kept.extend([at for at in part if (place := bisect_left(many, at)) < len(many) and many[place] == at])
            yield b""  # others are served between slices
        return kept
    for part in _slices(many):
        wanted = set(_between(few, part[0], part[-1]))
        kept.extend([at for at in part if at in wanted] if wanted else ())
        yield b""
    return kept


def without(among: Sequence[int], found: Sequence[int]) -> Flow[Sequence[int]]:
    """`among` but for what was found among it."""
    if not found:
        return among
    kept = array("I")
    for part in _slices(among):
        gone = _between(found, part[0], part[-1])
        if not gone:
            kept.extend(part)
        elif len(gone) < len(part):
            these = set(gone)
            kept.extend([at for at in part if at not in these])
        yield b""  # others are served between slices
    return kept


def either(among: Sequence[int], first: Sequence[int], second: Sequence[int]) -> Flow[Sequence[int]]:
    """What was found among `among` by one of two ways; no position is in both."""
    if not first or not second:
        return first or second
    if len(first) + len(second) == len(among):
        return among
    kept = array("I")
    for part in _slices(among):
        kept.extend(sorted([*_between(first, part[0], part[-1]), *_between(second, part[0], part[-1])]))
        yield b""  # others are served between slices
    return kept


def _slices(positions: Sequence[int]) -> Iterator[Sequence[int]]:
    return (positions[start : start + _SLICE] for start in range(0, len(positions), _SLICE))


def _between(positions: Sequence[int], low: int, high: int) -> Sequence[int]:
    """The part from `low` to `high`; all of it as it is."""
    part = slice(bisect_left(positions, low), bisect_right(positions, high))
    return positions if part == slice(0, len(positions)) else positions[part]


def within(among: Sequence[int], positions: Sequence[int]) -> Sequence[int]:
    """The positions of a slice that are among others, which may be very many."""
    if not among or positions is among:
        return among
    part = _between(positions, among[0], among[-1])
    if isinstance(among, range):
        return part
    if isinstance(part, range):
        return _between(among, part[0], part[-1]) if part else part
    wanted = set(part)
    return [at for at in among if at in wanted]
