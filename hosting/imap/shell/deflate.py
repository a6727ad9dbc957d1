"""The octets of a compressed connection, in both directions; small, bounded, and nearly nothing while it is idle.

Out: a window of 4 KB, so that a stream takes 38 KB instead of zlib's 268. Every piece ends with a sync flush, after
which the stream stands at an octet; so an idle one is dropped, and a fresh one goes on in its place. Its first blocks
refer to nothing before them, and the client need not know.

In: the client may have chosen a window of 32 KB, and may refer to what it sent before at any time. So the last 32 KB
of what it sent are kept (compressed, while it is idle), and a new stream is given them as its dictionary. That is done
only where its stream stands between two blocks at an octet: behind a sync flush, and where an empty last block would be
read as the end. Octets come out in bounded pieces, asked for one by one, each not beyond the next flush: what follows
an UNAUTHENTICATE is not compressed any more.

Raises: Broken (what the client sent is not deflated).
Standards: RFC 4978, RFC 1951, RFC 8437 §4.1 (the end of compression).
"""

from __future__ import annotations

import zlib
from typing import Any, Final

_OUT_WINDOW: Final = -12  # 4 KB, raw
_OUT_MEMORY: Final = 5
_LEVEL: Final = 3
_IN_WINDOW: Final = -zlib.MAX_WBITS
_DICTIONARY: Final = 32 * 1024  # RFC 1951 §2: how far back a stream may refer
_FLUSHED: Final = b"\x00\x00\xff\xff"  # how a sync flush ends: the lengths of an empty stored block
_LAST_BLOCK: Final = b"\x01\x00\x00\xff\xff"  # an empty stored block that ends a stream
PIECE: Final = 32 * 1024  # octets that come out at once


class Broken(Exception):  # noqa: N818
    """The client's stream cannot be read any further."""


class Deflated:
    """What is sent."""

    __slots__ = ("_stream",)

    def __init__(self) -> None:
        self._stream: Any = None  # zlib's; None: the next octets begin a new one

    def pack(self, octets: bytes) -> bytes:
        """Whole, so that the client can read all of it."""
        stream = self._stream
        if stream is None:
            stream = self._stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _OUT_WINDOW, _OUT_MEMORY)
        packed: bytes = stream.compress(octets) + stream.flush(zlib.Z_SYNC_FLUSH)
        return packed

    def end(self) -> bytes:
        """The end of the stream: what is sent after it is not compressed."""
        stream, self._stream = self._stream, None
        if stream is None:
            return _LAST_BLOCK
        ended: bytes = stream.flush(zlib.Z_FINISH)
        return ended

    def rest(self) -> None:
        """Nothing is sent for a while: keep nothing."""
        self._stream = None


class Inflated:
    """What arrives."""

    __slots__ = ("_before", "_ended", "_last", "_raw", "_resting", "_stream")

    def __init__(self) -> None:
        self._stream: Any = zlib.decompressobj(_IN_WINDOW)
        self._raw = b""  # arrived and not read yet
        self._last = b""  # the last four octets that were read
        self._before = b""  # the last octets that came out
        self._resting = False  # `_before` is compressed, and there is no stream
        self._ended = False

    def feed(self, raw: bytes) -> None:
        self._raw = self._raw + raw if self._raw else raw

    @property
    def waiting(self) -> int:
        """Octets that arrived and were not read yet."""
        return len(self._raw)

    def next_piece(self) -> bytes:
        """What comes out next, at most PIECE octets; empty: more must arrive first. Raises Broken."""
        raw, at = self._raw, 0  # many flushes may come of which nothing comes out: what follows is not copied for each
        while at < len(raw):
            if self._ended:
                raise Broken
            if self._resting:
                self._wake()
            flush = raw.find(_FLUSHED, at)
            now = raw[at:] if flush < 0 else raw[at : flush + 4]
            try:
                piece: bytes = self._stream.decompress(now, PIECE)
            except zlib.error:
                raise Broken from None
            self._ended = self._stream.eof
            unread: bytes = self._stream.unused_data if self._ended else self._stream.unconsumed_tail
            read = len(now) - len(unread)
            self._last = (self._last + now[max(0, read - 4) : read])[-4:]
            at += read
            if piece:
                self._before = (self._before + piece)[-_DICTIONARY:]
                self._raw = raw[at:]
                return piece
        self._raw = b""
        return b""

    def remainder(self) -> bytes:
        """What arrived behind the compressed octets, where compression has ended."""
        raw, self._raw = self._raw, b""
        return raw

    def rest(self) -> None:
        """Nothing arrives for a while: keep what the client may refer to and no more, if its stream allows that."""
        if self._resting or self._raw or self._ended or not self._is_between_blocks():
            return
        self._stream = None
        self._before = zlib.compress(self._before, 1)
        self._resting = True

    def _is_between_blocks(self) -> bool:
        if self._last != _FLUSHED:
            return False
        probe = self._stream.copy()
        try:
            return probe.decompress(_LAST_BLOCK, 1) == b"" and probe.eof and not probe.unused_data
        except zlib.error:
            return False

    def _wake(self) -> None:
        self._before = zlib.decompress(self._before)
        self._stream = zlib.decompressobj(_IN_WINDOW, self._before) if self._before else zlib.decompressobj(_IN_WINDOW)
        self._resting = False
