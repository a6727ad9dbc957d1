"""What is looked for in octets after an erasure: texts without regard to case, and keys. Pure.

Texts are searched in ASCII lower case, so what is sought has to be given in every other writing of its own. Of a key no
more is known here than its first octets and the hash of all: whoever sees the terms cannot open anything with them.
However many terms there are, octets are looked at once.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

LEAST = 4  # octets: what is shorter means nothing
LEAST_AMONG_RANDOM = 6  # octets: what is shorter stands in large encrypted files by chance
_HEAD = 6  # octets by which many terms are told apart from everything else
_FEW = 48  # terms for which looking for one after the other is quicker
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
    """Texts (octets in ASCII lower case) and keys, together."""

    def __init__(self, texts: Collection[bytes], keys: Collection[KeyTerm] = (), least: int = LEAST) -> None:
        self.unsearched = sum(len(text) < least for text in texts)
        self._texts = frozenset(text for text in texts if len(text) >= least)
        self._keys: dict[bytes, list[KeyTerm]] = {}
        for key in keys:
            for start in (key.head, *key.texts()):
                self._keys.setdefault(start.lower(), []).append(key)
        everything = self._texts | self._keys.keys()
        self.longest = max((max(map(len, self._texts), default=0), 64 if keys else 0))
        self._single = frozenset(term for term in everything if len(term) < _HEAD or len(everything) <= _FEW)
        self._heads: dict[bytes, list[bytes]] = {}
        for term in everything - self._single:
            self._heads.setdefault(term[:_HEAD], []).append(term)

    def __len__(self) -> int:
        return len(self._texts) + len({key.key_id for keys in self._keys.values() for key in keys})

    def find(self, octets: bytes) -> Iterator[bytes | KeyTerm]:
        """What stands in `octets`, each text once."""
        lower = octets.lower()
        seen: set[bytes] = set()
        for term, place in self._places(lower):
            if term in self._keys:
                yield from (key for key in self._keys[term] if key.stands_at(octets, place))
            if term in self._texts and term not in seen:
                seen.add(term)
                yield term

    def _places(self, lower: bytes) -> Iterator[tuple[bytes, int]]:
        for term in self._single:
            place = lower.find(term)
            while place >= 0:
                yield term, place
                place = lower.find(term, place + 1) if term in self._keys else -1
        if self._heads:
            heads = self._heads
            for place in range(len(lower) - _HEAD + 1):
                head = lower[place : place + _HEAD]
                if head in heads:
                    yield from ((term, place) for term in heads[head] if lower.startswith(term, place))


def texts_of(texts: Iterable[str]) -> frozenset[bytes]:
    """All writings of all texts."""
    return frozenset(octets for text in texts for octets in writings(text.strip()) if octets)
