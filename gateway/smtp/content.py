"""Holds the octets of one message while it arrives: up to 64 KiB in memory, the rest in a nameless file, encrypted.

The file has no name (O_TMPFILE) and its key exists only in this process's memory, so a crash or a stolen disk leaves
nothing readable. Nothing here is durable: that begins where the content is stored.

Raises nothing while it is written: a message is read to its end before it is refused, so `too_large` and `failed`
are states.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.errors import StorageFull, Unavailable

IN_MEMORY = 64 * 1024
_BOX = 64 * 1024  # plain octets per box in the file
_TAG = 16


class Content:
    """The octets of one message, written once in order, read any number of times until `close`."""

    __slots__ = (
        "_boxes",
        "_cipher",
        "_directory",
        "_file",
        "_limit",
        "_pieces",
        "_waiting",
        "failed",
        "size",
        "too_large",
    )

    def __init__(self, directory: str, limit: int) -> None:
        self._directory = directory
        self._limit = limit
        self._pieces: list[bytes] = []  # not in the file yet
        self._waiting = 0  # octets of `_pieces`
        self._file = -1
        self._boxes = 0
        self._cipher: AESGCM | None = None
        self.size = 0
        self.too_large = False
        self.failed: Unavailable | None = None

    def write(self, piece: bytes) -> None:
        """Takes the next octets. Beyond the limit, or once the disk failed, they are counted and let go."""
        self.size += len(piece)
        if self.size > self._limit:
            self.too_large = True
        if self.too_large or self.failed is not None:
            self.discard()
            return
        self._pieces.append(piece)
        self._waiting += len(piece)
        if self._waiting > IN_MEMORY:
            try:
                self._spill()
            except OSError as error:
                full = error.errno in {errno.ENOSPC, errno.EDQUOT}
                self.failed = StorageFull(detail="spill file") if full else Unavailable(detail="spill file")
                self.discard()

    def read(self) -> bytes:
        """All octets."""
        return b"".join(self.chunks())

    def chunks(self) -> Iterator[bytes]:
        """All octets, in pieces of about 64 KiB."""
        if self._cipher is not None:
            for box in range(self._boxes):
                sealed = os.pread(self._file, _BOX + _TAG, box * (_BOX + _TAG))
                yield self._cipher.decrypt(_nonce(box), sealed, None)
        yield from self._pieces

    def discard(self) -> None:
        """Forgets the octets; `size` stays."""
        self._pieces = []
        self._waiting = 0
        self._boxes = 0
        self._cipher = None
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def close(self) -> None:
        self.discard()

    def _spill(self) -> None:
        """Moves whole boxes to the file; what is left stays in memory."""
        if self._cipher is None:
            self._file = os.open(self._directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            self._cipher = AESGCM(AESGCM.generate_key(256))
        octets = b"".join(self._pieces)
        whole = len(octets) - len(octets) % _BOX
        for start in range(0, whole, _BOX):
            sealed = self._cipher.encrypt(_nonce(self._boxes), octets[start : start + _BOX], None)
            if os.pwrite(self._file, sealed, self._boxes * (_BOX + _TAG)) != len(sealed):
                raise OSError(errno.ENOSPC, "short write")
            self._boxes += 1
        self._pieces = [octets[whole:]] if whole < len(octets) else []
        self._waiting = len(octets) - whole


def _nonce(box: int) -> bytes:
    """Unique under a key that serves one message."""
    return box.to_bytes(12, "big")
