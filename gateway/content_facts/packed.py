"""Unpacks single streams, piece by piece, each piece paid for: deflate, gzip, bzip2, xz, LZMA, Zstandard.

No call gives out more than a piece, whatever the input says, and dictionaries are bounded, so memory is.
Raises (while pulled): Stop, for what is damaged, too much, or asks for too large a dictionary.
Standards: RFC 1951, RFC 1952, RFC 8878, .ZIP File Format Specification (methods).
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Iterator
from typing import Any

import zstandard

from gateway.content_facts.attachment import Incomplete
from gateway.content_facts.budget import Budget, Stop
from gateway.content_facts.flow import FIRST, PIECE, Flow, Octets

DICTIONARY_MAX = 32 * 1024 * 1024  # octets of memory that a stream may ask for

_XZ_MEMORY = 80 * 1024 * 1024  # what `xz -9` needs, most of it never touched

# What an octet costs beside one of plain scanning.
_INFLATE, _ZSTD, _XZ, _BZIP2 = 1, 1, 4, 10
_STREAM = 1000  # what beginning a stream costs

_DAMAGE = (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, EOFError, ValueError)


def deflated(source: Iterator[Octets], budget: Budget) -> Iterator[Octets]:
    """Raw deflate, as ZIP has it."""
    stream = zlib.decompressobj(-15)
    size = FIRST
    try:
        for piece in source:
            rest: Octets = piece
            while rest and not stream.eof:
                out = stream.decompress(rest, size)
                size = PIECE
                rest = stream.unconsumed_tail
                budget.spend(len(out) * _INFLATE)
                if out:
                    yield out
            if stream.eof:
                return
        if out := stream.flush():
            yield out
        raise Stop(Incomplete.DAMAGED)
    except _DAMAGE:
        raise Stop(Incomplete.DAMAGED) from None


def gunzipped(source: Iterator[Octets], budget: Budget) -> Iterator[Octets]:
    """All members of a gzip file, one after the other; rubbish behind one is passed over, as gzip does."""
    stream: Any = None
    again = False
    try:
        for piece in source:
            rest: Octets = piece
            while rest:
                if stream is None:
                    if again and not rest.startswith(b"\x1f"):
                        return
                    stream = zlib.decompressobj(31)
                out = stream.decompress(rest, PIECE)
                rest = stream.unconsumed_tail
                budget.spend(len(out) * _INFLATE)
                if out:
                    yield out
                if stream.eof:
                    rest = stream.unused_data
                    budget.spend(_STREAM + len(rest))  # of the many members that hold nothing
                    stream, again = None, True
        if stream is not None:
            if out := stream.flush():
                yield out
            raise Stop(Incomplete.DAMAGED)
    except _DAMAGE:
        raise Stop(Incomplete.DAMAGED) from None


def bunzipped(source: Iterator[Octets], budget: Budget) -> Iterator[Octets]:
    return _streams(bz2.BZ2Decompressor, source, budget, _BZIP2)


def unxzed(source: Iterator[Octets], budget: Budget) -> Iterator[Octets]:
    """xz, or the older LZMA format."""
    return _streams(lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY), source, budget, _XZ)


def zip_lzma(source: Iterator[Octets], budget: Budget) -> Iterator[Octets]:
    """LZMA as ZIP has it (method 14): two octets of version, the size of the properties, the properties."""
    flow = Flow(source)
    head = flow.read(9)
    if len(head) < 9 or head[2:4] != b"\5\0" or head[4] >= 225:
        raise Stop(flow.stopped or Incomplete.DAMAGED)
    yield from _streams(lambda: _raw_lzma(head[4:]), flow.pieces(), budget, _XZ)


def raw_lzma(properties: bytes, source: Iterator[Octets], budget: Budget) -> Iterator[Octets]:
    """LZMA1 without a header; `properties` are the five octets that 7z has."""
    return _streams(lambda: _raw_lzma(properties), source, budget, _XZ)


def raw_lzma2(properties: bytes, source: Iterator[Octets], budget: Budget) -> Iterator[Octets]:
    size = (2 | properties[0] & 1) << (properties[0] // 2 + 11) if properties[0] < 40 else 1 << 32
    if size > DICTIONARY_MAX:
        raise Stop(Incomplete.TOO_LARGE)
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": max(size, 4096)}]
    return _streams(lambda: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters), source, budget, _XZ)


def unzstded(source: Iterator[Octets], budget: Budget) -> Iterator[Octets]:
    try:
        reader = zstandard.ZstdDecompressor(max_window_size=DICTIONARY_MAX).stream_reader(
            io.BufferedReader(_Pulled(source), PIECE), read_size=PIECE, read_across_frames=True
        )
        while piece := reader.read(PIECE):
            budget.spend(len(piece) * _ZSTD)
            yield piece
    except _DAMAGE:
        raise Stop(Incomplete.DAMAGED) from None


def _raw_lzma(properties: bytes) -> lzma.LZMADecompressor:
    """Raises Stop."""
    first, size = properties[0], int.from_bytes(properties[1:5], "little")
    if size > DICTIONARY_MAX:
        raise Stop(Incomplete.TOO_LARGE)
    rest, lc = divmod(first, 9)
    pb, lp = divmod(rest, 5)
    if lc + lp > 4 or pb > 4:
        raise Stop(Incomplete.NOT_READ)
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": max(size, 4096), "lc": lc, "lp": lp, "pb": pb}]
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)


def _streams(make: Any, source: Iterator[Octets], budget: Budget, weight: int) -> Iterator[Octets]:
    """Streams of bzip2 or xz, one after the other."""
    stream: Any = None
    try:
        for piece in source:
            rest: Octets = piece
            while rest or not (stream is None or stream.needs_input):
                if stream is None:
                    stream = make()
                out = stream.decompress(rest, PIECE)
                rest = b""
                budget.spend(len(out) * weight)
                if out:
                    yield out
                if stream.eof:
                    rest = stream.unused_data.lstrip(b"\0")
                    budget.spend(_STREAM + len(rest))
                    stream = None
        if stream is not None:
            raise Stop(Incomplete.DAMAGED)
    except lzma.LZMAError as error:
        raise Stop(Incomplete.TOO_LARGE if "limit" in str(error) else Incomplete.DAMAGED) from None
    except _DAMAGE:
        raise Stop(Incomplete.DAMAGED) from None


class _Pulled(io.RawIOBase):
    """A source as a file that zstandard reads."""

    def __init__(self, source: Iterator[Octets]) -> None:
        self._source = source
        self._rest: Octets = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._source, None)
            if piece is None:
                return 0
            self._rest = piece
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
