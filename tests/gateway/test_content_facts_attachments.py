"""What attachments are, by name and content, and what groups they belong to."""

from __future__ import annotations

import base64
import binascii
import bz2
import gzip
import lzma
import struct
import tarfile
import zipfile
from dataclasses import replace

import pytest
import zstandard
from attachments import (
    ELF,
    HEAD,
    ISO,
    LNK,
    PDF,
    PE,
    PNG,
    RTF,
    cab,
    compound,
    directory_end,
    directory_entry,
    local_header,
    look,
    looked,
    message,
    onenote,
    rar4,
    rar5,
    tarred,
    tnef,
    zipped,
)

from gateway.content_facts import (
    FORBIDDEN,
    GROUPS,
    Attachment,
    Detected,
    Finding,
    ForbiddenTypes,
    Incomplete,
    Trait,
    groups,
)

HTML = b"<!DOCTYPE html><html><body>Hello</body></html>"
OOXML = {"[Content_Types].xml": b"<x/>", "word/document.xml": b"<x/>"}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", Detected.EMPTY),
        (b"Hello\r\n", Detected.TEXT),
        ("Grüße".encode(), Detected.TEXT),
        (b"\x01\x02\x03", Detected.UNKNOWN),
        (PE, Detected.PE),
        (b"MZ" + bytes(62), Detected.DOS),
        (b"MZ is how this text begins, and it is a long one, longer than a header of a program is", Detected.TEXT),
        (ELF, Detected.ELF),
        (b"\xcf\xfa\xed\xfe" + bytes(30), Detected.MACH_O),
        (b"\xca\xfe\xba\xbe\0\0\0\2" + bytes(30), Detected.MACH_O),
        (b"\xca\xfe\xba\xbe\0\0\0\x34" + bytes(30), Detected.JAVA_CLASS),
        (b"dex\n035\0", Detected.DEX),
        (b"#!/bin/sh\necho", Detected.SCRIPT),
        (b"#! /usr/bin/python3\n", Detected.SCRIPT),
        (b"#!hashtag, not a script", Detected.TEXT),
        (LNK, Detected.LNK),
        (b"ITSF\3\0", Detected.CHM),
        (compound("WordDocument"), Detected.OLE),
        (compound(root_class=bytes.fromhex("84100c0000000000c000000000000046")), Detected.MSI),
        (compound("__properties_version1.0"), Detected.OUTLOOK_MESSAGE),
        (RTF, Detected.RTF),
        (PDF, Detected.PDF),
        (b"rubbish before it\n" + PDF, Detected.PDF),
        (HTML, Detected.HTML),
        (b"\xef\xbb\xbf \r\n<!-- a -->\n<script>x</script>", Detected.HTML),
        ("\ufeff<html>".encode("utf-16-le"), Detected.HTML),
        (b"<?xml version='1.0'?><svg xmlns='x'/>", Detected.SVG),
        (b"<?xml version='1.0'?><feed/>", Detected.TEXT),
        (onenote(b"x"), Detected.ONENOTE),
        (tnef(b"a.txt", b"x"), Detected.TNEF),
        (PNG, Detected.IMAGE),
        (b"RIFF\0\0\0\0WEBPVP8 ", Detected.IMAGE),
        (b"\0\0\0\x18ftypheic", Detected.IMAGE),
        (b"\0\0\0\x18ftypmp42", Detected.MEDIA),
        (b"ID3\3\0", Detected.MEDIA),
        (zipped({"a": b"b"}), Detected.ZIP),
        (zipped({}), Detected.ZIP),
        (zipped(OOXML), Detected.OOXML),
        (zipped({"mimetype": b"x", "META-INF/manifest.xml": b""}), Detected.ODF),
        (zipped({"mimetype": b"x", "META-INF/container.xml": b""}), Detected.EPUB),
        (zipped({"META-INF/MANIFEST.MF": b"", "A.class": b""}), Detected.JAR),
        (zipped({"AndroidManifest.xml": b""}), Detected.APK),
        (zipped({"AppxManifest.xml": b""}), Detected.APPX),
        (b"7z\xbc\xaf\x27\x1c" + bytes(26), Detected.SEVEN_ZIP),
        (rar4(b"a", b"b"), Detected.RAR),
        (rar5("a", b"b"), Detected.RAR),
        (cab(b"a"), Detected.CAB),
        (gzip.compress(b"a", mtime=0), Detected.GZIP),
        (bz2.compress(b"a"), Detected.BZIP2),
        (bz2.compress(b""), Detected.BZIP2),
        (lzma.compress(b"a"), Detected.XZ),
        (lzma.compress(b"a" * 300, lzma.FORMAT_ALONE), Detected.LZMA),
        (zstandard.compress(b"a"), Detected.ZSTD),
        (tarred({"a": b"b"}), Detected.TAR),
        (bytes(7) + b"**ACE**" + bytes(9), Detected.ACE),
        (b"\x60\xea\x2c\x00" + bytes(40), Detected.ARJ),
        (b"\x20\x01-lh5-" + bytes(20), Detected.LHA),
        (b"\x1f\x9d\x90", Detected.COMPRESS),
        (ISO, Detected.ISO),
        (b"conectix" + bytes(500), Detected.VHD),
        (b"vhdxfile" + bytes(500), Detected.VHD),
        (b"MSWIM\0\0\0" + bytes(200), Detected.WIM),
        (b"\xeb\x3c\x90MSDOS5.0" + bytes(499) + b"\x55\xaa" + bytes(4000), Detected.DISK),
        (bytes(512) + b"EFI PART" + bytes(4000), Detected.DISK),
    ],
)
def test_contents(content: bytes, kind: Detected) -> None:
    assert looked("file.bin", content)["file.bin"].detected is kind


def test_names_of_all_sorts() -> None:
    """RFC 2047, RFC 2231, raw UTF-8, folders, two names."""
    part = b"--b\r\nContent-Type: application/octet-stream%s\r\nContent-Disposition: attachment%s\r\n\r\nx\r\n"
    names = [
        (b"", b'; filename="a b.txt"'),
        (b"", b"; filename*=utf-8''gr%C3%BC%C3%9Fe.txt"),
        (b"", b"; filename*0=long; filename*1=name.txt"),
        (b"", b'; filename="=?utf-8?q?gr=C3=BC=C3=9Fe.txt?="'),
        (b'; name="only.txt"', b""),
        (b"", b'; filename="C:\\\\Temp\\\\x.txt"'),
        (b"", b'; filename="../../etc/passwd.txt"'),
        (b"", b""),
    ]
    data = HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"".join(part % name for name in names)
    facts, _ = look(data)
    assert [attachment.name for attachment in facts.attachments] == [
        "a b.txt", "grüße.txt", "longname.txt", "grüße.txt", "only.txt", "x.txt", "passwd.txt", "",
    ]  # fmt: skip
    assert facts.attachments[-1].path == "unnamed"


def test_two_names_with_different_endings_are_both_seen() -> None:
    data = (
        message(("x", b"x"))
        .replace(b"Content-Type: application/octet-stream", b"Content-Type: application/octet-stream; name=invoice.exe")
        .replace(b'filename="x"', b"filename=invoice.pdf")
    )
    facts, _ = look(data)
    assert {(each.name, Trait.TWO_NAMES in each.traits) for each in facts.attachments} == {
        ("invoice.pdf", True),
        ("invoice.exe", True),
    }
    assert {"executable", "mismatch"} <= set(FORBIDDEN.groups_of_all(facts.attachments))
    assert Finding.ATTACHED_NAME_DECEIVES in facts.findings


@pytest.mark.parametrize(
    ("name", "traits"),
    [
        ("invoice.pdf", set()),
        ("report.v2.final.docx", set()),
        ("invoice.pdf.exe", {Trait.DOUBLE_EXTENSION}),
        ("invoice.pdf.exe.", {Trait.DOUBLE_EXTENSION, Trait.PADDED_NAME}),
        ("setup.exe", set()),
        ("invoice.pdf          .exe", {Trait.DOUBLE_EXTENSION, Trait.PADDED_NAME}),
        ("setup.exe . .", {Trait.PADDED_NAME}),
        ("invoice\u202efdp.exe", {Trait.REVERSED_NAME}),
        ("invoice\u200b.pdf", {Trait.HIDDEN_NAME}),
        ("קובץ.pdf", set()),
    ],
)
def test_names_that_deceive(name: str, traits: set[Trait]) -> None:
    encoded = "=?utf-8?b?" + base64.b64encode(name.encode()).decode() + "?="
    facts, _ = look(message((encoded, b"x")))
    assert facts.attachments[0].traits == traits
    assert (Finding.ATTACHED_NAME_DECEIVES in facts.findings) is bool(traits)


@pytest.mark.parametrize(
    ("name", "extension"),
    [
        ("a.EXE", "exe"), ("a.exe. . ", "exe"), ("a.exe::$DATA", "exe"), ("a.txt:b.exe", "exe"), ("a", ""),
        (".bashrc", "bashrc"),         ("a.", ""), ("", ""), ("a.pdf\u3000", "pdf"), ("a.tar.gz", "gz"),
    ],
)  # fmt: skip
def test_endings(name: str, extension: str) -> None:
    assert Attachment(name, name).extension == extension


@pytest.mark.parametrize(
    ("name", "content", "is_mismatch"),
    [
        ("a.pdf", PE, True),
        ("a.jpg", PE, True),
        ("a.txt", PE, True),
        ("a.docx", PE, True),
        ("a.zip", PE, True),
        ("a.pdf", LNK, True),
        ("a.pdf", ISO, True),
        ("a.pdf", zipped({"a": b"b"}), True),
        ("a.jpg", compound("WordDocument"), True),
        ("a.pdf", b"<html><script>x</script>", True),
        ("a.png", b"#!/bin/sh\n", True),
        ("a.exe", PE, False),
        ("a", PE, False),
        ("a.bin", PE, False),
        ("a.pdf", PDF, False),
        ("a.pdf", HTML, False),  # an error page that was saved
        ("a.jpg", PNG, False),
        ("a.xls", HTML, False),  # as many shops export
        ("a.doc", RTF, False),
        ("a.doc", zipped(OOXML), False),
        ("a.csv", zipped(OOXML), False),
        ("a.txt", b"#!/bin/sh\n", False),
        ("a.zip", zipped(OOXML), False),
        ("a.jar", zipped({"META-INF/MANIFEST.MF": b""}), False),
    ],
)
def test_promises(name: str, content: bytes, is_mismatch: bool) -> None:
    assert looked(name, content)[name].mismatch is is_mismatch


def test_without_a_name_the_type_promises() -> None:
    facts, _ = look(message(("", PE), declared="image/png"))
    assert facts.attachments[0].mismatch
    facts, _ = look(message(("", PE), declared="application/octet-stream"))
    assert not facts.attachments[0].mismatch


@pytest.mark.parametrize(
    ("name", "content", "names"),
    [
        ("a.txt", b"Hello", set()),
        ("a.pdf", PDF, set()),
        ("a.pdf", PDF + b"/JavaScript (x)", set()),
        ("a.pdf", PDF + b"/OpenAction << /S /Launch >>", {"script"}),
        ("a.pdf", PDF + b"/S /L#61unch", {"script"}),
        ("a.pdf", PDF + b"/Launcher", set()),
        ("a.exe", b"x", {"executable"}),
        ("a", PE, {"executable"}),
        ("a.js", b"x", {"script"}),
        ("a", b"#!/bin/sh\n", set()),  # runs on no double-click
        ("a.sh", b"#!/bin/sh\n", {"script"}),
        ("a.lnk", b"x", {"shortcut"}),
        ("a", LNK, {"shortcut"}),
        ("a.iso", b"x", {"disk_image"}),
        ("a", ISO, {"disk_image"}),
        ("a.docm", zipped(OOXML), {"macro"}),
        ("a.docx", zipped({**OOXML, "word/vbaProject.bin": b"x"}), {"macro"}),
        ("a.docx", zipped({**OOXML, "word/VBAPROJECT.BIN": b"x"}), {"macro"}),
        ("a.xlsx", zipped({"[Content_Types].xml": b"", "xl/macrosheets/sheet1.xml": b""}), {"macro"}),
        ("a.odt", zipped({"mimetype": b"", "META-INF/manifest.xml": b"", "Basic/a.xml": b""}), {"macro"}),
        ("a.docx", zipped(OOXML), set()),
        ("a.doc", compound("WordDocument"), set()),
        ("a.doc", compound("WordDocument", "_VBA_PROJECT"), {"macro"}),
        ("a.xls", compound("Workbook", "_VBA_PROJECT_CUR"), {"macro"}),
        ("a.doc", compound("\x01Ole10Native"), {"macro"}),
        ("a.xlsx", compound("EncryptedPackage"), {"encrypted_archive"}),
        ("a.rtf", RTF, set()),
        ("a.rtf", b"{\\rt1 {\\object\\objemb{\\*\\objdata 00}}}", {"macro"}),
        ("a.html", HTML, set()),
        ("a.html", b"<body onload=x()>", {"html_script"}),
        ("a.htm", "<script>x</script>".encode("utf-16"), {"html_script"}),
        ("a.svg", b"<svg><script>x</script></svg>", {"html_script"}),
        ("a.svg", b"<svg><path/></svg>", set()),
        ("a.ace", bytes(7) + b"**ACE**" + bytes(9), {"unreadable_archive"}),
        ("a.zip", b"PK\3\4" + bytes(100), {"unreadable_archive"}),
        ("a.zip", b"rubbish", {"unreadable_archive"}),
        ("a.rar", b"Rar!\x1a\x07\x01\x00", set()),
        ("a.gz", gzip.compress(PE, mtime=0)[:12], {"unreadable_archive"}),
        ("a.pdf", PE, {"executable", "mismatch"}),
    ],
)
def test_groups(name: str, content: bytes, names: set[str]) -> None:
    found = looked(name, content)
    assert groups(found[name]) == names
    assert names <= GROUPS.keys()


def test_an_operator_may_have_groups_of_his_own() -> None:
    mine = replace(FORBIDDEN, extensions={"pictures": frozenset({"png"})})
    assert mine.groups(Attachment("a.png", "a.png")) == {"pictures"}
    assert mine.groups(Attachment("a.exe", "a.exe")) == set()
    assert ForbiddenTypes().groups_of_all([Attachment("x/a.exe", "a.exe"), Attachment("b.com", "b.com")]) == {
        "executable": "x/a.exe"
    }


# Archives


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archives_in_archives(method: int) -> None:
    inner = zipped({"invoice.exe": PE, "folder/readme.txt": b"Hello " * 100}, method)
    found = looked("invoice.zip", zipped({"inner.zip": inner}, method))
    assert list(found) == [
        "invoice.zip",
        "invoice.zip/inner.zip",
        "invoice.zip/inner.zip/invoice.exe",
        "invoice.zip/inner.zip/readme.txt",
    ]
    assert found["invoice.zip/inner.zip/invoice.exe"].detected is Detected.PE
    assert found["invoice.zip/inner.zip/readme.txt"].size == 600
    assert {each.incomplete for each in found.values()} == {None}


@pytest.mark.parametrize(
    ("name", "pack", "inner"),
    [
        ("a.exe.gz", gzip.compress, "a.exe"),
        ("a.exe.bz2", bz2.compress, "a.exe"),
        ("a.exe.xz", lzma.compress, "a.exe"),
        ("a.exe.zst", zstandard.compress, "a.exe"),
        ("a.exe.lzma", lambda data: lzma.compress(data, lzma.FORMAT_ALONE), "a.exe"),
        (
            "a.exe.gz",
            lambda data: (
                gzip.compress(data[:100], mtime=0) + gzip.compress(b"", mtime=0) + gzip.compress(data[100:], mtime=0)
            ),
            "a.exe",
        ),
        ("a.exe.bz2", lambda data: bz2.compress(data[:100]) + bz2.compress(data[100:]), "a.exe"),
        ("a.exe.xz", lambda data: lzma.compress(data[:100]) + lzma.compress(data[100:]), "a.exe"),
        ("noname", gzip.compress, "unnamed"),
    ],
)
def test_packed_files(name: str, pack: object, inner: str) -> None:
    found = looked(name, pack(PE))  # type: ignore[operator]
    assert found[f"{name}/{inner}"].detected is Detected.PE
    assert {each.incomplete for each in found.values()} == {None}


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize(
    ("name", "mode"), [("a.tar", "w"), ("a.tgz", "w:gz"), ("a.tar.bz2", "w:bz2"), ("a.tar.xz", "w:xz")]
)
def test_tar_archives(name: str, mode: str, kind: int) -> None:
    deep = "folder/" * 12
    content = tarred(
        {f"{deep}{'x' * 80}.exe": PE, "big.txt": b"x" * 300_000, "b.zip": zipped({"c.js": b"x"})}, mode, kind
    )
    found = looked(name, content)
    prefix = name if mode == "w" else f"{name}/a.tar"
    assert found[f"{prefix}/{'x' * 80}.exe"].detected is Detected.PE
    assert found[f"{prefix}/big.txt"].detected is Detected.TEXT
    assert groups(found[f"{prefix}/b.zip/c.js"]) == {"script"}
    assert {each.incomplete for each in found.values()} == {None}


def test_a_tar_archive_that_is_cut_is_damaged() -> None:
    found = looked("a.tar", tarred({"a.txt": b"x" * 10_000, "b.txt": b"y"})[:9000])
    assert found["a.tar"].incomplete is Incomplete.DAMAGED
    assert "a.tar/a.txt" in found


@pytest.mark.parametrize(
    ("content", "detected", "incomplete", "encrypted"),
    [
        (rar5("a.exe", PE), Detected.PE, None, False),
        (rar5("a.exe", PE, stored=False), Detected.UNKNOWN, Incomplete.NAMES_ONLY, False),
        (rar5("a.exe", PE, encrypted=True), Detected.UNKNOWN, Incomplete.ENCRYPTED, True),
        (rar4(b"a.exe", PE), Detected.PE, None, False),
        (rar4(b"a.exe", PE, method=0x33), Detected.UNKNOWN, Incomplete.NAMES_ONLY, False),
        (rar4(b"a.exe", PE, flags=4), Detected.UNKNOWN, Incomplete.ENCRYPTED, True),
    ],
)
def test_rar_archives(content: bytes, detected: Detected, incomplete: Incomplete | None, encrypted: bool) -> None:
    found = looked("a.rar", content)
    inner = found["a.rar/a.exe"]
    assert (inner.detected, inner.incomplete, inner.encrypted) == (detected, incomplete, encrypted)
    assert groups(inner) >= {"executable"}
    assert groups(found["a.rar"]) == ({"encrypted_archive"} if encrypted else set())


def test_rar_archives_whose_names_are_encrypted() -> None:
    found = looked("a.rar", rar4(b"a.exe", PE, main_flags=0x80))
    assert list(found) == ["a.rar"]
    assert groups(found["a.rar"]) == {"encrypted_archive"}


def test_unicode_names_of_rar_4() -> None:
    # "ä.exe" packed: its high octet 0; two characters as they are, then the rest
    name = b"a.exe\0" + bytes([0, 0b00000000, 0xE4, ord("."), ord("e"), ord("x"), 0b00000000, ord("e")])
    assert "a.rar/ä.exe" in looked("a.rar", rar4(name, PE, flags=0x200))


def seven_zip(header: bytes) -> bytes:
    return b"7z\xbc\xaf\x27\x1c\0\4" + bytes(4) + struct.pack("<QQI", 0, len(header), 0) + header


def seven_zip_files(*names: str, coder: bytes = b"\x01\x00", empty: bytes = b"") -> bytes:
    """A header with one folder of this coder and files of these names."""
    encoded = b"\0" + b"".join(name.encode("utf-16-le") + b"\0\0" for name in names)
    streams = b"\x04\x06\x00\x01\x09\x05\x00\x07\x0b\x01\x00\x01" + coder + b"\x0c\x05\x00\x08\x0d"
    streams += bytes([len(names)]) + b"\x09" + b"\1" * (len(names) - 1) + b"\x00\x00"
    files = b"\x05" + bytes([len(names)]) + empty + b"\x11" + bytes([len(encoded)]) + encoded + b"\0"
    return b"\x01" + streams + files + b"\0"


def test_7z_archives() -> None:
    found = looked("a.7z", seven_zip(seven_zip_files("a.exe", "d/b.js")))
    assert [groups(each) for each in found.values()] == [set(), {"executable"}, {"script"}]
    assert {each.incomplete for each in found.values()} == {Incomplete.NAMES_ONLY}


def test_7z_archives_that_are_encrypted() -> None:
    found = looked("a.7z", seven_zip(seven_zip_files("a.exe", coder=b"\x24\x06\xf1\x07\x01\x01\x00")))
    assert [groups(each) for each in found.values()] == [{"encrypted_archive"}, {"encrypted_archive", "executable"}]


def test_7z_lists_of_files_that_are_packed() -> None:
    listed = seven_zip_files("a.exe", "d/b.js")
    raw = lzma.compress(listed, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16}])
    coder = b"\x23\x03\x01\x01\x05\x5d" + struct.pack("<I", 1 << 16)
    header = b"\x17\x06\x00\x01\x09" + bytes([len(raw)]) + b"\x00\x07\x0b\x01\x00\x01" + coder
    header += b"\x0c" + bytes([0x80, len(listed)]) + b"\x00\x00"
    archive = b"7z\xbc\xaf\x27\x1c\0\4" + bytes(4) + struct.pack("<QQI", len(raw), len(header), 0) + raw + header
    assert list(looked("a.7z", archive)) == ["a.7z", "a.7z/a.exe", "a.7z/b.js"]


@pytest.mark.parametrize("octets", [bytes(26), b"\xff" * 26, struct.pack("<IQQI", 0, 0, 5, 0) + bytes(2)])
def test_7z_archives_that_are_rubbish(octets: bytes) -> None:
    found = looked("a.7z", b"7z\xbc\xaf\x27\x1c" + octets)
    assert list(found) == ["a.7z"]


def test_cab_archives() -> None:
    found = looked("a.cab", cab(b"a.txt", b"b.exe"))
    assert [groups(each) for each in found.values()] == [set(), set(), {"executable"}]
    assert looked("a.cab", cab(b"a.txt")[:40])["a.cab"].incomplete is Incomplete.DAMAGED


def test_winmail_dat() -> None:
    found = looked("winmail.dat", tnef(b"invoice.exe", PE))
    assert found["winmail.dat/invoice.exe"].detected is Detected.PE


def test_files_in_a_notebook() -> None:
    found = looked("a.one", onenote(PE))
    assert found["a.one/unnamed"].detected is Detected.PE
    assert groups(found["a.one"]) == {"macro"}


def test_programs_embedded_in_a_document() -> None:
    found = looked(
        "a.docx", zipped({**OOXML, "word/embeddings/oleObject1.bin": compound("\x01Ole10Native"), "x.exe": PE})
    )
    assert groups(found["a.docx/oleObject1.bin"]) == {"macro"}
    assert groups(found["a.docx/x.exe"]) == {"executable"}
    assert "a.docx/document.xml" not in found


def test_an_encrypted_zip() -> None:
    name, content = b"a.exe", b"\1\2\3\4" * 10
    local = local_header(name, content, flags=1)
    entry = directory_entry(name, content, 0, flags=1)
    found = looked("a.zip", local + entry + directory_end(1, len(entry), len(local)))
    assert groups(found["a.zip"]) == {"encrypted_archive"}
    assert groups(found["a.zip/a.exe"]) == {"encrypted_archive", "executable"}
    assert found["a.zip/a.exe"].incomplete is Incomplete.ENCRYPTED


def test_programs_that_see_different_names_are_all_believed() -> None:
    local, entry = local_header(b"a.exe", PE), directory_entry(b"a.txt", PE, 0)
    found = looked("a.zip", local + entry + directory_end(1, len(entry), len(local)))
    assert found["a.zip/a.txt"].mismatch
    assert Trait.TWO_NAMES in found["a.zip/a.exe"].traits


@pytest.mark.parametrize(
    ("name", "path", "names"),
    [
        (b"\x81.txt", "ü.txt".encode(), ["ü.txt"]),  # a name in a code page, and the same in Unicode
        (b"a.txt", b"a.exe", ["a.exe", "a.txt"]),
        (b"a.exe\0.txt", b"", ["a.exe\u2400.txt", "a.exe"]),
    ],
)
def test_names_in_zip_archives(name: bytes, path: bytes, names: list[str]) -> None:
    extra = struct.pack("<HHBI", 0x7075, 5 + len(path), 1, 0) + path if path else b""
    local, entry = local_header(name, b"x"), directory_entry(name, b"x", 0, extra=extra)
    found = looked("a.zip", local + entry + directory_end(1, len(entry), len(local)))
    assert list(found)[1:] == [f"a.zip/{each}" for each in names]


def test_files_that_the_directory_keeps_silent_about() -> None:
    hidden, shown = local_header(b"a.exe", PE), local_header(b"a.txt", b"Hello")
    entry = directory_entry(b"a.txt", b"Hello", len(hidden))
    found = looked("a.zip", hidden + shown + entry + directory_end(1, len(entry), len(hidden + shown)))
    assert found["a.zip/a.exe"].detected is Detected.PE
    assert Trait.HIDDEN_MEMBER in found["a.zip/a.exe"].traits


def test_a_zip_without_its_end_is_read_as_far_as_it_goes() -> None:
    found = looked("a.zip", zipped({"a.exe": PE, "b.txt": b"x" * 1000})[:200])
    assert found["a.zip"].incomplete is Incomplete.DAMAGED
    assert found["a.zip/a.exe"].detected is Detected.PE


def test_a_zip_behind_something_else_is_found_where_programs_look_for_it() -> None:
    assert "a.zip/a.exe" in looked("a.zip", b"\1rubbish" * 1000 + zipped({"a.exe": PE}))


def test_packing_that_is_not_read_leaves_the_names() -> None:
    local, entry = local_header(b"a.exe", b"xxx", method=9), directory_entry(b"a.exe", b"xxx", 0, method=9)
    found = looked("a.zip", local + entry + directory_end(1, len(entry), len(local)))
    assert found["a.zip/a.exe"].incomplete is Incomplete.NOT_READ
    assert found["a.zip"].incomplete is Incomplete.NAMES_ONLY


# Messages in messages


def test_attachments_of_attached_messages() -> None:
    inner = message(("a.exe", PE))
    outer = HEAD + b"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n"
    attached = outer + b"Content-Type: message/rfc822; name=fw.eml\r\n\r\n" + inner + b"\r\n--o--\r\n"
    facts, _ = look(attached)
    assert [each.path for each in facts.attachments] == ["fw.eml", "fw.eml/a.exe"]
    assert facts.attachments[0].detected is Detected.MESSAGE
    assert list(looked("fw.eml", inner)) == ["fw.eml", "fw.eml/a.exe"]
    assert list(looked("a.zip", zipped({"fw.eml": inner}))) == ["a.zip", "a.zip/fw.eml", "a.zip/fw.eml/a.exe"]


def test_an_attached_message_that_is_encoded_though_it_must_not_be() -> None:
    encoded = base64.encodebytes(message(("a.exe", PE)))
    head = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    facts, _ = look(
        HEAD + b"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n" + head + encoded + b"\r\n--o--\r\n"
    )
    assert "message.eml/a.exe" in [each.path for each in facts.attachments]


def uuencoded(content: bytes, name: bytes = b"a.exe") -> bytes:
    lines = b"".join(binascii.b2a_uu(content[at : at + 45]) for at in range(0, len(content), 45))
    return b"begin 644 " + name + b"\n" + lines + b"`\nend\n"


def test_uuencoded_files() -> None:
    facts, _ = look(HEAD + b"\r\nHello\n" + uuencoded(PE) + b"and\n" + uuencoded(PNG, b"b.png"))
    assert [(each.path, each.detected) for each in facts.attachments] == [
        ("a.exe", Detected.PE),
        ("b.png", Detected.IMAGE),
    ]
    facts, _ = look(
        HEAD + b"Content-Type: a/b; name=c\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\n" + uuencoded(PE)
    )
    assert [(each.path, each.detected) for each in facts.attachments] == [("c", Detected.PE)]
    assert Finding.UNKNOWN_ENCODING not in facts.findings


def test_a_uuencoded_file_in_the_first_line() -> None:
    part = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"
    for head in (b"\r\n", part):
        facts, _ = look(HEAD + head + uuencoded(PE))
        assert [(each.path, each.detected) for each in facts.attachments] == [("a.exe", Detected.PE)]


def test_words_that_begin_nothing() -> None:
    facts, _ = look(HEAD + b"\r\nbegin 644 nothing\nlet us begin 644 again\nbegin at once\n")
    assert facts.attachments == ()


def test_a_text_that_is_a_program() -> None:
    encoded = base64.encodebytes(PE)
    facts, _ = look(HEAD + b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded)
    assert [each.detected for each in facts.attachments] == [Detected.PE]
    encoded = base64.encodebytes("Grüße\r\n".encode())
    facts, _ = look(HEAD + b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded)
    assert facts.attachments == ()


def test_junk_in_base64_hides_nothing() -> None:
    encoded = b"!" * 200_000 + b"\r\n" + base64.encodebytes(PE)
    facts, _ = look(
        HEAD
        + b"Content-Type: application/octet-stream; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + encoded
    )
    assert facts.attachments[0].detected is Detected.PE
