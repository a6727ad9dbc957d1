"""The message file: compressed, encrypted, readable in parts, and good for nothing under another name.

    header   "CMF1", key id (32), file id (16, random), account id (8)
    chunk    length of the box (4), box: AES-256-GCM over one zstd frame        … one for each 64 KiB of the message

The first chunk holds the metadata before its data. The file's key is derived from the account's key and the file id, so
a nonce is the chunk's number. What is authenticated with each box: the whole header (account, file id), the file's base
name, the chunk's number and whether it is the last; so no chunk can be changed, cut off, repeated, reordered or taken
into another file, and no file can take another's place. A frame is unpacked only to the size it may have.

Raises: Corrupt for anything that does not verify, TooLarge for metadata, OSError as the file system gives it
(`storage.files.maildir` translates).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.errors import Corrupt
from storage.files.durable import write_all
from storage.files.metadata import META_MAX, FileMeta
from storage.keys.sealing import Key, derivation
from storage.zstd import codec

CHUNK = 1 << 16

_MAGIC = b"CMF1"
_HEADER = struct.Struct(">4s32s16sQ")
_HEADER_SIZE = _HEADER.size
_LENGTH = struct.Struct(">I")
_POSITION = struct.Struct(">IB")
_TAG = 16
_FIRST_READ = CHUNK + 4096  # nearly every message is one read
_READ = os.O_RDONLY | os.O_CLOEXEC
_PLAIN_MAX = _LENGTH.size + META_MAX + CHUNK
_KEY_OF_FILE = derivation("message file", 16)
_BOX_MAX = _PLAIN_MAX + 1024 + _TAG  # zstd adds little to what it cannot compress


class _Boxes:
    """The boxes of one file: its key, and what is authenticated with each chunk."""

    __slots__ = ("_bound", "_cipher", "_header")

    def __init__(self, header: bytes, name: str, key: Key) -> None:
        """For a header that was just made or read. Raises Corrupt if it is not one, or of another key."""
        if len(header) < _HEADER_SIZE:
            raise Corrupt(detail="message file: shorter than its header")
        magic, key_id, file_id, _ = _HEADER.unpack(header)
        if magic != _MAGIC:
            raise Corrupt(detail="message file: unknown format")
        if key_id != _key_id(key):
            raise Corrupt(detail="message file: sealed under another key")
        self._cipher = AESGCM(_KEY_OF_FILE(key.secret, file_id))
        self._bound = header + name.encode()

    def seal(self, number: int, last: bool, plain: bytes) -> bytes:
        frame = codec.pack(plain)
        return self._cipher.encrypt(number.to_bytes(12, "big"), frame, self._bound + _POSITION.pack(number, last))

    def open(self, number: int, last: bool, box: bytes) -> bytes:
        try:
            nonce = number.to_bytes(12, "big")
            frame = self._cipher.decrypt(nonce, box, self._bound + _POSITION.pack(number, last))
        except InvalidTag:
            raise Corrupt(detail="message file: does not verify") from None
        try:
            if zstandard.frame_content_size(frame) > _PLAIN_MAX:
                raise Corrupt(detail="message file: chunk too large")
            plain: bytes = codec.unpack(frame, max_output_size=_PLAIN_MAX)
        except zstandard.ZstdError:
            raise Corrupt(detail="message file: chunk unreadable") from None
        return plain


def write_file(descriptor: int, name: str, key: Key, meta: FileMeta, data: bytes | Iterable[bytes]) -> None:
    """Write a whole file at the descriptor's position; `name` is the base name it will be read under.

    Nothing is fsynced here. `data` may come in pieces of any size.
    """
    header = _HEADER.pack(_MAGIC, _key_id(key), os.urandom(16), meta.account_id)
    boxes = _Boxes(header, name, key)
    packed = meta.pack()
    head = _LENGTH.pack(len(packed)) + packed
    pending = header
    for number, (block, last) in enumerate(_blocks(data)):
        box = boxes.seal(number, last, head + block)
        head = b""
        pending += _LENGTH.pack(len(box)) + box
        if last or len(pending) >= CHUNK:
            write_all(descriptor, pending)
            pending = b""


def read_all(path: str, key: Key) -> tuple[FileMeta, bytes]:
    """The metadata and the whole message (without the prefix, which is in the metadata)."""
    packed, data = _read_parts(path, key)
    return FileMeta.unpack(packed), data


def read_message(path: str, key: Key) -> bytes:
    """The whole message, with the prefix in front."""
    packed, data = _read_parts(path, key)
    prefix = FileMeta.prefix_of(packed)
    return prefix + data if prefix else data


def _read_parts(path: str, key: Key) -> tuple[bytes, bytes]:
    """The packed metadata, and the data."""
    raw = _read_whole(path)
    boxes = _Boxes(raw[:_HEADER_SIZE], _base_name(path), key)
    position, end, number = _HEADER_SIZE, len(raw), 0
    plains = []
    while True:
        start = position + 4
        position = start + int.from_bytes(raw[position:start], "big")
        if start >= end or position > end:
            raise Corrupt(detail="message file: cut")
        plains.append(boxes.open(number, position == end, raw[start:position]))
        if position == end:
            break
        number += 1
    packed, first = _parted(plains[0])
    if number == 0:
        return packed, first
    plains[0] = first
    return packed, b"".join(plains)


def read_meta(path: str, key: Key) -> FileMeta:
    """The metadata alone; of a large message only the first chunk is read."""
    with _Spans(path, key) as spans:
        return _split(spans.chunk(0))[0]


def read_span(path: str, key: Key, start: int, end: int) -> bytes:
    """The octets [start, end) of the message, fewer if it is shorter; only the chunks that hold them are read."""
    first, last = start // CHUNK, max(start, end - 1) // CHUNK
    with _Spans(path, key) as spans:
        if not spans.has(first):
            spans.chunk(spans.count - 1)  # the end of the file must be what was written as its end
            return b""
        plains = []
        for number in range(first, last + 1):
            if not spans.has(number):
                break
            plain = spans.chunk(number)
            plains.append(plain if number else _split(plain)[1])
    return b"".join(plains)[start - first * CHUNK : max(start, end) - first * CHUNK]


class _Spans:
    """A file of which single chunks are read; the lengths before the boxes lead from one to the next."""

    def __init__(self, path: str, key: Key) -> None:
        self._descriptor = _opened(path)
        try:
            self._size = os.fstat(self._descriptor).st_size
            header = os.pread(self._descriptor, _HEADER_SIZE, 0)
            self._boxes = _Boxes(header, _base_name(path), key)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._starts = [_HEADER_SIZE]

    def __enter__(self) -> _Spans:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    @property
    def count(self) -> int:
        """The chunks known so far: all, once `has` said no."""
        return len(self._starts) - (self._starts[-1] == self._size)

    def has(self, number: int) -> bool:
        while len(self._starts) <= number + 1 and self._starts[-1] < self._size:
            start = self._starts[-1]
            length = int.from_bytes(os.pread(self._descriptor, 4, start), "big")
            following = start + 4 + length
            if length > _BOX_MAX or following > self._size:
                raise Corrupt(detail="message file: cut")
            self._starts.append(following)
        return number < self.count

    def chunk(self, number: int) -> bytes:
        if number < 0 or not self.has(number):
            raise Corrupt(detail="message file: cut")
        start, end = self._starts[number] + 4, self._starts[number + 1]
        box = os.pread(self._descriptor, end - start, start)
        return self._boxes.open(number, end == self._size, box)


def _opened(path: str) -> int:
    """For reading. The file system does not note when: it is nobody's business, and a write of the file's inode."""
    try:
        return os.open(path, _READ | os.O_NOATIME)
    except PermissionError:  # only a file's owner may ask for that
        return os.open(path, _READ)


def _read_whole(path: str) -> bytes:
    descriptor = _opened(path)
    try:
        data = os.read(descriptor, _FIRST_READ)
        if len(data) < _FIRST_READ:
            return data
        parts = [data]
        while data := os.read(descriptor, 1 << 20):
            parts.append(data)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def _blocks(data: bytes | Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The message in chunks, each with whether it is the last; there is always one."""
    if isinstance(data, bytes):
        for start in range(0, max(len(data), 1), CHUNK):
            yield data[start : start + CHUNK], start + CHUNK >= len(data)
        return
    held = b""
    for piece in data:
        held += piece
        while len(held) > CHUNK:
            yield held[:CHUNK], False
            held = held[CHUNK:]
    yield held, True


def _split(plain: bytes) -> tuple[FileMeta, bytes]:
    packed, data = _parted(plain)
    return FileMeta.unpack(packed), data


def _parted(plain: bytes) -> tuple[bytes, bytes]:
    """The first chunk as packed metadata and data."""
    end = 4 + int.from_bytes(plain[:4], "big")
    if end > len(plain):
        raise Corrupt(detail="message file: metadata cut")
    return plain[4:end], plain[end:]


def _key_id(key: Key) -> bytes:
    return key.id.encode("ascii")[:32].ljust(32, b"\x00")


def _base_name(path: str) -> str:
    return path[path.rfind("/") + 1 :]
