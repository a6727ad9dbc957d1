"""What one frame of a segment is: the terms that its records are the first to refer to, then the records, packed.

    frame: zstd of (time (8), length (4), data)…; a term stands where a record would, with `TERM` as its time

Personal texts are terms: sealed under keys of those whom they belong to (`storage.logs.subjects`), so a record has only
references to them. Pure: no file, no key but those that open terms. Raises: Corrupt.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import zstandard

from storage.errors import Corrupt
from storage.logs import subjects
from storage.logs.subjects import ERASED, KeptKeys, Personal

TERM = -(1 << 63)  # stands where a record has its time
_RECORD = struct.Struct(">qI")
_FRAME_MAX = 8 << 20  # octets of records in one frame, unpacked
_ALTERNATIVES_MAX = 32  # terms that stand for what is sought; of more, every frame is opened

# Looks at packed octets and says whether what is sought may be in them: at a whole frame first, then at each record.
# It must be true of a frame if it is true of one of its records.
Wanted = Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class Record:
    """`personal` are the texts that `data` refers to, until it is written; `term` gives them when it was read."""

    time: int  # Unix seconds
    data: bytes
    personal: tuple[Personal, ...] = field(default=(), repr=False)
    term: Callable[[int], str] | None = field(default=None, repr=False, compare=False)

    def values(self) -> Any:
        """Of what `subjects.dump` made; `ERASED` stands for what nothing opens any more."""
        return subjects.load(self.data, self.term or self._own)

    def _own(self, number: int) -> str:
        return self.personal[number].text


def record_of(time: int, values: Any) -> Record:
    """A record of JSON values; texts that belong to somebody are `Personal` in them."""
    return Record(time, *subjects.dump(values))


@dataclass(frozen=True, slots=True)
class Needles:
    """A `Wanted` that finds personal texts too: octets as `subjects.packed_text` makes them, one or all of them."""

    octets: tuple[bytes, ...]
    every: bool = False

    def __call__(self, octets: bytes) -> bool:
        lower = octets.lower()
        if len(self.octets) == 1:
            return self.octets[0] in lower
        return (all if self.every else any)(needle in lower for needle in self.octets)


def frames_of(records: Sequence[Record]) -> Iterator[bytes]:
    """Records, and before them terms, as frames of a bounded size."""
    packed: list[bytes] = []
    size = 0
    for record in records:
        size += _RECORD.size + len(record.data)
        if size > _FRAME_MAX and packed:
            yield zstandard.compress(b"".join(packed))
            packed, size = [], _RECORD.size + len(record.data)
        packed.append(_RECORD.pack(record.time, len(record.data)) + record.data)
    yield zstandard.compress(b"".join(packed))


class FrameReader:
    """Reads the frames of one segment in their order: their terms, then the records that are wanted."""

    def __init__(self, keys: KeptKeys, wanted: Wanted | None) -> None:
        self._keys = keys
        self._terms: dict[int, bytes | str] = {}  # as they stand there, until somebody asks
        self._search = _Search(wanted) if isinstance(wanted, Needles) else None
        self._wanted: Wanted | None = self._search or wanted

    def records(self, frame: bytes) -> Iterator[Record]:
        plain = _unpacked(frame)
        position = self._take_terms(plain)
        wanted = self._wanted
        if wanted is not None and not wanted(plain):
            return
        while position < len(plain):
            time, length = _RECORD.unpack_from(plain, position)
            position += _RECORD.size
            data = plain[position : position + length]
            position += length
            if wanted is None or wanted(data):
                yield Record(time, data, term=self._text)

    def _take_terms(self, plain: bytes) -> int:
        """Where the frame's records begin."""
        position = 0
        while position < len(plain):
            time, length = _RECORD.unpack_from(plain, position)
            if time != TERM:
                break
            position += _RECORD.size
            term = plain[position : position + length]
            position += length
            number = subjects.term_number(term)
            self._terms[number] = term
            if self._search is not None:
                self._search.add(number, self._text(number))
        return position

    def _text(self, number: int) -> str:
        term = self._terms.get(number, ERASED)
        if isinstance(term, bytes):
            text = self._keys.open(term)[1]
            term = self._terms[number] = ERASED if text is None else text
        return term


class _Search:
    """Needles in one segment: each by its octets, or by a reference to a term that holds it."""

    def __init__(self, needles: Needles) -> None:
        self._needles = needles
        self._alternatives: list[list[bytes]] = [[] for _ in needles.octets]

    def add(self, number: int, text: str) -> None:
        packed = subjects.packed_text(text)
        for needle, alternatives in zip(self._needles.octets, self._alternatives, strict=True):
            if needle in packed:
                alternatives.append(subjects.reference(number))

    def __call__(self, octets: bytes) -> bool:
        lower = octets.lower()
        found = (
            needle in lower
            or len(alternatives) > _ALTERNATIVES_MAX
            or any(alternative in octets for alternative in alternatives)
            for needle, alternatives in zip(self._needles.octets, self._alternatives, strict=True)
        )
        return all(found) if self._needles.every else any(found)


def _unpacked(frame: bytes) -> bytes:
    try:
        if zstandard.frame_content_size(frame) > 2 * _FRAME_MAX:
            raise Corrupt(detail="log segment: frame too large")
        return zstandard.decompress(frame, max_output_size=2 * _FRAME_MAX)
    except zstandard.ZstdError:
        raise Corrupt(detail="log segment: frame unreadable") from None
