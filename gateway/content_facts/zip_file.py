"""The ZIP format as it is used, and misused, in mail.

Programs find files in two ways: by the directory at the end, or by the headers before each file. Both are read; where
they give different names, both names are given, and files that the directory keeps silent about are given too. Files
that overlap are a sign of a bomb; they are read all the same, as far as the budget goes.

Raises: Stop (DAMAGED) for what is no ZIP file at all.
Standards: .ZIP File Format Specification 6.3.10 (APPNOTE.TXT).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.content_facts.attachment import Detected, Incomplete, Trait, extension_of
from gateway.content_facts.budget import Budget, Stop
from gateway.content_facts.flow import Flow, Octets, slices
from gateway.content_facts.member import Member
from gateway.content_facts.names import clean_name
from gateway.content_facts.packed import bunzipped, deflated, unxzed, unzstded, zip_lzma

_LOCAL = b"PK\3\4"
_CENTRAL = b"PK\1\2"
_END = b"PK\5\6"
_END_64 = b"PK\6\6"
_LOCATOR_64 = b"PK\6\7"
_LOCAL_HEAD = struct.Struct("<4x2xHHHHIIIHH")  # flags, method, time, date, CRC, packed, size, lengths of name and extra
_CENTRAL_HEAD = struct.Struct("<4xHHHHHHIIIHHHHHII")
_END_HEAD = struct.Struct("<4xHHHHIIH")
_UTF8 = 0x800
_ENCRYPTED = 0x2041  # also strong encryption, and masked headers
_UNKNOWN_32 = 0xFFFFFFFF
_UNICODE_PATH = 0x7075
_ENDS_MAX = 16  # places that look like the end of the directory
_STRIP = " \t"

_TWO_NAMES = frozenset({Trait.TWO_NAMES})
_HIDDEN = frozenset({Trait.HIDDEN_MEMBER})


@dataclass(slots=True)
class Entry:
    """A file in the archive: [start, end) are its packed octets."""

    names: list[str]  # with folders
    method: int
    start: int
    end: int
    size: int
    encrypted: bool
    traits: frozenset[Trait] = frozenset()
    header: int = 0  # where it begins


@dataclass(slots=True)
class ZipFile:
    entries: list[Entry] = field(default_factory=list)
    damaged: bool = False
    too_many: bool = False

    @property
    def encrypted(self) -> bool:
        return any(entry.encrypted for entry in self.entries)


def read_zip(data: Octets, most: int, budget: Budget) -> ZipFile:
    """The files in `data`, at most about `most`."""
    budget.spend(len(data))
    archive = ZipFile()
    directory = _directory(data)
    if directory is not None:
        _read_directory(data, directory, most, archive)
    else:
        archive.damaged = True
    _read_hidden(data, most, archive)
    if directory is None and not archive.entries:
        raise Stop(Incomplete.DAMAGED)
    return archive


def members(data: Octets, archive: ZipFile, budget: Budget) -> Iterator[Member]:
    """One for each name of each file; folders are none."""
    for entry in archive.entries:
        flow, incomplete = _content(data, entry, budget)
        for number, name in enumerate(entry.names):
            if name.endswith(("/", "\\")) and entry.end == entry.start:
                continue
            yield Member(
                clean_name(name),
                entry.size,
                flow if number == 0 else None,
                entry.encrypted,
                entry.traits,
                incomplete if number == 0 else Incomplete.NAMES_ONLY,
            )


def kind_of(archive: ZipFile, extension: str) -> Detected:
    """What the archive is, by the names in it."""
    names = {name.lower().replace("\\", "/") for entry in archive.entries for name in entry.names}
    if "androidmanifest.xml" in names:
        return Detected.APK
    if names & {"appxmanifest.xml", "appxmetadata/appxbundlemanifest.xml"}:
        return Detected.APPX
    if "[content_types].xml" in names and any(name.startswith(("word/", "xl/", "ppt/", "visio/")) for name in names):
        return Detected.OOXML
    if "mimetype" in names and "meta-inf/container.xml" in names:
        return Detected.EPUB
    if "mimetype" in names and "meta-inf/manifest.xml" in names:
        return Detected.ODF
    if "meta-inf/manifest.mf" in names and (extension == "jar" or any(name.endswith(".class") for name in names)):
        return Detected.JAR
    return Detected.ZIP


def package_traits(kind: Detected, archive: ZipFile) -> frozenset[Trait]:
    """What an Office document can do, by the names of its parts."""
    names = [name.lower().replace("\\", "/") for entry in archive.entries for name in entry.names]
    if kind is Detected.OOXML:
        macros = any(name.endswith("vbaproject.bin") or "/macrosheets/" in name for name in names)
    else:
        macros = kind is Detected.ODF and any(name.startswith(("basic/", "scripts/")) for name in names)
    return frozenset({Trait.MACROS}) if macros else frozenset()


def _directory(data: Octets) -> tuple[int, int, int] | None:
    """Where the directory begins and ends, and what offsets in it count from; None if there is none."""
    at = len(data)
    lowest = max(0, len(data) - 65557)
    for _ in range(_ENDS_MAX):
        at = data.rfind(_END, lowest, at)
        if at < 0:
            break
        if at + 22 > len(data):
            continue
        _, _, _, _, size, offset, _ = _END_HEAD.unpack_from(data, at)
        end = at
        if data[max(0, at - 20) : at - 16] == _LOCATOR_64:
            end_64 = data.rfind(_END_64, max(0, at - 65536), at - 20)
            if end_64 >= 0 and end_64 + 56 <= len(data):
                end = end_64
                size, offset = struct.unpack_from("<QQ", data, end + 40)
        start = end - size
        if start >= 0 and (size == 0 or data[start : start + 4] == _CENTRAL):
            return start, end, start - offset
        if data[offset : offset + 4] == _CENTRAL:  # something stands between the directory and its end
            return offset, end, 0
    return None


def _read_directory(data: Octets, directory: tuple[int, int, int], most: int, archive: ZipFile) -> None:
    at, end, base = directory
    if base < 0:
        base, archive.damaged = 0, True
    while at + 46 <= end and data[at : at + 4] == _CENTRAL:
        if len(archive.entries) >= most:
            archive.too_many = True
            return
        head = _CENTRAL_HEAD.unpack_from(data, at)
        flags, method, packed, size, header = head[2], head[3], head[7], head[8], head[15]
        name_size, extra_size, comment_size = head[9:12]
        name = bytes(data[at + 46 : at + 46 + name_size])
        extra = bytes(data[at + 46 + name_size : at + 46 + name_size + extra_size])
        packed, size, header = _wide(extra, packed, size, header)
        archive.entries.append(_entry(data, base + header, name, extra, flags, method, packed, size, archive))
        at += 46 + name_size + extra_size + comment_size
    archive.damaged = archive.damaged or at != end


def _entry(
    data: Octets,
    header: int,
    name: bytes,
    extra: bytes,
    flags: int,
    method: int,
    packed: int,
    size: int,
    archive: ZipFile,
) -> Entry:
    names = _names(name, extra, flags)
    start = header + 30
    if data[header : header + 4] == _LOCAL and header + 30 <= len(data):
        local_flags, local_method, _, _, _, _, _, name_size, extra_size = _LOCAL_HEAD.unpack_from(data, header)
        local_name = bytes(data[header + 30 : header + 30 + name_size])
        local_extra = bytes(data[header + 30 + name_size : header + 30 + name_size + extra_size])
        start = header + 30 + name_size + extra_size
        if local_name != name and not (local_flags | flags) & 0x2000:  # masked on purpose where that bit is set
            names += _names(local_name, local_extra, local_flags)
        archive.damaged = archive.damaged or local_method != method
        flags |= local_flags
    else:
        archive.damaged = True
        start = len(data)
    end = min(len(data), start + packed)
    archive.damaged = archive.damaged or start + packed > len(data)
    names = _deceiving(names)
    traits = _TWO_NAMES if len(names) > 1 else frozenset()
    return Entry(names, method, start, end, size, bool(flags & _ENCRYPTED), traits, header)


def _read_hidden(data: Octets, most: int, archive: ZipFile) -> None:
    """Files between those that the directory names, or all of them without a directory; and whether any overlap."""
    at = 0
    listed = sorted(((entry.header, entry.end) for entry in archive.entries), key=lambda span: span[0])
    for start, end in [*listed, (len(data), len(data))]:
        header = min(start, len(data))
        if header < at:
            archive.damaged = True
        else:
            _read_gap(data, at, header, most, archive)
        at = max(at, end)


def _read_gap(data: Octets, at: int, end: int, most: int, archive: ZipFile) -> None:
    while (at := data.find(_LOCAL, at, end)) >= 0:
        if at + 30 > end:
            return
        if len(archive.entries) >= most:
            archive.too_many = True
            return
        flags, method, _, _, _, packed, size, name_size, extra_size = _LOCAL_HEAD.unpack_from(data, at)
        name = bytes(data[at + 30 : at + 30 + name_size])
        extra = bytes(data[at + 30 + name_size : at + 30 + name_size + extra_size])
        packed, size, _ = _wide(extra, packed, size, 0)
        start = at + 30 + name_size + extra_size
        if not name or start > len(data):
            at += 4
            continue
        if flags & 8 and not packed:  # its size stands behind it: up to the next header
            next_header = data.find(_LOCAL, start, end)
            stop = next_header if next_header >= 0 else end
        else:
            stop = min(len(data), start + packed)
        entry = Entry(
            _deceiving(_names(name, extra, flags)), method, start, stop, size, bool(flags & _ENCRYPTED), _HIDDEN, at
        )
        archive.entries.append(entry)
        at = max(stop, at + 4)


def _wide(extra: bytes, packed: int, size: int, header: int) -> tuple[int, int, int]:
    """Sizes of 64 bits, where those of 32 say so (§4.5.3)."""
    if _UNKNOWN_32 not in (packed, size, header):
        return packed, size, header
    field_ = _extra(extra, 1)
    values = list(struct.unpack_from(f"<{len(field_) // 8}Q", field_)) if field_ else []
    if size == _UNKNOWN_32 and values:
        size = values.pop(0)
    if packed == _UNKNOWN_32 and values:
        packed = values.pop(0)
    if header == _UNKNOWN_32 and values:
        header = values.pop(0)
    return packed, size, header


def _extra(extra: bytes, kind: int) -> bytes | None:
    at = 0
    while at + 4 <= len(extra):
        found, size = struct.unpack_from("<HH", extra, at)
        if found == kind:
            return extra[at + 4 : at + 4 + size]
        at += 4 + size
    return None


def _names(name: bytes, extra: bytes, flags: int) -> list[str]:
    """What programs may take for its name (§4.6.9, appendix D)."""
    if name.isascii():
        names = [name.decode("ascii")]
    else:
        try:
            names = [name.decode("utf-8")]
        except UnicodeDecodeError:
            names = [name.decode("utf-8", "replace") if flags & _UTF8 else name.decode("cp437")]
    path = _extra(extra, _UNICODE_PATH) if extra else None
    if path is not None and len(path) > 5:
        names.insert(0, path[5:].decode("utf-8", "replace"))
    if b"\0" in name:
        names.append(name.partition(b"\0")[0].decode("utf-8", "replace"))
    return names


def _deceiving(names: list[str]) -> list[str]:
    """The names with different endings, the first one of each: a name in another charset is no other name."""
    found: dict[str, str] = {}
    for name in names:
        found.setdefault("/" if name.endswith(("/", "\\")) else extension_of(name.strip(_STRIP)), name)
    return list(found.values())


def _content(data: Octets, entry: Entry, budget: Budget) -> tuple[Flow | None, Incomplete | None]:
    if entry.encrypted:
        return None, Incomplete.ENCRYPTED
    source = slices(data, entry.start, entry.end, budget)
    match entry.method:
        case 0:
            return Flow(source), None
        case 8:
            return Flow(deflated(source, budget)), None
        case 12:
            return Flow(bunzipped(source, budget)), None
        case 14:
            return Flow(zip_lzma(source, budget)), None
        case 20 | 93:
            return Flow(unzstded(source, budget)), None
        case 95:
            return Flow(unxzed(source, budget)), None
    return None, Incomplete.NOT_READ
