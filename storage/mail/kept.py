"""Flags and modseqs of a view as its snapshot has them, unpacked when somebody asks.

SELECT tells how many messages there are and which is the first unseen, and few clients ever ask for modseqs: of 200,000
messages each array is 1.6 MB that nobody need touch. What came after the snapshot is noted, once, and put in then.

Any thread may ask; `lock` is held meanwhile. Until both arrays are made, nothing but `note` changes the view's UIDs.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from threading import RLock

from storage.mail.columns import first_without, overwrite
from storage.mail.packing import Packed
from storage.mail.view_rows import Changed

NAMES = ("flags", "modseqs")  # of the attributes of a view, and of `Changed`


class Kept:
    __slots__ = ("_asked", "_known", "_late", "_packed", "lock")

    def __init__(self, packed: Packed) -> None:
        self.lock = RLock()
        self._packed = packed  # UIDs, flags, modseqs
        self._late: Changed | None = None  # after the snapshot
        self._known = 0  # how many of those messages the snapshot has; the others arrived
        self._asked: set[str] = set()

    def note(self, late: Changed, known: int) -> bool:
        """What changed since, and arrived; False: it is too late, or there is something already."""
        with self.lock:
            if self._asked or self._late is not None:
                return False
            self._late, self._known = late, known
            return True

    def has(self, name: str) -> bool:
        """Whether nobody has asked for it."""
        return name not in self._asked

    def values(self, name: str, uids: array[int]) -> array[int]:
        """Flags or modseqs of all of the view's UIDs. Once, with `lock` held."""
        values = self._packed.array(1 + NAMES.index(name))
        self._asked.add(name)
        if self._late is not None:
            new: array[int] = getattr(self._late, name)
            overwrite((uids, values), (self._late.uids[: self._known], new))
            values.extend(new[self._known :])
        return values

    def first_without(self, bit: int, uids: array[int]) -> int:
        """The number of the first message without a flag of the low eight bits; 0: none."""
        late, known = self._late, self._known
        if late is None:
            return self._packed.first_without(1, bit, {})
        at = [bisect_left(uids, uid) for uid in late.uids[:known]]
        number = self._packed.first_without(1, bit, dict(zip(at, late.flags, strict=False)))
        if number:
            return number
        later = first_without(late.flags[known:], bit)
        return self._packed.count + later if later else 0
