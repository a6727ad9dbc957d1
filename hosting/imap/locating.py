"""Positions and UIDs of what may be very many messages, found in slices between which others are served.

A session's picture stays as it is during its own command, so what was found in one slice holds in the next.

Raises: Bad (a message number beyond the last).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from hosting.imap.commands import SequenceSet
from hosting.imap.effects import Flow, blocking
from hosting.imap.positions import runs
from hosting.imap.selected import Selected
from storage.values import UidSet

_SLICE = 4000  # messages
_RANGES = 4000  # that are put together in the event loop


def located(selected: Selected, numbers: SequenceSet, by_uid: bool, *, lenient: bool = False) -> Flow[Sequence[int]]:
    """`Selected.positions`: only "$" is looked up message by message."""
    saved = selected.saved
    if not numbers.saved or len(saved) <= _SLICE:
        return selected.positions(numbers, by_uid, lenient=lenient)
    positions = array("I")
    for start in range(0, len(saved), _SLICE):
        positions.extend(selected.positions_of(saved[start : start + _SLICE]))
        yield b""  # others are served between slices
    return positions


def still_there(selected: Selected, positions: Sequence[int]) -> Flow[Sequence[int]]:
    """Those of ascending positions whose messages the mailbox has; others may expunge more meanwhile."""
    if not selected.stale or len(positions) <= _SLICE:
        return selected.view_positions(positions)[0]
    existing = array("I")
    for start in range(0, len(positions), _SLICE):
        existing.extend(selected.view_positions(positions[start : start + _SLICE])[0])
        yield b""  # others are served between slices
    return existing


def uids_at(selected: Selected, positions: Sequence[int]) -> Flow[UidSet]:
    """The UIDs at ascending positions, in as few ranges as mean no other message."""
    if isinstance(positions, range) or len(positions) <= _SLICE:
        return UidSet.of_ranges(runs(selected.uids, positions))
    ranges: list[tuple[int, int]] = []
    for start in range(0, len(positions), _SLICE):
        ranges += runs(selected.uids, positions[start : start + _SLICE])
        yield b""  # others are served between slices
    return (
        UidSet.of_ranges(ranges) if len(ranges) <= _RANGES else (yield from blocking(lambda: UidSet.of_ranges(ranges)))
    )
