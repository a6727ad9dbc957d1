"""Files of a tar archive, one after the other as they come.

Standards: POSIX.1-2017 pax (ustar and extended headers), GNU long names.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.content_facts.attachment import Incomplete
from gateway.content_facts.budget import Stop
from gateway.content_facts.flow import Flow
from gateway.content_facts.magic import is_tar
from gateway.content_facts.member import Member
from gateway.content_facts.names import clean_name
from storage.mime.decode import decode_unknown

_BLOCK = 512
_LONG_MAX = 64 * 1024  # octets of an extended header

_FILES = b"0\0" + b"7"  # regular, also contiguous
_LINKS = b"12"


def members(flow: Flow) -> Iterator[Member]:
    """Raises Stop where it goes on as no tar archive does. What a member leaves unread is skipped."""
    long_name = ""
    while True:
        head = flow.read(_BLOCK)
        if not head.strip(b"\0"):
            if flow.stopped is not None:
                raise Stop(flow.stopped)
            return
        if not is_tar(head):
            raise Stop(flow.stopped or Incomplete.DAMAGED)
        size = _number(head[124:136])
        kind = head[156:157]
        padded = -(-size // _BLOCK) * _BLOCK
        if kind in b"Lx" and size <= _LONG_MAX:
            octets = flow.read(padded)[:size]
            long_name = _pax_path(octets) if kind == b"x" else _text(octets)
            continue
        if kind in _FILES or kind in _LINKS or kind not in b"KLxg3456":
            part = flow.part(size if kind not in _LINKS else 0)
            yield Member(clean_name(long_name or _name(head)), size, part)
            left = padded - part.taken
        else:
            left = padded
        long_name = ""
        if not flow.skip(left):
            raise Stop(flow.stopped or Incomplete.DAMAGED)


def _number(octets: bytes) -> int:
    """Octal, or binary where the first bit says so (GNU). Raises Stop."""
    if octets[0] & 0x80:
        return int.from_bytes(octets, "big") & ((1 << 63) - 1)
    digits = octets.strip(b" \0")
    if digits.strip(b"01234567"):
        raise Stop(Incomplete.DAMAGED)
    return int(digits or b"0", 8)


def _name(head: bytes) -> str:
    name = _text(head[:100])
    prefix = _text(head[345:500]) if head[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(octets: bytes) -> str:
    return decode_unknown(octets.partition(b"\0")[0])


def _pax_path(octets: bytes) -> str:
    """The path that an extended header gives: records of "length key=value" and a line end."""
    at = 0
    path = ""
    while at < len(octets):
        digits, blank, _ = octets[at : at + 20].partition(b" ")
        if not blank or not digits.isdigit() or int(digits) <= len(digits):
            break
        key, _, value = octets[at + len(digits) + 1 : at + int(digits)].partition(b"=")
        if key == b"path":
            path = decode_unknown(value.rstrip(b"\n"))
        at += int(digits)
    return path
