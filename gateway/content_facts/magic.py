"""What octets are, by how they begin. Pure; looks at the first `HEAD` octets, of disk images at the first `DISC_HEAD`.

What an archive in the ZIP format holds (an Office document, a Java archive) is told by `zip_file`.
"""

from __future__ import annotations

import re
import struct

from gateway.content_facts.attachment import Detected

HEAD = 4096
DISC_HEAD = 0x8806  # ISO 9660 begins with 32 KiB for nobody, then its first descriptor; UDF may follow it

_PREFIXES: tuple[tuple[bytes, Detected], ...] = (
    (b"PK\x03\x04", Detected.ZIP),
    (b"PK\x05\x06", Detected.ZIP),
    (b"PK\x07\x08PK", Detected.ZIP),
    (b"PK00PK", Detected.ZIP),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Detected.OLE),
    (b"{\\rt", Detected.RTF),
    (b"\xff\xd8\xff", Detected.IMAGE),
    (b"\x89PNG\r\n\x1a\n", Detected.IMAGE),
    (b"GIF87a", Detected.IMAGE),
    (b"GIF89a", Detected.IMAGE),
    (b"II*\0", Detected.IMAGE),
    (b"MM\0*", Detected.IMAGE),
    (b"8BPS", Detected.IMAGE),
    (b"\0\0\1\0", Detected.IMAGE),
    (b"\x7fELF", Detected.ELF),
    (b"\xce\xfa\xed\xfe", Detected.MACH_O),
    (b"\xcf\xfa\xed\xfe", Detected.MACH_O),
    (b"\xfe\xed\xfa\xce", Detected.MACH_O),
    (b"\xfe\xed\xfa\xcf", Detected.MACH_O),
    (b"dex\n", Detected.DEX),
    (b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0F", Detected.LNK),
    (b"ITSF", Detected.CHM),
    (b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3", Detected.ONENOTE),
    (b"\x78\x9f\x3e\x22", Detected.TNEF),
    (b"Rar!\x1a\x07", Detected.RAR),
    (b"7z\xbc\xaf\x27\x1c", Detected.SEVEN_ZIP),
    (b"MSCF\0\0\0\0", Detected.CAB),
    (b"\x1f\x8b", Detected.GZIP),
    (b"\xfd7zXZ\0", Detected.XZ),
    (b"\x28\xb5\x2f\xfd", Detected.ZSTD),
    (b"\x1f\x9d", Detected.COMPRESS),
    (b"\x1f\xa0", Detected.COMPRESS),
    (b"conectix", Detected.VHD),
    (b"vhdxfile", Detected.VHD),
    (b"KDMV", Detected.VHD),
    (b"QFI\xfb", Detected.VHD),
    (b"MSWIM\0\0\0", Detected.WIM),
    (b"OggS", Detected.MEDIA),
    (b"fLaC", Detected.MEDIA),
    (b"ID3", Detected.MEDIA),
    (b"\x1a\x45\xdf\xa3", Detected.MEDIA),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Detected.MEDIA),
    (b"FLV\x01", Detected.MEDIA),
    (b"koly\0\0\0\x04", Detected.DMG),
)
_BY_OCTET: dict[int, tuple[tuple[bytes, Detected], ...]] = {
    octet: tuple(pair for pair in _PREFIXES if pair[0][0] == octet) for octet in {pair[0][0] for pair in _PREFIXES}
}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_SHEBANG = re.compile(rb"(?:\xef\xbb\xbf)?#![ \t]*/")
_MARKUP = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*+(?:<\?xml[^>]{0,200}>\s*+)?(?:<!--(?:[^-]|-(?!->)){0,2000}-->\s*+)*+"
    rb"<(?:(?P<svg>svg|!doctype\s+svg)|!doctype\s+html|html|head|body|script|iframe|meta|title|form|style|table|div|img"
    rb"|center|font|h1|xhtml|embed|object|a|p|br)[\s>/:]",
    re.IGNORECASE,
)
_CONTROLS = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]")


def detect(head: bytes) -> Detected:
    """By the first octets of a file; UNKNOWN if they are those of nothing that is told apart."""
    if not head:
        return Detected.EMPTY
    for prefix, kind in _BY_OCTET.get(head[0], ()):
        if head.startswith(prefix):
            return kind
    if found := _by_structure(head):
        return found
    return _as_text(head)


def detect_disc(head: bytes) -> Detected | None:
    """By the first `DISC_HEAD` octets of what `detect` does not know."""
    if any(head.startswith((b"CD001", b"BEA01", b"NSR0", b"CDROM"), at) for at in (0x8001, 0x8801, 0x8009)):
        return Detected.ISO
    if head[510:512] == b"\x55\xaa" and (head[:1] in (b"\xeb", b"\xe9") or any(head[446:510:16])):
        return Detected.DISK
    return Detected.DISK if head.startswith(b"EFI PART", 512) else None


def _by_structure(head: bytes) -> Detected | None:
    if head.startswith((b"MZ", b"ZM")) and b"\0" in head[2:64]:
        return _dos_or_windows(head)
    if head.startswith(b"\xca\xfe\xba\xbe") and len(head) >= 8:
        # Both begin so: a Java class goes on with its version, 45 or more; a program for several machines with a count.
        return Detected.JAVA_CLASS if struct.unpack_from(">I", head, 4)[0] & 0xFFFF >= 45 else Detected.MACH_O
    if head.startswith(b"\x60\xea") and 4 <= struct.unpack_from("<H", head.ljust(4, b"\0"), 2)[0] <= 2600:
        return Detected.ARJ
    if re.match(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", head):
        return Detected.BZIP2
    if head[7:14] == b"**ACE**":
        return Detected.ACE
    if re.match(rb"..-l[hz][0-9ds]-", head, re.DOTALL):
        return Detected.LHA
    if is_tar(head):
        return Detected.TAR
    if re.match(rb"\x5d\0\0..(?:\xff{8}|.....\0\0\0)", head, re.DOTALL):
        return Detected.LZMA
    if head[4:8] == b"ftyp":
        return Detected.IMAGE if head[8:12] in (b"heic", b"heix", b"mif1", b"avif", b"msf1") else Detected.MEDIA
    if head.startswith(b"RIFF"):
        return Detected.IMAGE if head[8:12] == b"WEBP" else Detected.MEDIA
    if head.startswith(b"BM") and head[6:10] == b"\0\0\0\0":
        return Detected.IMAGE
    if head[:2] in (b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xf1", b"\xff\xf9"):
        return Detected.MEDIA
    if re.match(rb"\x50\x2a\x4d\x18", head[0:4]) or (head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50):
        return Detected.ZSTD  # a frame to skip comes first
    if head.find(b"%PDF-", 0, 1024) >= 0:
        return Detected.PDF
    return None


def _dos_or_windows(head: bytes) -> Detected:
    at = struct.unpack_from("<I", head, 60)[0] if len(head) >= 64 else 0
    return Detected.PE if head[at : at + 2] in (b"PE", b"NE", b"LE", b"LX") or at >= len(head) - 4 else Detected.DOS


def is_tar(head: bytes) -> bool:
    """RFC-less: the checksum of the first block fits."""
    if len(head) < 512 or not head[0]:
        return False
    digits = head[148:156].strip(b" \0")
    if not digits or digits.strip(b"01234567"):
        return False
    return int(digits, 8) in {total := sum(head[:148]) + 256 + sum(head[156:512]), total}


def _as_text(head: bytes) -> Detected:
    text = head
    if head.startswith(_UTF16) or (head[1::2][:2] == b"\0\0" and 0 not in head[::2][:2]):
        text = head.removeprefix(_UTF16[0]).removeprefix(_UTF16[1]).replace(b"\0", b"")
    if _SHEBANG.match(text):
        return Detected.SCRIPT
    if markup := _MARKUP.match(text):
        return Detected.SVG if markup["svg"] else Detected.HTML
    return Detected.UNKNOWN if _CONTROLS.search(text) else Detected.TEXT
