"""One process's counts in a piece of memory that others may read while it writes: how many now, and how many lately.

The memory has a fixed size. Keys are 64-bit hashes, never 0; a key has eight places where it may stand. There is one
writer and no lock: every word is written whole, so a reader sees for one look at worst a place that is just being given
to another key, and counts a little wrong that once.

A rate is a window that slides: the count of this window, and that of the one before by the part of it that is still
within the period.
"""

from __future__ import annotations

from typing import Final

_MAGIC: Final = 0x436C_6E6D_4C74_0001  # layout 1
_WAYS: Final = 8
_GAUGE_BUCKETS: Final = 512
_RATE_BUCKETS: Final = 2048
_GAUGES: Final = _GAUGE_BUCKETS * _WAYS
_RATES: Final = _RATE_BUCKETS * _WAYS

# In words: a header, then arrays side by side, so that the eight keys of a bucket are read in one slice.
_GAUGE_KEY: Final = 8
_GAUGE_COUNT: Final = _GAUGE_KEY + _GAUGES
_RATE_KEY: Final = _GAUGE_COUNT + _GAUGES
_RATE_USED: Final = _RATE_KEY + _RATES
_RATE_WINDOW: Final = _RATE_USED + _RATES
_RATE_CURRENT: Final = _RATE_WINDOW + _RATES
_RATE_PREVIOUS: Final = _RATE_CURRENT + _RATES
_WORDS: Final = _RATE_PREVIOUS + _RATES

SIZE: Final = _WORDS * 8  # octets


class LimitTable:
    """Over `memory` of SIZE octets. Only its owner calls `raise_gauge`, `lower_gauge` and `add`."""

    __slots__ = ("_own", "_words")

    def __init__(self, memory: memoryview) -> None:
        self._words = memory.cast("Q")
        self._own: dict[int, tuple[int, int]] = {}  # the owner's gauges: how many, and their place or -1

    def format(self) -> None:
        """Says that the memory, all zeros so far, is a table of this layout."""
        self._words[0] = _MAGIC

    @property
    def readable(self) -> bool:
        return self._words[0] == _MAGIC

    def release(self) -> None:
        """Lets the memory go; nothing else works afterwards."""
        self._words.release()

    # Gauges: how many now

    def gauge(self, key: int) -> int:
        words = self._words
        start = _GAUGE_KEY + key % _GAUGE_BUCKETS * _WAYS
        keys = words[start : start + _WAYS].tolist()
        if key in keys:
            return words[start + keys.index(key) + _GAUGES]
        return 0

    def own_gauge(self, key: int) -> int:
        """The owner's: exact, even if the table had no place for it."""
        return self._own.get(key, _NONE)[0]

    def raise_gauge(self, key: int) -> None:
        count, place = self._own.get(key, _NONE)
        if place < 0:
            place = self._free_gauge(key)
        self._own[key] = count + 1, place
        if place >= 0:
            self._words[place + _GAUGES] = count + 1

    def lower_gauge(self, key: int) -> None:
        count, place = self._own.get(key, _NONE)
        if not count:
            return  # counted in a table that was closed since
        if place >= 0:
            self._words[place + _GAUGES] = count - 1
        if count > 1:
            self._own[key] = count - 1, place
            return
        del self._own[key]
        if place >= 0:
            self._words[place] = 0

    def _free_gauge(self, key: int) -> int:
        """A place for a new key, or -1: then others don't see this count."""
        start = _GAUGE_KEY + key % _GAUGE_BUCKETS * _WAYS
        keys = self._words[start : start + _WAYS].tolist()
        if 0 not in keys:
            return -1
        place = start + keys.index(0)
        self._words[place] = key
        return place

    # Rates: how many lately

    def rate(self, key: int, window: int) -> tuple[int, int]:
        """(in this window, in the one before)"""
        words = self._words
        start = _RATE_KEY + key % _RATE_BUCKETS * _WAYS
        keys = words[start : start + _WAYS].tolist()
        if key not in keys:
            return _NOTHING
        place = start + keys.index(key)
        last = words[place + (_RATE_WINDOW - _RATE_KEY)]
        if last == window:
            return words[place + (_RATE_CURRENT - _RATE_KEY)], words[place + (_RATE_PREVIOUS - _RATE_KEY)]
        return (0, words[place + (_RATE_CURRENT - _RATE_KEY)]) if last == window - 1 else _NOTHING

    def add(self, key: int, window: int, amount: int, now: int) -> None:
        """Counts `amount` in `window`. What was not used for longest makes room for a new key."""
        words = self._words
        start = _RATE_KEY + key % _RATE_BUCKETS * _WAYS
        keys = words[start : start + _WAYS].tolist()
        if key in keys:
            place = start + keys.index(key)
            current, previous = self.rate(key, window)
        else:
            used = start + (_RATE_USED - _RATE_KEY)
            ages = words[used : used + _WAYS].tolist()
            place = start + ages.index(min(ages))
            current = previous = 0
            words[place] = 0  # nobody takes the old counts for the new key's
        words[place + (_RATE_USED - _RATE_KEY)] = now
        words[place + (_RATE_WINDOW - _RATE_KEY)] = window
        words[place + (_RATE_PREVIOUS - _RATE_KEY)] = previous
        words[place + (_RATE_CURRENT - _RATE_KEY)] = current + amount
        words[place] = key


_NONE: Final = (0, -1)
_NOTHING: Final = (0, 0)
