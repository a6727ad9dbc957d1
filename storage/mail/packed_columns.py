"""What neighbouring messages say in one header field, and what threads are made of, as octets. Pure.

Messages of a span of ids are named by their offsets in it. Each text stands there once, lines of UTF-8; a field's
column lists who has it, a thread's numbers the texts of each message. Octets that do not unpack are `None`: whoever
asked reads the messages' own rows.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import zstandard

from storage.mail.packing import little_endian

SHIFT = 12
SPAN = 1 << SHIFT  # message ids of one column
TEXTS_MAX = 4 * 1024 * 1024  # octets of the texts of one column …
IDS_MAX = 16 * SPAN  # … and different ids: putting them into a list is a call that nothing interrupts

_FORMAT = b"\x01"
_LEVEL = 3
_UNPACKED_MAX = 4 * TEXTS_MAX


@dataclass(frozen=True, slots=True)
class FieldColumn:
    """Each value of the field that occurs, and which messages have it, one value after the other."""

    values: bytes  # lines
    counts: array[int]  # of the messages that have each
    offsets: array[int]

    @classmethod
    def of(cls, having: dict[bytes, list[int]]) -> FieldColumn:
        counts, offsets = array("H"), array("H")
        for each in having.values():
            counts.append(len(each))
            offsets.extend(each)
        return cls(b"\n".join(having), counts, offsets)

    def containing(self, needle: bytes) -> list[int]:
        """Offsets of the messages that have it in the field; one may come twice."""
        found: list[int] = []
        if needle not in self.values:
            return found
        at, offsets = 0, self.offsets
        for value, count in zip(self.values.split(b"\n"), self.counts, strict=True):
            if needle in value:
                found += offsets[at : at + count]
            at += count
        return found

    def packed(self) -> bytes:
        return _packed([self.values, _octets(self.counts), _octets(self.offsets)])

    @classmethod
    def unpacked(cls, packed: bytes) -> FieldColumn | None:
        parts = _unpacked(packed, 3)
        return cls(parts[0], _array("H", parts[1]), _array("H", parts[2])) if parts else None


@dataclass(frozen=True, slots=True)
class ThreadColumn:
    """Messages by ascending offsets. Numbers are of `ids` and `subjects`, whose first is the empty one."""

    ids: list[str]
    subjects: list[str]  # base subjects
    offsets: array[int]
    own: array[int]  # number of the Message-ID
    subject: array[int]
    replies: bytes  # 1: the subject said reply or forward
    counts: array[int]  # of references
    references: array[int]  # numbers of ids, message by message

    @classmethod
    def of(cls, rows: Iterable[tuple[int, str, str, str, bool]]) -> ThreadColumn | None:
        """Of (offset, Message-ID, references, base subject, whether reply); None: they have texts like no others."""
        ids, subjects = {"": 0}, {"": 0}
        offsets, own, subject, counts, references = array("H"), array("I"), array("I"), array("I"), array("I")
        replies = bytearray()
        octets = 0
        for offset, message_id, chain, base, is_reply in rows:
            offsets.append(offset)
            own.append(ids.setdefault(message_id, len(ids)))
            subject.append(subjects.setdefault(base, len(subjects)))
            replies.append(is_reply)
            split = chain.split()
            counts.append(len(split))
            references.extend([ids.setdefault(each, len(ids)) for each in split])
            octets += len(message_id) + len(chain) + len(base)
            if octets > TEXTS_MAX or len(ids) > IDS_MAX:
                return None
        if any("\n" in text for texts in (ids, subjects) for text in texts):
            return None
        return cls(list(ids), list(subjects), offsets, own, subject, bytes(replies), counts, references)

    def packed(self) -> bytes:
        arrays = (self.offsets, self.own, self.subject, self.counts, self.references)
        texts = ["\n".join(each).encode() for each in (self.ids, self.subjects)]
        return _packed([*texts, self.replies, *map(_octets, arrays)])

    @classmethod
    def unpacked(cls, packed: bytes) -> ThreadColumn | None:
        parts = _unpacked(packed, 8)
        if parts is None:
            return None
        ids, subjects, replies, offsets, *others = parts
        own, subject, counts, references = (_array("I", each) for each in others)
        texts = ids.decode().split("\n"), subjects.decode().split("\n")
        return cls(*texts, _array("H", offsets), own, subject, replies, counts, references)


def _packed(parts: Sequence[bytes]) -> bytes:
    whole = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return _FORMAT + zstandard.ZstdCompressor(level=_LEVEL).compress(whole)


def _unpacked(packed: bytes, count: int) -> list[bytes] | None:
    if packed[:1] != _FORMAT:
        return None
    try:
        whole = zstandard.ZstdDecompressor().decompress(packed[1:], max_output_size=_UNPACKED_MAX)
    except zstandard.ZstdError:
        return None
    parts, at = [], 0
    for _ in range(count):
        end = at + 4 + int.from_bytes(whole[at : at + 4], "big")
        parts.append(whole[at + 4 : end])
        at = end
    return parts if at == len(whole) else None


def _octets(values: array[int]) -> bytes:
    return little_endian(values).tobytes()


def _array(code: str, octets: bytes) -> array[int]:
    return little_endian(array(code, octets))
