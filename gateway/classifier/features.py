"""Turns a message into features: what occurs in it, as hashed n-grams in two views.

The view of octets has every four octets that follow one another (Goodman & Yih 2006; Sculley & Wachman 2007): nobody
hides a word from it by spelling it a little differently, and it knows every language. The view of words has words and
pairs of neighbours: fewer, each saying more. Header and text have salts of their own in both, case does not count. A
feature says only that an n-gram occurs, so repeating it gains nothing.

Features ascend, each is there once, and the uppermost bit is its view; so those of one view stand together, and
shifting all of them to the right folds them into a smaller table whose halves belong to the views.

Never fails, and is bounded: see `gateway.classifier.content`.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gateway.classifier.content import BODY_MAX, HEADER_MAX, content_of

Features: TypeAlias = NDArray[np.uint32]

FEATURES_MAX = 2 * (HEADER_MAX + BODY_MAX)
_WORDS_FROM = np.uint32(1 << 31)

_WORD_MAX = 40  # octets; a longer one is several
_BETWEEN_WORDS = b" \t\n\v\f\r<>()[]{}\"',;:=/?&"
_PRIME = np.uint32(2654435761)  # Knuth's multiplicative hash: the upper bits are the good ones
_PAIR_PRIME = np.uint32(31)
_HEADER_SALT, _BODY_SALT = np.uint32(0), np.uint32(0x9E3779B9)
_PAIR_SALT = np.uint32(0x85EBCA6B)
_VIEW_SHIFT = np.uint32(1)
_SHIFTS = (np.uint32(24), np.uint32(16), np.uint32(8))


def features_of(message: bytes) -> Features:
    """The features of a message."""
    header, body = (part.lower() for part in content_of(message))
    octets = _hashed([_grams(header) ^ _HEADER_SALT, _grams(body) ^ _BODY_SALT])
    words = _hashed([*_words(header, _HEADER_SALT), *_words(body, _BODY_SALT)])
    return np.concatenate((octets, words | _WORDS_FROM))


def folded(features: Features, bits: int) -> Features:
    """The places of features in a table of 2**`bits`: ascending, each once."""
    return _each_once(features >> np.uint32(32 - bits))


def views(places: Features, size: int = 1 << 32) -> tuple[Features, ...]:
    """The places of octets and those of words, in a table of `size` (features are places in the largest one)."""
    border = int(np.searchsorted(places, np.uint32(size // 2)))
    return places[:border], places[border:]


def _grams(data: bytes) -> Features:
    """Every four octets that follow one another, as numbers."""
    octets = np.frombuffer(data, np.uint8).astype(np.uint32)
    grams = octets[3:].copy()
    for position, shift in enumerate(_SHIFTS):
        grams |= octets[position:][: len(grams)] << shift
    return grams


def _words(data: bytes, salt: np.uint32) -> tuple[Features, Features]:
    """Words, and pairs of words that follow one another."""
    octets = np.frombuffer(data, np.uint8)
    starts, ends = _borders(octets)
    # The hash of a word is a polynomial of its octets: a difference of two sums from the beginning on, without the
    # power of the prime that its place brings in. A loop over words would take three times as long.
    sums = np.zeros(len(octets) + 1, np.uint32)
    np.cumsum(_MIXED[octets] * _POWERS[: len(octets)], dtype=np.uint32, out=sums[1:])
    words = (sums[ends] - sums[starts]) * _INVERSES[starts]
    return words ^ salt, (words[:-1] * _PAIR_PRIME + words[1:]) ^ salt ^ _PAIR_SALT


def _borders(octets: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where words begin and end."""
    inside = np.zeros(len(octets) + 2, np.bool_)
    np.take(_IN_WORDS, octets, out=inside[1:-1])
    borders = np.flatnonzero(inside[1:] != inside[:-1])
    starts, ends = borders[0::2], borders[1::2]
    pieces = (ends - starts + _WORD_MAX - 1) // _WORD_MAX
    if len(pieces) and pieces.max() > 1:
        last = np.cumsum(pieces)
        number = np.arange(last[-1]) - np.repeat(last - pieces, pieces)  # of a piece within its word
        starts = np.repeat(starts, pieces) + number * _WORD_MAX
        ends = np.minimum(np.repeat(ends, pieces), starts + _WORD_MAX)
    return starts, ends


def _hashed(numbers: list[Features]) -> Features:
    """31 bits of each, ascending, each once."""
    hashes = np.concatenate(numbers)
    hashes *= _PRIME
    hashes >>= _VIEW_SHIFT
    hashes.sort()
    return _each_once(hashes)


def _each_once(ascending: Features) -> Features:
    keep = np.empty(len(ascending), np.bool_)
    keep[:1] = True
    np.not_equal(ascending[1:], ascending[:-1], out=keep[1:])
    return ascending[keep]


def _powers(base: int) -> Features:
    """Of 0 upwards, as many as octets are looked at."""
    powers = np.ones(max(HEADER_MAX, BODY_MAX) + 1, np.uint32)
    powers[1:] = base
    return np.cumprod(powers, dtype=np.uint32)


_IN_WORDS = ~np.isin(np.arange(256), np.frombuffer(_BETWEEN_WORDS, np.uint8))
_MIXED = (np.arange(1, 257, dtype=np.uint32) * _PRIME) ^ np.uint32(0x85EBCA6B)
_WORD_PRIME = 0x01000193
_POWERS, _INVERSES = _powers(_WORD_PRIME), _powers(pow(_WORD_PRIME, -1, 1 << 32))
