"""Threads that were computed lately: clients ask for the same mailbox again and again, and messages never change.

A result is known by the mailbox, the messages it was made of and the algorithm. Bounded by octets; confined to the
event loop.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

_OCTETS = 8 * 1024 * 1024


class Threads:
    __slots__ = ("_known", "_octets")

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, bytes] = OrderedDict()
        self._octets = 0

    def get(self, key: Hashable) -> bytes | None:
        text = self._known.get(key)
        if text is not None:
            self._known.move_to_end(key)
        return text

    def put(self, key: Hashable, text: bytes) -> None:
        self._octets += len(text) - len(self._known.pop(key, b""))
        self._known[key] = text
        while self._octets > _OCTETS:
            _key, dropped = self._known.popitem(last=False)
            self._octets -= len(dropped)
