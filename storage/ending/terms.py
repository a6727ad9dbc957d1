"""What is looked for in octets after an erasure: texts without regard to case, and keys. Pure.

Texts are searched in ASCII lower case, so what is sought has to be given in every other writing of its own. Of a key no
more is known here than its first octets and the hash of all: whoever sees the terms cannot open anything with them.
However many terms there are, octets are looked at once (`storage.ending.beginnings`).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storage.ending.beginnings import Beginnings

LEAST = 4  # octets: what is shorter means nothing
LEAST_AMONG_RANDOM = 6  # octets: what is shorter stands in large encrypted files by chance
_FEW = 8  # terms for which looking for one after the other is quicker
KEY_HEAD = 8  # octets of a key that are known


@dataclass(frozen=True, slots=True)
class KeyTerm:
    """A key of 32 octets that must be nowhere."""

    key_id: str
    head: bytes = field(repr=False)  # its first octets: 64 of its 256 bits
    digest: bytes = field(repr=False)  # SHA-256 of all of it

    @classmethod
    def of(cls, key_id: str, secret: bytes) -> KeyTerm:
        return cls(key_id, secret[:KEY_HEAD], hashlib.sha256(secret).digest())

    def texts(self) -> tuple[bytes, bytes]:
        """How the head begins when the key is written in hexadecimal digits or in base64."""
        return self.head.hex().encode("ascii"), base64.b64encode(self.head[:6])

    def stands_at(self, octets: bytes, place: int) -> bool:
        """Whether it is this very key, as octets or as text, that begins at `place`."""
        return any(
            hashlib.sha256(found).digest() == self.digest
            for found in _readings(octets, place)
            if found[:KEY_HEAD] == self.head
        )


def _readings(octets: bytes, place: int) -> Iterator[bytes]:
    yield octets[place : place + 32]
    with contextlib.suppress(ValueError):
        yield bytes.fromhex(octets[place : place + 64].decode("ascii"))
    with contextlib.suppress(ValueError):
        yield base64.b64decode(octets[place : place + 43] + b"=")


def writings(text: str) -> frozenset[bytes]:
    """The octets by which `text` is found, whoever wrote it: in UTF-8, ASCII lower case."""
    return frozenset(form.encode("utf-8", "surrogatepass").lower() for form in {text, text.lower(), text.upper()})


class Search:
    """Texts (octets in ASCII lower case) and keys, together.

    Where a text is a part of one of `others`, as anna@ is of joanna@, it is not what was sought.
    """

    def __init__(
        self,
        texts: Collection[bytes],
        keys: Collection[KeyTerm] = (),
        least: int = LEAST,
        others: Collection[bytes] = (),
    ) -> None:
        self.unsearched = sum(len(text) < least for text in texts)
        self._texts = frozenset(text for text in texts if len(text) >= least)
        self._keys: dict[bytes, list[KeyTerm]] = {}
        for key in keys:
            for start in (key.head, *key.texts()):
                self._keys.setdefault(start.lower(), []).append(key)
        everything = self._texts | self._keys.keys()
        self._around = _around(self._texts, others)
        self.longest = max((max(map(len, {*self._texts, *others}), default=0), 64 if keys else 0))
        self._single = everything if len(everything) <= _FEW else frozenset[bytes]()
        self._beginnings: Beginnings | None = None
        if len(everything) > _FEW:
            from storage.ending.beginnings import Beginnings  # noqa: PLC0415 - who only names terms needs no numpy

            self._beginnings = Beginnings(everything)

    def __len__(self) -> int:
        return len(self._texts) + len({key.key_id for keys in self._keys.values() for key in keys})

    def find(self, octets: bytes) -> Iterator[bytes | KeyTerm]:
        """What stands in `octets`, each text once."""
        lower = octets.lower()
        seen: set[bytes] = set()
        for term, place in self._places(lower):
            if term in self._keys:
                yield from (key for key in self._keys[term] if key.stands_at(octets, place))
            if term in self._texts and term not in seen and not self._is_anothers(term, lower, place):
                seen.add(term)
                yield term

    def find_across(self, left: bytes, right: bytes) -> Iterator[bytes | KeyTerm]:
        """What begins in `left` and ends in `right`, where the one goes on in the other."""
        left, right = left[-self.longest :], right[: self.longest]
        octets, border = left + right, len(left)
        lower = octets.lower()
        for term, place in self._places(lower, every=True):
            if place >= border:
                continue
            if term in self._keys:
                yield from (key for key in self._keys[term] if key.stands_at(octets, place))
            if term in self._texts and place + len(term) > border and not self._is_anothers(term, lower, place):
                yield term

    def _is_anothers(self, term: bytes, lower: bytes, place: int) -> bool:
        return any(
            place >= before and lower.startswith(longer, place - before)
            for longer, before in self._around.get(term, ())
        )

    def _places(self, lower: bytes, *, every: bool = False) -> Iterator[tuple[bytes, int]]:
        """Where terms stand: keys at each place, texts at the first alone unless `every` is wanted."""
        for term in self._single:
            place = lower.find(term)
            while place >= 0:
                yield term, place
                more = every or term in self._keys or term in self._around
                place = lower.find(term, place + 1) if more else -1
        if self._beginnings is not None:
            yield from self._beginnings.places(lower)


def _around(texts: Collection[bytes], others: Collection[bytes]) -> Mapping[bytes, list[tuple[bytes, int]]]:
    """Of each text the longer ones that it is a part of, each with how much of it comes before."""
    found: dict[bytes, list[tuple[bytes, int]]] = {}
    for longer in others:
        for text in texts:
            before = longer.find(text)
            while before >= 0 and len(longer) > len(text):
                found.setdefault(text, []).append((longer, before))
                before = longer.find(text, before + 1)
    return found


def texts_of(texts: Iterable[str]) -> frozenset[bytes]:
    """All writings of all texts."""
    return frozenset(octets for text in texts for octets in writings(text.strip()) if octets)
