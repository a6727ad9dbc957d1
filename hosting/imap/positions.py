"""Positions in a client's picture of a mailbox: what sets of UIDs and numbers mean there, and what of it is gone.

Pure functions over ascending UIDs, of which the first `told` are known to the client.

Standards: RFC 9051 §9 (seq-number, sequence-set).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from hosting.imap.commands import STAR
from hosting.imap.replies import Bad
from storage.values import UidSet

Ranges = Sequence[tuple[int, int]]
Span = tuple[int, int]  # of positions, without its end
_BLOCK = 1000  # UIDs that are compared in one step
_DENSE = 10  # times as many that are rather gone through than searched


def uid_spans(uids: Sequence[int], told: int, ranges: Ranges) -> list[Span]:
    last = uids[told - 1] if told else 0
    spans = []
    for low, high in ranges:
        low, high = low or last, high or last  # noqa: PLW2901
        if low > high:
            low, high = high, low  # noqa: PLW2901
        start = bisect_left(uids, low, 0, told)
        spans.append((start, bisect_right(uids, high, start, told)))
    return spans


def number_spans(told: int, ranges: Ranges, *, lenient: bool) -> list[Span]:
    """Raises Bad for a number beyond the last, but for one end of a range with "*"; `lenient`: it means no message."""
    spans = []
    for low, high in ranges:
        if not told or (STAR not in (low, high) and max(low, high) > told):
            if not lenient:
                raise Bad("There is no message with that number.")
            if not told or min(low, high) > told:
                continue
        first, last = sorted((min(low or told, told), min(high or told, told)))
        spans.append((first - 1, last))
    return spans


def within(spans: Sequence[Span]) -> Sequence[int]:
    """The positions in some spans, ascending."""
    if len(spans) == 1:
        return range(*spans[0])
    if all(end - start <= 1 for start, end in spans):
        return sorted({start for start, end in spans if start < end})
    merged = UidSet.of_ranges((start, end - 1) for start, end in spans if start < end)
    return list(merged)


def found(uids: array[int], told: int, wanted: Sequence[int]) -> list[int]:
    """Positions of those of ascending UIDs that the client was told of. Neighbours are found together."""
    positions: list[int] = []
    at = 0
    for start in range(0, len(wanted), _BLOCK):
        block = wanted[start : start + _BLOCK]
        at = bisect_left(uids, block[0], at, told)
        end = at + len(block)
        if end <= told and uids[end - 1] == block[-1] and uids[at:end].tolist() == list(block):
            positions += range(at, end)
            continue
        stop = bisect_right(uids, block[-1], at, told)
        if stop - at <= _DENSE * len(block):
            among = set(block)
            positions += [position for position, uid in enumerate(uids[at:stop], at) if uid in among]
            at = stop
            continue
        for uid in block:
            at = bisect_left(uids, uid, at, told)
            if at < told and uids[at] == uid:
                positions.append(at)
    return positions


def runs(uids: Sequence[int], positions: Sequence[int]) -> list[tuple[int, int]]:
    """UID ranges over consecutive positions; UIDs between two messages that both are meant belong to nobody."""
    if isinstance(positions, range):
        return [(uids[positions[0]], uids[positions[-1]])] if positions else []
    ranges: list[tuple[int, int]] = []
    first = previous = -2
    for position in positions:
        if position != previous + 1:
            if first >= 0:
                ranges.append((uids[first], uids[previous]))
            first = position
        previous = position
    if first >= 0:
        ranges.append((uids[first], uids[previous]))
    return ranges


def surviving(
    uids: Sequence[int], positions: Sequence[int], current: Sequence[int]
) -> tuple[Sequence[int], Sequence[int]]:
    """Those of ascending positions whose messages `current` has, and their positions there."""
    if not positions:
        return positions, positions
    start = bisect_left(current, uids[positions[0]])
    end = bisect_right(current, uids[positions[-1]], start)
    if isinstance(positions, range):  # then nothing else can be in between
        now = range(start, end)
        if len(now) == len(positions):
            return positions, now
        present = set(current[start:end])
        return [position for position in positions if uids[position] in present], now
    kept, places = [], []
    at = start
    for position in positions:
        uid = uids[position]
        at = bisect_left(current, uid, at, end)
        if at < end and current[at] == uid:
            kept.append(position)
            places.append(at)
    return kept, places


def missing(uids: Sequence[int], told: int, current: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Positions of what `current` has not, ascending, from `size` messages at a time.

    `current` ascends, and has nothing up to the last that was told and is not among it. Pieces in which nothing is gone
    are passed over without a look at their messages.
    """
    at = 0
    for start in range(0, told, size):
        end = min(start + size, told)
        stop = bisect_right(current, uids[end - 1], at)
        if stop == at:
            yield range(start, end)
        elif stop - at < end - start:
            present = set(current[at:stop])
            yield [position for position in range(start, end) if uids[position] not in present]
        at = stop
