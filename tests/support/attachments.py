"""Messages with attachments for tests: archives of all sorts, harmless stand-ins for programs and documents."""

from __future__ import annotations

import base64
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping

from gateway.content_facts import Attachment, ContentFacts, ContentLimits
from gateway.content_facts.budget import Budget
from gateway.content_facts.examination import examine
from storage.mime.fields import read_header

PE = b"MZ" + bytes(58) + struct.pack("<I", 128) + bytes(64) + b"PE\0\0" + bytes(200)
ELF = b"\x7fELF\2\1\1" + bytes(200)
LNK = b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0F" + bytes(100)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
PDF = b"%PDF-1.7\n1 0 obj << /Type /Catalog >> endobj\n"
RTF = b"{\\rtf1 hello}"
ISO = bytes(0x8001) + b"CD001\1\0" + bytes(4000)
HEAD = b"From: a@example.org\r\nTo: b@example.com\r\nSubject: x\r\nMIME-Version: 1.0\r\n"


def message(*attached: tuple[str, bytes], declared: str = "application/octet-stream", head: bytes = HEAD) -> bytes:
    """A text and attachments with these names (as they stand in the header) and contents."""
    parts = [b"Content-Type: text/plain\r\n\r\nHello\r\n"]
    for name, content in attached:
        disposition = f'attachment; filename="{name}"' if name else "attachment"
        parts.append(
            f"Content-Type: {declared}\r\nContent-Disposition: {disposition}\r\n"
            "Content-Transfer-Encoding: base64\r\n\r\n".encode()
            + base64.encodebytes(content).replace(b"\n", b"\r\n")
        )
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts)
    return head + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + body + b"--b--\r\n"


def look(data: bytes, limits: ContentLimits | None = None) -> tuple[ContentFacts, Budget]:
    """What is found, and what it cost. Nothing is held at the end, and no more than allowed at any time."""
    limits = limits or ContentLimits()
    budget = Budget(limits)
    facts = examine(data, read_header(data), None, budget, limits)
    assert budget.held == 0
    assert budget.held_most <= limits.held
    return facts, budget


def looked(name: str, content: bytes, limits: ContentLimits | None = None) -> dict[str, Attachment]:
    """What is found of one attachment, by path."""
    facts, _ = look(message((name, content)), limits)
    return {attachment.path: attachment for attachment in facts.attachments}


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(files: Mapping[str, bytes], mode: str = "w", kind: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=kind) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def local_header(name: bytes, content: bytes, *, flags: int = 0, method: int = 0, size: int | None = None) -> bytes:
    """A file of a ZIP archive with its header, stored as it is."""
    octets = len(content) if size is None else size
    return (
        b"PK\3\4"
        + struct.pack("<HHHHHIIIHH", 20, flags, method, 0, 0, zlib.crc32(content), len(content), octets, len(name), 0)
        + name
        + content
    )


def directory_entry(
    name: bytes,
    content: bytes,
    offset: int,
    *,
    flags: int = 0,
    method: int = 0,
    extra: bytes = b"",
    size: int | None = None,
) -> bytes:
    octets = len(content) if size is None else size
    return (
        b"PK\1\2"
        + struct.pack(
            "<HHHHHHIIIHHHHHII",
            20,
            20,
            flags,
            method,
            0,
            0,
            zlib.crc32(content),
            len(content),
            octets,
            len(name),
            len(extra),
            0,
            0,
            0,
            0,
            offset,
        )
        + name
        + extra
    )


def directory_end(count: int, size: int, offset: int) -> bytes:
    return b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, min(count, 65535), min(count, 65535), size, offset, 0)


def compound(*names: str, root_class: bytes = bytes(16)) -> bytes:
    """A compound file whose directory has these entries, as far as its entries are looked at."""
    octets = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)
    for name, kind, class_id in [("Root Entry", 5, root_class), *((name, 1, bytes(16)) for name in names)]:
        encoded = name.encode("utf-16-le")
        entry = encoded.ljust(64, b"\0") + struct.pack("<HBB", len(encoded) + 2, kind, 1) + bytes(12)
        octets += entry + class_id + bytes(128 - len(entry) - 16)
    return octets + bytes(-len(octets) % 512)


def vint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def rar5(name: str, content: bytes, *, stored: bool = True, encrypted: bool = False) -> bytes:
    def block(body: bytes, data: bytes = b"") -> bytes:
        return bytes(4) + vint(len(body)) + body + data

    extra = b"\x02\x01\x00" if encrypted else b""
    encoded = name.encode()
    head = vint(2) + vint(3) + vint(len(extra)) + vint(len(content))
    head += vint(0) + vint(len(content)) + vint(0) + vint(0 if stored else 3 << 7) + vint(0) + vint(len(encoded))
    return (
        b"Rar!\x1a\x07\x01\x00"
        + block(vint(1) + vint(0) + vint(0))
        + block(head + encoded + extra, content)
        + block(vint(5) + vint(0) + vint(0))
    )


def rar4(name: bytes, content: bytes, *, flags: int = 0, method: int = 0x30, main_flags: int = 0) -> bytes:
    head = struct.pack("<IIBIIBBHI", len(content), len(content), 2, 0, 0, 29, method, len(name), 0x20) + name
    return (
        b"Rar!\x1a\x07\x00"
        + struct.pack("<HBHH", 0, 0x73, main_flags, 13)
        + bytes(6)
        + struct.pack("<HBHH", 0, 0x74, flags | 0x8000, 7 + len(head))
        + head
        + content
        + struct.pack("<HBHH", 0, 0x7B, 0, 7)
    )


def cab(*names: bytes) -> bytes:
    files = b"".join(struct.pack("<IIHHHH", 10, 0, 0, 0, 0, 0x20) + name + b"\0" for name in names)
    return b"MSCF" + struct.pack("<IIIIIBBHHHHH", 0, 36 + len(files), 0, 36, 0, 3, 1, 0, len(names), 0, 0, 0) + files


def tnef(name: bytes, content: bytes) -> bytes:
    def attribute(kind: int, data: bytes) -> bytes:
        return b"\2" + struct.pack("<II", kind, len(data)) + data + b"\0\0"

    return (
        b"\x78\x9f\x3e\x22\1\0"
        + attribute(0x00069002, bytes(14))
        + attribute(0x00018010, name + b"\0")
        + attribute(0x0006800F, content)
    )


def onenote(content: bytes) -> bytes:
    return (
        bytes.fromhex("e4525c7b8cd8a74daeb15378d02996d3")
        + bytes(200)
        + bytes.fromhex("e716e3bd65261145a4c48d4d0b7a9eac")
        + struct.pack("<QIQ", len(content), 0, 0)
        + content
    )
