"""What is in CAB and OneNote files and in winmail.dat, as far as it stands there unpacked.

Raises: Stop (DAMAGED). Standards: [MS-CAB], [MS-ONESTORE] §2.6.13, [MS-OXTNEF] §2.1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from gateway.content_facts.attachment import Incomplete
from gateway.content_facts.budget import Budget, Stop
from gateway.content_facts.flow import Flow, Octets, slices
from gateway.content_facts.member import Member
from gateway.content_facts.names import clean_name
from storage.mime.decode import decode_unknown

_ONENOTE_FILE = bytes.fromhex("e716e3bd65261145a4c48d4d0b7a9eac")  # {BDE316E7-2665-4511-A4C4-8D4D0B7A9EAC}
_TNEF_TITLE = 0x00018010
_TNEF_DATA = 0x0006800F
_TNEF_RENDERED = 0x00069002  # a new attachment begins
_TNEF_PROPERTIES = 0x00069005
_TNEF_LONG_NAME = b"\x1f\x00\x07\x37"  # PidTagAttachLongFilename, Unicode
_TNEF_LONG_NAME_8 = b"\x1e\x00\x07\x37"
_NAME_MAX = 1024


def cab_members(data: Octets, budget: Budget) -> Iterator[Member]:
    """Names only: CAB packs files together."""
    if len(data) < 36:
        raise Stop(Incomplete.DAMAGED)
    at = struct.unpack_from("<I", data, 16)[0]
    for _ in range(struct.unpack_from("<H", data, 28)[0]):
        end = data.find(b"\0", at + 16, at + 16 + _NAME_MAX)
        if at + 16 > len(data) or end < 0:
            raise Stop(Incomplete.DAMAGED)
        size = struct.unpack_from("<I", data, at)[0]
        budget.spend(100)
        name = clean_name(decode_unknown(bytes(data[at + 16 : end])))
        yield Member(name, size, None, incomplete=Incomplete.NAMES_ONLY)
        at = end + 1


def onenote_members(data: Octets, budget: Budget) -> Iterator[Member]:
    """Files that are laid into a notebook; their names stand elsewhere in it."""
    budget.spend(len(data))
    at = data.find(_ONENOTE_FILE)
    while at >= 0:
        start = at + 36
        size = int.from_bytes(data[at + 16 : at + 24], "little")
        end = min(len(data), start + size)
        yield Member("", size, Flow(slices(data, start, end, budget)))
        at = data.find(_ONENOTE_FILE, max(end, at + 16))


def tnef_members(data: Octets, budget: Budget) -> Iterator[Member]:
    """The attachments of winmail.dat."""
    at = 6
    name, content = "", None
    while at + 9 <= len(data):
        attribute, size = struct.unpack_from("<II", data, at + 1)
        start, end = at + 9, at + 9 + size
        budget.spend(100)
        if end > len(data):
            raise Stop(Incomplete.DAMAGED)
        if attribute == _TNEF_RENDERED:
            if content is not None:
                yield _tnef_file(data, name, content, budget)
            name, content = "", None
        elif attribute == _TNEF_TITLE:
            name = decode_unknown(bytes(data[start : min(end, start + _NAME_MAX)]))
        elif attribute == _TNEF_PROPERTIES:
            name = _tnef_long_name(bytes(data[start : min(end, start + 65536)])) or name
        elif attribute == _TNEF_DATA:
            content = (start, end)
        at = end + 2
    if content is not None:
        yield _tnef_file(data, name, content, budget)


def _tnef_file(data: Octets, name: str, span: tuple[int, int], budget: Budget) -> Member:
    return Member(clean_name(name), span[1] - span[0], Flow(slices(data, *span, budget)))


def _tnef_long_name(properties: bytes) -> str:
    """PidTagAttachLongFilename: its tag, one value, the value's size, the value."""
    for tag, charset in ((_TNEF_LONG_NAME, "utf-16-le"), (_TNEF_LONG_NAME_8, "cp1252")):
        at = properties.find(tag)
        if at >= 0 and at + 12 <= len(properties):
            size = int.from_bytes(properties[at + 8 : at + 12], "little")
            octets = properties[at + 12 : at + 12 + min(size, _NAME_MAX)]
            return octets.decode(charset, "replace").partition("\0")[0]
    return ""
