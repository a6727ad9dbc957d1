"""Messages that were read lately, as they are sent: what is looked at twice is opened once. One for a process.

Clients read a message again soon: a preview and then the whole, one part after the other, pieces of a part, several
devices after one arrival. What is kept is plaintext, so it is kept for a short time and for open accounts alone:

- never more than `limit` octets in all, the one read longest ago goes first; nothing larger than a sixteenth of that;
- nothing that was not read for a minute, see `age`;
- nothing of a message that was removed here, nothing of an account whose connections rest;
- nothing of an account that is closed, which it is before its key is destroyed.

A read that is under way when a message is removed, or its account closed, keeps nothing.

Who asks has read the message's row before, so what was expunged by another process is found by nobody, and is gone
from here within a minute. Any thread may call.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from threading import Lock

_NONE: frozenset[str] = frozenset()
_SHARE = 16  # of the limit: the largest message that is kept
_TURN = 30.0  # seconds; what was not read in this turn or the one before goes
_BESIDE = 200  # octets that an entry takes beside its message


class _Entry:
    __slots__ = ("octets", "shelf", "turn")

    def __init__(self, octets: bytes, shelf: Shelf, turn: int) -> None:
        self.octets = octets
        self.shelf = shelf
        self.turn = turn


class Recent:
    """What a process keeps. A limit of 0, as at the beginning, keeps nothing."""

    __slots__ = ("_entries", "_guard", "_limit", "_size", "_turn", "_turned")

    def __init__(self, limit: int = 0) -> None:
        self._limit = limit
        self._guard = Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # by file name, the one read longest ago first
        self._size = 0
        self._turn = 0
        self._turned = 0.0

    @property
    def limit(self) -> int:
        """Octets in all."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        with self._guard:
            self._limit = limit
            self._make_room()

    @property
    def size(self) -> int:
        """Octets that are kept now."""
        return self._size

    def age(self, now: float) -> None:
        """Lets go of what was not read for a while; to be called every few seconds with a clock that only rises."""
        with self._guard:
            if now - self._turned < _TURN:
                return
            self._turned = now
            self._turn += 1
            entries, last = self._entries, self._turn - 1
            while entries and next(iter(entries.values())).turn < last:
                self._drop(next(iter(entries)))

    def _make_room(self) -> None:
        while self._size > self._limit:
            self._drop(next(iter(self._entries)))

    def _drop(self, name: str) -> None:
        entry = self._entries.pop(name)
        entry.shelf.forget(name)
        self._size -= len(entry.octets) + _BESIDE


class Shelf:
    """What is kept of one account."""

    __slots__ = ("_closed", "_recent", "names", "removals")

    def __init__(self, recent: Recent) -> None:
        self._recent = recent
        self._closed = False
        self.names: set[str] | frozenset[str] = _NONE  # a set once there are some: most accounts that wait have none
        self.removals = 0  # how often messages were dropped

    def get(self, name: str) -> bytes | None:
        """The message in the file of this name, if it was kept."""
        recent = self._recent
        if name not in self.names:
            return None
        with recent._guard:  # `age` and `put` look at the first entry, which must not change its place meanwhile
            entry = recent._entries.get(name)
            if entry is None or entry.shelf is not self:
                return None
            entry.turn = recent._turn
            recent._entries.move_to_end(name)
            return entry.octets

    def put(self, name: str, octets: bytes, removals: int) -> None:
        """Keeps a message that was read, if it is one to be kept; not if some were removed since: it may be of these.

        `removals` is what this counted before the message was read.
        """
        recent = self._recent
        size = len(octets) + _BESIDE
        if size > recent._limit // _SHARE:
            return
        with recent._guard:
            if self._closed or removals != self.removals or name in recent._entries:
                return
            recent._entries[name] = _Entry(octets, self, recent._turn)
            if isinstance(self.names, frozenset):
                self.names = set()
            self.names.add(name)
            recent._size += size
            if recent._size > recent._limit:
                recent._make_room()

    def drop(self, names: Iterable[str]) -> None:
        """These messages are removed."""
        with self._recent._guard:
            self.removals += 1
            for name in names:
                if name in self.names:
                    self._recent._drop(name)

    def forget(self, name: str) -> None:
        """It is not kept any more."""
        names = self.names
        if isinstance(names, set):
            names.discard(name)
            if not names:
                self.names = _NONE

    def clear(self) -> None:
        """Nothing is kept of the account for now."""
        if self.names:
            self.drop(list(self.names))

    def close(self) -> None:
        """Nothing is kept of the account any more."""
        with self._recent._guard:
            self._closed = True
            for name in list(self.names):
                self._recent._drop(name)
