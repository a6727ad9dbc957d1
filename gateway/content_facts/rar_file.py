"""The names of files in a RAR archive, and the contents of those that are stored without packing.

RAR's packing has no description that anybody may use to write an unpacker, so other contents stay unknown.
Raises: Stop (DAMAGED). Standards: RAR 5.0 archive format (rarlab.com/technote.htm), RAR 4 as its technote had it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from gateway.content_facts.attachment import Incomplete, Trait
from gateway.content_facts.budget import Budget, Stop
from gateway.content_facts.flow import Flow, Octets, slices
from gateway.content_facts.member import Member
from gateway.content_facts.names import clean_name

_RAR4 = b"Rar!\x1a\x07\x00"
_RAR5 = b"Rar!\x1a\x07\x01\x00"


def members(data: Octets, budget: Budget) -> Iterator[Member]:
    """Raises Stop (ENCRYPTED) where the names are encrypted too, (DAMAGED) where the archive ends too early."""
    if data[:8] == _RAR5:
        yield from _rar5(data, budget)
    elif data[:7] == _RAR4:
        yield from _rar4(data, budget)
    else:
        raise Stop(Incomplete.NOT_READ)


def _rar4(data: Octets, budget: Budget) -> Iterator[Member]:
    at = 7
    while at + 7 <= len(data):
        kind, flags, size = struct.unpack_from("<BHH", data, at + 2)
        if size < 7:
            raise Stop(Incomplete.DAMAGED)
        packed = struct.unpack_from("<I", data, at + 7)[0] if flags & 0x8000 and at + 11 <= len(data) else 0
        if kind == 0x73 and flags & 0x80:
            raise Stop(Incomplete.ENCRYPTED)
        if kind == 0x7B:
            return
        if kind == 0x74:
            if at + 32 > len(data):
                raise Stop(Incomplete.DAMAGED)
            packed, unpacked = struct.unpack_from("<II", data, at + 7)
            method, name_size = struct.unpack_from("<BH", data, at + 25)
            name_at = at + 32
            if flags & 0x100 and at + 40 <= len(data):
                high_packed, high_unpacked = struct.unpack_from("<II", data, at + 32)
                packed += high_packed << 32
                unpacked += high_unpacked << 32
                name_at += 8
            names = _rar4_names(bytes(data[name_at : name_at + name_size]), unicode=bool(flags & 0x200))
            if flags & 0xE0 != 0xE0:  # no folder
                start = at + size
                yield from _files(names, unpacked, bool(flags & 4), method == 0x30, data, start, start + packed, budget)
        budget.spend(100)
        at += size + packed


def _rar5(data: Octets, budget: Budget) -> Iterator[Member]:
    at = 8
    while at + 6 < len(data):
        size, body = _vint(data, at + 4)
        end = body + size
        kind, position = _vint(data, body)
        flags, position = _vint(data, position)
        extra_size = packed = 0
        if flags & 1:
            extra_size, position = _vint(data, position)
        if flags & 2:
            packed, position = _vint(data, position)
        if kind == 4:
            raise Stop(Incomplete.ENCRYPTED)
        if kind == 5:
            return
        if end > len(data) or size == 0:
            raise Stop(Incomplete.DAMAGED)
        if kind == 2:
            file_flags, position = _vint(data, position)
            unpacked, position = _vint(data, position)
            _, position = _vint(data, position)
            position += 4 * (bool(file_flags & 2) + bool(file_flags & 4))
            compression, position = _vint(data, position)
            _, position = _vint(data, position)
            name_size, position = _vint(data, position)
            names = [bytes(data[position : min(position + name_size, end)]).decode("utf-8", "replace")]
            encrypted = _has_encryption(data, max(position, end - extra_size), end)
            if not file_flags & 1:  # no folder
                stored = not compression >> 7 & 7
                yield from _files(names, unpacked, encrypted, stored, data, end, end + packed, budget)
        budget.spend(100)
        at = end + packed


def _files(
    names: list[str],
    size: int,
    encrypted: bool,
    stored: bool,
    data: Octets,
    start: int,
    end: int,
    budget: Budget,
) -> Iterator[Member]:
    traits = frozenset({Trait.TWO_NAMES}) if len(names) > 1 else frozenset()
    for number, name in enumerate(names):
        flow: Flow | None = None
        incomplete: Incomplete | None = Incomplete.NAMES_ONLY
        if encrypted:
            incomplete = Incomplete.ENCRYPTED
        elif stored and number == 0:
            flow, incomplete = Flow(slices(data, start, min(end, len(data)), budget)), None
        yield Member(clean_name(name), size, flow, encrypted, traits, incomplete)


def _has_encryption(data: Octets, at: int, end: int) -> bool:
    """Among the records of a header's extra area."""
    while at < end:
        size, position = _vint(data, at)
        kind, _ = _vint(data, position)
        if kind == 1:
            return True
        at = position + size
    return False


def _vint(data: Octets, at: int) -> tuple[int, int]:
    """Seven bits in each octet, the lowest first. Raises Stop."""
    value = 0
    for number in range(10):
        if at + number >= len(data):
            break
        octet = data[at + number]
        value |= (octet & 0x7F) << 7 * number
        if not octet & 0x80:
            return value, at + number + 1
    raise Stop(Incomplete.DAMAGED)


def _rar4_names(octets: bytes, *, unicode: bool) -> list[str]:
    """The name in some code page, and the one in Unicode if there is one; one of them where their endings agree."""
    plain, nul, packed = octets.partition(b"\0")
    try:
        name = plain.decode("utf-8")
    except UnicodeDecodeError:
        name = plain.decode("cp1252", "replace")
    if not unicode or not nul or not packed:
        return [name]
    wide = _rar4_unicode(plain, packed)
    return [wide] if wide.rpartition(".")[2].lower() == name.rpartition(".")[2].lower() else [wide, name]


def _rar4_unicode(plain: bytes, packed: bytes) -> str:
    """RAR 4's own packing of Unicode names: two bits say how each character is written."""
    high, at = packed[0], 1
    out: list[int] = []
    flags = bits = 0
    while at < len(packed) and len(out) < 2048:
        if not bits:
            flags, bits, at = packed[at], 8, at + 1
            if at >= len(packed):
                break
        bits -= 2
        way = flags >> bits & 3
        if way == 0:
            out.append(packed[at])
            at += 1
        elif way == 1:
            out.append(packed[at] | high << 8)
            at += 1
        elif way == 2:
            out.append(int.from_bytes(packed[at : at + 2], "little"))
            at += 2
        else:
            length = packed[at]
            at += 1
            base = 0
            if length & 0x80 and at < len(packed):
                base, at = packed[at], at + 1
            for _ in range((length & 0x7F) + 2):
                octet = plain[len(out)] if len(out) < len(plain) else 0
                out.append((octet + base & 0xFF) | high << 8 if length & 0x80 else octet)
    return b"".join(unit.to_bytes(2, "little") for unit in out).decode("utf-16-le", "replace")
