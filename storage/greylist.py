"""Who asked to deliver what to whom before: a file of fixed size in DATA/run that all processes map into memory.

It names nobody: a place holds a keyed hash and times. The key stands in the file itself, so the file is worth as much
as the times in it, and losing it means that some first messages are put off once more.

There is no lock. Every word is written whole, the hash last; two processes that give one place away at the same moment
may leave times of the one with the hash of the other, and one message waits a little too long or too short. A table
that is full gives away what waits before what has passed, and of either what was used longest ago.

The file's pages are taken when it is made (a full disk ends no process by SIGBUS), and it appears under its name when
it is whole. One of another layout is replaced; who has it mapped goes on with the old one.

Raises: OSError where the file cannot be made or opened.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

from storage.register import classes
from storage.register.values import FileClass

FILE_NAME = "greylist"

_MAGIC: Final = 0x436C_6E6D_4772_0001  # layout 1
_WAYS: Final = 8  # places where a key may stand
_ATTEMPT_BUCKETS: Final = 16_384
_NETWORK_BUCKETS: Final = 4_096
_KEY_SIZE: Final = 32
_HEAD: Final = 8  # words: the magic number, the key, room
_ATTEMPTS: Final = _ATTEMPT_BUCKETS * _WAYS
_NETWORKS: Final = _NETWORK_BUCKETS * _WAYS

SIZE: Final = (_HEAD + 3 * (_ATTEMPTS + _NETWORKS)) * 8  # octets: 3.9 MB


FILES = (
    FileClass(f"run/{FILE_NAME}", classes.STRANGERS, "keyed hashes of who was put off"),
    FileClass(f"run/{FILE_NAME}.lock", classes.INSTALLATION, "its lock, empty"),
)


class Place(NamedTuple):
    """Of an attempt: when it was `first` made (0: it has passed), and its `last` time. Of a network: how many attempts
    have passed, and the last time."""

    first: int
    last: int


class PlaceTable:
    """Places for `buckets` times eight keys, from the word `start` on."""

    __slots__ = ("_buckets", "_first", "_keys", "_last", "_words")

    def __init__(self, words: memoryview, start: int, buckets: int) -> None:
        self._words = words
        self._buckets = buckets
        self._keys = start
        self._first = start + buckets * _WAYS
        self._last = start + 2 * buckets * _WAYS

    def get(self, key: int) -> Place | None:
        bucket = key % self._buckets * _WAYS
        keys = self._words[self._keys + bucket : self._keys + bucket + _WAYS].tolist()
        if key not in keys:
            return None
        place = bucket + keys.index(key)
        return Place(self._words[self._first + place], self._words[self._last + place])

    def put(self, key: int, value: Place) -> None:
        bucket = key % self._buckets * _WAYS
        words = self._words
        keys = words[self._keys + bucket : self._keys + bucket + _WAYS].tolist()
        if key in keys:
            place = bucket + keys.index(key)
        else:
            place = bucket + (keys.index(0) if 0 in keys else self._least(bucket))
            words[self._keys + place] = 0  # nobody takes the old times for the new key's
        words[self._first + place] = value.first
        words[self._last + place] = value.last
        words[self._keys + place] = key

    def _least(self, bucket: int) -> int:
        firsts = self._words[self._first + bucket : self._first + bucket + _WAYS].tolist()
        lasts = self._words[self._last + bucket : self._last + bucket + _WAYS].tolist()
        return min(range(_WAYS), key=lambda way: (firsts[way] == 0, lasts[way]))


class GreylistFile:
    """The tables `attempts` and `networks`, shared by all who opened the same folder."""

    def __init__(self, memory: mmap.mmap | bytearray) -> None:
        self._memory = memory
        self._octets = memoryview(memory)
        self._words = self._octets.cast("Q")
        self._hash = blake2b(key=bytes(self._octets[8 : 8 + _KEY_SIZE]), digest_size=8)
        self.attempts = PlaceTable(self._words, _HEAD, _ATTEMPT_BUCKETS)
        self.networks = PlaceTable(self._words, _HEAD + 3 * _ATTEMPTS, _NETWORK_BUCKETS)

    @classmethod
    def open(cls, run: Path) -> GreylistFile:
        """The one in DATA/run, made if there is none that can be used."""
        path = run / FILE_NAME
        with _alone(run):
            descriptor = _usable(path)
            if descriptor is None:
                descriptor = _make(path)
        try:
            return cls(mmap.mmap(descriptor, SIZE))
        finally:
            os.close(descriptor)

    @classmethod
    def of_this_process(cls) -> GreylistFile:
        """In memory, shared with nobody."""
        return cls(bytearray(_head().ljust(SIZE, b"\0")))

    def hash(self, *texts: str) -> int:
        """Never 0, which is an empty place."""
        hashed = self._hash.copy()
        for text in texts:
            octets = text.encode("utf-8", "surrogatepass")
            hashed.update(len(octets).to_bytes(4, "little") + octets)
        return int.from_bytes(hashed.digest(), "little") or 1

    def close(self) -> None:
        self._words.release()
        self._octets.release()
        if isinstance(self._memory, mmap.mmap):
            self._memory.close()


def _head() -> bytes:
    return _MAGIC.to_bytes(8, _ORDER) + secrets.token_bytes(_KEY_SIZE)


_ORDER: Final = "little" if memoryview(b"\1\0\0\0\0\0\0\0").cast("Q")[0] == 1 else "big"


def _usable(path: Path) -> int | None:
    """A descriptor of the file, None if there is none of ours and of this layout."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    status = os.fstat(descriptor)
    if status.st_size == SIZE and not status.st_mode & 0o077 and os.pread(descriptor, 8, 0) == _head()[:8]:
        return descriptor
    os.close(descriptor)
    return None


def _make(path: Path) -> int:
    hidden = path.with_name(f".{path.name}")
    hidden.unlink(missing_ok=True)
    descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, SIZE)
        os.pwrite(descriptor, _head(), 0)
        hidden.rename(path)
    except OSError:
        hidden.unlink(missing_ok=True)
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def _alone(run: Path) -> Iterator[None]:
    """One process at a time makes the file. Held for as long as that takes."""
    descriptor = os.open(run / f"{FILE_NAME}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
