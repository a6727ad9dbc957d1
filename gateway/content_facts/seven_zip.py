"""The names of files in a 7z archive; what is in the files is left.

The list of files is packed itself, nearly always with LZMA, and is unpacked here. Where it is encrypted nothing but
that is known.

Raises: Stop. Standards: 7zFormat.txt (7-Zip 24).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.content_facts.attachment import Incomplete
from gateway.content_facts.budget import Budget, Stop
from gateway.content_facts.flow import Flow, Octets, slices
from gateway.content_facts.member import Member
from gateway.content_facts.names import clean_name
from gateway.content_facts.packed import raw_lzma, raw_lzma2

HEADER_MAX = 4 * 1024 * 1024  # octets of a list of files
FILES_MAX = 1_000_000
_FOLDERS_MAX = 10_000
_LEVELS = 4  # a list may be packed again

_COPY, _LZMA2, _LZMA, _AES = b"\0", b"\x21", b"\3\1\1", b"\6\xf1\7\1"


def members(data: Octets, budget: Budget) -> Iterator[Member]:
    """Raises Stop (ENCRYPTED) where the names are encrypted too."""
    if len(data) < 32:
        raise Stop(Incomplete.DAMAGED)
    start, size = 32 + int.from_bytes(data[12:20], "little"), int.from_bytes(data[20:28], "little")
    if start + size > len(data) or size > HEADER_MAX:
        raise Stop(Incomplete.DAMAGED)
    header = bytes(data[start : start + size])
    for _ in range(_LEVELS):
        reader = _Reader(header, budget)
        kind = reader.octet() if header else 0
        if kind == 1:
            yield from _files(reader)
            return
        if kind != 0x17:
            if not header:
                return  # an empty archive
            raise Stop(Incomplete.DAMAGED)
        header = _unpacked(data, reader.streams(), budget)
    raise Stop(Incomplete.NOT_READ)


@dataclass(slots=True)
class _Coder:
    method: bytes
    properties: bytes


@dataclass(slots=True)
class _Streams:
    position: int = 0
    packed: tuple[int, ...] = ()
    folders: tuple[tuple[_Coder, ...], ...] = ()
    sizes: tuple[int, ...] = ()
    digests: list[bool] | None = None  # which folders have one

    @property
    def encrypted(self) -> bool:
        return any(coder.method == _AES for folder in self.folders for coder in folder)


def _unpacked(data: Octets, streams: _Streams, budget: Budget) -> bytes:
    """A packed list of files."""
    if streams.encrypted:
        raise Stop(Incomplete.ENCRYPTED)
    if len(streams.folders) != 1 or len(streams.folders[0]) != 1 or not streams.packed or not streams.sizes:
        raise Stop(Incomplete.NOT_READ)
    coder, start = streams.folders[0][0], 32 + streams.position
    end, size = start + streams.packed[0], streams.sizes[-1]
    if end > len(data) or size > HEADER_MAX:
        raise Stop(Incomplete.DAMAGED)
    source = slices(data, start, end, budget)
    if coder.method == _LZMA and len(coder.properties) == 5:
        source = raw_lzma(coder.properties, source, budget)
    elif coder.method == _LZMA2 and len(coder.properties) == 1:
        source = raw_lzma2(coder.properties, source, budget)
    elif coder.method != _COPY:
        raise Stop(Incomplete.NOT_READ)
    flow = Flow(source)
    header = flow.read(size)
    if len(header) < size:
        raise Stop(flow.stopped or Incomplete.DAMAGED)
    return header


def _files(reader: _Reader) -> Iterator[Member]:
    """Of a Header: its streams say whether contents are encrypted, its FilesInfo has the names."""
    encrypted = False
    while (kind := reader.octet()) != 5:
        if kind == 0:
            return  # no files
        if kind == 4:
            encrypted = reader.streams().encrypted
        elif kind == 2:
            reader.skip_properties()
        elif kind == 3:
            reader.streams()
        else:
            raise Stop(Incomplete.DAMAGED)
    count = reader.number(FILES_MAX)
    names: list[str] = []
    empty: list[bool] = []
    empty_files: list[bool] = []
    while kind := reader.octet():
        octets = reader.octets(reader.number(HEADER_MAX))
        if kind == 0x11 and octets[:1] == b"\0":
            # No "replace": a name that is no UTF-16 shows as something, whatever it is.
            names = octets[1:].decode("utf-16-le", "replace").split("\0")[:count]
        elif kind == 0x0E:
            empty = _bits(octets, count)
        elif kind == 0x0F:
            empty_files = _bits(octets, sum(empty))
    without_content = iter(empty_files)
    for number, name in enumerate(names):
        is_empty = number < len(empty) and empty[number]
        if is_empty and not next(without_content, False):
            continue  # a folder
        if name:
            reader.spend(100)
            incomplete = Incomplete.ENCRYPTED if encrypted else Incomplete.NAMES_ONLY
            yield Member(clean_name(name), None, None, encrypted, incomplete=incomplete)


def _bits(octets: bytes, count: int) -> list[bool]:
    return [bool(octets[at // 8] & 0x80 >> at % 8) for at in range(min(count, len(octets) * 8))]


class _Reader:
    """Reads a header from its start. Raises Stop where it goes on as none does."""

    def __init__(self, octets: bytes, budget: Budget) -> None:
        budget.spend(len(octets))
        self._octets = octets
        self._at = 0
        self.spend = budget.spend

    def octet(self) -> int:
        return self.octets(1)[0]

    def octets(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._octets):
            raise Stop(Incomplete.DAMAGED)
        found, self._at = self._octets[self._at : end], end
        return found

    def number(self, most: int = 1 << 62) -> int:
        """The first octet's leading ones say how many octets follow, the lowest first."""
        first = self.octet()
        mask, value = 0x80, 0
        for position in range(8):
            if not first & mask:
                value += (first & mask - 1) << 8 * position
                break
            value |= self.octet() << 8 * position
            mask >>= 1
        if value > most:
            raise Stop(Incomplete.DAMAGED)
        return value

    def skip_properties(self) -> None:
        while self.octet():
            self.octets(self.number(HEADER_MAX))

    def streams(self) -> _Streams:
        """StreamsInfo: where packed streams are, and how they are unpacked."""
        found = _Streams()
        while kind := self.octet():
            if kind == 6:
                self._packed(found)
            elif kind == 7:
                self._folders(found)
            elif kind == 8:
                self._substreams(found)
            else:
                raise Stop(Incomplete.DAMAGED)
        return found

    def _packed(self, found: _Streams) -> None:
        found.position = self.number()
        count = self.number(_FOLDERS_MAX)
        while kind := self.octet():
            if kind == 9:
                found.packed = tuple(self.number() for _ in range(count))
            elif kind == 10:
                self._digests(count)
            else:
                raise Stop(Incomplete.DAMAGED)

    def _folders(self, found: _Streams) -> None:
        if self.octet() != 11:
            raise Stop(Incomplete.DAMAGED)
        count = self.number(_FOLDERS_MAX)
        if self.octet():  # the folders stand elsewhere
            raise Stop(Incomplete.NOT_READ)
        outs = 0
        folders: list[tuple[_Coder, ...]] = []
        for _ in range(count):
            coders, streams = self._folder()
            folders.append(coders)
            outs += streams
        found.folders = tuple(folders)
        while kind := self.octet():
            if kind == 12:
                found.sizes = tuple(self.number() for _ in range(outs))
            elif kind == 10:
                found.digests = self._digests(count)
            else:
                raise Stop(Incomplete.DAMAGED)

    def _folder(self) -> tuple[tuple[_Coder, ...], int]:
        """The coders of a folder, and how many streams come out of them."""
        coders: list[_Coder] = []
        ins = outs = 0
        for _ in range(self.number(32)):
            flags = self.octet()
            method = self.octets(flags & 15)
            in_streams, out_streams = (self.number(32), self.number(32)) if flags & 16 else (1, 1)
            properties = self.octets(self.number(HEADER_MAX)) if flags & 32 else b""
            coders.append(_Coder(method, properties))
            ins, outs = ins + in_streams, outs + out_streams
        pairs = max(0, outs - 1)
        for _ in range(pairs):
            self.number()
            self.number()
        if ins - pairs > 1:
            for _ in range(ins - pairs):
                self.number()
        self.spend(100)
        return tuple(coders), outs

    def _digests(self, count: int) -> list[bool]:
        """Passes over checksums; which of the things have one."""
        known = [True] * count if self.octet() else _bits(self.octets((count + 7) // 8), count)
        self.octets(4 * sum(known))
        return known

    def _substreams(self, found: _Streams) -> None:
        """How the streams that come out are divided into files: of no use here, but the list goes on behind it."""
        counts = [1] * len(found.folders)
        kind = self.octet()
        if kind == 13:
            counts = [self.number(FILES_MAX) for _ in counts]
            kind = self.octet()
        if sum(counts) > FILES_MAX:
            raise Stop(Incomplete.TOO_MANY)
        if kind == 9:
            for count in counts:
                self.spend(10 * count)
                for _ in range(max(0, count - 1)):
                    self.number()
            kind = self.octet()
        while kind:
            if kind != 10:
                raise Stop(Incomplete.DAMAGED)
            known = found.digests or [False] * len(counts)
            # A folder of one file whose digest stands with the folder has none here.
            self._digests(sum(n for n, has in zip(counts, known, strict=True) if n != 1 or not has))
            kind = self.octet()
