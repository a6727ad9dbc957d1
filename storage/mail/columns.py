"""Sizes, dates and message ids of a mailbox, side by side with the UIDs of its view; they never change."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import compress

from storage.database.prepared import Row
from storage.mail.answers import Answers, Remembered
from storage.mail.snapshots import COLUMNS
from storage.mail.view_rows import ViewRows
from storage.values import MailboxId

_SLICE = 5000  # rows for which the read connection is held


class Columns:
    """Arrays aligned with the first `len(columns)` UIDs of a view."""

    __slots__ = ("answers", "internal_dates", "internal_zones", "message_ids", "sent_dates", "sizes")

    def __init__(self, remembered: Remembered, arrays: Sequence[array[int]] = ()) -> None:
        (self.message_ids, self.sizes, self.internal_dates, self.sent_dates, self.internal_zones) = arrays or [
            array(code) for code in COLUMNS
        ]
        self.answers = Answers(remembered)  # to what was asked about the messages that are here

    def __len__(self) -> int:
        return len(self.message_ids)

    @property
    def arrays(self) -> list[array[int]]:
        return [self.message_ids, self.sizes, self.internal_dates, self.sent_dates, self.internal_zones]

    def without(self, positions: Sequence[int]) -> Columns:
        """Without the messages at ascending positions."""
        return Columns(self.answers.among, [without(values, positions) for values in self.arrays])

    def copied(self) -> Columns:
        """On another thread than that of the view, which may add to them meanwhile; without the answers."""
        count = min(map(len, self.arrays))
        return Columns(self.answers.among, [values[:count] for values in self.arrays])

    def followed_by(self, longer: Columns) -> Columns:
        """These, with what `longer` has behind them."""
        known = len(self)
        for kept, read in zip(self.arrays, longer.arrays, strict=True):
            kept.extend(read[known:])
        return self

    def extend(self, rows: ViewRows, mailbox_id: MailboxId, uids: array[int]) -> None:
        """Read what is missing for `uids`. A message that is gone meanwhile has zeros."""
        while len(self) < len(uids):
            known = len(self)
            with rows.database.reading() as connection:
                found = rows.columns(connection, mailbox_id, uids[known - 1] if known else 0, _SLICE)
            wanted = uids[known : known + len(found)]
            if not found or len(found) < min(_SLICE, len(uids) - known) or array("I", [r[0] for r in found]) != wanted:
                found = self._fitted(found, uids[known:])
            _, *columns = zip(*found, strict=True)
            for kept, read in zip(self.arrays, columns, strict=True):
                kept.extend(read)

    def _fitted(self, found: Sequence[Row], wanted: array[int]) -> list[Row]:
        """One row for each wanted UID, as far as `found` goes."""
        last = found[-1][0] if len(found) == _SLICE else wanted[-1]
        by_uid = {row[0]: row for row in found}
        return [by_uid.get(uid, (uid, 0, 0, 0, 0, 0)) for uid in wanted if uid <= last]


def from_snapshot(rows: ViewRows, mailbox_id: MailboxId, uids: array[int]) -> Columns:
    """What the snapshot knows of the first of `uids`; empty columns if it does not fit them."""
    with rows.database.reading() as connection:
        kept = rows.snapshots.columns(connection, mailbox_id)
    if kept is None:
        return Columns(rows.remembered)
    old, arrays = kept
    columns = Columns(rows.remembered, arrays)
    if old != uids[: len(old)]:
        present = set(uids)
        gone = [position for position, uid in enumerate(old) if uid not in present]
        old, columns = without(old, gone), columns.without(gone)
        if old != uids[: len(old)]:
            return Columns(rows.remembered)
    return columns


def overwrite(old: tuple[array[int], ...], new: tuple[array[int], ...]) -> None:
    """Flags, modseqs or both, given as (UIDs, …), by UID: `old` gets what `new` says of its own."""
    uids, changed = old[0], new[0]
    if not changed:
        return
    at, count = bisect_left(uids, changed[0]), len(changed)
    if uids[at : at + count] == changed:  # neighbours
        for values, others in zip(old[1:], new[1:], strict=True):
            values[at : at + count] = others[:count]
        return
    places = []
    for uid in changed:
        at = bisect_left(uids, uid, at)
        places.append(at if at < len(uids) and uids[at] == uid else -1)
    for values, others in zip(old[1:], new[1:], strict=True):
        for place, value in zip(places, others, strict=False):
            if place >= 0:
                values[place] = value


def places_of(vanished: array[int], uids: array[int]) -> Sequence[int]:
    """Positions of those ascending UIDs that are there."""
    at, count = bisect_left(uids, vanished[0]), len(vanished)
    if uids[at : at + count] == vanished:
        return range(at, at + count)
    gone = set(vanished)
    end = bisect_right(uids, vanished[-1], at)
    return [position for position, uid in enumerate(uids[at:end], at) if uid in gone]


def without(values: array[int], positions: Sequence[int]) -> array[int]:
    """A new array without what stands at ascending positions."""
    if not positions or positions[0] >= len(values):
        return values[:]
    first, last = positions[0], positions[-1]
    if last - first == len(positions) - 1:  # neighbours
        return values[:first] + values[last + 1 :]
    stays = bytearray(b"\1") * (last + 1 - first)
    for position in positions:
        stays[position - first] = 0
    kept = values[:first]
    kept.extend(compress(values[first : last + 1], stays))
    kept += values[last + 1 :]
    return kept


def marks(flags: array[int], bit: int, *, present: bool) -> bytes:
    """For each entry an octet, 1 where its `bit` is set (or is not, as `present` says), else 0: some calls of C."""
    octet, shift = divmod(bit.bit_length() - 1, 8)
    at = octet if sys.byteorder == "little" else flags.itemsize - 1 - octet
    return flags.tobytes()[at :: flags.itemsize].translate(_MARKS[shift, present])


_MARKS = {
    (shift, present): bytes((value >> shift & 1) ^ (not present) for value in range(256))
    for shift in range(8)
    for present in (False, True)
}


def first_without(flags: array[int], bit: int) -> int:
    """The number (from 1) of the first entry without `bit`, one of the low eight; 0: none. Octets, in slices."""
    lowest = 0 if sys.byteorder == "little" else flags.itemsize - 1
    present = bytes(octet & bit for octet in range(256))
    with memoryview(flags).cast("B") as octets:
        for start in range(0, len(flags), _SLICE):
            part = octets[start * flags.itemsize + lowest : (start + _SLICE) * flags.itemsize : flags.itemsize]
            found = part.tobytes().translate(present).find(b"\0")
            part.release()
            if found >= 0:
                return start + found + 1
    return 0
