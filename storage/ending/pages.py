"""Reads the pages of an encrypted database, and of its write-ahead log, without SQLite: for the search for remains.

SQLite shows only what its tables hold; what was deleted stands in free pages and old frames of the log until they are
written over. Here every page is decrypted and handed out as it is, and with each the borders over which a text may run
from it into another. A page that is just being written by somebody else is read again; what still does not verify is
handed out all the same, since parts of it may be readable.

To be used by a process that has no connection to any database: closing one of these files in a process that has would
drop SQLite's locks.

Standards: SQLCipher 4 (AES-256-CBC; IV and HMAC at the end of each page; raw key, so the salt is for the HMAC's key
alone), SQLite file format §1.5, §1.6, §4.1.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

PAGE = 4096
_SALT, _IV, _MAC = 16, 16, 32  # PRAGMA cipher_hmac_algorithm is HMAC_SHA256, see storage.database.driver
_RESERVED = _IV + _MAC
_POINTER = 4  # octets at the start of a page that a row runs over to: the next one's number
_RESERVED_AT = 20  # in the first page: how many octets SQLite leaves free at the end, more than the cipher needs
_WAL_HEADER, _FRAME_HEADER = 32, 24
_STRIDE = _FRAME_HEADER + PAGE
_AT_ONCE = 64  # pages
_TRIES, _PAUSE = 4, 0.01
_MAGIC = b"SQLite format 3\0"
_DEPTH_MAX = 40
_CHAIN_MAX = 1 << 20  # pages that one row runs over
_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0)  # octets of the serial types that are no texts
_Number = Callable[[bytes, int], tuple[int, int]]  # which page stands at a place, and in which frame

_TABLE_LEAF, _TABLE_INNER, _INDEX_LEAF, _INDEX_INNER = 0x0D, 0x05, 0x0A, 0x02


@dataclass(frozen=True, slots=True)
class Page:
    number: int  # of the database, from 1
    frame: int  # of the log, from 0; -1: of the file itself
    octets: bytes = field(repr=False)  # decrypted
    verified: bool


@dataclass(frozen=True, slots=True)
class Border:
    """Where content goes on, or went on before it was deleted, from one page to another."""

    number: int  # of the page on the left
    frame: int
    left: bytes = field(repr=False)
    right: bytes = field(repr=False)


class EncryptedPages:
    def __init__(self, path: Path, key: bytes) -> None:
        """`key` is the raw key of the connection (`storage.database.driver.database_key`)."""
        self._path = path
        self._log = path.with_name(path.name + "-wal")
        self._key = key
        self._mac_key = b""
        self._frames: dict[int, list[int]] | None = None  # page → its frames in the log, current or not
        self._usable = 0  # octets of a page, without those that are reserved
        self._last = 0  # number of a page

    def all(self) -> Iterator[Page]:
        """Every page of the file, then every frame of the log, current or not."""
        yield from self._pages(self._path, 0, PAGE, 0, _file_page)
        yield from self._pages(self._log, _WAL_HEADER, _STRIDE, _FRAME_HEADER, _log_page)

    def _pages(self, path: Path, start: int, stride: int, skip: int, number: _Number) -> Iterator[Page]:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            index = 0
            while block := os.pread(descriptor, stride * _AT_ONCE, start + index * stride):
                for offset in range(0, len(block) - stride + 1, stride):
                    yield self._page(descriptor, start + index * stride, block[offset : offset + stride], skip, number)
                    index += 1
                if len(block) < stride:
                    return
        finally:
            os.close(descriptor)

    def _page(self, descriptor: int, place: int, octets: bytes, skip: int, number: _Number) -> Page:
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_PAUSE)
                octets = os.pread(descriptor, len(octets), place) or octets
            page = self._decrypted(octets[skip:], *number(octets, place))
            if page.verified:
                break
        return page

    def _decrypted(self, octets: bytes, number: int, frame: int) -> Page:
        head = b""
        if number == 1:
            self._mac_key = self._mac_key or _mac_key(self._key, octets[:_SALT])
            head, octets = _MAGIC, octets[_SALT:]
        body, iv, mac = octets[:-_RESERVED], octets[-_RESERVED:-_MAC], octets[-_MAC:]
        if not any(octets):  # a page that was never written
            return Page(number, frame, head + octets, True)
        decryptor = Cipher(algorithms.AES(self._key), modes.CBC(iv)).decryptor()
        expected = hmac.digest(self._mac_key, body + iv + number.to_bytes(4, "little"), "sha256")
        plain = decryptor.update(body)
        return Page(number, frame, head + plain + bytes(_RESERVED), hmac.compare_digest(expected, mac))

    # Where a text may run over

    def borders(self, page: Page, before: Page | None) -> Iterator[Border]:
        """Those from `page` to where its rows run over, and from `before`, which `all` gave last, to it.

        A row names the first page that it runs over to, and each of those the next one. What was freed may have lost
        this, so a page that is in no tree goes on in the one behind it, too.
        """
        usable, last = self._borders()
        if (
            before is not None
            and before.frame < 0
            and page.frame < 0
            and page.number == before.number + 1
            and not _is_tree(before.octets, before.number)
        ):
            yield Border(before.number, -1, before.octets[_POINTER:usable], page.octets[_POINTER:usable])
        if _is_tree(page.octets, page.number):
            ends = [each for each in _overflows(page.octets, page.number, usable) if 1 < each[2] <= last]
        else:
            following = int.from_bytes(page.octets[:_POINTER], "big")
            ends = [(_POINTER, usable, following)] if 1 < following <= last else []
        for start, end, following in ends:
            for octets in self._versions(following):
                yield Border(page.number, page.frame, page.octets[start:end], octets[_POINTER:usable])

    def _borders(self) -> tuple[int, int]:
        """How much of a page is used, and which is the last; both are the same for the whole search."""
        if not self._usable:
            first = self.read(self._path, 0, 1)
            self._usable = PAGE - (first[_RESERVED_AT] if first else _RESERVED)
            size = self._path.stat().st_size if self._path.exists() else 0
            self._last = max(size // PAGE, max(self._all_frames(), default=0))
        return self._usable, self._last

    def _versions(self, number: int) -> Iterator[bytes]:
        """A page as it stands in the file and in each frame of the log."""
        yield self.read(self._path, (number - 1) * PAGE, number)
        for frame in self._all_frames().get(number, ()):
            yield self.read(self._log, _frame_place(frame), number)

    def _all_frames(self) -> dict[int, list[int]]:
        if self._frames is None:
            self._frames = {}
            size = self._log.stat().st_size if self._log.exists() else 0
            if size:
                with self._log.open("rb") as log:
                    for frame in range((size - _WAL_HEADER) // _STRIDE):
                        log.seek(_WAL_HEADER + frame * _STRIDE)
                        self._frames.setdefault(int.from_bytes(log.read(4), "big"), []).append(frame)
        return self._frames

    # Which table a page belongs to

    def tables(self, wanted: Iterable[int]) -> dict[int, str]:
        """The table, or the table of the index, of each of these pages; what is missing belongs to none: it is free."""
        tree = _Trees(self._current())
        found: dict[int, str] = {}
        left = set(wanted)
        for name, root in tree.roots():
            for number in tree.pages(root):
                if number in left:
                    found[number] = name
                    left.discard(number)
            if not left:
                break
        return found

    def _current(self) -> _Source:
        """The pages as a reader sees them now."""
        newest: dict[int, int] = {}
        try:
            with self._log.open("rb") as log:
                salts = log.read(_WAL_HEADER)[16:24]
                frame = 0
                while len(header := log.read(_FRAME_HEADER)) == _FRAME_HEADER and header[8:16] == salts:
                    newest[int.from_bytes(header[:4], "big")] = frame
                    frame += 1
                    log.seek(PAGE, os.SEEK_CUR)
        except FileNotFoundError:
            pass
        return _Source(self, self._path, self._log, newest)

    def read(self, path: Path, place: int, number: int) -> bytes:
        """One page, decrypted."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            octets = os.pread(descriptor, PAGE, place)
        finally:
            os.close(descriptor)
        if len(octets) < PAGE:
            return b""
        if not self._mac_key:
            self._mac_key = _mac_key(self._key, self._path.read_bytes()[:_SALT])
        return self._decrypted(octets, number, -1).octets


@dataclass(frozen=True, slots=True)
class _Source:
    pages: EncryptedPages
    path: Path
    log: Path
    newest: dict[int, int]  # page → its last frame

    def page(self, number: int) -> bytes:
        frame = self.newest.get(number)
        if frame is None:
            return self.pages.read(self.path, (number - 1) * PAGE, number)
        return self.pages.read(self.log, _frame_place(frame), number)


class _Trees:
    """The b-trees of a database: which pages each consists of. What cannot be read belongs to none."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._usable = PAGE - source.page(1)[_RESERVED_AT]

    def roots(self) -> list[tuple[str, int]]:
        """(table, root page) of the schema, of every table and of every index."""
        found = [("schema", 1)]
        for number in self._tree(1, 0):
            page = self._source.page(number)
            if page and _kind(page, number) == _TABLE_LEAF:
                for cell in _cells(page, number, self._usable):
                    name, root = _schema_row(page, cell)
                    if root:
                        found.append((name, root))
        return found

    def pages(self, root: int) -> Iterator[int]:
        """Those of the tree with this root, and where its rows run over."""
        for number in self._tree(root, 0):
            yield number
            page = self._source.page(number)
            for _, _, following in _overflows(page, number, self._usable) if page else ():
                yield from self._chain(following)

    def _tree(self, number: int, depth: int) -> Iterator[int]:
        yield number
        page = self._source.page(number)
        if depth < _DEPTH_MAX and page and _kind(page, number) in (_TABLE_INNER, _INDEX_INNER):
            for cell in _cells(page, number, self._usable):
                yield from self._tree(int.from_bytes(page[cell : cell + 4], "big"), depth + 1)
            start = _start(number)
            yield from self._tree(int.from_bytes(page[start + 8 : start + 12], "big"), depth + 1)

    def _chain(self, number: int) -> Iterator[int]:
        for _ in range(_CHAIN_MAX):
            if not number:
                return
            yield number
            number = int.from_bytes(self._source.page(number)[:4], "big")


def _frame_place(frame: int) -> int:
    """Where its page begins in the log."""
    return _WAL_HEADER + frame * _STRIDE + _FRAME_HEADER


def _is_tree(page: bytes, number: int) -> bool:
    return len(page) == PAGE and _kind(page, number) in (_TABLE_LEAF, _TABLE_INNER, _INDEX_LEAF, _INDEX_INNER)


def _start(number: int) -> int:
    return 100 if number == 1 else 0


def _kind(page: bytes, number: int) -> int:
    return page[_start(number)]


def _cells(page: bytes, number: int, usable: int) -> list[int]:
    """Where the cells of a page begin."""
    start = _start(number)
    count = int.from_bytes(page[start + 3 : start + 5], "big")
    first = start + (12 if page[start] in (_TABLE_INNER, _INDEX_INNER) else 8)
    places = [int.from_bytes(page[p : p + 2], "big") for p in range(first, min(first + 2 * count, usable - 1), 2)]
    return [place for place in places if place < usable - 4]


def _overflows(page: bytes, number: int, usable: int) -> Iterator[tuple[int, int, int]]:
    """Of each cell that runs over: where its payload begins and ends in the page, and where it goes on.

    SQLite file format §1.5.
    """
    kind = _kind(page, number)
    if kind not in (_TABLE_LEAF, _INDEX_LEAF, _INDEX_INNER):
        return
    for cell in _cells(page, number, usable):
        place = cell + 4 if kind == _INDEX_INNER else cell
        size, place = _varint(page, place)
        if kind == _TABLE_LEAF:
            _, place = _varint(page, place)
        most = usable - 35 if kind == _TABLE_LEAF else (usable - 12) * 64 // 255 - 23
        if size > most:
            least = (usable - 12) * 32 // 255 - 23
            local = least + (size - least) % (usable - 4)
            end = place + (local if local <= most else least)
            yield place, end, int.from_bytes(page[end : end + _POINTER], "big")


def _schema_row(page: bytes, cell: int) -> tuple[str, int]:
    """The table that a row of sqlite_schema is about, and its root page: type, name, tbl_name, rootpage, sql."""
    _, place = _varint(page, cell)
    _, place = _varint(page, place)
    size, header = _varint(page, place)
    body, kinds = place + size, list[int]()
    while header < body and len(kinds) < 4:
        kind, header = _varint(page, header)
        kinds.append(kind)
    values = []
    for kind in kinds:
        length = _SIZES[kind] if kind < len(_SIZES) else (kind - 12) // 2
        values.append(page[body : body + length])
        body += length
    if len(values) < 4:
        return "", 0
    return values[2].decode("utf-8", "replace"), {8: 0, 9: 1}.get(kinds[3], int.from_bytes(values[3], "big"))


def _varint(page: bytes, place: int) -> tuple[int, int]:
    value = 0
    for count in range(9):
        octet = page[place] if place < len(page) else 0
        place += 1
        if count == 8:
            return value << 8 | octet, place
        value = value << 7 | octet & 0x7F
        if octet < 0x80:
            break
    return value, place


def _file_page(octets: bytes, place: int) -> tuple[int, int]:
    return place // PAGE + 1, -1


def _log_page(octets: bytes, place: int) -> tuple[int, int]:
    return int.from_bytes(octets[:4], "big"), (place - _WAL_HEADER) // _STRIDE


def _mac_key(key: bytes, salt: bytes) -> bytes:
    """SQLCipher derives it with the salt masked, in two rounds."""
    return hashlib.pbkdf2_hmac("sha512", key, bytes(octet ^ 0x3A for octet in salt), 2, 32)
