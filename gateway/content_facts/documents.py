"""What documents can do besides being read: macros, scripts, embedded objects. Each a bounded search, nothing is run.

Standards: [MS-CFB] (compound files), [MS-OVBA], [MS-OFFCRYPTO], ISO 32000 (PDF), RTF 1.9.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.content_facts.attachment import Detected, Trait
from gateway.content_facts.flow import Octets

SCAN = 1024 * 1024  # octets of a PDF, RTF or HTML file that are searched

_MSI = bytes.fromhex("84100c0000000000c000000000000046")  # {000C1084-0000-0000-C000-000000000046}
_MSI_PATCH = bytes.fromhex("86100c0000000000c000000000000046")
_OF_MACROS = frozenset({"_VBA_PROJECT", "_VBA_PROJECT_CUR", "VBA", "Macros"})


@dataclass(frozen=True, slots=True)
class DocumentFacts:
    detected: Detected
    traits: frozenset[Trait] = frozenset()
    encrypted: bool = False


def compound_file(whole: Octets) -> DocumentFacts:
    """What a compound file is, by the entries of its directory.

    Its chains of sectors are not followed (programs differ about broken ones): an entry is whatever stands where one
    can stand and looks like one.
    """
    names, root = _directory(whole)
    traits: set[Trait] = set()
    if names & _OF_MACROS:
        traits.add(Trait.MACROS)
    if "\x01Ole10Native" in names or "\x01OLE10Native" in names:
        traits.add(Trait.EMBEDDED_OBJECT)
    encrypted = "EncryptedPackage" in names or "EncryptionInfo" in names
    detected = Detected.OLE
    if root in (_MSI, _MSI_PATCH):
        detected = Detected.MSI
    elif "__properties_version1.0" in names:
        detected = Detected.OUTLOOK_MESSAGE
    return DocumentFacts(detected, frozenset(traits), encrypted)


_SOUGHT = {
    name.encode("utf-16-le"): name
    for name in (
        *sorted(_OF_MACROS),
        "\x01Ole10Native",
        "\x01OLE10Native",
        "EncryptedPackage",
        "EncryptionInfo",
        "__properties_version1.0",
    )
}
_LENGTHS = frozenset(len(name) + 2 for name in _SOUGHT)  # with the NUL that ends a name


def _directory(whole: Octets) -> tuple[set[str], bytes]:
    """Which of the names that matter stand in the directory, and the root's class ([MS-CFB] §2.6.1)."""
    names: set[str] = set()
    root = b""
    for index, (kind, length) in enumerate(zip(whole[66::128], whole[64::128], strict=False)):
        if kind == 5 and not root:
            root = bytes(whole[index * 128 + 80 : index * 128 + 96])
        elif kind in (1, 2) and length in _LENGTHS:
            name = _SOUGHT.get(bytes(whole[index * 128 : index * 128 + length - 2]))
            if name is not None:
                names.add(name)
    return names, root


def _pdf_name(name: str) -> bytes:
    """A name with any of its characters written as #xx (ISO 32000 §7.3.5)."""
    return b"".join(b"(?:%c|#(?i:%02x))" % (ord(letter), ord(letter)) for letter in name)


_PDF = re.compile(
    b"/(?:(?P<launch>"
    + _pdf_name("Launch")
    + b")|"
    + _pdf_name("JavaScript")
    + b"|"
    + _pdf_name("JS")
    + rb")(?![A-Za-z])"
)


def pdf_traits(scanned: bytes) -> frozenset[Trait]:
    """Names that are not in compressed streams; most that matter stand outside."""
    found: set[Trait] = set()
    for match in _PDF.finditer(scanned):
        found.add(Trait.PDF_LAUNCH if match["launch"] else Trait.PDF_SCRIPT)
        if len(found) == 2:
            break
    return frozenset(found)


_RTF_OBJECT = re.compile(rb"\\obj(?:data|autlink|update|emb|ocx|html|link)(?![a-z])")


def rtf_traits(scanned: bytes) -> frozenset[Trait]:
    return frozenset({Trait.EMBEDDED_OBJECT}) if _RTF_OBJECT.search(scanned) else frozenset()


# All of lower case, each with octets at its beginning that are found fast.
_SCRIPTS = (b"<script", b"data:text/html", b" srcdoc=")
_SCRIPT_URL = re.compile(rb"(?:java|vb)script\s{0,20}:")
_HANDLER = re.compile(
    rb"on(?<=[\s\"'/]on)(?:abort|animation[a-z]{1,12}|before[a-z]{1,16}|blur|change|click|context[a-z]{1,12}|dblclick"
    rb"|drag[a-z]{0,8}|drop|error|focus(?:in|out)?|hashchange|input|invalid|key(?:down|press|up)|load(?:start|end)?"
    rb"|message|mouse[a-z]{2,8}|page(?:hide|show)|pointer[a-z]{2,12}|popstate|reset|resize|scroll|select|submit|toggle"
    rb"|unload|wheel|begin|end|repeat)\s{0,20}="
)


def html_traits(scanned: bytes) -> frozenset[Trait]:
    """Of HTML and SVG, in UTF-16 too."""
    if scanned.startswith((b"\xff\xfe", b"\xfe\xff")) or scanned[1:2] == b"\0" or scanned[:1] == b"\0":
        scanned = scanned.replace(b"\0", b"")
    return frozenset({Trait.HTML_SCRIPT}) if has_script(scanned.lower()) else frozenset()


def has_script(page: bytes) -> bool:
    """`page` in lower case."""
    if any(octets in page for octets in _SCRIPTS) or _HANDLER.search(page):
        return True
    return b"script" in page and _SCRIPT_URL.search(page) is not None
