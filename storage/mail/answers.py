"""What was found in a mailbox by what never changes in it: its messages' text, dates and sizes.

Clients ask the same again and again, after each arrival: what was found before is kept by positions, with how many
messages were looked through, and only those behind them are still to be looked at. It lives with the columns of a view:
when messages leave, positions mean others, the columns are replaced, and this begins anew. What depends on flags, on
the time of day or on a session has no place here.

Bounded twice: some octets for each message of the mailbox, where what was asked for longest ago is forgotten first; and
for all views of a process together, where a view that was asked longest ago forgets everything. What was asked holds
words of people, so nothing is remembered of an account that rests.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from threading import Lock
from weakref import ref

_EACH = 12  # octets for each message: as much as three answers that name all of them in an order of their own …
_LEAST = 4096  # … and for small mailboxes
_ENTRIES = 32
_OVERHEAD = 200  # octets of an entry beside its positions and what was asked
_ALL = 32 * 1024 * 1024  # octets of all views of a process
CHUNK = 1000  # UIDs of one text


@dataclass(frozen=True, slots=True)
class Answer:
    """Positions among the first `count` messages of the view."""

    count: int
    positions: Sequence[int]


class Remembered:
    """What the views of a process remember together: not more than `most` octets."""

    __slots__ = ("_most", "_views", "guard", "octets")

    def __init__(self, most: int = _ALL) -> None:
        self._most = most
        self._views: OrderedDict[int, ref[Answers]] = OrderedDict()  # the one that was asked longest ago first
        self.guard = Lock()  # of all answers: a view is its thread's, but accounts rest on another
        self.octets = 0  # with those of views that have ended, until room is needed

    def used(self, answers: Answers, more: int) -> None:
        """They were asked, and have so many octets more than before. To be called with the guard."""
        self._views[id(answers)] = ref(answers)
        self._views.move_to_end(id(answers))
        self.octets += more
        if self.octets > self._most:
            self._make_room()

    def _make_room(self) -> None:
        """To three quarters, so that it is not to be done again at once: it looks at every view."""
        there = [answers for each in self._views.values() if (answers := each()) is not None]
        self._views = OrderedDict((id(answers), ref(answers)) for answers in there)
        self.octets = sum(answers.octets for answers in there)
        for answers in there:
            if self.octets <= self._most * 3 // 4:
                break
            answers.forget()

    def left(self, answers: Answers, octets: int) -> None:
        """They have forgotten everything. To be called with the guard."""
        self._views.pop(id(answers), None)
        self.octets -= octets


class Answers:
    """Of one view, asked by its thread."""

    __slots__ = ("__weakref__", "_known", "_octets", "_texts", "_written", "among")

    def __init__(self, among: Remembered) -> None:
        self.among = among
        self._known: dict[Hashable, Answer] = {}
        self._octets = 0
        self._texts: dict[int, bytes] = {}
        self._written = 0  # octets of these

    @property
    def octets(self) -> int:
        return self._octets + self._written

    def get(self, asked: Hashable) -> Answer | None:
        if asked not in self._known:
            return None
        with self.among.guard:
            answer = self._known.pop(asked, None)
            if answer is not None:
                self._known[asked] = answer  # asked for last
                self.among.used(self, 0)
            return answer

    def put(self, asked: Hashable, count: int, positions: Sequence[int]) -> Answer:
        """Keeps what was found among the first `count`, if there is room for it; returns it."""
        answer = Answer(count, _packed(positions))
        room, size = max(_LEAST, _EACH * count), _size(asked, answer)
        with self.among.guard:
            before = self._octets
            self._drop(asked)
            if size <= room:
                self._known[asked] = answer
                self._octets += size
            while self._octets > room or len(self._known) > _ENTRIES:
                self._drop(next(iter(self._known)))
            self.among.used(self, self._octets - before)
        return answer

    def _drop(self, asked: Hashable) -> None:
        dropped = self._known.pop(asked, None)
        if dropped is not None:
            self._octets -= _size(asked, dropped)

    def clear(self) -> None:
        """Nothing is remembered; any thread may call."""
        if self._known or self._texts:
            with self.among.guard:
                self.forget()

    def forget(self) -> None:
        """The same, to be called with the guard."""
        self.among.left(self, self.octets)
        self._known.clear()
        self._texts.clear()
        self._octets = self._written = 0

    def whole_text(self, uids: array[int], number: int) -> bytes:
        """The UIDs of one whole chunk as " 7 8 9"."""
        text = self._texts.get(number)
        if text is None:
            start = number * CHUNK
            text = decimals(uids[start : start + CHUNK])
            with self.among.guard:
                self._texts[number] = text
                self._written += len(text)
                self.among.used(self, len(text))
        return text


def decimals(numbers: Sequence[int]) -> bytes:
    """Numbers with a space before each: one call of C for all."""
    return (b" %d" * len(numbers)) % tuple(numbers)


def joined(before: Sequence[int], behind: Sequence[int]) -> Sequence[int]:
    """Ascending positions and later ones, as few octets as they are."""
    if not behind or not before:
        return before or behind
    if isinstance(before, range) and isinstance(behind, range) and before.stop == behind.start:
        return range(before.start, behind.stop)
    return array("I", before) + array("I", behind)


def _packed(positions: Sequence[int]) -> Sequence[int]:
    if isinstance(positions, range):
        return positions
    count = len(positions)
    half = count >> 1  # few lists that are not of all begin, go on and end as one that is
    seems = count and positions[0] == 0 and positions[half] == half and positions[-1] == count - 1
    if seems and list(positions) == list(range(count)):
        return range(count)
    return positions if isinstance(positions, array) else array("I", positions)


def _size(asked: Hashable, answer: Answer) -> int:
    positions = answer.positions
    return _OVERHEAD + len(repr(asked)) + (positions.itemsize * len(positions) if isinstance(positions, array) else 0)
