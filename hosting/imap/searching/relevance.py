"""What FUZZY finds, and how near it comes.

A text matches if it has all the words that are asked for, in any order, and of longer words their beginning ("message"
finds "messages" and "messaging"). The score says how: the whole phrase as it was typed, its words, their beginnings.
Keys without text are matched exactly. Pure functions over keys.

Standards: RFC 6203.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from hosting.imap.searching.search_commands import AllKeys, EitherKey, Key, NotKey, TextKey

_WORDS_MAX = 20
_WHOLE_WORD = 5  # characters up to which a word is not shortened
BEGINNINGS, WORDS, PHRASE, SUBJECT = 25, 60, 90, 100  # scores
EXACT: Final = 100  # of a key without text


class Scores(Mapping[int, int]):
    """How well positions match what was asked for loosely, from 1 to 100: the mean of what each text scored."""

    __slots__ = ("_counts", "_sums")

    def __init__(self, count: int) -> None:
        """Of so many positions: arrays, since a large dictionary grows in steps that others would wait for."""
        self._sums, self._counts = array("I", bytes(4 * count)), array("I", bytes(4 * count))

    def add(self, positions: Iterable[int], scores: Iterable[int]) -> None:
        """What one text scored."""
        sums, counts = self._sums, self._counts
        for at, score in zip(positions, scores, strict=True):
            sums[at] += score
            counts[at] += 1

    def __getitem__(self, at: int) -> int:
        count = self._counts[at]
        if not count:
            raise KeyError(at)
        return self._sums[at] // count

    def __iter__(self) -> Iterator[int]:
        return (at for at, count in enumerate(self._counts) if count)

    def __len__(self) -> int:
        return len(self._counts) - self._counts.count(0)


def loosened(key: Key) -> Key:
    """The key that finds everything near to `key`."""
    match key:
        case TextKey():
            return _all(key, [_beginning(word) for word in _words(key)])
        case AllKeys(keys):
            return AllKeys(tuple(loosened(one) for one in keys))
        case EitherKey(left, right):
            return EitherKey(loosened(left), loosened(right))
    return key  # what NOT excludes is meant as it is written


def texts(key: Key) -> Iterator[TextKey]:
    """The keys below `key` that are matched loosely."""
    match key:
        case TextKey():
            yield key
        case AllKeys(keys):
            for one in keys:
                yield from texts(one)
        case EitherKey(left, right):
            yield from texts(left)
            yield from texts(right)
        case NotKey():
            return


def levels(key: TextKey) -> list[tuple[Key, int]]:
    """Ever closer keys with their scores, each of which implies the one before."""
    closer: list[tuple[Key, int]] = [(loosened(key), BEGINNINGS), (_all(key, _words(key)), WORDS), (key, PHRASE)]
    if key.field == "text" and not key.header:
        closer.append((replace(key, field="subject"), SUBJECT))
    elif key.field != "body":
        closer[-1] = (key, EXACT)
    return closer


def _words(key: TextKey) -> list[str]:
    return list(dict.fromkeys(key.needle.split()))[:_WORDS_MAX] or [key.needle]


def _beginning(word: str) -> str:
    return word if len(word) <= _WHOLE_WORD else word[: max(_WHOLE_WORD, len(word) - 3)]


def _all(key: TextKey, needles: list[str]) -> Key:
    keys = tuple(replace(key, needle=needle) for needle in dict.fromkeys(needles))
    return keys[0] if len(keys) == 1 else AllKeys(keys)
