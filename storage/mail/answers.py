"""What was found in a mailbox by what never changes in it: its messages' text, dates and sizes.

Clients ask the same again and again, after each arrival: what was found before is kept by positions, with how many
messages were looked through, and only those behind them are still to be looked at. It lives with the columns of a view:
when messages leave, positions mean others, the columns are replaced, and this begins anew. What depends on flags, on
the time of day or on a session has no place here.

Bounded: some octets for each message of the mailbox; what was asked for longest ago is forgotten first.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

_EACH = 12  # octets for each message: as much as three answers that name all of them in an order of their own …
_LEAST = 4096  # … and for small mailboxes
_ENTRIES = 32
_OVERHEAD = 200  # octets of an entry beside its positions
CHUNK = 1000  # UIDs of one text


@dataclass(frozen=True, slots=True)
class Answer:
    """Positions among the first `count` messages of the view."""

    count: int
    positions: Sequence[int]


class Answers:
    """Of one view, confined to its thread."""

    __slots__ = ("_known", "_octets", "_texts")

    def __init__(self) -> None:
        self._known: dict[Hashable, Answer] = {}
        self._octets = 0
        self._texts: dict[int, bytes] = {}

    def get(self, asked: Hashable) -> Answer | None:
        answer = self._known.get(asked)
        if answer is not None:
            del self._known[asked]
            self._known[asked] = answer  # asked for last
        return answer

    def put(self, asked: Hashable, count: int, positions: Sequence[int]) -> Answer:
        """Keeps what was found among the first `count`; returns it."""
        self._drop(asked)
        answer = Answer(count, _packed(positions))
        self._known[asked] = answer
        self._octets += _size(answer)
        room = max(_LEAST, _EACH * count)
        while self._octets > room or len(self._known) > _ENTRIES:
            self._drop(next(iter(self._known)))
        return answer

    def _drop(self, asked: Hashable) -> None:
        dropped = self._known.pop(asked, None)
        if dropped is not None:
            self._octets -= _size(dropped)

    def clear(self) -> None:
        self._known.clear()
        self._texts.clear()
        self._octets = 0

    def whole_text(self, uids: array[int], number: int) -> bytes:
        """The UIDs of one whole chunk as " 7 8 9"."""
        text = self._texts.get(number)
        if text is None:
            start = number * CHUNK
            text = self._texts[number] = decimals(uids[start : start + CHUNK])
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
    if count and positions[0] == 0 and positions[-1] == count - 1 and list(positions) == list(range(count)):
        return range(count)
    return positions if isinstance(positions, array) else array("I", positions)


def _size(answer: Answer) -> int:
    positions = answer.positions
    return _OVERHEAD + (positions.itemsize * len(positions) if isinstance(positions, array) else 0)
